"""Any other text-to-image pipeline of diffusers, through its own loop.

The pipeline runs in a thread of its own, and its scheduler is watched: what goes into each step and what comes out is
all that is known of it.  That is enough for the picture, the latents, and (where the scheduler's algebra is known) the
belief x0 and the predicted noise; what guidance compared is not seen.
"""

from __future__ import annotations

import copy
import inspect
import queue
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

import torch

from pipelines.cards import ModelCard
from pipelines.device import Placement
from pipelines.events import Step
from pipelines.families import CannotLoad, Report
from pipelines.families.checking import ON, PART, state_of
from pipelines.families.flux import unpack
from pipelines.families.loading import PROJECT, first_line, module_bytes, resolve_source, settle
from pipelines.latents import LatentFormat
from pipelines.request import GenerationRequest, InvalidRequest
from pipelines.schedulers import OWN, SCHEDULERS, alpha_sigma, is_exploding, kind_of, x0_of

# Seconds between two looks at whether the watcher has gone away.
PATIENCE = 0.2


class _Stopped(Exception):
    """Ends the pipeline's loop from inside."""


class AnyPipeline:
    """A loaded pipeline; see ``pipelines.families.Model`` and ``own_loop`` there."""

    inpaints = False
    guides_itself = True
    weighs = False

    def __init__(self, card: ModelCard, placement: Placement, pipe: Any) -> None:
        self.card, self.placement, self.pipe = card, placement, pipe
        self.asks = inspect.signature(pipe.__call__).parameters
        self.latents = OwnLatents(pipe)
        self.size_factor = card.size_factor
        known = type(pipe.scheduler).__name__ in {spec.class_name for spec in SCHEDULERS.values()}
        # Of a scheduler that is not known, no step can be turned into a belief.
        checked = getattr(pipe, PART, None) is not None
        self.safety = ON if checked else state_of(PROJECT / card.source, placement.checks)
        self._flagged: tuple[bool, ...] = ()
        self.scheduler_config: dict[str, Any] = dict(pipe.scheduler.config) if known else {"prediction_type": OWN}

    @property
    def modules(self) -> dict[str, torch.nn.Module]:
        """Every network, by the name of its part."""
        return {name: part for name, part in self.pipe.components.items() if isinstance(part, torch.nn.Module)}

    @property
    def denoiser(self) -> torch.nn.Module:
        """The network that is asked at every step."""
        return next(self.modules[name] for name in ("transformer", "unet", "prior", "decoder") if name in self.modules)

    @property
    def size_bytes(self) -> int:
        """Memory that the weights take."""
        return sum(module_bytes(module) for module in self.modules.values())

    def unread(self, prompt: str) -> str:
        """Such pipelines do not say what they leave out."""
        return ""

    def unsafe(self, images: Sequence[Any]) -> tuple[bool, ...]:
        """What the pipeline itself has said of the pictures of its last run."""
        return self._flagged or (False,) * len(images)

    def wear(self, loras: Sequence[Any]) -> None:
        """Such a pipeline is run as it is; raises InvalidRequest if LoRAs are asked for."""
        if loras:
            raise InvalidRequest(f"{self.card.name} runs a loop of its own and takes no LoRA; leave it out.")

    def control(self, controls: Sequence[Any]) -> None:
        """Such a pipeline is run as it is; raises InvalidRequest if it should see maps."""
        if controls:
            raise InvalidRequest(f"{self.card.name} runs a loop of its own and takes no ControlNets; leave them out.")

    def follow(self, picture: Any) -> None:
        """Such a pipeline is run as it is; raises InvalidRequest if it should follow a picture."""
        if picture is not None:
            raise InvalidRequest(f"{self.card.name} runs a loop of its own and follows no picture; leave it out.")

    def learn(self, words: Mapping[str, Any]) -> None:
        """Such a pipeline is run as it is; raises InvalidRequest if it should learn words."""
        if words:
            raise InvalidRequest(f"{self.card.name} runs a loop of its own and learns no words; leave them out.")

    def for_card(self, card: ModelCard) -> AnyPipeline:
        """The same weights under another card."""
        other = copy.copy(self)
        other.card = card
        return other

    def why_not(self, request: GenerationRequest) -> str:
        """Why this pipeline cannot run a request, as one sentence, or ""."""
        if request.init is not None:
            return f"{self.card.name} runs a loop of its own and cannot start from a picture; choose another model."
        if request.variation is not None or request.interpolation is not None:
            return f"{self.card.name} runs a loop of its own and cannot blend noises or prompts; choose another model."
        if request.negative_prompt and "negative_prompt" not in self.asks:
            return f"{self.card.name} knows no negative prompt; leave that field empty."
        return ""

    def own_loop(self, request: GenerationRequest, cancelled: Callable[[], bool]) -> Iterator[Step]:
        """The pipeline's steps as they happen; the last one comes with the finished pictures.

        Raises:
            InvalidRequest: if the pipeline cannot run this request.
        """
        reason = self.why_not(request)
        if reason:
            raise InvalidRequest(reason)
        run, self._flagged = _Run(self, request), ()
        try:
            held = None
            for step in run.steps(cancelled):
                if held is not None:
                    yield held
                held = step
            if held is not None and run.pictures:
                self._flagged = run.flagged
                yield held.with_pictures(run.pictures)
        finally:
            run.stop()

    def call(self, scheduler: Any, request: GenerationRequest) -> tuple[list[Any], tuple[bool, ...]]:
        """Run the pipeline with this scheduler; n pictures, and which of them its safety checker has blackened."""
        pipe = copy.copy(self.pipe)
        pipe.scheduler = scheduler
        pipe.set_progress_bar_config(disable=True)
        generators = [torch.Generator().manual_seed(seed) for seed in request.seeds]
        wishes = {
            "prompt": request.prompt,
            "negative_prompt": request.negative_prompt,
            "width": request.width,
            "height": request.height,
            "num_inference_steps": request.sampling.num_inference_steps,
            "guidance_scale": request.sampling.guidance_scale,
            "num_images_per_prompt": request.num_images,
            "generator": generators if len(generators) > 1 else generators[0],
            # Some pipelines would rather make another size and cut it; the size is the person's to choose.
            "use_resolution_binning": False,
        }
        made = pipe(**{name: value for name, value in wishes.items() if name in self.asks})
        flags = getattr(made, "nsfw_content_detected", None) or getattr(made, "nsfw_detected", None) or ()
        return list(made.images), tuple(bool(flag) for flag in flags)


