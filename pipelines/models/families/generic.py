"""Any other text-to-image pipeline of diffusers, through its own loop.

The pipeline runs in a thread of its own, and its scheduler is watched: what goes into each step and what comes out is
all that is known of it.  That is enough for the picture, the latents, and (for known schedulers) the predicted x0
and noise; the two predictions that guidance compares are not visible.
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
from pipelines.events import Step
from pipelines.model import CannotLoad, Placement, Report
from pipelines.models.components import check_references, from_pretrained, is_local, module_bytes, resolve_source
from pipelines.models.families.checked_decoding import autoencoders, checked_decoding
from pipelines.models.families.flux import unpack_latents
from pipelines.models.offloading.spread import widen_autoencoder
from pipelines.models.placement import settle
from pipelines.models.safety_checker import ON, PART, state_of
from pipelines.request import GenerationRequest, InvalidRequest
from pipelines.sampling.conditioning import Conditioning
from pipelines.sampling.latents import LatentFormat
from pipelines.sampling.schedulers import (
    OWN_LOOP,
    SCHEDULERS,
    alpha_sigma,
    is_variance_exploding,
    scheduler_prediction_type,
    x0_from_prediction,
)
from pipelines.system.building import BUILDING
from pipelines.system.gpu.graphics_card import make_current
from pipelines.system.gpu.out_of_memory import out_of_memory
from pipelines.system.paths import PROJECT
from pipelines.system.text import first_line, hide_paths

# How often the two threads check whether the other one has ended.
POLL_SECONDS = 0.2


class _Stopped(Exception):
    """Ends the pipeline's loop from inside."""


