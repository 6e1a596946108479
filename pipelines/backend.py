"""Where jobs run: the protocol that the page sees, and the worker of this machine.

A job outlives the page that started it: the page keeps its id and finds it again.  Nothing here imports torch before
the worker first needs it.
"""

from __future__ import annotations

import io
import logging
import math
import os
import secrets
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from pipelines import heaps, ladder, looks, schedulers
from pipelines.blocklist import BlockList
from pipelines.device import NoSuchDevice
from pipelines.events import (
    DOWNLOADING,
    TERMINAL,
    Cancelled,
    Decoding,
    Event,
    Failed,
    Finished,
    Loading,
    Picture,
    Preview,
    Queued,
    Step,
)
from pipelines.extras import Extras
from pipelines.families import CannotLoad
from pipelines.families.checking import NONE
from pipelines.ladder import DECODE, START, STEP
from pipelines.line import Line, QueueFull, Share
from pipelines.looks import Noised
from pipelines.manager import NOT_HERE, LoadStopped, out_of_memory
from pipelines.marks import xmp
from pipelines.pictures import marked, save_png
from pipelines.request import GenerationRequest, InvalidRequest
from pipelines.scene import Scene, scene
from pipelines.trace import Recorder, Trace, TraceStore
from pipelines.uploads import Inputs
from pipelines.visitors import OWNER, Visitor

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

    from pipelines.adapters import AdapterFile
    from pipelines.cards import ModelCard
    from pipelines.controlnets import ControlFile
    from pipelines.loras import LoraFile
    from pipelines.manager import PipelineManager
    from pipelines.request import Control

log = logging.getLogger(__name__)
T = TypeVar("T")

BACKENDS = {"local": "pipelines.backend:LocalBackend"}
PREVIEW_SIDE = 256
# Previews of finished jobs stay in memory for pages that come back; beyond this the oldest jobs are forgotten.
KEEP_BYTES = 64 * 1024 * 1024
# Jobs of guests of which it is known whose they are: their steps are on the disk for longer than the jobs are here.
KEEP_NAMES = 10_000
# Finished drafts that can still be kept: beside the one on the stage, those of other pages.
KEEP_DRAFTS = 4
# Whoever asks for what is being kept waits no longer; painting its steps can wait for another model's run.
KEEP_SECONDS = 60.0
# Drafts are shown as they are, without loss up to this side.
DRAFT_SIDE = 256
# Pictures that a look hands to the model at once; jobs may go on between two such handfuls.
LOOK_ROWS = 8
LOOK_LIMIT = 64
# The step that runs has so long to end when the program does: whoever asks for that expects it within ten seconds.
CLOSE_SECONDS = 4.0
CLOSING = "The playground is shutting down; start it again to make pictures."
# A finished picture inside a trace: whole up to this side, a smaller JPEG beyond it.
FINAL_SIDE = 512
# Freed memory is handed back after a job, at most this often.
GIVE_BACK_SECONDS = 10.0
# Pictures whose latents stay in memory: people go back and forth between a few.
REMEMBERED_STARTS = 8
# A run of so few steps with a model that is quick is over before anybody could look at them.
QUICK_STEPS = 8
# Where the last belief and the result differ by no more, they are the same picture.
SAME_LATENTS = 1e-3
UNCHANGED = "At this strength no step is run, so the picture comes back as it was."


class LookFailed(RuntimeError):
    """The model could not be asked; the message is one plain sentence."""


class KeepFailed(RuntimeError):
    """A draft could not be kept; the message is one plain sentence."""


class _Exhausted(MemoryError):
    """Memory ran out on the last rung of the ladder, too; the message lists what was tried."""


@dataclass(frozen=True, eq=False)
class _Look:
    """Something short to ask a loaded model, between two steps of a job or while nothing runs."""

    model_id: str
    ask: Callable[[Any], Any]
    answer: Future[Any] = field(default_factory=Future)


@dataclass(frozen=True, eq=False)
class _Held:
    """A finished draft, and what makes an ordinary picture of it.

    Attributes:
        images: of the model's own pixels.
        facts: more to write into the files.
        steps: what the record of the run is made of; empty where there shall be none.
        finished: what was told.
    """

    images: list[Image.Image]
    facts: dict[str, Any]
    steps: tuple[Step, ...]
    finished: Finished


@dataclass(frozen=True)
class Status:
    """What the foot of the page shows.

    Attributes:
        state: cold, loading, ready or failed.
        model: id of the model that the state is about.
        text: the state in words.
        queue: jobs that run or wait, drafts aside.
    """

    state: str
    model: str
    text: str
    queue: int = 0


