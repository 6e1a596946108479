"""Drafts: pictures made while the user types.  The newest wins, and one is saved only when the user keeps it."""

from __future__ import annotations

import logging
import threading
from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING

from pipelines.events import Cancelled, Finished, Loading, Preview
from pipelines.images.provenance import xmp_packet
from pipelines.jobs.backend import KeepFailed, QueryFailed
from pipelines.jobs.messages import UNFINISHED_DRAFT, explain_error
from pipelines.jobs.previews import draft_bytes
from pipelines.request import GenerationRequest, fields_of_picture, replaced
from pipelines.trace.recorder import Recorder
from pipelines.trace.step_frames import StepFrames, is_picture, preview_jpeg, step_frames

if TYPE_CHECKING:
    from collections.abc import Sequence

    from PIL import Image

    from pipelines.events import Step
    from pipelines.jobs.backend import Backend
    from pipelines.jobs.job import DraftResult, Job
    from pipelines.jobs.model_queries import LocalQueries
    from pipelines.jobs.results import ResultStore
    from pipelines.model import Model

log = logging.getLogger(__name__)
# A draft that takes longer does not keep up with typing.
SLOW_SECONDS = 1.0
# One draft that takes so many times longer is enough to say so.
TOO_SLOW_FACTOR = 3
# A running draft of which more is done than this is not cancelled for a newer one.
WORTH_FINISHING = 0.5
# After so long without a change the user has stopped typing.
PAUSE_SECONDS = 1.5


class DraftKeeper:
    """Saves finished drafts.  Thread-safe.

    Args:
        queries: have the frames of a draft made by its model.
        results: where pictures and traces are saved.
    """

    def __init__(self, queries: LocalQueries, results: ResultStore) -> None:
        self._queries, self._results = queries, results
        self._lock = threading.Lock()

    def keep(self, job: Job) -> None:
        """Save a draft, now or when it is done; see ``Backend.keep``."""
        with self._lock:
            mine, job.draft = job.draft, False
            if not job.done:
                return  # ``finish`` saves it
        if not mine:
            job.wait_until_saved()
            return
        if job.draft_result is None:
            raise KeepFailed(UNFINISHED_DRAFT)
        try:
            self._save(job, job.draft_result)
        except OSError as error:
            job.revert_to_draft()
            raise KeepFailed(explain_error(error, job.request.model)) from None

    def finish(self, job: Job, result: DraftResult, model: Model) -> None:
        """End a draft, for the worker; save it if the user has kept it while it ran."""
        with self._lock:
            if job.draft:
                drafts = tuple(draft_bytes(image, xmp_packet(job.request)) for image in result.images)
                job.finish_draft(replace(result, finished=replace(result.finished, drafts=drafts)))
                return
        self._save(job, result, model)

    def _save(self, job: Job, result: DraftResult, model: Model | None = None) -> None:
        """Save pictures and trace as for any other job; raises OSError.

        Args:
            job: the draft.
            result: of it.
            model: leased by the worker; other threads leave it out and have the worker make the frames.
        """
        pictures = self._results.save_pictures(job, result.images, result.facts, result.finished.notes)
        previews: list[Preview] = []

        def record(model: Model) -> None:
            recorder = Recorder(job.id, job.request, job.created)
            for step in result.steps:
                frames = _frames(model, step, job.request, result.images)
                recorder.add(step, frames.guess, frames.noisy)
                previews.append(frames.preview(step))
            self._results.save_trace(recorder, model, pictures, result.images, result.finished.seconds)

        try:
            record(model) if model is not None else self._queries.of(job.user).ask(job.request.model, record)
        except QueryFailed as problem:
            log.warning("The trace of a draft could not be saved: %s", problem)
            previews.clear()
        job.replace_draft(previews, replace(result.finished, pictures=pictures, drafts=()))


def _frames(model: Model, step: Step, request: GenerationRequest, images: Sequence[Image.Image]) -> StepFrames:
    """A step's frames as an ordinary run on a CPU has them: a last guess that is the picture is not decoded again."""
    frames = step_frames(model, step, request.sampling.scheduler)
    last = step.index == step.total - 1 and model.placement.kind == "cpu" and request.init is None
    if last and is_picture(model, step, request.sampling.scheduler):
        return replace(frames, guess=tuple(preview_jpeg(image.copy()) for image in images))
    return frames


