"""Where the loop begins: with noise, with an image, or in the middle of a recorded run that is left there (a fork).

A sampler carries state from step to step (the last predictions, a position), and so do the generators of stochastic
ones.  A fork rebuilds both: it takes the recorded steps again with the recorded predictions, without calling the model.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import torch

from pipelines.request import InvalidRequest
from pipelines.sampling import schedulers
from pipelines.sampling.image_to_image import InitLatents, InpaintMask, initial_latents
from pipelines.sampling.initial_noise import make_generators
from pipelines.system.gpu.device_copies import quiet_uploads

if TYPE_CHECKING:
    import numpy as np

    from pipelines.model import Model
    from pipelines.request import Fork, GenerationRequest

Latents: TypeAlias = "Sequence[np.ndarray] | Sequence[torch.Tensor] | np.ndarray"
# Another sampler can follow where it visits the same noise level: sigma / alpha may differ by so much, as a logarithm.
SAME_LEVEL = 0.01


@dataclass
class Recording:
    """The recorded steps of a run, by their index.

    Attributes:
        x_t: the noisy latents before each step, (n, c, h, w) each, in the sampler's own scale; float32, arrays or
            tensors of any device.
        cond, uncond: the model's predictions; ``uncond`` is None or equals ``cond`` where guidance was off.
        exact: whether the steps that were taken again led to the recorded latents, bit for bit.
    """

    x_t: Latents
    cond: Latents
    uncond: Latents | None
    exact: bool = True

    def latents(self, index: int, x_t: torch.Tensor) -> torch.Tensor:
        """The latents before a step: those that were computed again, or the recorded ones where they differ."""
        if index >= len(self.x_t):
            return x_t
        if self.x_t[index].shape != x_t.shape:
            raise InvalidRequest("fork.run", "The recorded run is of another model; fork one that this model made.")
        recorded = _like(x_t, self.x_t[index])
        if torch.equal(recorded, x_t):
            return x_t
        self.exact = False
        return recorded

    def prediction(self, index: int, guidance: float, x_t: torch.Tensor) -> torch.Tensor:
        """uncond + guidance * (cond - uncond), or cond where guidance was off: as ``denoise`` computed it."""
        cond = _like(x_t, self.cond[index])
        if self.uncond is None or guidance <= 1:
            return cond
        uncond = _like(x_t, self.uncond[index])
        return uncond + guidance * (cond - uncond)


def _like(x_t: torch.Tensor, recorded: np.ndarray | torch.Tensor) -> torch.Tensor:
    """What was recorded, on the device of the latents and in their memory format, which decides how a convolution
    rounds."""
    return torch.empty_like(x_t).copy_(recorded if torch.is_tensor(recorded) else torch.tensor(recorded))


@dataclass
class SamplerState:
    """A run between two steps.

    Attributes:
        scheduler: of this run, its timesteps set.
        generators: one an image.
        x_t: the noisy latents before the next step, (n, c, h, w), in the scheduler's own scale.
        inpaint: the latents that inpainting keeps.
        position: of the next step in the scheduler's timesteps.
        index: the number of steps that are done.
    """

    scheduler: Any
    generators: list[torch.Generator]
    x_t: torch.Tensor
    inpaint: InpaintMask
    position: int
    index: int = 0

    @property
    def total(self) -> int:
        """Steps of the whole run: those that are done, and the timesteps that are left."""
        return self.index + len(self.scheduler.timesteps) - self.position

    @property
    def levels(self) -> tuple[float, float]:
        """alpha and sigma of the next step."""
        return schedulers.alpha_sigma(self.scheduler, self.scheduler.timesteps[self.position], self.position)

    def step(self, prediction: torch.Tensor) -> torch.Tensor:
        """Go to the next noise level by a (guided) prediction, (n, c, h, w); the latents there."""
        timesteps, at = self.scheduler.timesteps, self.position
        draws = "generator" in inspect.signature(self.scheduler.step).parameters
        options = {"generator": self.generators} if draws else {}
        with quiet_uploads(self.x_t.device):
            x_next = self.scheduler.step(prediction, timesteps[at], self.x_t, **options, return_dict=False)[0]
        self.x_t = self.inpaint.blend(x_next, timesteps[at + 1 : at + 2])
        self.position, self.index = at + 1, self.index + 1
        return self.x_t


def begin(
    model: Model,
    request: GenerationRequest,
    init: InitLatents | None,
    recording: Recording | None,
    recorded: bool = True,
) -> SamplerState:
    """The state before the first step that calls the model.

    Args:
        model: has the latent space and the device.
        request: what to make.
        init: the init image's latents, or None.
        recording: the steps of the run that a fork leaves; not needed otherwise.
        recorded: whether the latents at the fork were recorded as the run that it leaves had them; those of an earlier
            fork were recorded in the scale of the sampler that went on with them, and are compared after that.

    Raises:
        InvalidRequest: if a fork cannot begin there.
    """
    fork = request.fork
    if fork is None:
        scheduler = schedulers.build_scheduler(request.sampling.scheduler, model.scheduler_config)
        schedulers.set_timesteps(scheduler, model, request)
        generators = make_generators(request)
        first, x_t, inpaint = initial_latents(model, request, scheduler, generators, init)
        return SamplerState(scheduler, generators, x_t, inpaint, first)
    state = begin(model, fork.original, init, recording, recorded=False)
    replay(state, fork, recording)
    if recorded and recording is not None:
        state.x_t = recording.latents(fork.step, state.x_t)
    if request.sampling.scheduler != fork.original.sampling.scheduler:
        follow(state, model, request)
    if fork.seed is not None:
        state.generators = [torch.Generator().manual_seed(fork.seed + k) for k in range(request.num_images)]
    return state


def replay(state: SamplerState, fork: Fork, recording: Recording | None) -> None:
    """Take the steps of the original up to the fork again, with its recorded predictions."""
    if fork.step >= state.total:
        raise InvalidRequest(
            "fork.step", f"The run has {state.total} steps; it can be left at 0 to {state.total - 1} of them."
        )
    if fork.step < state.index:
        raise InvalidRequest("fork.step", f"The run left another one after step {state.index}; fork that one instead.")
    if recording is None or len(recording.cond) < fork.step:
        raise InvalidRequest("fork.run", "The steps of the other run are no longer kept; make it again to fork it.")
    guidance = fork.original.sampling.guidance_scale
    for index in range(state.index, fork.step):
        state.x_t = recording.latents(index, state.x_t)
        # Some samplers note that they were asked.
        schedulers.scale_model_input(state.scheduler, state.x_t, state.scheduler.timesteps[state.position])
        state.step(recording.prediction(index, guidance, state.x_t))


def follow(state: SamplerState, model: Model, request: GenerationRequest) -> None:
    """Go on with another sampler, from its own step at the same noise level.

    Raises:
        InvalidRequest: if it has none.
    """
    alpha, sigma = state.levels
    scheduler, position = _follower(model, request, alpha, sigma)
    x_t = alpha * state.x_t if schedulers.is_variance_exploding(state.scheduler) else state.x_t
    if hasattr(scheduler, "set_begin_index"):
        scheduler.set_begin_index(position)
    kept = state.inpaint
    state.scheduler, state.position = scheduler, position
    state.x_t = x_t / state.levels[0] if schedulers.is_variance_exploding(scheduler) else x_t
    state.inpaint = InpaintMask(scheduler, kept.clean, kept.noise, kept.mask, kept.masked_image)


def _follower(model: Model, request: GenerationRequest, alpha: float, sigma: float) -> tuple[Any, int]:
    """The request's scheduler, and the position of its step at this noise level."""
    label = schedulers.SCHEDULERS[request.sampling.scheduler].label
    if request.sampling.scheduler == "pndm":
        raise InvalidRequest("scheduler", f"{label} takes its first step twice, so it cannot begin in the middle.")
    scheduler = schedulers.build_scheduler(request.sampling.scheduler, model.scheduler_config)
    schedulers.set_timesteps(scheduler, model, request)
    wanted = _log_noise(alpha, sigma)
    # Schedulers of second order take a step in two; it begins with the first of them.
    for position in range(0, len(scheduler.timesteps), scheduler.order):
        levels = schedulers.alpha_sigma(scheduler, scheduler.timesteps[position], position)
        if abs(_log_noise(*levels) - wanted) <= SAME_LEVEL:
            return scheduler, position
    raise InvalidRequest(
        "scheduler", f"{label} does not pass the noise level of this step; choose another sampler or another step."
    )


