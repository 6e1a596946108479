"""Who waits for the worker: the owner first, guests in turn, no guest more than a fair share, and drafts last."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from pipelines.visitors import Visitor

HOUR = 3600.0


class QueueFull(RuntimeError):
    """A job that cannot wait here now; the message is one plain sentence."""


@dataclass(frozen=True)
class Share:
    """What a guest may ask for.

    Attributes:
        waiting: jobs that may wait at once, besides the one that runs.
        pictures: an hour.
        work: width x height x pictures x steps an hour; the default is a thousand pictures of 512 px with 25 steps.
    """

    waiting: int = 3
    pictures: int = 120
    work: int = 1000 * 512 * 512 * 25


class Line:
    """Jobs that wait, and the order in which they run.  Not thread-safe: the backend's lock guards it.

    Args:
        limit: jobs of guests that may wait in all, and jobs of the owner besides, and drafts besides.
        share: of each guest.
        clock: seconds; tests turn it.
    """

    def __init__(
        self, limit: int, share: Share | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.limit, self.share = limit, share or Share()
        self._clock = clock
        self._owner: deque[Any] = deque()
        # Guests in the order in which it is their turn; whoever was served goes to the end.
        self._guests: dict[str, deque[Any]] = {}
        self._drafts: deque[Any] = deque()
        self._spent: dict[str, deque[tuple[float, int, int]]] = {}
        self._seconds: deque[float] = deque(maxlen=20)

    def __len__(self) -> int:
        return len(self._owner) + self._of_guests() + len(self._drafts)

    def __iter__(self) -> Iterator[Any]:
        """The jobs in the order in which they will run, if nobody else comes."""
        yield from self._owner
        rows = [list(jobs) for jobs in self._guests.values()]
        for turn in range(max(map(len, rows), default=0)):
            yield from (jobs[turn] for jobs in rows if turn < len(jobs))
        yield from self._drafts

    def add(self, job: Any, visitor: Visitor, running: bool = False, draft: bool = False) -> None:
        """Let a job wait.

        Args:
            job: with a ``request``.
            visitor: whose it is.
            running: whether something runs already, so that this one has to wait.
            draft: whether it goes after everything else, whosoever that is.

        Raises:
            QueueFull: if too many wait, a guest has had its share, or asks for a draft.
        """
        if draft:
            self._add_draft(job, visitor)
            return
        if visitor.owner:
            if len(self._owner) >= self.limit:
                raise QueueFull(f"{self.limit} pictures are waiting already; try again in a minute.")
            self._owner.append(job)
            return
        mine = self._guests.get(visitor.id, ())
        if len(mine) >= self.share.waiting and not visitor.free:
            raise QueueFull(f"{self.share.waiting} of your pictures are waiting already; wait for one of them.")
        if self._of_guests() >= self.limit:
            raise QueueFull(f"This computer is busy; try again in {self._wait_words(running)}.")
        if not visitor.free:
            self._charge(job.request, visitor.id)
        self._guests.setdefault(visitor.id, deque()).append(job)

    def next(self) -> Any | None:
        """The job whose turn it is, taken out; None if nobody waits."""
        if self._owner:
            return self._owner.popleft()
        for name, jobs in list(self._guests.items()):
            job = jobs.popleft()
            del self._guests[name]
            if jobs:
                self._guests[name] = jobs  # at the end: everybody else goes first
            return job
        return self._drafts.popleft() if self._drafts else None

    def first(self) -> Any | None:
        """The job whose turn it is, left in its place."""
        return next(iter(self), None)

    def drop(self, over: Callable[[Any], bool]) -> bool:
        """Take out the jobs that are over; whether there was one."""
        before = len(self)
        self._owner = deque(job for job in self._owner if not over(job))
        self._drafts = deque(job for job in self._drafts if not over(job))
        left = {name: deque(job for job in jobs if not over(job)) for name, jobs in self._guests.items()}
        self._guests = {name: jobs for name, jobs in left.items() if jobs}
        return len(self) < before

    def clear(self) -> None:
        """Nobody waits any more."""
        self._owner.clear()
        self._guests.clear()
        self._drafts.clear()

    def took(self, seconds: float) -> None:
        """A job has run for so long; what is said of the wait goes by the last few."""
        self._seconds.append(seconds)

    def _of_guests(self) -> int:
        return sum(map(len, self._guests.values()))

    def _add_draft(self, job: Any, visitor: Visitor) -> None:
        if not visitor.owner:
            raise QueueFull("Only the owner of this computer can draw while typing; press Generate.")
        if len(self._drafts) >= self.limit:
            raise QueueFull("Too many pages draw while somebody types in them; close some of them.")
        self._drafts.append(job)

    def _charge(self, request: Any, guest: str) -> None:
        """Count a request towards the guest's hour, or refuse it."""
        now = self._clock()
        # Guests who have not been here for an hour are forgotten.
        self._spent = {name: kept for name, jobs in self._spent.items()
                       if (kept := deque(job for job in jobs if job[0] > now - HOUR))}  # fmt: skip
        spent = self._spent.get(guest, deque())
        work = request.width * request.height * request.num_images * request.sampling.num_inference_steps
        pictures = sum(job[1] for job in spent) + request.num_images
        if pictures > self.share.pictures or sum(job[2] for job in spent) + work > self.share.work:
            raise QueueFull(f"You have had your share of this hour; {self._next_share(spent, now)}.")
        self._spent.setdefault(guest, spent).append((now, request.num_images, work))

    @staticmethod
    def _next_share(spent: deque[tuple[float, int, int]], now: float) -> str:
        if not spent:
            return "ask for fewer or smaller pictures"
        return f"some of it comes back in {minutes(spent[0][0] + HOUR - now)}, or ask for fewer or smaller pictures"

    def _wait_words(self, running: bool) -> str:
        each = sum(self._seconds) / len(self._seconds) if self._seconds else 10.0
        return minutes((len(self) - len(self._drafts) + running) * each)


def minutes(seconds: float) -> str:
    """A wait, as people say it."""
    if seconds <= 60:
        return "about a minute"
    return f"about {math.ceil(seconds / 60)} minutes"