class DraftSession:
    """The drafts of one page.  Thread-safe.

    At most one draft runs and one waits.  A newer one replaces the one that waits, and cancels the one that runs unless
    half of its steps are done or the draft before it was cancelled: so pictures appear while the user types on.

    Args:
        backend: runs the drafts, each when no other job waits.
    """

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._changed = threading.Condition()
        self._latest: GenerationRequest | None = None
        self._jobs: list[Job] = []
        self._newest: Job | None = None
        self._cancelled_running = False
        self._durations: deque[float] = deque(maxlen=2)

    def submit(self, request: GenerationRequest) -> Job | None:
        """Queue a draft of the request's first picture; None if it is the latest draft already and has not failed.

        Raises:
            InvalidRequest, QueueFull: see ``Backend.submit``.
        """
        wanted = first_image_only(request)
        with self._changed:
            if wanted == self._latest and (self._newest is None or not _ended_without_image(self._newest)):
                return None
            return self._queue(wanted)

    @property
    def is_new(self) -> bool:
        """Whether there was no draft yet."""
        with self._changed:
            return self._latest is None

    def begin_with(self, request: GenerationRequest) -> None:
        """Take the picture of this request, which the page shows, for the latest draft, unless there was one."""
        with self._changed:
            if self._latest is None:
                self._latest = first_image_only(request)

    def resubmit(self, job: Job) -> Job | None:
        """Queue the newest draft again after another job has cancelled it; None if a newer draft was submitted.

        Raises:
            InvalidRequest, QueueFull: see ``Backend.submit``.
        """
        with self._changed:
            stopped = isinstance(job.poll()[-1], Cancelled)
            return self._queue(job.request) if stopped and job is self._newest else None

    def is_newest(self, job: Job) -> bool:
        """Whether no draft was submitted since."""
        with self._changed:
            return job is self._newest

    def wait_for_pause(self, job: Job) -> bool:
        """Wait until the user pauses; False as soon as a newer draft is submitted."""
        with self._changed:
            return not self._changed.wait_for(lambda: job is not self._newest, PAUSE_SECONDS)

    def stop(self, request: GenerationRequest | None = None) -> Job | None:
        """Cancel the drafts, because the user has pressed Generate or switched drafts off.

        Args:
            request: of the Generate button; None for any.

        Returns:
            The newest draft if it is running or finished and has this very request: it goes on, and can be kept.
        """
        with self._changed:
            found = self._newest if self._newest is not None and _can_be_kept(self._newest) else None
            if found is not None and request not in (None, found.request):
                found = None
            for job in self._jobs:
                if job is not found:
                    job.cancel()
            self._jobs, self._newest = [], found
            if found is None:
                self._latest = first_image_only(request) if request is not None else None
            self._changed.notify_all()
        return found

    def is_too_slow(self, job: Job) -> bool:
        """Whether a running draft is far slower than typing."""
        return not job.done and job.running_seconds > TOO_SLOW_FACTOR * SLOW_SECONDS

    def record_duration(self, job: Job) -> None:
        """Note how long an ended draft took; a cancelled one counts only if it was too slow."""
        with self._changed:
            events = job.poll()
            if isinstance(events[-1], Finished):
                self._cancelled_running = False
                # A draft that had to wait for the model says nothing about the next.
                if not any(isinstance(event, Loading) for event in events):
                    self._durations.append(events[-1].seconds)
            elif isinstance(events[-1], Cancelled) and job.running_seconds > TOO_SLOW_FACTOR * SLOW_SECONDS:
                self._durations.append(job.running_seconds)

    def slow_seconds(self) -> float:
        """Seconds that drafts take if that is too long for typing, else 0; a single slow one may be an accident."""
        with self._changed:
            if not self._durations:
                return 0.0
            least, last = min(self._durations), self._durations[-1]
            twice = len(self._durations) == self._durations.maxlen and least > SLOW_SECONDS
            return last if twice or last > TOO_SLOW_FACTOR * SLOW_SECONDS else 0.0

    def reset_timing(self) -> None:
        """Forget the durations: the model was changed, or the user switches drafts on again."""
        with self._changed:
            self._durations.clear()

    def _queue(self, request: GenerationRequest) -> Job:
        self._jobs = [job for job in self._jobs if not job.done]
        job = self._backend.submit(request, draft=True, replaces=self._obsolete())
        self._jobs.append(job)
        self._latest, self._newest = request, job
        self._changed.notify_all()
        return job

    def _obsolete(self) -> list[Job]:
        """The drafts to cancel for a newer one."""
        waiting = [job for job in self._jobs if not job.running_seconds]
        running = [job for job in self._jobs if job.running_seconds and not job.cancelled]
        if running and not self._cancelled_running and running[0].progress < WORTH_FINISHING:
            self._cancelled_running = True
            return [*waiting, *running]
        return waiting


def _can_be_kept(job: Job) -> bool:
    """Whether a draft is finished or runs."""
    return isinstance(job.poll()[-1], Finished) or (job.running_seconds > 0 and not job.cancelled and not job.done)


def _ended_without_image(job: Job) -> bool:
    """Whether a draft was cancelled or failed."""
    return job.done and not isinstance(job.poll()[-1], Finished)


def first_image_only(request: GenerationRequest) -> GenerationRequest:
    """The request for the first picture of the batch only."""
    several = request.num_images > 1 and request.interpolation is None
    return replaced(request, **fields_of_picture(request, 0)) if several else request
