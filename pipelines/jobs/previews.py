"""Pictures as bytes: a JPEG for each step, and what a trace and a draft keep of the finished ones."""

from __future__ import annotations

import io
import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

from pipelines.events import Event, Preview, Step
from pipelines.images.png import xmp_chunk
from pipelines.system.gpu.device_copies import HostCopy
from pipelines.system.gpu.out_of_memory import out_of_memory
from pipelines.trace.trace import signal_share

if TYPE_CHECKING:
    import torch
    from PIL import Image

    from pipelines.model import Model
    from pipelines.trace.recorder import Recorder

log = logging.getLogger(__name__)

PREVIEW_SIDE = 256
# While a page watches, steps are painted this often, and so many times in a run however short it is.
LIVE_SECONDS, LIVE_TIMES = 0.04, 3
# Where a guess and the finished latents differ by no more than this, they decode to the same picture.
SAME_LATENTS = 1e-3
# Frames that are painted after the picture go to the page together, this often.
STRIP_SECONDS = 0.1
# What the stage shows large comes first.
VIEWS = ("noisy", "guess")
# Up to these sides a finished picture is stored without loss: in a trace (larger ones are scaled down), in a draft.
FINAL_SIDE = 512
DRAFT_SIDE = 256


@dataclass(frozen=True)
class StepFrames:
    """A step as pictures: small JPEGs, one an image.

    Attributes:
        guess: the model's guess for the prompt; see ``pipelines.sampling.schedulers.guess_of``.
        noisy: the noisy latents, decoded.
        rough: which of them are only a linear map of the latents.
    """

    guess: tuple[bytes, ...] = ()
    noisy: tuple[bytes, ...] = ()
    rough: tuple[str, ...] = ()

    def preview(self, step: Step, seconds_left: float = 0.0) -> Preview:
        """The event that carries them."""
        noise = 1 - signal_share(step.alpha, step.sigma)
        facts = (step.index, step.total, float(step.timestep), seconds_left)
        return Preview(*facts, self.guess, self.noisy, noise, self.rough)


def step_frames(model: Model, step: Step, scheduler: str) -> StepFrames:
    """The guess and the noisy latents of a step that ``scheduler`` made."""
    import torch

    if model.placement.kind != "cpu":
        there = _moved(step, model.placement.device)
        return frames_of(*(None if row is None else row.cpu() for row in small_frames(model, there, scheduler)))
    with torch.inference_mode():
        rows = [model.latents.preview(latents) for latents in _shown(model, step, scheduler)]
    guess, noisy = (tuple(preview_jpeg(image) for image in row) for row in rows)
    return StepFrames(guess, noisy)


def rough_frames(model: Model, steps: Sequence[Step], scheduler: str) -> list[StepFrames]:
    """The guesses and the noisy latents of steps on the CPU by the linear map: a fraction of a millisecond each."""
    import torch

    with torch.inference_mode():
        shown = [_shown(model, step, scheduler) for step in steps]
        guesses, noisy = (
            [preview_jpeg(image) for image in model.latents.rough_preview(torch.cat(row))]
            for row in zip(*shown, strict=True)
        )
    n = len(steps[0].x_t)
    rough = () if model.latents.preview_is_linear else VIEWS
    return [StepFrames(tuple(guesses[k : k + n]), tuple(noisy[k : k + n]), rough) for k in range(0, n * len(steps), n)]


def is_picture(model: Model, step: Step, scheduler: str) -> bool:
    """Whether a step's guess is the latents after it, so that both decode to the same picture."""
    guess, _ = _shown(model, step, scheduler)
    return bool((guess - step.x_next).abs().max() <= SAME_LATENTS)