class Job:
    """One request on its way, watched by any number of pages from any number of threads.

    Attributes:
        id: unguessable name; who knows it may watch and stop the job.
        request: what was asked for.
        visitor: who asked.
        draft: whether it is drawn for the eye alone, while somebody types: nothing is stored until it is kept.
        created: seconds since the epoch.
        asked: seconds of a clock that nobody sets, for what came before what.
    """

    def __init__(
        self,
        request: GenerationRequest,
        on_cancel: Callable[[], None] = lambda: None,
        visitor: Visitor = OWNER,
        draft: bool = False,
    ) -> None:
        self.id = secrets.token_urlsafe(16)
        self.request, self.visitor, self.draft = request, visitor, draft
        self.created, self.asked = time.time(), time.monotonic()
        self._held: _Held | None = None
        self._began = self._ended = math.inf
        self._events: list[Event] = []
        self._news = threading.Condition()
        self._stop = threading.Event()
        self._calling = False
        self._on_cancel = on_cancel

    def events(self, start: int = 0) -> Iterator[Event]:
        """Yield the events from number ``start`` on, then live ones; ends after Finished, Cancelled or Failed."""
        while True:
            self.wait_more(start, None)
            batch = self.poll(start)
            yield from batch
            start += len(batch)
            if not batch or isinstance(batch[-1], TERMINAL):
                return

    def poll(self, start: int = 0) -> list[Event]:
        """The events from number ``start`` on that are there now."""
        with self._news:
            return self._events[max(start, 0) :]

    def wait_more(self, start: int, timeout: float | None) -> bool:
        """Wait until event number ``start`` is there or the job is done; False after ``timeout`` seconds without."""
        with self._news:
            return self._news.wait_for(lambda: len(self._events) > start or self.done, timeout)

    @property
    def done(self) -> bool:
        """Whether the last event is there."""
        with self._news:
            return bool(self._events) and isinstance(self._events[-1], TERMINAL)

    @property
    def cancelled(self) -> bool:
        """Whether someone asked for an end."""
        return self._stop.is_set()

    @property
    def runs_for(self) -> float:
        """Seconds since the model was there and the first step began, until the end; 0 before."""
        return max(min(self._ended, time.perf_counter()) - self._began, 0.0)

    @property
    def progress(self) -> float:
        """Share of the steps that are made, 0 to 1."""
        last = next((event for event in reversed(self.poll()) if isinstance(event, Preview)), None)
        return (last.index + 1) / last.total if last else 0.0

    def cancel(self) -> None:
        """Stop before the next model call; a job that waits or loads ends at once. Safe to call at any time."""
        self._stop.set()
        with self._news:
            if not self._calling:
                self._tell(Cancelled(0))
        # Outside of the lock: the backend takes its own lock first and this one second.
        self._on_cancel()

    def _begin_calls(self) -> bool:
        """From here on only the worker ends the job; False when it has ended already."""
        with self._news:
            self._calling = not self.done
            self._began = time.perf_counter()
            return self._calling

    def _tell(self, event: Event) -> None:
        """Append an event, unless the job is done."""
        with self._news:
            if not self.done:
                if isinstance(event, Finished) and any(event.withheld):
                    # Whoever comes later shall not see either what was on its way there.
                    self._events = [_hiding(each, event.withheld) for each in self._events]
                self._events.append(event)
                if isinstance(event, TERMINAL):
                    self._ended = time.perf_counter()
                self._news.notify_all()

    def _become(self, previews: Sequence[Preview], finished: Finished) -> None:
        """A draft that was kept tells what an ordinary picture would have told."""
        with self._news:
            gone = (Finished, Preview) if previews else Finished
            self._events = [*(event for event in self._events if not isinstance(event, gone)), *previews, finished]
            self._held = None
            self._news.notify_all()

    def _stays_draft(self) -> None:
        """It could not be kept, and may be tried again."""
        with self._news:
            self.draft = True
            self._news.notify_all()

    def _wait_kept(self) -> None:
        """Wait until somebody else has kept it, or could not."""
        with self._news:
            self._news.wait_for(lambda: self._held is None or self.draft, KEEP_SECONDS)

    @property
    def _bytes(self) -> int:
        return sum(len(frame) for event in self.poll() if isinstance(event, Preview) for frame in event.frames)


class Backend(Protocol):
    """A place to run jobs; the page knows nothing else of it.

    Attributes:
        inputs: the pictures that runs start from; put them there first.
        blocked: words that nobody may ask for.
    """

    inputs: Inputs
    blocked: BlockList

    def loras(self) -> tuple[LoraFile, ...]:
        """The LoRAs that requests may name."""

    def adapters(self) -> tuple[AdapterFile, ...]:
        """The IP-Adapters that requests may name."""

    def controls(self) -> tuple[ControlFile, ...]:
        """The ControlNets that requests may name."""

    def map_of(self, control: Control, width: int, height: int) -> Image.Image:
        """The map that a ControlNet is shown, RGB of this size; raises InvalidRequest."""

    def why_no_map(self, kind: str) -> str:
        """Why a map of this kind cannot be made here, or ""."""

    def submit(
        self, request: GenerationRequest, visitor: Visitor = OWNER, draft: bool = False, instead: Sequence[Job] = ()
    ) -> Job:
        """Queue a job; raises InvalidRequest or QueueFull, each with one sentence.

        A draft waits for everything else, ends when anything else comes, and is stored once it is kept.

        Args:
            request: what to make.
            visitor: who asks; drafts are the owner's alone.
            draft: whether it is one.
            instead: jobs that are stopped as this one takes their place.
        """

    def keep(self, job: Job) -> None:
        """Make an ordinary picture of a draft: now, or when it is done; twice is once.  Raises KeepFailed."""

    def find(self, job_id: str, visitor: Visitor = OWNER) -> Job | None:
        """The job with this id, as long as it is remembered; guests find their own alone."""

    def warm_up(self, model_id: str) -> None:
        """Load a model in the background; returns at once."""

    def unload(self, model_id: str) -> None:
        """Drop a model from memory; raises ``pipelines.manager.Busy`` while it is in use."""

    def stop_loading(self, model_id: str) -> None:
        """Stop loading a model that nobody's job waits for."""

    def status(self) -> Status:
        """What the backend is doing."""

    def trace(self, trace_id: str, visitor: Visitor = OWNER) -> Trace | None:
        """The recorded steps of the job with this id, also after a restart; None when they are not there.

        Guests find those of their own jobs alone.
        """

    def decode(self, model_id: str, latents: np.ndarray, full: bool = False) -> list[Image.Image]:
        """Latents (n, c, h, w) to pictures: the cheap preview, or the VAE in full; raises LookFailed."""

    def encode(self, model_id: str, picture: Image.Image) -> np.ndarray:
        """An RGB picture to latents, float32 (1, c, h, w); raises LookFailed."""

    def believe(self, model_id: str, x_t: np.ndarray, timesteps: Sequence[float], prompt: str) -> np.ndarray:
        """One look: x0 (m, c, h, w) for x_t (m, c, h, w) in variance-preserving scale; raises LookFailed."""

    def noised(self, model_id: str, request: GenerationRequest, x0: np.ndarray, seed: int) -> Noised:
        """Latents (1, c, h, w) at each noise level that the request's scheduler visits; raises LookFailed."""

    def starts(self, request: GenerationRequest) -> Noised:
        """Where a run from the request's picture begins, whatever its strength; raises LookFailed."""

    def close(self) -> None:
        """Stop every job and the worker."""


