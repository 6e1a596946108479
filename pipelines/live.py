"""What a page draws while somebody types: drafts, of which the newest wins."""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING

from pipelines.events import Cancelled, Finished, Loading
from pipelines.request import GenerationRequest, amended

if TYPE_CHECKING:
    from pipelines.backend import Backend, Job

# A draft that takes longer is no answer to a keystroke any more.
SLOW_SECONDS = 1.0
# One that takes as many times longer need not be measured twice.
HOPELESS = 3
# A running draft of which more is done than this is worth the wait.
USEFUL = 0.5
# After so long without a change somebody has paused to look.
PAUSE_SECONDS = 1.5


class Live:
    """The drafts of one page.  Thread-safe.

    At most one runs and one waits.  A newer one takes the place of the one that waits, and stops the one that runs
    unless half of that is done, or the one before was stopped: whoever types without a pause still sees pictures.

    Args:
        backend: draws the drafts, and only when there is nothing else to do.
    """

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._news = threading.Condition()
        self._asked: GenerationRequest | None = None
        self._jobs: list[Job] = []
        self._newest: Job | None = None
        self._spares = False
        self._took: deque[float] = deque(maxlen=2)

    def ask(self, request: GenerationRequest) -> Job | None:
        """Draw one picture of this next; None if that was asked for last, too, and did not go wrong.

        Raises:
            InvalidRequest, QueueFull: see ``Backend.submit``.
        """
        wanted = one_of(request)
        with self._news:
            if wanted == self._asked and (self._newest is None or not _broke(self._newest)):
                return None
            return self._draw(wanted)

    def again(self, job: Job) -> Job | None:
        """Another draft for one that had to make room for something else; None if nobody waits for it any more.

        Raises:
            InvalidRequest, QueueFull: see ``Backend.submit``.
        """
        with self._news:
            stopped = isinstance(job.poll()[-1], Cancelled)
            return self._draw(job.request) if stopped and job is self._newest else None

    def is_newest(self, job: Job) -> bool:
        """Whether nothing was asked for since."""
        with self._news:
            return job is self._newest

    def rests(self, job: Job) -> bool:
        """Wait for a pause; False as soon as something newer is asked for."""
        with self._news:
            return not self._news.wait_for(lambda: job is not self._newest, PAUSE_SECONDS)

    def leave(self, request: GenerationRequest | None = None) -> Job | None:
        """Draw nothing more, until something else than this request (or the last one) is asked for.

        Returns:
            The newest draft where it is exactly this request, or no request is given, and it is finished or on its
            way: it can be kept.  Every other one is stopped.
        """
        with self._news:
            found = self._newest if self._newest is not None and _lasts(self._newest) else None
            if found is not None and request not in (None, found.request):
                found = None
            for job in self._jobs:
                if job is not found:
                    job.cancel()
            self._jobs, self._newest = [], found
            if found is None:
                self._asked = one_of(request) if request is not None else None
            self._news.notify_all()
        return found

    def late(self, job: Job) -> bool:
        """Whether a draft on its way is hopelessly slow."""
        return not job.done and job.runs_for > HOPELESS * SLOW_SECONDS

    def took(self, job: Job) -> None:
        """Count what a draft has cost, once it is over; one that was stopped tells nothing, unless it was late."""
        with self._news:
            events = job.poll()
            if isinstance(events[-1], Finished):
                self._spares = False
                # What loaded the model was slow for once.
                if not any(isinstance(event, Loading) for event in events):
                    self._took.append(events[-1].seconds)
            elif isinstance(events[-1], Cancelled) and job.runs_for > HOPELESS * SLOW_SECONDS:
                self._took.append(job.runs_for)

    def slow(self) -> float:
        """Seconds that drafts take here if that is too long, else 0: the first one may be slow by accident."""
        with self._news:
            if not self._took:
                return 0.0
            least, last = min(self._took), self._took[-1]
            twice = len(self._took) == self._took.maxlen and least > SLOW_SECONDS
            return last if twice or last > HOPELESS * SLOW_SECONDS else 0.0

    def begin(self) -> None:
        """Forget what drafts cost: another model, or somebody wants to try again."""
        with self._news:
            self._took.clear()

    def _draw(self, request: GenerationRequest) -> Job:
        self._jobs = [job for job in self._jobs if not job.done]
        job = self._backend.submit(request, draft=True, instead=self._outdated())
        self._jobs.append(job)
        self._asked, self._newest = request, job
        self._news.notify_all()
        return job

    def _outdated(self) -> list[Job]:
        """The drafts that are not worth the wait now that there is a newer one."""
        waiting = [job for job in self._jobs if not job.runs_for]
        running = [job for job in self._jobs if job.runs_for and not job.cancelled]
        if running and not self._spares and running[0].progress < USEFUL:
            self._spares = True
            return [*waiting, *running]
        return waiting


def _lasts(job: Job) -> bool:
    """Whether a draft is finished, or on its way there."""
    return isinstance(job.poll()[-1], Finished) or (job.runs_for > 0 and not job.cancelled and not job.done)


def _broke(job: Job) -> bool:
    """Whether a draft has ended without a picture."""
    return job.done and not isinstance(job.poll()[-1], Finished)


def one_of(request: GenerationRequest) -> GenerationRequest:
    """The request for the first picture alone."""
    return amended(request, num_images=1) if request.num_images > 1 and request.interpolation is None else request
