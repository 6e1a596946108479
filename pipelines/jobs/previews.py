"""Pictures as bytes: a JPEG for each step, and what a trace and a draft keep of the finished ones."""

from __future__ import annotations

import io
import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from pipelines.events import Event, Preview, Step
from pipelines.images.png import xmp_chunk
from pipelines.system.gpu.device_copies import HostCopy
from pipelines.system.gpu.out_of_memory import out_of_memory
from pipelines.trace.step_frames import (
    VIEWS,
    SmallFrames,
    StepFrames,
    preview_jpeg,
    rough_frames,
    shown_latents,
    small_frames,
)

if TYPE_CHECKING:
    import torch
    from PIL import Image

    from pipelines.model import Model
    from pipelines.trace.recorder import Recorder

log = logging.getLogger(__name__)

# Predictions that wait on a GPU for the end of a run.  150 steps of one picture of Stable Diffusion 1.5 are 20 MB.
HELD_BYTES = 32 * 2**20
# While a page watches, steps are painted this often, and so many times in a run however short it is.
LIVE_SECONDS, LIVE_TIMES = 0.04, 3
# Frames that are painted after the picture go to the page together, this often.
STRIP_SECONDS = 0.1
# Up to these sides a finished picture is stored without loss: in a trace (larger ones are scaled down), in a draft.
FINAL_SIDE = 512
DRAFT_SIDE = 256


@dataclass(eq=False)
class _Waiting:
    """A step whose predictions are still on the GPU.

    Attributes:
        step: without its tensors.
        predictions: cond and uncond, on the GPU.
        done: called with the whole step and its frames.
        x_t: on the CPU once it has arrived; ``frames`` as well.
    """

    step: Step
    predictions: tuple[torch.Tensor | None, torch.Tensor | None]
    done: Callable[[Step, StepFrames], None]
    x_t: torch.Tensor | None = None
    frames: StepFrames = field(default_factory=StepFrames)


class StepWriter:
    """Makes the previews of a GPU's steps, emits and records them, one step behind.

    A GPU computes while the CPU only says what comes next.  To look at its latents would stop both, so they are copied
    while the next step is computed, and a thread makes JPEGs of them.  The loop never gets more than a step ahead of
    what has been written: cancelling and the time left stay true.

    A step copies its noisy latents and its pictures.  What else is recorded, the predictions, cannot be computed from
    the latents exactly, so it is copied too; but it waits on the GPU for the end of the run, as far as ``HELD_BYTES``.

    Args:
        emit: called with each ``Preview``, from one thread at a time.
        model: that runs.
        recorder: records each step.
        scheduler: that makes them.
        looked_at: whether the steps are wanted while they are made; then their predictions come with each.
    """

    def __init__(
        self,
        emit: Callable[[Preview], None],
        model: Model,
        recorder: Recorder,
        scheduler: str,
        looked_at: Callable[[], bool] = lambda: False,
    ) -> None:
        self._emit, self._model, self._recorder, self._scheduler = emit, model, recorder, scheduler
        self._looked_at = looked_at
        self._thread: ThreadPoolExecutor | None = None
        self._behind: Future[None] | None = None
        self._blind = False
        self._waiting: list[_Waiting] = []
        self._x_next: torch.Tensor | None = None

    def __enter__(self) -> StepWriter:
        return self

    def __exit__(self, kind: Any, *error: Any) -> None:
        """Wait for the last step; its error is raised unless the loop has raised one of its own."""
        try:
            if kind is None:
                self._fetch_predictions()
                self._wait()
        finally:
            if self._thread is not None:
                self._thread.shutdown()

    def add(self, step: Step, seconds_left: float) -> None:
        """Emit and record a step."""

        def record(whole: Step, frames: StepFrames) -> None:
            self._recorder.add(whole, frames.guess, frames.noisy)

        self._take(step, self._frames(step), record, seconds_left)

    def keep(self, step: Step, steps: list[Step]) -> None:
        """Append a step whose frames are made after the run; from a GPU, whose memory is dear, it goes to the CPU.

        From a GPU it comes to the list by the end of this writer, and its x0 is left out (``guess_of`` derives it).
        """
        if step.x_t.device.type == "cpu":
            steps.append(step)
        else:
            self._take(step, None, lambda whole, frames: steps.append(whole))

    def _frames(self, step: Step) -> SmallFrames | None:
        """As ``small_frames``; no picture is lost because its previews cannot be made here."""
        if self._blind:
            return None
        try:
            return small_frames(self._model, step, self._scheduler)
        except Exception as error:
            if out_of_memory(error):
                raise
            log.exception("The steps of a running job could not be painted")
            self._blind = True
        return None

    def _take(
        self, step: Step, small: SmallFrames | None, done: Callable[[Step, StepFrames], None],
        seconds_left: float | None = None,
    ) -> None:  # fmt: skip
        """Have the latents and frames of a step come; it is emitted then, if the seconds that are left are given."""
        import torch

        copy = HostCopy((step.x_t, None if small is None else small.planes), step.x_t.device)
        nothing = torch.empty(0)
        facts = replace(step, x_t=nothing, x0=nothing, cond=None, uncond=None, x_next=nothing)
        held = _Waiting(facts, (step.cond, step.uncond), done)

        def arrive() -> None:
            held.x_t, planes = copy.result()
            if small is not None and planes is not None:
                held.frames = small.jpegs(planes)
            if seconds_left is not None:
                self._emit(held.frames.preview(facts, seconds_left))

        self._later(arrive)
        self._waiting.append(held)
        self._x_next = step.x_next
        held_bytes = sum(one.nbytes for each in self._waiting for one in each.predictions if one is not None)
        if held_bytes >= HELD_BYTES or self._looked_at():
            self._fetch_predictions()

    def _fetch_predictions(self) -> None:
        """Have the predictions come that are still on the GPU, and the latents after the last step."""
        waiting, x_next = self._waiting, self._x_next
        if not waiting or x_next is None:
            return
        self._waiting, self._x_next = [], None
        copy = HostCopy([x_next, *(one for held in waiting for one in held.predictions)], x_next.device)

        def complete() -> None:
            last, *rest = copy.result()
            after = [held.x_t for held in waiting[1:]] + [last]
            for k, (held, x_next) in enumerate(zip(waiting, after, strict=True)):
                assert held.x_t is not None and x_next is not None
                cond, uncond = rest[2 * k : 2 * k + 2]
                whole = replace(held.step, x_t=held.x_t, x0=x_next, cond=cond, uncond=uncond, x_next=x_next)
                held.done(whole, held.frames)

        self._later(complete)

    def _later(self, work: Callable[[], None]) -> None:
        self._wait()
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="playground-steps")
        self._behind = self._thread.submit(work)

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
            guess, noisy = shown_latents(self._model, step, self._scheduler)
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