class LocalBackend:
    """One worker thread on this machine's device: the device never sees two jobs at once.

    ``guest_pictures`` counts what others than the owner have made.

    Args:
        manager: loads the models.
        pictures_dir: finished PNGs are written here before they are announced.
        on_step: called by the worker after each step's preview; tests hold the sampler here.
        queue_limit: jobs of guests that may wait, and jobs of the owner besides.
        share: what a guest may ask for.
        blocked: words that nobody may ask for; None makes a list in ``blocked.txt`` beside the pictures' folder.
        keep: finished jobs that are remembered.
        threads: CPU threads of the worker; None means ``default_threads()``.
        traces: keeps the steps of each run; None makes a store in ``traces`` beside the pictures' folder.
        inputs: keeps the pictures that runs start from; None makes a store in ``inputs`` beside the pictures' folder.
        lora_dirs: where LoRAs, learnt words, IP-Adapters, ControlNets and what makes their maps are looked for.
        resident: whether this process serves this backend alone until it ends (``heaps.set_aside``).
    """

    def __init__(
        self,
        manager: PipelineManager,
        pictures_dir: Path,
        on_step: Callable[[Job, Step], None] | None = None,
        queue_limit: int = 32,
        keep: int = 200,
        threads: int | None = None,
        traces: TraceStore | None = None,
        inputs: Inputs | None = None,
        lora_dirs: Sequence[Path] = (),
        share: Share | None = None,
        blocked: BlockList | None = None,
        resident: bool = False,
    ) -> None:
        self._manager = manager
        self.inputs = inputs or Inputs(Path(pictures_dir).parent / "inputs")
        self.blocked = blocked or BlockList(Path(pictures_dir).parent / "blocked.txt")
        self._extras = Extras(lora_dirs, self.inputs)
        self._encoded: OrderedDict[tuple[Any, ...], Any] = OrderedDict()
        self._traces = traces or TraceStore(Path(pictures_dir).parent / "traces")
        self._pictures_dir = Path(pictures_dir)
        self._on_step = on_step
        self._keep = keep
        self._threads = threads or default_threads()
        self._libraries_wait, self._given_back = resident, 0.0
        self._changed = threading.Condition()
        self._jobs: dict[str, Job] = {}
        self._waiting = Line(queue_limit, share)
        self._whose: dict[str, str] = {}  # guests' jobs -> their visitor's id
        self.guest_pictures = 0
        self._running: Job | None = None
        self._warm: deque[str] = deque()
        self._unwarmed: set[str] = set()
        self._looks: deque[_Look] = deque()
        self._loading: Loading | None = None
        self._closed = False
        self._keeping = threading.Lock()
        self._status = Status("cold", "", "No model is loaded yet.")
        self._worker = threading.Thread(target=self._work, name="playground-worker", daemon=True)
        self._worker.start()

    def loras(self) -> tuple[LoraFile, ...]:
        """The LoRAs that requests may name, looked up anew."""
        return self._extras.loras()

    def controls(self) -> tuple[ControlFile, ...]:
        """The ControlNets that requests may name, looked up anew."""
        return self._extras.controls()

    def adapters(self) -> tuple[AdapterFile, ...]:
        """The IP-Adapters that requests may name, looked up anew."""
        return self._extras.adapters()

    def map_of(self, control: Control, width: int, height: int) -> Image.Image:
        """The map that a ControlNet is shown, RGB of this size; raises InvalidRequest."""
        return self._extras.map_of(control, width, height)

    def why_no_map(self, kind: str) -> str:
        """Why a map of this kind cannot be made here, or ""."""
        return self._extras.why_no_map(kind)

    def submit(
        self, request: GenerationRequest, visitor: Visitor = OWNER, draft: bool = False, instead: Sequence[Job] = ()
    ) -> Job:
        """Check the request and queue it; see ``Backend``.

        Raises:
            InvalidRequest: if this request can never run here.
            QueueFull: if too many jobs wait, a guest has had its share or asks for a draft, or the backend is closed.
        """
        self._check(request)
        job = Job(request, self._after_cancel, visitor, draft)
        with self._changed:
            if self._closed:
                raise QueueFull(CLOSING)
            self._drop_ended()
            self._waiting.add(job, visitor, self._running is not None, draft)
            for other in instead:
                other.cancel()
            if not draft and self._running is not None and self._running.draft:
                self._running.cancel()
            self._forget()
            self._jobs[job.id] = job
            if not visitor.owner:
                self._whose[job.id] = visitor.id
                while len(self._whose) > KEEP_NAMES:
                    del self._whose[next(iter(self._whose))]
            # Whoever goes first moves the others.
            self._tell_places()
            if self._loading and self._waiting.first() is job:
                job._tell(self._loading)
            self._changed.notify_all()
        return job

    def find(self, job_id: str, visitor: Visitor = OWNER) -> Job | None:
        """The job with this id, or None when it is unknown, forgotten, or somebody else's."""
        with self._changed:
            return self._jobs.get(job_id) if self._may_see(job_id, visitor) else None

    def _may_see(self, job_id: str, visitor: Visitor) -> bool:
        return visitor.owner or self._whose.get(job_id) == visitor.id

    def warm_up(self, model_id: str) -> None:
        """Load a model in the background once; calls for one that is loading or queued do nothing."""
        with self._changed:
            busy = self._status.model == model_id and self._status.state in ("loading", "ready")
            if model_id in self._manager.cards and model_id not in self._warm and not busy:
                self._warm.append(model_id)
                self._unwarmed.discard(model_id)
                self._changed.notify_all()

    def unload(self, model_id: str) -> None:
        """Drop a model from memory, pinned or not.

        Raises:
            Busy: while a job uses it.
        """
        self._manager.unload(model_id)
        with self._changed:
            if self._status.model == model_id:
                self._status = Status("cold", "", "No model is loaded just now; the next picture loads one.")

    def stop_loading(self, model_id: str) -> None:
        """Stop loading a model, unless a job waits for it; one that was not begun is not begun."""
        with self._changed:
            self._unwarmed.add(model_id)
            with suppress(ValueError):
                self._warm.remove(model_id)

    def status(self) -> Status:
        """What the worker is doing, and how many jobs run or wait."""
        with self._changed:
            self._drop_ended()
            mine = [job for job in (self._running, *self._waiting) if job is not None]
            return replace(self._status, queue=sum(not job.done and not job.draft for job in mine))

    def keep(self, job: Job) -> None:
        """Make an ordinary picture of a draft: now, or when it is done; twice is once.

        Raises:
            KeepFailed: if it was stopped, or cannot be written.
        """
        with self._keeping:
            mine, job.draft = job.draft, False
            if not job.done:
                return  # the worker stores it
        if not mine:
            job._wait_kept()
            return
        if job._held is None:
            raise KeepFailed("This picture was not drawn to its end; press Generate to make it.")
        try:
            self._store(job, job._held)
        except OSError as error:
            job._stays_draft()
            raise KeepFailed(explain(error, job.request.model)) from None

    def close(self) -> None:
        """Stop every job and the worker; waits a little for the step that runs."""
        with self._changed:
            self._closed = True
            jobs = list(self._jobs.values())
            looks = list(self._looks)
            self._waiting.clear()
            self._looks.clear()
            self._changed.notify_all()
        for look in looks:
            look.answer.set_exception(LookFailed(CLOSING))
        for job in jobs:
            job.cancel()
        if threading.current_thread() is not self._worker:
            self._worker.join(timeout=CLOSE_SECONDS)

    # -- looks: short questions to the model ---------------------------------------------------------------------

    def trace(self, trace_id: str, visitor: Visitor = OWNER) -> Trace | None:
        """The recorded steps of the job with this id, also after a restart; None when they are not there.

        Guests find those of their own jobs alone, and only until the restart.
        """
        return self._traces.get(trace_id) if self._may_see(trace_id, visitor) else None

    def decode(self, model_id: str, latents: np.ndarray, full: bool = False) -> list[Image.Image]:
        """Latents (n, c, h, w) to pictures: the cheap preview, or the VAE in full; raises LookFailed."""

        def ask(rows: np.ndarray) -> Callable[[Any], Any]:
            return lambda model: (model.latents.decode if full else model.latents.preview)(looks.tensor(model, rows))

        return [image for rows in _handfuls(latents) for image in self._look(model_id, ask(rows))]

    def encode(self, model_id: str, picture: Image.Image) -> np.ndarray:
        """An RGB picture to latents, float32 (1, c, h, w); raises LookFailed."""
        import numpy as np

        pixels = np.asarray(picture.convert("RGB"), dtype=np.float32).transpose(2, 0, 1)[None] / 127.5 - 1
        return self._look(model_id, lambda model: model.latents.encode(looks.tensor(model, pixels)).cpu().numpy())

    def believe(self, model_id: str, x_t: np.ndarray, timesteps: Sequence[float], prompt: str) -> np.ndarray:
        """One look without guidance: what the model takes x_t for.

        Args:
            x_t: (m, c, h, w) as alpha * x0 + sigma * eps.
            timesteps: of each row, 0 to 999.
            prompt: may be empty.

        Returns:
            x0, float32 (m, c, h, w).

        Raises:
            LookFailed: if the model cannot be asked.
        """
        import numpy as np

        def ask(start: int, rows: np.ndarray) -> Callable[[Any], Any]:
            return lambda model: looks.believe(model, rows, timesteps[start : start + len(rows)], prompt)

        parts = [self._look(model_id, ask(k * LOOK_ROWS, rows)) for k, rows in enumerate(_handfuls(x_t))]
        return np.concatenate(parts)

    def noised(self, model_id: str, request: GenerationRequest, x0: np.ndarray, seed: int) -> Noised:
        """Latents (1, c, h, w) at each noise level that the request's scheduler visits, by its own ``add_noise``.

        The noise is that of the seed: with a plain run's own seed, the noise that it began with.
        """
        return self._look(model_id, lambda model: looks.noised(model, request, x0, seed))

    def starts(self, request: GenerationRequest) -> Noised:
        """Where a run from the request's picture begins, whatever its strength; its first seed's noise.

        Raises:
            InvalidRequest: if the picture is gone or does not fit.
            LookFailed: if the model cannot be asked.
        """
        self._check(request)
        found = scene(request, self.inputs)
        return self._look(request.model, lambda model: looks.starts(model, request, self._start(model, request, found)))

    def _look(self, model_id: str, ask: Callable[[Any], Any]) -> Any:
        """Have the worker ask; waits for the answer."""
        if model_id not in self._manager.cards:
            raise LookFailed(f"The model {_short(model_id)} is not here any more; choose another picture.")
        look = _Look(model_id, ask)
        with self._changed:
            if self._closed:
                raise LookFailed(CLOSING)
            if len(self._looks) >= LOOK_LIMIT:
                raise LookFailed("Too many people look at pictures just now; try again in a moment.")
            self._looks.append(look)
            self._changed.notify_all()
        return look.answer.result()

    def _answer(self, look: _Look, model: Any) -> None:
        """Ask a leased model; whatever goes wrong goes to the one who asked."""
        import torch

        try:
            with torch.inference_mode():
                look.answer.set_result(look.ask(model))
        except Exception as error:
            log.exception("A look at %s failed", look.model_id)
            look.answer.set_exception(LookFailed(explain(error, look.model_id)))

    def _answer_alone(self, look: _Look) -> None:
        """Answer while no job runs, loading the model if need be."""
        try:
            with self._lease(look.model_id) as model:
                self._extras.take_off(model)
                self._answer(look, model)
        except Exception as error:
            log.exception("Loading %s failed", look.model_id)
            problem = explain(error, look.model_id)
            self._set_status("failed", look.model_id, problem)
            look.answer.set_exception(LookFailed(problem))

    def _answer_between(self, model: Any, model_id: str) -> None:
        """Answer one look at the running job's model, so that a job is slowed by little."""
        with self._changed:
            look = next((look for look in self._looks if look.model_id == model_id), None)
            if look is None:
                return
            self._looks.remove(look)
        self._answer(look, model)

    # -- checks and bookkeeping --------------------------------------------------------------------------------

    def _check(self, request: GenerationRequest) -> None:
        card = self._manager.cards.get(request.model)
        if card is None:
            raise InvalidRequest(f"model {_short(request.model)} is unknown; allowed: {_listed(self._manager.cards)}.")
        sampling = request.sampling
        if sampling.scheduler not in schedulers.SCHEDULERS:
            known = _listed(schedulers.SCHEDULERS)
            raise InvalidRequest(f"scheduler {_short(sampling.scheduler)} is unknown; allowed: {known}.")
        request.check_size(card.size_factor)
        self.blocked.check(request)
        _check_task(card, request)
        if not self._manager.at_hand(card.id):
            raise InvalidRequest(NOT_HERE.format(name=card.name))
        reason = schedulers.why_not(
            sampling.scheduler, card.prediction_type, card.terminal_snr_zero, sampling.num_inference_steps
        )
        if reason:
            raise InvalidRequest(reason)
        self._extras.check(card, request)
        if request.init:
            scene(request, self.inputs)

    def _drop_ended(self) -> None:
        """Take jobs that were cancelled while waiting out of the queue and tell the others their place."""
        if self._waiting.drop(lambda job: job.done):
            self._tell_places()

    def _after_cancel(self) -> None:
        with self._changed:
            self._drop_ended()
            self._tell_places()

    def _tell_places(self) -> None:
        for place, job in enumerate(self._waiting):
            self._tell_place(job, place)

    def _tell_place(self, job: Job, place: int) -> None:
        event = Queued(place + (self._running is not None and not self._running.done))
        if event not in job.poll()[-1:]:
            job._tell(event)

    def _forget(self) -> None:
        """Forget the oldest finished jobs beyond ``keep`` jobs or ``KEEP_BYTES`` of previews, and drafts before."""
        for old in [job for job in self._jobs.values() if job.done and job.draft][:-KEEP_DRAFTS]:
            del self._jobs[old.id]
        ended = [job for job in self._jobs.values() if job.done and not job.draft]
        held = sum(job._bytes for job in ended)
        while ended and (len(ended) > self._keep or held > KEEP_BYTES):
            oldest = ended.pop(0)
            held -= oldest._bytes
            del self._jobs[oldest.id]

    # -- the worker --------------------------------------------------------------------------------------------

    def _work(self) -> None:
        """Looks (they are short), then jobs, then warm-ups, until closed. Whatever a job does, the next one runs."""
        while (task := self._next()) is not None:
            if isinstance(task, Job):
                started = time.perf_counter()
                self._run(task)
                with self._changed:
                    if not task.draft:
                        self._waiting.took(time.perf_counter() - started)
                    self._running = None
                    self._tell_places()
                self._give_back()
            elif isinstance(task, _Look):
                self._answer_alone(task)
            else:
                self._warm_up(task)

    def _give_back(self) -> None:
        """Hand freed memory back to the system now and then, unless somebody waits."""
        now = time.monotonic()
        if now - self._given_back > GIVE_BACK_SECONDS and not len(self._waiting):
            self._given_back = now
            heaps.give_back()

    def _next(self) -> Job | _Look | str | None:
        with self._changed:
            while True:
                self._drop_ended()
                if self._closed:
                    return None
                if self._looks:
                    return self._looks.popleft()
                if self._warm and not len(self._waiting):
                    return self._warm.popleft()
                if len(self._waiting):
                    self._running = self._waiting.next()
                    self._tell_places()
                    return self._running
                self._changed.wait()

    def _warm_up(self, model_id: str) -> None:
        try:
            failed = False
            with self._lease(model_id, cancelled=lambda: self._closed or model_id in self._unwarmed):
                pass
        except LoadStopped:
            self._set_status("cold", model_id, f"Loading {model_id} was stopped.")
        except Exception as error:
            log.exception("Loading %s failed", model_id)
            self._set_status("failed", model_id, explain(error, model_id))
            failed = True
        # Outside of the except block: the exception's frames hold tensors.
        if failed:
            _free_memory()

    def _run(self, job: Job) -> None:
        """Run one job to its last event; never raises."""
        problem, exhausted = "", False
        try:
            self._generate(job)
        except InvalidRequest as error:
            problem = str(error)
        except LoadStopped:
            job._tell(Cancelled(0))
            self._set_status("cold", job.request.model, f"Loading {job.request.model} was stopped.")
        except Exception as error:
            log.exception("Job %s failed", job.id)
            problem = explain(error, job.request.model, job.request)
            exhausted = isinstance(error, _Exhausted)
        # Outside of the except block: the exception's frames hold tensors.
        if problem:
            job._tell(Failed(problem))
            if self._status.state == "loading":
                self._set_status("failed", job.request.model, problem)
            if exhausted:
                self._manager.restore(job.request.model)
            _free_memory()

    def _lease(
        self, model_id: str, cancelled: Callable[[], bool] | None = None, rungs: Sequence[str] | None = None
    ) -> Any:
        """The manager's lease, with progress told to the status and to the job that waits for it."""
        import torch

        torch.set_num_threads(self._threads)
        self._set_libraries_aside()
        return _Ready(self, model_id, self._manager.lease(model_id, self._report(model_id), cancelled, rungs))

    def _set_libraries_aside(self) -> None:
        """Once, before the first model is there: a model must stay collectable."""
        if self._libraries_wait:
            import diffusers  # noqa: F401
            import transformers  # noqa: F401

            self._libraries_wait = False
            heaps.set_aside()

    def _unwanted(self, job: Job) -> bool:
        """Whether nobody waits for the model that is loaded for a job."""
        with self._changed:
            others = any(other.request.model == job.request.model and not other.done for other in self._waiting)
        return job.cancelled and not others

    def _report(self, model_id: str) -> Callable[[str, int, int], None]:
        def report(part: str, done: int, total: int) -> None:
            event = Loading(model_id, part, done, total)
            text = part if part.startswith(DOWNLOADING) else f"Loading {model_id}: {done} of {total} parts"
            self._set_status("loading", model_id, text, event)
            with self._changed:
                watcher = self._running or self._waiting.first()
            if watcher is not None:
                watcher._tell(event)

        return report

    def _set_status(self, state: str, model_id: str, text: str, loading: Loading | None = None) -> None:
        with self._changed:
            self._loading = loading
            self._status = Status(state, model_id, text)
            self._changed.notify_all()

    def _generate(self, job: Job) -> None:
        started = time.perf_counter()
        request = job.request
        if not request.steps_run:
            self._hand_back(job, started)
            return
        found = scene(request, self.inputs) if request.init else None
        rungs = _needed(request, self._manager.remembered(request.model, _pixels(request)))
        with self._lease(request.model, lambda: self._unwanted(job), rungs) as model:
            if not job._begin_calls():
                return
            self._extras.put_on(model, request)
            self._make(job, _Climb(self._manager, request, model, rungs), found, started)

    def _make(self, job: Job, climb: _Climb, found: Scene | None, started: float) -> None:
        """Run the loop and paint what comes out of it, on the rungs of the ladder that this takes."""
        start = climb(START, lambda model: self._start(model, job.request, found)) if found else None
        draft = job.draft  # one that is kept on its way is stored in the way of drafts all the same
        recorder, last, held = climb(STEP, lambda model: self._denoise(job, model, start, draft))
        if job.cancelled or last is None:
            self._show(job, climb.model, recorder, () if draft else held)
            self._record(recorder, climb.model, (), [], time.perf_counter() - started)
            job._tell(Cancelled(last.index + 1 if last else 0))
            return
        job._tell(Decoding())
        painted = list(last.pictures) or climb(DECODE, lambda model: _decode(model, last))
        withheld = climb(DECODE, lambda model: model.unsafe(painted))
        climb.remember()
        images = [found.put_back(image) for image in painted] if found else painted
        images = [_black(image) if hidden else image for image, hidden in zip(images, withheld, strict=True)]
        seconds = time.perf_counter() - started
        facts = {**_facts(climb.model), "seconds": round(seconds, 3)}
        notes = _notes(climb.model, job.request)
        notes = (*_withheld_notes(climb.model, withheld), *notes, *_ladder_notes(climb.model, climb.taken))
        finished = Finished(job.request, (), seconds, notes, withheld if any(withheld) else ())
        if draft:
            steps = () if any(withheld) else tuple(held)
            self._hold(job, climb.model, _Held(images, facts, steps, finished))
            return
        pictures = self._save(job, images, facts)
        self._show(job, climb.model, recorder, held, () if any(withheld) else painted)
        # Before the end is told: whoever hears of it may look inside at once.
        if not any(withheld):  # its steps show what was withheld
            self._record(recorder, climb.model, pictures, images, seconds)
        self.guest_pictures += len(pictures) * (not job.visitor.owner)
        job._tell(replace(finished, pictures=pictures))

    def _hold(self, job: Job, model: Any, held: _Held) -> None:
        """Tell of a draft, and store it if it was asked for on its way."""
        with self._keeping:
            if job.draft:
                drafts = tuple(draft_bytes(image, xmp(job.request)) for image in held.images)
                job._held = replace(held, finished=replace(held.finished, drafts=drafts))
                job._tell(job._held.finished)
                return
        self._store(job, held, model)

    def _store(self, job: Job, held: _Held, model: Any = None) -> None:
        """Write the pictures and the record of a draft, as of any other run; raises OSError.

        Args:
            job: the draft.
            held: what is left of it.
            model: for the worker, who has it on loan; others have the worker look.
        """
        pictures = self._save(job, held.images, held.facts)
        previews: list[Preview] = []

        def look_back(model: Any) -> None:
            recorder = Recorder(job.id, job.request, job.created)
            for step in held.steps:
                frames = frames_of(model, step)
                recorder.add(step, frames)
                previews.append(Preview(step.index, step.total, float(step.timestep), 0.0, frames))
            self._record(recorder, model, pictures, held.images, held.finished.seconds)

        try:
            look_back(model) if model is not None else self._look(job.request.model, look_back)
        except LookFailed as problem:
            log.warning("The steps of a draft could not be kept: %s", problem)
            previews.clear()
        job._become(previews, replace(held.finished, pictures=pictures, drafts=()))

    def _hand_back(self, job: Job, started: float) -> None:
        """A picture that is to be changed by no step at all: the model is not even loaded."""
        if not job._begin_calls():
            return
        image = scene(job.request, self.inputs).original
        pictures = self._save(job, [image] * job.request.num_images, {"seconds": 0.0})
        job._tell(Finished(job.request, pictures, time.perf_counter() - started, (UNCHANGED,)))

    def _start(self, model: Any, request: GenerationRequest, found: Scene) -> Any:
        """What a run from this scene begins with; each picture goes through the autoencoder once."""
        from pipelines.start import encode

        init = request.init
        key = (request.model, request.width, request.height, init.image, init.mask, init.only_masked, init.padding)
        if key not in self._encoded:
            self._encoded[key] = encode(model, found)
        self._encoded.move_to_end(key)
        while len(self._encoded) > REMEMBERED_STARTS:
            self._encoded.popitem(last=False)
        return self._encoded[key]

    def _denoise(
        self, job: Job, model: Any, start: Any, draft: bool
    ) -> tuple[Recorder, Step | None, list[Step]]:
        """Run the loop, telling and recording each step.

        Painting the steps takes a third of a short run's time: those of a draft are painted when it is kept, those of a
        quick run once its picture is there.

        Returns:
            The record, the last step that was made, and the steps that are not in the record yet.
        """
        from pipelines.denoise import denoise

        recorder = Recorder(job.id, job.request, job.created)
        last, clock, held = None, _Clock(), []
        quick = getattr(model, "quick", False)
        for step in denoise(model, job.request, start, cancelled=lambda: job.cancelled):
            last = step
            later = draft or (quick and step.total <= QUICK_STEPS)
            frames = () if later else frames_of(model, step)
            held.append(step) if later else recorder.add(step, frames)
            if draft or not later:
                job._tell(Preview(step.index, step.total, float(step.timestep), clock.left(step), frames))
            if self._on_step is not None:
                self._on_step(job, step)
            self._answer_between(model, job.request.model)
            if job.cancelled:
                break
        return recorder, last, held

    def _show(
        self, job: Job, model: Any, recorder: Recorder, held: Sequence[Step], images: Sequence[Image.Image] = ()
    ) -> None:
        """Tell and record the steps of a quick run; the last comes first where the finished pictures show it."""
        shown: dict[int, tuple[bytes, ...]] = {}
        last = held[-1] if held and images else None
        if last is not None and (last.x_next - last.x0).abs().max() <= SAME_LATENTS:
            shown[last.index] = tuple(_jpeg(image.copy()) for image in images)
            job._tell(Preview(last.index, last.total, float(last.timestep), 0.0, shown[last.index]))
        for step in held:
            frames = shown.get(step.index) or frames_of(model, step)
            recorder.add(step, frames)
            if step.index not in shown:
                job._tell(Preview(step.index, step.total, float(step.timestep), 0.0, frames))

    def _record(
        self,
        recorder: Recorder,
        model: Any,
        pictures: tuple[Picture, ...],
        images: list[Image.Image],
        seconds: float,
    ) -> None:
        """Keep the steps of a run; what goes wrong here costs the look inside, never the pictures."""
        try:
            if recorder.steps:
                finals = tuple(final_bytes(image, xmp(recorder.request)) for image in images)
                self._traces.put(recorder.finish(model, pictures, finals, seconds))
        except Exception:
            log.exception("The steps of a run could not be kept")

    def _save(self, job: Job, images: list[Image.Image], facts: dict[str, Any]) -> tuple[Picture, ...]:
        request = job.request
        return tuple(
            Picture(save_png(image, self._pictures_dir, request, seed, {**facts, "picture": k}), seed)
            for k, (image, seed) in enumerate(zip(images, request.seeds, strict=True))
        )


