"""Pictures as bytes: a JPEG for each step, and what a trace and a draft keep of the finished ones."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from pipelines.events import Event, Preview, Step
from pipelines.images.png import xmp_chunk
from pipelines.system.gpu.device_copies import HostCopy
from pipelines.trace.trace import signal_share

if TYPE_CHECKING:
    import torch
    from PIL import Image

    from pipelines.model import Model
    from pipelines.trace.recorder import Recorder

PREVIEW_SIDE = 256
# Up to these sides a finished picture is stored without loss: in a trace (larger ones are scaled down), in a draft.
FINAL_SIDE = 512
DRAFT_SIDE = 256
# The tensors of a step.
_LATENTS = ("x_t", "x0", "cond", "uncond", "x_next")


@dataclass(frozen=True)
class StepFrames:
    """A step as pictures: small JPEGs, one an image.

    Attributes:
        guess: the model's guess for the prompt; see ``pipelines.sampling.schedulers.guess_of``.
        noisy: the noisy latents, decoded.
    """

    guess: tuple[bytes, ...] = ()
    noisy: tuple[bytes, ...] = ()

    def preview(self, step: Step, seconds_left: float = 0.0) -> Preview:
        """The event that carries them."""
        noise = 1 - signal_share(step.alpha, step.sigma)
        return Preview(step.index, step.total, float(step.timestep), seconds_left, self.guess, self.noisy, noise)


def step_frames(model: Model, step: Step, scheduler: str) -> StepFrames:
    """The guess and the noisy latents of a step that ``scheduler`` made."""
    import torch

    if model.placement.kind != "cpu":
        there = _moved(step, model.placement.device)
        return frames_of(*(None if row is None else row.cpu() for row in small_frames(model, there, scheduler)))
    with torch.inference_mode():
        rows = [model.latents.preview(latents) for latents in _shown(model, step, scheduler)]
    return StepFrames(*(tuple(preview_jpeg(image) for image in row) for row in rows))


def small_frames(model: Model, step: Step, scheduler: str) -> tuple[torch.Tensor | None, torch.Tensor | None]:
    """The guess and the noisy latents as bytes (n, height, width, 3) of at most 256 px, on the step's device.

    None where they form no image.
    """
    import torch

    with torch.inference_mode():
        guess, noisy = (model.latents.small_preview(one, PREVIEW_SIDE) for one in _shown(model, step, scheduler))
    return guess, noisy


def frames_of(guess: torch.Tensor | None, noisy: torch.Tensor | None) -> StepFrames:
    """What ``small_frames`` made, once it is on the CPU."""
    return StepFrames(_jpegs(guess), _jpegs(noisy))


def _moved(step: Step, device: str) -> Step:
    """A step with the latents that its frames show on a device."""
    here = {name: getattr(step, name) for name in ("x_t", "x0", "cond")}
    return replace(step, **{name: None if one is None else one.to(device) for name, one in here.items()})


def _jpegs(pixels: torch.Tensor | None) -> tuple[bytes, ...]:
    from PIL import Image

    return () if pixels is None else tuple(preview_jpeg(Image.fromarray(one)) for one in pixels.contiguous().numpy())


def _shown(model: Model, step: Step, scheduler: str) -> tuple[torch.Tensor, torch.Tensor]:
    """The guess for the prompt, and the noisy latents in the scale of the model's pictures."""
    from pipelines.sampling.schedulers import SCHEDULERS, guess_of, prediction_type_of

    noisy = step.x_t
    if step.cond is not None and SCHEDULERS[step.scheduler or scheduler].variance_exploding:
        noisy = step.alpha * noisy
    return guess_of(step, noisy, prediction_type_of(model.scheduler_config)), noisy


