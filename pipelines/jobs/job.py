"""A job: one request on its way through a backend."""

from __future__ import annotations

import math
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from pipelines.events import TERMINAL, Announced, Cancelled, Event, Finished, Preview, Step
from pipelines.jobs.previews import hide_withheld
from pipelines.jobs.users import OWNER, User
from pipelines.trace import forks

if TYPE_CHECKING:
    from PIL import Image

    from pipelines.jobs.previews import LivePainter
    from pipelines.request import GenerationRequest
    from pipelines.sampling.forks import Recording
    from pipelines.trace.recorder import Recorder
    from pipelines.trace.trace import Trace

# A second caller waits so long for a draft that is being saved; the save may wait for another model's job.
KEEP_SECONDS = 60.0


@dataclass(frozen=True, eq=False)
class DraftResult:
    """What is needed to save a finished draft later.

    Attributes:
        images: the pictures, in the size of the request.
        facts: more to write into the files.
        steps: for the trace; empty if it must not be recorded.
        finished: the last event of the draft.
    """

    images: list[Image.Image]
    facts: dict[str, Any]
    steps: tuple[Step, ...]
    finished: Finished


class StepClock:
    """Estimates the time left; the first step (it encodes the prompt, too) counts only while it is the only one."""

    def __init__(self) -> None:
        self._start = time.perf_counter()
        self._first = self._start

    def seconds_left(self, step: Step) -> float:
        now = time.perf_counter()
        if step.index == 0:
            self._first = now
            each = now - self._start
        else:
            each = (now - self._first) / step.index
        return each * (step.total - step.index - 1)


