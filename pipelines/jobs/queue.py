"""The queue of jobs: the owner first, guests in turn, drafts last."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pipelines.jobs.backend import QueueFull
from pipelines.jobs.messages import TOO_MANY_QUERIES
from pipelines.jobs.users import OWNER, User
from pipelines.sampling.schedulers import SCHEDULERS

if TYPE_CHECKING:
    from pipelines.jobs.job import Job

HOUR = 3600.0
# How often guests are forgotten of whom nothing is counted any more.
SWEEP_SECONDS = 60.0
# Model queries that may wait at once: of the owner, of all guests, and of one guest.
QUERY_LIMIT, GUEST_QUERY_LIMIT = 64, 8
SHARE_USED = "You have had your share of this hour"


@dataclass(frozen=True)
class GuestShare:
    """The limits of one guest.

    Attributes:
        waiting: jobs that may wait at once; the running one is not counted.
        together: lanes of one race that may wait at once; they do not count as waiting for each other, so that all of a
            race run together.
        pictures: per hour.
        work: width x height x pictures x model calls per hour, model queries included; the default is 1,000 pictures
            of 512 px with 25 steps.
    """

    waiting: int = 3
    together: int = 6
    pictures: int = 120
    work: int = 1000 * 512 * 512 * 25

    def check_waiting(self, job: Job, mine: Collection[Job]) -> None:
        """Raise QueueFull if too many of a guest's jobs wait for this one to wait, too."""
        lanes = sum(bool(job.together) and other.together == job.together for other in mine)
        if len(mine) - lanes >= self.waiting or lanes >= self.together:
            raise QueueFull(f"{len(mine)} of your pictures are waiting already; wait for one of them.", soon=True)


@dataclass(frozen=True, eq=False)
class ModelQuery:
    """A short question to a model, answered while no job runs, or between two steps of a job of the same user.

    Attributes:
        model_id: of the model; None for work that needs none, but the device.
        ask: is called with the model, or with None; a generator of it is a long answer in parts, which ends with
            ``return``, and begins again after a task of the owner that has come meanwhile.
        user: who asks.
        work: pixels that the model or a decoder goes over; counts towards a guest's share.
        alone: whether it puts adapters of its own on the model, so that it never interrupts a job.
        patient: whether all jobs go first, such as before a part of a long training; for the owner.
        answer: what ``ask`` returned or raised.
    """

    model_id: str | None
    ask: Callable[[Any], Any]
    user: User = OWNER
    work: int = 0
    alone: bool = False
    patient: bool = False
    answer: Future[Any] = field(default_factory=Future)

    def may_interrupt(self, model_id: str, user: User) -> bool:
        """Whether it is answered between two steps of a user's job: the owner's always, a guest's only in its own."""
        allowed = self.user.owner or (not user.owner and user.id == self.user.id)
        return allowed and not self.alone and self.model_id in (None, model_id)