class GenericPipeline:
    """A loaded pipeline with its own loop; see ``pipelines.model.Model`` and ``own_loop`` there."""

    is_inpainting = False
    guidance_embedded = True
    supports_prompt_weights = False
    use_engine = None
    quick = False
    training_copy = None

    def __init__(self, card: ModelCard, placement: Placement, pipe: Any) -> None:
        self.card, self.placement, self.pipe = card, placement, pipe
        self.texts: list[Any] = []
        self._loaded = self  # of which each card gets a copy
        self.call_parameters = inspect.signature(pipe.__call__).parameters
        self.latents = GenericLatents(pipe)
        self.size_factor = card.size_factor
        known = type(pipe.scheduler).__name__ in {spec.class_name for spec in SCHEDULERS.values()}
        # Without a known scheduler, x0 cannot be derived from its steps.
        checked = getattr(pipe, PART, None) is not None
        self.safety = ON if checked else state_of(PROJECT / card.source, placement.checks)
        self._flagged: tuple[bool, ...] = ()
        self.scheduler_config: dict[str, Any] = dict(pipe.scheduler.config) if known else {"prediction_type": OWN_LOOP}

    @property
    def modules(self) -> dict[str, torch.nn.Module]:
        """Every network, by the name of its part."""
        return {name: part for name, part in self.pipe.components.items() if isinstance(part, torch.nn.Module)}

    @property
    def denoiser(self) -> torch.nn.Module:
        """The network that is called at every step."""
        return next(self.modules[name] for name in ("transformer", "unet", "prior", "decoder") if name in self.modules)

    @property
    def size_bytes(self) -> int:
        """Memory that the weights take."""
        return sum(module_bytes(module) for module in self.modules.values())

    def encode_prompt(self, prompts: list[str], negative: bool = False, chunks: int = 0) -> Conditioning:
        """Such a pipeline encodes prompts in its own loop."""
        raise NotImplementedError

    def count_chunks(self, prompt: str) -> int:
        """Such a pipeline does not read A1111's form."""
        return 0

    def predict(
        self, x: torch.Tensor, t: torch.Tensor, conditioning: Conditioning, guidance: float = 0.0
    ) -> torch.Tensor:
        """Such a pipeline calls its denoiser in its own loop."""
        raise NotImplementedError

    def timestep_options(self, num_inference_steps: int, width: int, height: int) -> dict[str, Any]:
        """Such a pipeline sets its timesteps in its own loop."""
        return {}

    def clear_prompt_cache(self) -> None:
        """Such a pipeline caches no prompts."""

    def truncated_text(self, prompt: str) -> str:
        """Such pipelines do not say what they leave out."""
        return ""

    def withheld_by_checker(self, images: Sequence[Any]) -> tuple[bool, ...]:
        """What the pipeline itself has said of the pictures of its last run."""
        return self._flagged or (False,) * len(images)

    def set_loras(self, loras: Sequence[Any]) -> None:
        """Not supported: raises InvalidRequest if there are any."""
        if loras:
            raise InvalidRequest("prompt", f"{self.card.name} runs a loop of its own and takes no LoRA; leave it out.")

    def set_controlnets(self, controls: Sequence[Any]) -> None:
        """Not supported: raises InvalidRequest if there are any."""
        if controls:
            raise InvalidRequest(
                "controls", f"{self.card.name} runs a loop of its own and takes no ControlNets; leave them out."
            )

    def set_ip_adapter(self, picture: Any) -> None:
        """Not supported: raises InvalidRequest if there is one."""
        if picture is not None:
            raise InvalidRequest(
                "reference", f"{self.card.name} runs a loop of its own and follows no picture; leave it out."
            )

    def load_embeddings(self, words: Mapping[str, Any]) -> None:
        """Not supported: raises InvalidRequest if there are any."""
        if words:
            raise InvalidRequest(
                "prompt", f"{self.card.name} runs a loop of its own and learns no words; leave them out."
            )

    def for_card(self, card: ModelCard) -> GenericPipeline:
        """The same weights under another card."""
        other = copy.copy(self)
        other.card = card
        return other

    def incompatibility(self, request: GenerationRequest) -> str:
        """Why this pipeline cannot run a request, as one sentence, or ""."""
        if request.init is not None:
            return f"{self.card.name} runs a loop of its own and cannot start from a picture; choose another model."
        if request.variation is not None or request.interpolation is not None:
            return f"{self.card.name} runs a loop of its own and cannot blend noises or prompts; choose another model."
        if request.negative_prompt and "negative_prompt" not in self.call_parameters:
            return f"{self.card.name} knows no negative prompt; leave that field empty."
        return ""

    def own_loop(self, request: GenerationRequest, cancelled: Callable[[], bool]) -> Iterator[Step]:
        """The pipeline's steps as they happen; the last one comes with the finished pictures.

        Raises:
            InvalidRequest: if the pipeline cannot run this request.
        """
        reason = self.incompatibility(request)
        if reason:
            raise InvalidRequest("scheduler", reason)
        run, self._flagged = _PipelineThread(self, request), ()
        try:
            held = None
            for step in run.steps(cancelled):
                if held is not None:
                    yield held
                held = step
            if run.broken:
                raise FloatingPointError
            if held is not None and run.pictures:
                self._flagged = run.flagged
                yield held.with_pictures(run.pictures)
        finally:
            run.stop()

    def run_pipeline(self, scheduler: Any, request: GenerationRequest) -> tuple[list[Any], tuple[bool, ...]]:
        """Run the pipeline with this scheduler; n pictures, and which of them its safety checker has blackened."""
        pipe = copy.copy(self.pipe)
        pipe.scheduler = scheduler
        pipe.set_progress_bar_config(disable=True)
        generators = [torch.Generator().manual_seed(seed) for seed in request.seeds]
        wanted = {
            "prompt": list(request.prompts) or request.prompt,
            "negative_prompt": [request.negative_prompt] * len(request.prompts) or request.negative_prompt,
            "width": request.width,
            "height": request.height,
            "num_inference_steps": request.sampling.num_inference_steps,
            "guidance_scale": request.sampling.guidance_scale,
            "num_images_per_prompt": 1 if request.prompts else request.num_images,
            "generator": generators if len(generators) > 1 else generators[0],
            # Some pipelines would rather make another size and cut it; the size is the person's to choose.
            "use_resolution_binning": False,
        }
        with checked_decoding(autoencoders(self.modules), self._widen):
            made = pipe(**{name: value for name, value in wanted.items() if name in self.call_parameters})
        flags = getattr(made, "nsfw_content_detected", None) or getattr(made, "nsfw_detected", None) or ()
        return list(made.images), tuple(bool(flag) for flag in flags)

    def _widen(self, autoencoder: torch.nn.Module) -> bool:
        """Have an autoencoder compute in float32 from now on, also in later runs; whether it did not before."""
        ours: Any = self
        changed = widen_autoencoder(ours, autoencoder)
        self._loaded.placement = self.placement
        return changed