@dataclass(eq=False)
class DenoisedSteps:
    """The steps that the loop has made of a job.

    Attributes:
        recorder: has the steps whose frames were made.
        live: has painted what a page has seen.
        prediction_type: of the model.
        last: the last step; None if there was none.
        unrecorded: the other steps, whose frames are made after the run: all of a CPU, those of a draft, and those of a
            GPU that no page watched.
        recording: what a fork began with; None for other runs, and where that was made again.
        seconds_apart: of steps that were made before the job's turn, less those that it made of other jobs.
        looked_at: whether ``so_far`` was called: from then on a GPU's predictions come with each step.
    """

    recorder: Recorder
    live: LivePainter
    prediction_type: str
    last: Step | None = None
    unrecorded: list[Step] = field(default_factory=list)
    recording: Recording | None = None
    seconds_apart: float = 0.0
    looked_at: bool = False

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user is told about a fork."""
        if self.recorder.request.fork is None or not self.recorder.request.fork.step:
            return ()
        if self.recording is None:
            return (forks.MADE_AGAIN,)
        return () if self.recording.exact else (forks.NOT_EXACT,)

    def so_far(self) -> Trace | None:
        """The trace of these steps without frames and pictures; None before the first."""
        self.looked_at = True
        return self.recorder.so_far(list(self.unrecorded), self.prediction_type)


@dataclass(eq=False)
class StepsAhead:
    """The steps of a job that are made before its turn, between those of another job.

    Attributes:
        job: whose steps.
        steps: makes one at a time and yields the noise's share of it, 0 to 1.
        level: of the last step.
        seconds: that they took.
        over: whether no more will be made.
        failed: whether that is so because of an error; the job begins again when it is its turn.
    """

    job: Job
    steps: Iterator[float]
    level: float = math.inf
    seconds: float = 0.0
    over: bool = False
    failed: bool = False

    @property
    def whole(self) -> bool:
        """Whether all of them are made."""
        return self.over and not self.failed and not self.job.cancelled

    def advance(self, level: float) -> None:
        """Make steps down to this noise level; an error ends them."""
        began = time.perf_counter()
        try:
            while not self.over and self.level > level:
                made = next(self.steps, None)
                self.over, self.level = made is None, self.level if made is None else made
        except Exception:
            self.over = self.failed = True
        self.seconds += time.perf_counter() - began


class Job:
    """One request with its events.  Thread-safe; any number of pages may watch it.

    ``begin_denoising``, ``emit``, ``end_recording`` and the methods about drafts are for the backend.

    Attributes:
        id: unguessable; a client that knows it may watch and cancel the job.
        request: what to generate.
        user: who asked.
        draft: whether the result is only shown: it is not saved until the backend's ``keep``.
        draft_result: what ``keep`` saves; None until the draft is done, and once it is saved.
        created: seconds since the epoch.
        submitted_at: seconds of the monotonic clock.
        together: a name, or ""; waiting jobs of one user and name have their steps made in turn, by noise level.
        watchers: the number of pages that look at the steps as they are made.
        at: the number of steps that are done, and of all steps; (0, 0) before the first.
    """

    def __init__(
        self,
        request: GenerationRequest,
        on_cancel: Callable[[], None] = lambda: None,
        user: User = OWNER,
        draft: bool = False,
        watched: bool = True,
        together: str = "",
    ) -> None:
        self.id = secrets.token_urlsafe(16)
        self.request, self.user, self.draft, self.together = request, user, draft, together
        self.created, self.submitted_at = time.time(), time.monotonic()
        self.draft_result: DraftResult | None = None
        self._began = self._ended = math.inf
        self.at = (0, 0)
        self._events: list[Event] = []
        self._places: dict[int, int] = {}  # step -> number of the event that has its frames
        self._withheld: tuple[bool, ...] = ()
        self._settled = False  # the pictures, or an end without them, are known
        self._recorded = threading.Event()
        self._changed = threading.Condition()
        self._cancelled = threading.Event()
        self._denoising = False
        self._on_cancel = on_cancel
        self._watched, self.watchers = watched, 0

    def events(self, start: int = 0) -> Iterator[Event]:
        """Yield the events from number ``start`` on, then live ones; ends after Finished, Cancelled or Failed."""
        while True:
            self.wait_for_event(start, None)
            batch = self.poll(start)
            yield from batch
            start += len(batch)
            if not batch or isinstance(batch[-1], TERMINAL):
                return

    @contextmanager
    def watching(self) -> Iterator[None]:
        """A page watches the previews until the context ends."""
        with self._changed:
            self._watched, self.watchers = False, self.watchers + 1
        try:
            yield
        finally:
            with self._changed:
                self.watchers -= 1

    @property
    def watched(self) -> bool:
        """Whether a GPU makes previews while it runs: not for one that was submitted as unwatched, or left by all."""
        return self._watched or self.watchers > 0

    def poll(self, start: int = 0) -> list[Event]:
        """The events so far, from number ``start`` on."""
        with self._changed:
            return self._events[max(start, 0) :]

    def wait_for_event(self, start: int, timeout: float | None) -> bool:
        """Wait until event number ``start`` is there or the job is done; False after ``timeout`` seconds."""
        with self._changed:
            return self._changed.wait_for(lambda: len(self._events) > start or self.done, timeout)

    @property
    def done(self) -> bool:
        """Whether the last event is there."""
        with self._changed:
            return bool(self._events) and isinstance(self._events[-1], TERMINAL)

    @property
    def cancelled(self) -> bool:
        """Whether ``cancel`` was called; the job may still be on its way to its end."""
        return self._cancelled.is_set()

    def wait_cancelled(self, timeout: float | None) -> bool:
        """Wait until ``cancel`` is called; False after ``timeout`` seconds."""
        return self._cancelled.wait(timeout)

    @property
    def running_seconds(self) -> float:
        """Seconds from the first step (the model was loaded before it) until now or the end; 0 before."""
        return max(min(self._ended, time.perf_counter()) - self._began, 0.0)

    @property
    def progress(self) -> float:
        """Share of the steps that are done, 0 to 1."""
        done, total = self.at
        return done / total if total else 0.0

    def end_recording(self) -> None:
        """The steps are stored, or never will be."""
        self._recorded.set()

    def wait_until_recorded(self, timeout: float) -> bool:
        """Wait until the steps of a job that is done, or whose pictures are, are stored; others are not waited for."""
        with self._changed:
            ending = self._denoising and self._settled
        return ending and self._recorded.wait(timeout)

    @property
    def preview_bytes(self) -> int:
        """Memory that the frames of its previews take."""
        return sum(
            len(frame) for event in self.poll() if isinstance(event, Preview) for frame in (*event.frames, *event.noisy)
        )

    def cancel(self) -> None:
        """Stop before the next model call; a job that waits or loads ends at once.  Safe to call at any time."""
        self._cancelled.set()
        with self._changed:
            if not self._denoising:
                self.emit(Cancelled(0))
        # Outside of the lock: the backend takes its own lock before this one.
        self._on_cancel()

    def begin_denoising(self) -> bool:
        """From here on only the worker ends the job; False if it has ended already."""
        with self._changed:
            self._denoising = not self.done
            self._began = time.perf_counter()
            return self._denoising

    def emit(self, *events: Event) -> None:
        """Append events, unless the job is done."""
        with self._changed:
            for event in events:
                self._append(event)
            self._changed.notify_all()

    def _append(self, event: Event) -> None:
        if self.done:
            return
        finished = event.finished if isinstance(event, Announced) else event
        if isinstance(finished, Finished) and any(finished.withheld):
            # A client that connects later must not see the steps of a withheld picture either.
            self._withheld = finished.withheld
            self._events = [hide_withheld(each, self._withheld) for each in self._events]
        if isinstance(event, Preview) and event.frames:
            place, self._places[event.index] = self._places.get(event.index), len(self._events)
            event = hide_withheld(event, self._withheld) if self._withheld else event
            if place is not None and isinstance(old := self._events[place], Preview):
                self._events[place] = replace(old, frames=(), noisy=())  # better ones replace them
        self._events.append(event)
        self._settled = self._settled or isinstance(event, (Announced, *TERMINAL))
        if isinstance(event, TERMINAL):
            self._ended = time.perf_counter()

    def finish_draft(self, result: DraftResult) -> None:
        """End a draft; ``keep`` can save the result from now on."""
        self.draft_result = result
        self.emit(result.finished)

    def replace_draft(self, previews: Sequence[Preview], finished: Finished) -> None:
        """The draft is saved: its events become those of an ordinary job."""
        with self._changed:
            gone = (Finished, Preview) if previews else Finished
            self._events = [*(event for event in self._events if not isinstance(event, gone)), *previews, finished]
            self._places = {}
            self.draft_result = None
            self._changed.notify_all()

    def revert_to_draft(self) -> None:
        """Saving failed, and may be tried again."""
        with self._changed:
            self.draft = True
            self._changed.notify_all()

    def wait_until_saved(self) -> None:
        """Wait until another thread has saved the draft, or failed to."""
        with self._changed:
            self._changed.wait_for(lambda: self.draft_result is None or self.draft, KEEP_SECONDS)