class JobQueue:
    """Waiting jobs in the order in which they will run.  Not thread-safe: the lock of ``TaskQueue`` guards it.

    Guests take turns with their jobs and their model queries alike.

    Args:
        limit: of the guests' jobs together, of the owner's jobs, and of drafts, each.
        share: the limits of each guest.
        clock: monotonic seconds; tests set it.
        workers: that run jobs at the same time, for the estimated wait.
    """

    def __init__(
        self,
        limit: int,
        share: GuestShare | None = None,
        clock: Callable[[], float] = time.monotonic,
        workers: int = 1,
    ) -> None:
        self.limit, self.share, self._workers = limit, share or GuestShare(), workers
        self._clock = clock
        self._owner: deque[Job] = deque()
        # Guests in the order of their turns; a guest whose job was taken goes to the end.
        self._guests: dict[str, deque[Job]] = {}
        self._queries: dict[str, deque[ModelQuery]] = {}
        self._turns: dict[str, None] = {}
        self._drafts: deque[Job] = deque()
        self._spent: dict[str, deque[tuple[float, int, int]]] = {}
        self._next_sweep = clock() + SWEEP_SECONDS
        self._seconds: deque[float] = deque(maxlen=20)

    def __len__(self) -> int:
        return len(self._owner) + self._guest_count() + len(self._drafts)

    def __iter__(self) -> Iterator[Job]:
        """The jobs in the order in which they will run if no other is added."""
        yield from self._owner
        rows = [list(self._guests[guest]) for guest in self._turns if guest in self._guests]
        for turn in range(max(map(len, rows), default=0)):
            yield from (jobs[turn] for jobs in rows if turn < len(jobs))
        yield from self._drafts

    def add(self, job: Job, user: User, running: int = 0, draft: bool = False) -> None:
        """Add a job.

        Args:
            job: to add.
            user: whose it is.
            running: how many jobs run now, for the estimate in the message of QueueFull.
            draft: whether it goes after all other jobs.

        Raises:
            QueueFull: if too many jobs wait, or a guest has used its share or asks for a draft.
        """
        if draft:
            self._add_draft(job, user)
            return
        if user.owner:
            if len(self._owner) >= self.limit:
                raise QueueFull(f"{self.limit} pictures are waiting already; try again in a minute.", soon=True)
            self._owner.append(job)
            return
        if not user.unmetered:
            self.share.check_waiting(job, self._guests.get(user.id, ()))
        if self._guest_count() >= self.limit:
            raise QueueFull(f"This computer is busy; try again in {self._estimated_wait(running)}.")
        if not user.unmetered:
            request = job.request
            sampling = request.sampling
            calls = SCHEDULERS[sampling.scheduler].model_calls(sampling.num_inference_steps)
            work = request.width * request.height * request.num_images * calls
            self._charge(user.id, request.num_images, work)
        self._guests.setdefault(user.id, deque()).append(job)
        self._turns.setdefault(user.id)

    def add_query(self, query: ModelQuery) -> None:
        """Add a guest's model query; raises QueueFull."""
        guest = query.user.id
        waiting = sum(map(len, self._queries.values()))
        if len(self._queries.get(guest, ())) >= GUEST_QUERY_LIMIT or waiting >= QUERY_LIMIT:
            raise QueueFull(TOO_MANY_QUERIES)
        if not query.user.unmetered:
            self._charge(guest, 0, query.work)
        self._queries.setdefault(guest, deque()).append(query)
        self._turns.setdefault(guest)

    def put_back(self, query: ModelQuery) -> None:
        """Let a query that has given way to the owner begin again, before the guest's other tasks."""
        self._queries.setdefault(query.user.id, deque()).appendleft(query)
        self._turns.setdefault(query.user.id)

    def take_query(self, model_id: str, user: User) -> ModelQuery | None:
        """Take out the next query of a user that may interrupt the user's job."""
        queries = self._queries.get(user.id, deque())
        found = next((query for query in queries if query.may_interrupt(model_id, user)), None)
        if found is not None:
            queries.remove(found)
            self._drop_empty()
        return found

    def next(self) -> Job | ModelQuery | None:
        """Take out the next job, or the next query of a guest; None if there is none."""
        if (task := next(self.in_order(), None)) is not None:
            self.take(task)
        return task

    def in_order(self) -> Iterator[Job | ModelQuery]:
        """The jobs and the guests' queries in the order in which they are taken; a guest's queries before its jobs."""
        yield from self._owner
        rows = [[*self._queries.get(guest, ()), *self._guests.get(guest, ())] for guest in self._turns]
        for turn in range(max(map(len, rows), default=0)):
            yield from (tasks[turn] for tasks in rows if turn < len(tasks))
        yield from self._drafts

    def take(self, task: Job | ModelQuery) -> None:
        """Take out a task of ``in_order``; a guest's turn is over with it."""
        for row in (self._owner, self._drafts):
            if task in row:
                row.remove(task)  # type: ignore[arg-type]
                return
        rows: tuple[dict[str, Any], ...] = (self._queries, self._guests)
        guest, row = next((guest, row[guest]) for guest in self._turns for row in rows if task in row.get(guest, ()))
        row.remove(task)
        # At the end: the other guests go first.
        del self._turns[guest]
        self._turns[guest] = None
        self._drop_empty()

    def put_first(self, job: Job) -> None:
        """Put a job back that was taken and cannot run where it was to: it is the next of its user's."""
        if job.draft or job.user.owner:
            (self._drafts if job.draft else self._owner).appendleft(job)
            return
        self._guests.setdefault(job.user.id, deque()).appendleft(job)
        self._turns = {job.user.id: None, **self._turns}

    def owner_waits(self) -> bool:
        """Whether a job of the owner waits."""
        return bool(self._owner)

    def queries(self) -> list[ModelQuery]:
        """The guests' queries that wait."""
        return [query for queries in self._queries.values() for query in queries]

    def first(self) -> Job | None:
        """The next job, left in the queue."""
        return next(iter(self), None)

    def remove(self, ended: Callable[[Job], bool]) -> bool:
        """Take out the jobs that have ended; returns whether there was one."""
        before = len(self)
        self._owner = deque(job for job in self._owner if not ended(job))
        self._drafts = deque(job for job in self._drafts if not ended(job))
        left = {name: deque(job for job in jobs if not ended(job)) for name, jobs in self._guests.items()}
        self._guests = left
        self._drop_empty()
        return len(self) < before

    def clear(self) -> None:
        """Take all jobs out."""
        self._owner.clear()
        self._guests.clear()
        self._queries.clear()
        self._turns.clear()
        self._drafts.clear()

    def record_duration(self, seconds: float) -> None:
        """Note how long a job has run; the estimated wait is the mean of the latest."""
        self._seconds.append(seconds)

    def _drop_empty(self) -> None:
        """Forget guests of whom nothing waits."""
        self._guests = {guest: jobs for guest, jobs in self._guests.items() if jobs}
        self._queries = {guest: queries for guest, queries in self._queries.items() if queries}
        self._turns = {guest: None for guest in self._turns if guest in self._guests or guest in self._queries}

    def _guest_count(self) -> int:
        return sum(map(len, self._guests.values()))

    def _add_draft(self, job: Job, user: User) -> None:
        if not user.owner:
            raise QueueFull("Only the owner of this computer can draw while typing; press Generate.")
        if len(self._drafts) >= self.limit:
            raise QueueFull("Too many pages draw while you type; close some of them.")
        self._drafts.append(job)

    def _charge(self, guest: str, pictures: int, work: int) -> None:
        """Count pictures and work towards the guest's hourly share; raises QueueFull."""
        now = self._clock()
        if now >= self._next_sweep:  # not at each task: there may be very many guests
            self._next_sweep = now + SWEEP_SECONDS
            # Guests without a task in the last hour are forgotten.
            self._spent = {name: jobs for name, jobs in self._spent.items() if jobs and jobs[-1][0] > now - HOUR}
        spent = self._spent.get(guest, deque())
        while spent and spent[0][0] <= now - HOUR:
            spent.popleft()
        wanted = sum(job[1] for job in spent) + pictures
        if wanted > self.share.pictures or sum(job[2] for job in spent) + work > self.share.work:
            raise QueueFull(f"{SHARE_USED}; {_when_renewed(spent, now)}.")
        self._spent.setdefault(guest, spent).append((now, pictures, work))

    def _estimated_wait(self, running: int) -> str:
        each = sum(self._seconds) / len(self._seconds) if self._seconds else 10.0
        return minutes((len(self) - len(self._drafts) + running) * each / self._workers)


def minutes(seconds: float) -> str:
    """Seconds as a phrase, rounded up to minutes."""
    if seconds <= 60:
        return "about a minute"
    return f"about {math.ceil(seconds / 60)} minutes"


def _when_renewed(spent: deque[tuple[float, int, int]], now: float) -> str:
    if not spent:
        return "ask for fewer or smaller pictures"
    return f"some of it comes back in {minutes(spent[0][0] + HOUR - now)}, or ask for fewer or smaller pictures"