class _Ready:
    """The manager's lease, which says "ready" once the model is there."""

    def __init__(self, backend: LocalBackend, model_id: str, lease: Any) -> None:
        self._backend, self._model_id, self._lease = backend, model_id, lease

    def __enter__(self) -> Any:
        model = self._lease.__enter__()
        self._backend._set_status("ready", self._model_id, f"{self._model_id} on {model.placement}, ready")
        return model

    def __exit__(self, *error: Any) -> Any:
        return self._lease.__exit__(*error)


class _Climb:
    """A model on loan, and what was changed during this run because memory had run out.

    Attributes:
        model: as it is now.
        taken: names of the rungs that this run has taken.
    """

    def __init__(self, manager: PipelineManager, request: GenerationRequest, model: Any, rungs: Sequence[str]) -> None:
        self._manager, self._request, self._rungs = manager, request, rungs
        self.model = model
        self.taken: list[str] = []

    def __call__(self, stage: str, work: Callable[[Any], T]) -> T:
        """Do some work with the model; where memory runs out, again on the next rung."""
        while True:
            done = _if_it_fits(work, self.model)
            if done is not None:
                return done[0]
            # Only here, outside of the attempt, are its tensors nobody's.
            _free_memory()
            self._lower(stage)

    def remember(self) -> None:
        """Begin where this run has ended, next time."""
        if self.taken:
            self._manager.remember(self._request.model, _pixels(self._request), (*self._rungs, *self.taken))

    def _lower(self, stage: str) -> None:
        found = self._manager.lower(self._request.model, stage, _rows(self.model, self._request))
        if found is None:
            raise _Exhausted(", ".join(ladder.words(self.model.placement.rungs)))
        self.model, name = found
        self.taken.append(name)
        log.warning("Memory ran out (%s); going on with %s", stage, name)


