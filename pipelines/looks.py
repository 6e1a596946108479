"""Short questions to a loaded model: what it believes, and how a picture looks at every noise level."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from pipelines import schedulers
from pipelines.request import GenerationRequest, InvalidRequest

if TYPE_CHECKING:
    import torch

    from pipelines.start import Start


@dataclass(frozen=True)
class Noised:
    """One picture at every noise level of a run (the forward process, Ho et al. 2020, arXiv:2006.11239, equation 4).

    Attributes:
        timesteps, alpha, sigma: of each of the m levels, alpha^2 + sigma^2 = 1 (flow matching: alpha + sigma = 1).
        x_t: alpha * x0 + sigma * eps with one eps for all, float32 (m, 1, c, h, w).
        clean: x0, float32 (1, c, h, w).
    """

    timesteps: list[float]
    alpha: list[float]
    sigma: list[float]
    x_t: np.ndarray
    clean: np.ndarray


def believe(model: Any, x_t: np.ndarray, timesteps: Sequence[float], prompt: str) -> np.ndarray:
    """x0 (m, c, h, w) of one model call per row; between two training timesteps alpha_bar is interpolated.

    Args:
        model: what ``PipelineManager.lease`` yields.
        x_t: (m, c, h, w) as alpha * x0 + sigma * eps.
        timesteps: of each row, 0 to 999.
        prompt: may be empty.
    """
    if model.inpaints:
        raise InvalidRequest(f"{model.card.name} always needs a marked picture, so it cannot be asked for one look.")
    kind = schedulers.prediction_type_of(model.scheduler_config)
    alpha, sigma = _levels_at(kind, model.scheduler_config, np.asarray(timesteps, np.float32)[:, None, None, None])
    # A run's maps have its own size, and say nothing of other pictures.
    told = replace(model.encode_prompt([prompt]).repeat(len(x_t)), hints=())
    t = tensor(model, np.asarray(timesteps))
    prediction = model.predict(tensor(model, x_t), t, told, model.card.guidance_scale).cpu().numpy()
    return schedulers.x0_of(kind, prediction, x_t, alpha, sigma)


def _levels_at(kind: str, config: Mapping[str, Any], timesteps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Signal and noise level of timesteps; a flow model's are shares of the way, 0 to 1000."""
    if kind == schedulers.FLOW:
        sigma = timesteps / config.get("num_train_timesteps", 1000)
        return 1 - sigma, sigma
    alpha_bar = schedulers.build("ddpm", config).alphas_cumprod.numpy()
    at = np.interp(timesteps, np.arange(len(alpha_bar)), alpha_bar).astype(np.float32)
    return np.sqrt(at), np.sqrt(1 - at)


def noised(model: Any, request: GenerationRequest, x0: np.ndarray, seed: int) -> Noised:
    """Latents (1, c, h, w) at each noise level of the request's scheduler, with the noise of a seed."""
    import torch

    scheduler = _scheduler(model, request)
    clean = torch.from_numpy(np.ascontiguousarray(x0, dtype=np.float32))
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(seed))
    return _levels(scheduler, clean, noise, range(len(scheduler.timesteps)))


def starts(model: Any, request: GenerationRequest, start: Start) -> Noised:
    """What a run of the request begins with, for each number of steps that its strength may leave out (0, 1, ...).

    The draws are those of ``pipelines.start.begin`` for the first picture.
    """
    from pipelines import blends

    scheduler = _scheduler(model, request)
    generators = blends.generators_for(request)[:1]
    clean = start.draw(start.clean, generators)
    one = request.model_copy(update={"num_images": 1, "interpolation": None})
    noise = blends.noise_for(one, clean.shape, generators).to(clean)
    steps = request.sampling.num_inference_steps
    return _levels(scheduler, clean, noise, range(0, steps * scheduler.order, scheduler.order))


def _levels(scheduler: Any, clean: torch.Tensor, noise: torch.Tensor, positions: Iterable[int]) -> Noised:
    """The levels are read off ``add_noise`` itself, whatever scale a scheduler works in."""
    one, zero = clean.new_ones(1, 1, 1, 1), clean.new_zeros(1, 1, 1, 1)
    found: list[tuple[float, float, float, np.ndarray]] = []
    for position in positions:
        if hasattr(scheduler, "set_begin_index"):
            scheduler.set_begin_index(position)
        t = scheduler.timesteps[position : position + 1]
        alpha, sigma = (float(schedulers.noised(scheduler, *pair, t)) for pair in ((one, zero), (zero, one)))
        # A flow's two levels add up to 1 instead.
        scale = 1.0 if schedulers.is_flow(scheduler) else math.hypot(alpha, sigma)
        x_t = schedulers.noised(scheduler, clean, noise, t) / scale
        found.append((float(t), alpha / scale, sigma / scale, x_t.cpu().numpy()))
    timesteps, alphas, sigmas, rows = zip(*found, strict=True)
    return Noised(list(timesteps), list(alphas), list(sigmas), np.stack(rows), clean.cpu().numpy())


def _scheduler(model: Any, request: GenerationRequest) -> Any:
    scheduler = schedulers.build(request.sampling.scheduler, model.scheduler_config)
    schedulers.prepare(scheduler, model, request)
    return scheduler


def tensor(model: Any, array: np.ndarray) -> torch.Tensor:
    """An array as a float32 tensor on the model's device."""
    import torch

    return torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32)).to(model.placement.device)