class _PipelineThread:
    """One run of a pipeline in its thread, handing over a step at a time: the pipeline waits until it is taken."""

    def __init__(self, model: GenericPipeline, request: GenerationRequest) -> None:
        self.model, self.request = model, request
        self.pictures: list[Any] = []
        self.flagged: tuple[bool, ...] = ()
        self._last: torch.Tensor | None = None
        self._queue: queue.Queue[Step | BaseException | None] = queue.Queue(maxsize=1)
        self._stop = threading.Event()
        self._threads = torch.get_num_threads()
        self._thread = threading.Thread(target=self._run_pipeline, name="playground-own-loop", daemon=True)

    @property
    def broken(self) -> bool:
        """Whether the last step's latents, or pixels, are not all numbers."""
        return bool(self.pictures) and self._last is not None and not bool(torch.isfinite(self._last).all())

    def steps(self, cancelled: Callable[[], bool]) -> Iterator[Step]:
        """Steps until the pipeline ends or the job is cancelled."""
        self._thread.start()
        while not cancelled():
            try:
                news = self._queue.get(timeout=POLL_SECONDS)
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

    def _run_pipeline(self) -> None:
        torch.set_num_threads(self._threads)
        try:
            make_current(self.model.placement.device)
            self.pictures, self.flagged = self.model.run_pipeline(self._recording_scheduler(), self.request)
            self._hand_over(None)
        except _Stopped:
            pass
        except BaseException as error:
            self._hand_over(error)

    def _recording_scheduler(self) -> Any:
        """A fresh scheduler whose every step is handed over."""
        own = self.model.pipe.scheduler
        scheduler = type(own).from_config(own.config)
        plain, count = scheduler.step, iter(range(10_000))

        def step(model_output: Any, timestep: Any, sample: Any, *more: Any, **options: Any) -> Any:
            index = next(count)
            # The levels are read before the step: afterwards the scheduler has moved on.
            seen = self._levels(scheduler, timestep, index)
            answer = plain(model_output, timestep, sample, *more, **options)
            after = self._last = answer[0] if isinstance(answer, tuple) else answer.prev_sample
            self._hand_over(self._step(scheduler, index, timestep, seen, model_output, sample, after))
            return answer

        scheduler.step = step
        return scheduler

    def _levels(self, scheduler: Any, timestep: Any, index: int) -> tuple[float, float] | None:
        if self.model.scheduler_config.get("prediction_type") == OWN_LOOP:
            return None
        return alpha_sigma(scheduler, timestep, index)

    def _step(
        self, scheduler: Any, index: int, t: Any, levels: tuple[float, float] | None, output: Any, x: Any, after: Any
    ) -> Step:
        x_t, x_next, prediction = (self._to_grid(part) for part in (x, after, output))
        alpha, sigma = levels or (1.0, 0.0)
        if levels is not None and is_variance_exploding(scheduler):
            x_t = alpha * x_t
        known = levels is not None and prediction.shape == x_t.shape
        x0 = (
            x0_from_prediction(scheduler_prediction_type(scheduler), prediction, x_t, alpha, sigma) if known else x_next
        )
        cond = prediction if known else None
        return Step(index, len(scheduler.timesteps), float(t), sigma, alpha, x_t, x0, cond, None, x_next)

    def _to_grid(self, x: torch.Tensor) -> torch.Tensor:
        """Latents of any known form as (n, c, h, w) float32; empty for unknown forms."""
        x = x.detach().float().clone()  # a pipeline may change its latents in place, and steps are kept to the end
        if x.ndim == 5 and x.shape[2] == 1:  # a video of one frame
            x = x[:, :, 0]
        if x.ndim == 3:  # a row of tokens, one for each patch of 2 x 2 cells
            h, w = (side // self.model.latents.factor for side in (self.request.height, self.request.width))
            if x.shape[1] * 4 == h * w and x.shape[2] == 4 * self.model.latents.channels:
                x = unpack_latents(x, torch.Size((len(x), x.shape[2] // 4, h, w)))
        return x if x.ndim == 4 else x.new_zeros(len(x), 0, 0, 0)

    def _hand_over(self, news: Step | BaseException | None) -> None:
        while not self._stop.is_set():
            try:
                return self._queue.put(news, timeout=POLL_SECONDS)
            except queue.Full:
                continue
        raise _Stopped


class GenericLatents(LatentFormat):
    """The latent space of a pipeline that decodes by itself: only ever looked at by a linear map."""

    def __init__(self, pipe: Any) -> None:
        self.vae, self.preview_vae = getattr(pipe, "vae", None), None
        config = getattr(self.vae, "config", {})
        self.channels = config.get("latent_channels") or config.get("z_dim") or 4
        self.factor = getattr(pipe, "vae_scale_factor", 8)
        self.scale, self.shift = 1.0, 0.0
        self._cheap = False

    def preview(self, latents: torch.Tensor) -> list[Any]:
        """One pixel a cell; nothing where the latents have no place on a grid."""
        return self.project(latents) if latents.numel() and latents.shape[1] == self.channels else []

    def rough_preview(self, latents: torch.Tensor) -> list[Any]:
        """As ``preview``."""
        return self.preview(latents)

    def small_preview(self, latents: torch.Tensor, side: int) -> torch.Tensor | None:
        """As ``preview``, one pixel a cell; None where the latents have no place on a grid."""
        on_grid = latents.numel() and latents.shape[1] == self.channels
        return super().small_preview(latents, side) if on_grid else None

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


def load(card: ModelCard, placement: Placement, report: Report) -> GenericPipeline:
    """Load a pipeline as diffusers does.

    Raises:
        CannotLoad: if it is missing or broken, is no text-to-image pipeline, or has no scheduler to watch.
    """
    import diffusers

    source = resolve_source(card.source)
    check_references(source, card.name)
    try:
        parts = _networks(card, source, placement, report)
        with BUILDING:
            pipe = diffusers.DiffusionPipeline.from_pretrained(
                source,
                local_files_only=is_local(source),
                dtype=getattr(torch, placement.dtype),
                use_safetensors=True,
                variant=card.variant or None,
                **parts,
            )
    except Exception as error:
        if out_of_memory(error):
            raise
        reason = first_line(error, card.source)
        raise CannotLoad(
            f"{card.name} cannot be loaded from {hide_paths(card.source)} ({reason}); it must be a pipeline in "
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
    for name, part in pipe.components.items():
        if isinstance(part, torch.nn.Module) and name not in parts:
            settle(name, part, placement)
    report("", len(parts), len(parts))
    return GenericPipeline(card, placement, pipe)


def _networks(card: ModelCard, source: str, placement: Placement, report: Report) -> dict[str, torch.nn.Module]:
    """The networks that come from diffusers and transformers; each is settled before the next is read.

    Diffusers would read all of them first, and a pipeline may be larger than the RAM.  What else there is is small.
    """
    import diffusers

    index = diffusers.DiffusionPipeline.load_config(source, local_files_only=is_local(source))
    classes = {name: cls for name, value in index.items() if (cls := _network_class(value)) is not None}
    found: dict[str, torch.nn.Module] = {}
    for done, (name, cls) in enumerate(classes.items()):
        report(name, done, len(classes))
        found[name] = settle(name, from_pretrained(cls, source, name, placement.dtype, card.variant), placement)
    return found


def _network_class(value: Any) -> Any:
    """The class of a network by its entry in model_index.json, None for what is none or comes from elsewhere."""
    import diffusers
    import transformers

    if not isinstance(value, list) or len(value) != 2 or not isinstance(value[1], str):
        return None
    library = {"diffusers": diffusers, "transformers": transformers}.get(value[0])
    cls = getattr(library, value[1], None)
    is_network = isinstance(cls, type) and issubclass(cls, torch.nn.Module) and hasattr(cls, "from_pretrained")
    return cls if is_network else None