def _if_it_fits(work: Callable[[Any], T], model: Any) -> tuple[T] | None:
    """What the work gives; None if memory ran out."""
    try:
        return (work(model),)
    except Exception as error:
        if not out_of_memory(error):
            raise
    return None


def _pixels(request: GenerationRequest) -> int:
    return request.width * request.height * request.num_images


def _rows(model: Any, request: GenerationRequest) -> int:
    """Inputs that the denoiser is asked about at once."""
    return request.num_images * (1 if model.guides_itself or request.sampling.guidance_scale <= 1 else 2)


def _needed(request: GenerationRequest, names: Sequence[str]) -> tuple[str, ...]:
    """Rungs without those that mean nothing for this request."""
    single = request.num_images == 1 and request.sampling.guidance_scale <= 1
    return tuple(name for name in names if not (single and name == "one"))


class _Clock:
    """Time left, from the steps so far; the first step (with the prompt's encoding) counts only while it is alone."""

    def __init__(self) -> None:
        self._start = time.perf_counter()
        self._first = self._start

    def left(self, step: Step) -> float:
        now = time.perf_counter()
        if step.index == 0:
            self._first = now
            each = now - self._start
        else:
            each = (now - self._first) / step.index
        return each * (step.total - step.index - 1)


def frames_of(model: Any, step: Step) -> tuple[bytes, ...]:
    """What the model believes in at this step, as one small JPEG a picture."""
    import torch

    with torch.inference_mode():
        images = model.latents.preview(step.x0)
    return tuple(_jpeg(image) for image in images)