class _Run:
    """One run of a pipeline in its thread, handing over a step at a time: the pipeline waits until it is taken."""

    def __init__(self, model: AnyPipeline, request: GenerationRequest) -> None:
        self.model, self.request = model, request
        self.pictures: list[Any] = []
        self.flagged: tuple[bool, ...] = ()
        self._news: queue.Queue[Step | BaseException | None] = queue.Queue(maxsize=1)
        self._stop = threading.Event()
        self._threads = torch.get_num_threads()
        self._thread = threading.Thread(target=self._work, name="playground-own-loop", daemon=True)

    def steps(self, cancelled: Callable[[], bool]) -> Iterator[Step]:
        """Steps until the pipeline ends or someone asks for an end."""
        self._thread.start()
        while not cancelled():
            try:
                news = self._news.get(timeout=PATIENCE)
            except queue.Empty:
                continue
            if news is None:
                return
            if isinstance(news, BaseException):
                raise news
            yield news

    def stop(self) -> None:
        """End the thread at its next step, and wait for it: the device is free afterwards."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join()

    def _work(self) -> None:
        torch.set_num_threads(self._threads)
        try:
            self.pictures, self.flagged = self.model.call(self._watched(), self.request)
            self._tell(None)
        except _Stopped:
            pass
        except BaseException as error:
            self._tell(error)

    def _watched(self) -> Any:
        """A fresh scheduler whose every step is told."""
        own = self.model.pipe.scheduler
        scheduler = type(own).from_config(own.config)
        plain, count = scheduler.step, iter(range(10_000))

        def step(model_output: Any, timestep: Any, sample: Any, *more: Any, **options: Any) -> Any:
            index = next(count)
            # The levels are read before the step: afterwards the scheduler has moved on.
            seen = self._levels(scheduler, timestep, index)
            answer = plain(model_output, timestep, sample, *more, **options)
            after = answer[0] if isinstance(answer, tuple) else answer.prev_sample
            self._tell(self._step(scheduler, index, timestep, seen, model_output, sample, after))
            return answer

        scheduler.step = step
        return scheduler

    def _levels(self, scheduler: Any, timestep: Any, index: int) -> tuple[float, float] | None:
        if self.model.scheduler_config.get("prediction_type") == OWN:
            return None
        return alpha_sigma(scheduler, timestep, index)

    def _step(
        self, scheduler: Any, index: int, t: Any, levels: tuple[float, float] | None, output: Any, x: Any, after: Any
    ) -> Step:
        x_t, x_next, prediction = (self._grid(part) for part in (x, after, output))
        alpha, sigma = levels or (1.0, 0.0)
        if levels is not None and is_exploding(scheduler):
            x_t = alpha * x_t
        known = levels is not None and prediction.shape == x_t.shape
        x0 = x0_of(kind_of(scheduler), prediction, x_t, alpha, sigma) if known else x_next
        cond = prediction if known else None
        return Step(index, len(scheduler.timesteps), float(t), sigma, alpha, x_t, x0, cond, None, x_next)

    def _grid(self, x: torch.Tensor) -> torch.Tensor:
        """Latents as (n, c, h, w) float32, whatever form the pipeline holds them in; empty where that is not known."""
        x = x.detach().float()
        if x.ndim == 5 and x.shape[2] == 1:  # a film of one frame
            x = x[:, :, 0]
        if x.ndim == 3:  # a row of tokens, one for each patch of 2 x 2 cells
            h, w = (side // self.model.latents.factor for side in (self.request.height, self.request.width))
            if x.shape[1] * 4 == h * w and x.shape[2] == 4 * self.model.latents.channels:
                x = unpack(x, torch.Size((len(x), x.shape[2] // 4, h, w)))
        return x if x.ndim == 4 else x.new_zeros(len(x), 0, 0, 0)

    def _tell(self, news: Step | BaseException | None) -> None:
        while not self._stop.is_set():
            try:
                return self._news.put(news, timeout=PATIENCE)
            except queue.Full:
                continue
        raise _Stopped


class OwnLatents(LatentFormat):
    """The latent space of a pipeline that decodes by itself: only ever looked at by a linear map."""

    def __init__(self, pipe: Any) -> None:
        self.vae, self.small = getattr(pipe, "vae", None), None
        config = getattr(self.vae, "config", {})
        self.channels = config.get("latent_channels") or config.get("z_dim") or 4
        self.factor = getattr(pipe, "vae_scale_factor", 8)
        self.scale, self.shift = 1.0, 0.0

    def preview(self, latents: torch.Tensor) -> list[Any]:
        """One pixel a cell; nothing where the latents have no place on a grid."""
        return self.project(latents) if latents.numel() and latents.shape[1] == self.channels else []

    @torch.inference_mode()
    def encode(self, pixels: torch.Tensor, generator: torch.Generator | None = None) -> torch.Tensor:
        """Pixels (n, 3, height, width) to latents (n, c, h, w) in the pipeline's own scale, as far as it says."""
        found = self.vae.encode(self._to_vae(pixels))
        latents = found.latent_dist.mode() if hasattr(found, "latent_dist") else next(iter(found.values()))
        config = self.vae.config
        shift = config.get("shift_factor") or 0.0
        return (latents.float() - shift) * (config.get("scaling_factor") or 1.0)

    @cached_property
    def _to_rgb(self) -> tuple[torch.Tensor, torch.Tensor]:
        try:
            return super()._to_rgb  # type: ignore[misc]
        except Exception:  # an autoencoder of another form: three channels stand for the colours
            weight = torch.zeros(self.channels, 3)
            weight[: min(3, self.channels), : min(3, self.channels)] = torch.eye(min(3, self.channels)) / 3
            return weight, torch.zeros(3)