def _log_noise(alpha: float, sigma: float) -> float:
    return math.log(max(sigma, 1e-9) / max(alpha, 1e-9))


def followers(model: Model, request: GenerationRequest, alpha: float, sigma: float) -> list[str]:
    """The other samplers that can go on from a step of a run.

    Args:
        model: that made the run.
        request: of the step (``GenerationRequest.at_step``).
        alpha, sigma: the step's levels of signal and noise.
    """
    config, sampling = model.scheduler_config, request.sampling
    kind, zero = schedulers.prediction_type_of(config), config.get("rescale_betas_zero_snr", False)
    found = []
    for name in schedulers.SCHEDULERS:
        other = request.model_copy(update={"sampling": sampling.model_copy(update={"scheduler": name})})
        if name == sampling.scheduler or schedulers.incompatibility(name, kind, zero, sampling.num_inference_steps):
            continue
        with suppress(InvalidRequest):
            _follower(model, other, alpha, sigma)
            found.append(name)
    return found


def check_fork(model: Model, request: GenerationRequest) -> None:
    """Raise InvalidRequest for a fork of a model's own loop, and for new noise where the sampler draws none."""
    if request.fork is None:
        return
    if model.own_loop is not None:
        name = model.card.name
        raise InvalidRequest("fork", f"{name} runs a loop of its own, which begins at its beginning; it has no forks.")
    spec = schedulers.SCHEDULERS[request.sampling.scheduler]
    if request.fork.seed is not None and not spec.stochastic:
        raise InvalidRequest(
            "fork.seed", f"{spec.label} draws no noise on its way, so there is none to change; choose another sampler."
        )