def _jpeg(image: Image.Image) -> bytes:
    if max(image.size) > PREVIEW_SIDE:
        image.thumbnail((PREVIEW_SIDE, PREVIEW_SIDE))
    file = io.BytesIO()
    image.save(file, format="JPEG", quality=80)
    return file.getvalue()


def final_bytes(image: Image.Image, mark: str) -> bytes:
    """A finished picture as a trace keeps it and the page shows it: without loss when it is small, with the mark."""
    file = io.BytesIO()
    if max(image.size) <= FINAL_SIDE:
        image.save(file, format="PNG", pnginfo=marked(mark))
    else:
        smaller = image.copy()
        smaller.thumbnail((FINAL_SIDE, FINAL_SIDE))
        smaller.save(file, format="JPEG", quality=90, xmp=mark.encode())
    return file.getvalue()


def draft_bytes(image: Image.Image, mark: str) -> bytes:
    """A draft as the page shows it, in its own size: a PNG when it is small, else a JPEG, with the mark."""
    file = io.BytesIO()
    if max(image.size) <= DRAFT_SIDE:
        image.save(file, format="PNG", pnginfo=marked(mark), compress_level=1)
    else:
        image.save(file, format="JPEG", quality=90, xmp=mark.encode())
    return file.getvalue()


def _handfuls(rows: np.ndarray) -> list[np.ndarray]:
    return [rows[k : k + LOOK_ROWS] for k in range(0, len(rows), LOOK_ROWS)]