def load(card: ModelCard, placement: Placement, report: Report) -> AnyPipeline:
    """Load a pipeline as diffusers does.

    Raises:
        CannotLoad: if it is missing or broken, is no text-to-image pipeline, or has no scheduler to watch.
    """
    import diffusers

    report("pipeline", 0, 1)
    try:
        pipe = diffusers.DiffusionPipeline.from_pretrained(
            resolve_source(card.source),
            dtype=getattr(torch, placement.dtype),
            use_safetensors=True,
            variant=card.variant or None,
        )
    except (torch.OutOfMemoryError, MemoryError):
        raise
    except Exception as error:
        raise CannotLoad(
            f"{card.name} cannot be loaded from {card.source} ({first_line(error)}); it must be a pipeline in "
            "diffusers format with safetensors files."
        ) from error
    if not placement.checks and getattr(pipe, PART, None) is not None:
        pipe.register_modules(**{PART: None})
    asks = inspect.signature(pipe.__call__).parameters
    if "prompt" not in asks or "image" in asks or not hasattr(getattr(pipe, "scheduler", None), "step"):
        raise CannotLoad(
            f"{card.name} is a {type(pipe).__name__}, which does not make pictures from text alone; choose another "
            "model."
        )
    for part in pipe.components.values():
        if isinstance(part, torch.nn.Module):
            settle(part, placement)
    report("", 1, 1)
    return AnyPipeline(card, placement, pipe)