def noise_key(model: Model, step: Step, scheduler: str) -> bytes:
    """What the frame of a step's noisy latents depends on."""
    _, noisy = _shown(model, step, scheduler)
    of = f"{model.card.id} {model.placement.dtype} {tuple(noisy.shape)}".encode()
    return blake2b(of + noisy.contiguous().numpy().tobytes()).digest()


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
    cond = None if step.cond is None else step.cond.to(device)
    return replace(step, x_t=step.x_t.to(device), x0=step.x0.to(device), cond=cond)


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
    """Makes the previews of a GPU's steps, emits and records them, one step behind.

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
        self._blind = False

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
        parts = (step.x_t, step.cond, step.uncond, *self._frames(step))
        self._later(HostCopy(parts, device), replace(step, x_t=step.x_next, x0=step.x_next), seconds_left)

    def _frames(self, step: Step) -> tuple[torch.Tensor | None, torch.Tensor | None]:
        """As ``small_frames``; no picture is lost because its previews cannot be made here."""
        if self._blind:
            return None, None
        try:
            return small_frames(self._model, step, self._scheduler)
        except Exception as error:
            if out_of_memory(error):
                raise
            log.exception("The steps of a running job could not be painted")
            self._blind = True
        return None, None

    def keep(self, step: Step, steps: list[Step]) -> None:
        """Append a step whose frames are made after the run; from a GPU, whose memory is dear, it goes to the CPU."""
        device = step.x_t.device
        if device.type == "cpu":
            steps.append(step)
            return
        copy = HostCopy((step.x_t, step.x0, step.cond, step.uncond, step.x_next), device)
        # The copies are filled later; the runner reads them only after the writer has ended.
        self._later(copy)
        x_t, x0, cond, uncond, x_next = copy.tensors
        assert x_t is not None and x0 is not None and x_next is not None
        steps.append(replace(step, x_t=x_t, x0=x0, cond=cond, uncond=uncond, x_next=x_next))

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


class LivePainter:
    """Paints the steps of a CPU while the next ones are computed, if a page watches; the sampler never waits for it.

    Decoding would take longer than a step of a small model, so these frames are the linear map's.  A thread paints all
    steps that have come since it last did.

    Args:
        emit: called with the previews of some steps.
        watched: says whether a page looks.
        model: that runs.
        scheduler: that makes the steps.

    Attributes:
        frames: what was painted and emitted, by step.
    """

    def __init__(self, emit: Callable[..., None], watched: Callable[[], bool], model: Model, scheduler: str) -> None:
        self._emit, self._watched, self._model, self._scheduler = emit, watched, model, scheduler
        self.frames: dict[int, StepFrames] = {}
        self._pending: list[tuple[Step, float]] = []
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._due = self._over = False
        self._times = 0

    def __enter__(self) -> LivePainter:
        return self

    def __exit__(self, *error: Any) -> None:
        """Take nothing more; what is being painted now is not shown, for something better follows."""
        with self._changed:
            self._over = True
            self._changed.notify()

    def add(self, step: Step, seconds_left: float) -> None:
        """A step is done; ``seconds_left`` are those of the run."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="playground-previews", daemon=True)
            self._thread.start()
        with self._changed:
            self._pending.append((step, seconds_left))
            if self._watched() and self._times * step.total < LIVE_TIMES * (step.index + 1):
                self._due = True
                self._changed.notify()

    def catch_up(self) -> None:
        """Paint what a run that was stopped has left; after the context."""
        if self._thread is not None:
            self._thread.join()
        if self._pending and self._watched():
            self._paint(list(self._pending))

    def _work(self) -> None:
        try:
            while (taken := self._next()) is not None:
                if taken:
                    self._paint(taken)
        except Exception:
            log.exception("The steps of a running job could not be painted")

    def _next(self) -> list[tuple[Step, float]] | None:
        """Steps to paint now, perhaps none; None at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._due or self._over, LIVE_SECONDS)
            if self._over:
                return None
            self._due = False
            if not self._watched():
                return []
            self._times += bool(self._pending)
            return list(self._pending)

    def _paint(self, taken: list[tuple[Step, float]]) -> None:
        painted = rough_frames(self._model, [step for step, _ in taken], self._scheduler)
        with self._changed:
            if self._over and threading.current_thread() is self._thread:
                return
            del self._pending[: len(taken)]
            self.frames |= {step.index: frames for (step, _), frames in zip(taken, painted, strict=True)}
            self._emit(*(frames.preview(*one) for one, frames in zip(taken, painted, strict=True)))


class StripPainter:
    """Paints the steps of a CPU once the picture is there: first roughly all that are missing, then decoded.

    One view after the other, and each frame by itself: several at once are no faster on a CPU.  While one is decoded, a
    thread makes JPEGs of those before.

    Args:
        emit: called with the previews of some steps, from one thread at a time.
        watched: says whether a page looks; else each step is emitted once, at the end.
        model: that ran.
        scheduler: that made the steps.
        frames: what has been painted, by step; completed here.
    """

    def __init__(
        self, emit: Callable[..., None], watched: Callable[[], bool], model: Model, scheduler: str,
        frames: Mapping[int, StepFrames],
    ) -> None:  # fmt: skip
        self._emit, self._watched, self._model, self._scheduler = emit, watched, model, scheduler
        self.frames = dict(frames)
        self._fresh: dict[int, Step] = {}
        self._sent = 0.0

    def rough(self, steps: Sequence[Step]) -> None:
        """Paint those that are missing by the linear map."""
        missing = [step for step in steps if step.index not in self.frames]
        if missing:
            painted = rough_frames(self._model, missing, self._scheduler)
            self.frames |= {step.index: frames for step, frames in zip(missing, painted, strict=True)}
            self._fresh |= {step.index: step for step in missing}
            self._send(last=self._model.latents.preview_is_linear)

    def decoded(
        self, steps: Sequence[Step], known: Mapping[tuple[str, int], tuple[bytes, ...]], stopped: Callable[[], bool]
    ) -> None:
        """Paint all of them by the autoencoder, unless the model has none for previews.

        Args:
            steps: of the run.
            known: frames that need not be decoded, by view and step.
            stopped: asked before each; when true, the rest stays as it is.
        """
        if not steps or self._model.latents.preview_is_linear:
            return
        self._sent = time.monotonic()
        with ThreadPoolExecutor(1, thread_name_prefix="playground-frames") as files:
            for view in VIEWS:
                made = [
                    files.submit(self._store, step, view, self._decode(step, view, known))
                    for step in steps
                    if not stopped()
                ]
                for each in made:
                    each.result()
                self._send(last=view == VIEWS[-1])

    def _decode(
        self, step: Step, view: str, known: Mapping[tuple[str, int], tuple[bytes, ...]]
    ) -> Sequence[Image.Image | bytes]:
        import torch

        if (view, step.index) in known:
            return known[view, step.index]
        with torch.inference_mode():
            guess, noisy = _shown(self._model, step, self._scheduler)
            return self._model.latents.preview(guess if view == "guess" else noisy)

    def _store(self, step: Step, view: str, made: Sequence[Image.Image | bytes]) -> None:
        jpegs = tuple(one if isinstance(one, bytes) else preview_jpeg(one) for one in made)
        before = self.frames[step.index]
        rough = tuple(name for name in before.rough if name != view)
        self.frames[step.index] = (
            replace(before, guess=jpegs, rough=rough) if view == "guess" else replace(before, noisy=jpegs, rough=rough)
        )
        self._fresh[step.index] = step
        if time.monotonic() - self._sent > STRIP_SECONDS:
            self._send()

    def _send(self, last: bool = False) -> None:
        if not (last or self._watched()):
            return
        fresh, self._fresh = list(self._fresh.values()), {}
        self._emit(*(self.frames[step.index].preview(step) for step in fresh))
        self._sent = time.monotonic()


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