def _decode(model: Any, last: Step) -> list[Image.Image]:
    import torch

    if not torch.isfinite(last.x_next).all():
        raise FloatingPointError
    with torch.inference_mode():
        return model.latents.decode(last.x_next)


def _black(image: Image.Image) -> Image.Image:
    from PIL import Image

    return Image.new("RGB", image.size)


def _hiding(event: Event, withheld: Sequence[bool]) -> Event:
    from PIL import Image

    return event.hiding(withheld, _jpeg(Image.new("RGB", (8, 8)))) if isinstance(event, Preview) else event


def _withheld_notes(model: Any, withheld: Sequence[bool]) -> tuple[str, ...]:
    """What the model's safety checker did, if anything."""
    numbers = [str(k) for k, hidden in enumerate(withheld, 1) if hidden]
    if not numbers:
        return ()
    which = "the picture" if len(withheld) == 1 else f"picture {' and '.join(numbers)} of {len(withheld)}"
    return (
        f"The safety checker of {model.card.name} withheld {which}: black stands in its place and its steps were not "
        "kept; change the prompt or the seed.",
    )


def _facts(model: Any) -> dict[str, Any]:
    placement, safety = model.placement, model.safety
    return {
        "name": model.card.name,
        "device": placement.device,
        "dtype": placement.dtype,
        "attention": placement.attention,
        **({"safety_checker": safety} if safety != NONE else {}),
        **({"quantize": placement.quantize} if placement.quantize else {}),
        **({"compile": True} if placement.compile else {}),
        **({"ladder": list(placement.rungs)} if placement.rungs else {}),
    }