class StepWriter:
    """Makes the previews of steps, emits and records them: on a CPU at once, for a GPU one step behind.

    A GPU computes while the CPU only says what comes next.  To look at its latents would stop both, so they are copied
    while the next step is computed, and a thread makes JPEGs of them.  The loop never gets more than a step ahead of
    what has been written: cancelling and the time left stay true.

    Args:
        emit: called with each ``Preview``, from one thread at a time.
        model: that runs.
        recorder: records each step.
        scheduler: that makes them.
    """

    def __init__(self, emit: Callable[[Preview], None], model: Model, recorder: Recorder, scheduler: str) -> None:
        self._emit, self._model, self._recorder, self._scheduler = emit, model, recorder, scheduler
        self._thread: ThreadPoolExecutor | None = None
        self._behind: Future[None] | None = None

    def __enter__(self) -> StepWriter:
        return self

    def __exit__(self, kind: Any, *error: Any) -> None:
        """Wait for the last step; its error is raised unless the loop has raised one of its own."""
        try:
            if kind is None:
                self._wait()
        finally:
            if self._thread is not None:
                self._thread.shutdown()

    def add(self, step: Step, seconds_left: float) -> None:
        """Emit and record a step."""
        device = step.x_t.device
        if device.type == "cpu":
            self._write(step, step_frames(self._model, step, self._scheduler), seconds_left)
            return
        parts = (step.x_t, step.cond, step.uncond, *small_frames(self._model, step, self._scheduler))
        self._later(HostCopy(parts, device), replace(step, x_t=step.x_next, x0=step.x_next), seconds_left)

    def keep(self, step: Step, steps: list[Step]) -> None:
        """Append a step whose frames are made after the run; from a GPU, whose memory is dear, it goes to the CPU."""
        device = step.x_t.device
        if device.type == "cpu":
            steps.append(step)
            return
        copy = HostCopy([getattr(step, name) for name in _LATENTS], device)
        # The copies are filled later; nobody reads them before the writer has ended.
        self._later(copy)
        steps.append(replace(step, **dict(zip(_LATENTS, copy.tensors, strict=True))))

    def _later(self, copy: HostCopy, step: Step | None = None, seconds_left: float = 0.0) -> None:
        self._wait()
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="playground-steps")
        self._behind = self._thread.submit(self._finish, copy, step, seconds_left)

    def _finish(self, copy: HostCopy, step: Step | None, seconds_left: float) -> None:
        arrived = copy.result()
        if step is None:
            return
        x_t, cond, uncond, guess, noisy = arrived
        assert x_t is not None
        self._write(replace(step, x_t=x_t, cond=cond, uncond=uncond), frames_of(guess, noisy), seconds_left)

    def _write(self, step: Step, frames: StepFrames, seconds_left: float) -> None:
        self._recorder.add(step, frames.guess, frames.noisy)
        self._emit(frames.preview(step, seconds_left))

    def _wait(self) -> None:
        if self._behind is not None:
            self._behind.result()


def preview_jpeg(image: Image.Image) -> bytes:
    """A picture as JPEG of at most 256 px; scales ``image`` itself."""
    if max(image.size) > PREVIEW_SIDE:
        image.thumbnail((PREVIEW_SIDE, PREVIEW_SIDE))
    file = io.BytesIO()
    image.save(file, format="JPEG", quality=80)
    return file.getvalue()


def final_bytes(image: Image.Image, xmp: str) -> bytes:
    """A finished picture as a trace keeps it: PNG up to 512 px, else a smaller JPEG; with provenance metadata."""
    file = io.BytesIO()
    if max(image.size) <= FINAL_SIDE:
        image.save(file, format="PNG", pnginfo=xmp_chunk(xmp))
    else:
        smaller = image.copy()
        smaller.thumbnail((FINAL_SIDE, FINAL_SIDE))
        smaller.save(file, format="JPEG", quality=90, xmp=xmp.encode())
    return file.getvalue()


def draft_bytes(image: Image.Image, xmp: str) -> bytes:
    """A draft in its full size: PNG up to 256 px, else JPEG; with provenance metadata."""
    file = io.BytesIO()
    if max(image.size) <= DRAFT_SIDE:
        image.save(file, format="PNG", pnginfo=xmp_chunk(xmp), compress_level=1)
    else:
        image.save(file, format="JPEG", quality=90, xmp=xmp.encode())
    return file.getvalue()


def black(image: Image.Image) -> Image.Image:
    """A black picture of the same size."""
    from PIL import Image

    return Image.new("RGB", image.size)


def hide_withheld(event: Event, withheld: Sequence[bool]) -> Event:
    """A preview with black frames in place of the withheld pictures; other events as they are."""
    from PIL import Image

    return (
        event.with_withheld(withheld, preview_jpeg(Image.new("RGB", (8, 8)))) if isinstance(event, Preview) else event
    )