def _notes(model: Any, request: GenerationRequest) -> tuple[str, ...]:
    prompts = [request.prompt, (request.interpolation and request.interpolation.prompt) or ""]
    unread = [model.unread(prompt) for prompt in prompts]
    words = [f'The prompt is longer than the model reads; it did not see: "{text}".' for text in unread if text]
    return tuple(note for note in (*words, *_unheard(model, request), model.placement.note) if note)


def _ladder_notes(model: Any, taken: Sequence[str]) -> tuple[str, ...]:
    """What was changed to make the run fit into memory."""
    now = ladder.words(taken)
    before = ladder.words([name for name in model.placement.rungs if name not in taken])
    return tuple(
        text
        for text in (
            before and f"To fit into memory, as learnt before: {', '.join(before)}.",
            now and f"Memory ran out, so this was changed: {', '.join(now)}; next time it begins like that.",
        )
        if text
    )


def _unheard(model: Any, request: GenerationRequest) -> Iterator[str]:
    """What was asked for and a model of this kind does not read."""
    from pipelines.families.weighting import weighted

    name, texts = model.card.name, (request.prompt, request.negative_prompt)
    if not model.weighs and any(weighted(text) for text in texts):
        yield f"{name} does not read weights such as (word)1.3; it took them for part of the text."
    if model.guides_itself and request.negative_prompt and not hasattr(model, "own_loop"):
        yield f"{name} does not read a negative prompt, so that field changed nothing."


def _check_task(card: ModelCard, request: GenerationRequest) -> None:
    """Raise InvalidRequest for what this kind of model is not made for."""
    if request.init is None and "text-to-image" not in card.tasks:
        raise InvalidRequest(
            f"{card.name} only finishes pictures that are there: use it in Image to image, or choose another model."
        )
    if request.init is not None and (card.family == "any" or "image-to-image" not in card.tasks):
        raise InvalidRequest(f"{card.name} cannot start from a picture; choose another model.")


def explain(error: Exception, model_id: str, request: GenerationRequest | None = None) -> str:
    """An exception as one plain sentence: what happened and what to do next."""
    if isinstance(error, InvalidRequest | NoSuchDevice | CannotLoad):
        return str(error)
    if out_of_memory(error):
        if request is None:
            return f"There is not enough memory to load {model_id}; close other programs or choose a smaller model."
        size = f"{request.num_images} x {request.width} x {request.height} pixels"
        tried = f" (tried: {error})" if isinstance(error, _Exhausted) and str(error) else ""
        return f"There was not enough memory for {size}{tried}; ask for fewer or smaller pictures."
    if isinstance(error, FloatingPointError):
        return "The numbers of this picture overflowed; try another scheduler, more steps or a lower guidance scale."
    if isinstance(error, OSError):
        reason = error.strerror or str(error).strip().split("\n")[0] or type(error).__name__
        return f"Reading or writing a file failed ({reason[:200].rstrip('.')}); check the folder and the disk's space."
    return f"Something went wrong with {model_id} ({type(error).__name__}); try again, the log holds the details."


def _free_memory() -> None:
    try:
        from pipelines.manager import release_memory

        release_memory()
    except Exception:
        log.exception("Memory could not be freed")


def _short(value: str) -> str:
    return repr(value if len(value) <= 60 else value[:57] + "...")


def _listed(names: Any) -> str:
    return ", ".join(sorted(names))


def default_threads() -> int:
    """CPU threads of the worker: physical cores that this process may use, at most 4.

    More threads than physical cores spin against each other, and small UNets gain little beyond four.
    """
    import psutil

    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    physical = psutil.cpu_count(logical=False) or math.ceil((os.cpu_count() or 1) / 2)
    return max(1, min(physical, allowed, 4))
