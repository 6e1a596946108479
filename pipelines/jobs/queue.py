"""The queue of jobs (the owner first, guests in turn, drafts last) and of the worker's other tasks."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pipelines.events import Queued
from pipelines.jobs.backend import QueryFailed, QueueFull
from pipelines.jobs.messages import CLOSING, TOO_MANY_QUERIES
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
        pictures: per hour.
        work: width x height x pictures x model calls per hour, model queries included; the default is 1,000 pictures
            of 512 px with 25 steps.
    """

    waiting: int = 3
    pictures: int = 120
    work: int = 1000 * 512 * 512 * 25


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
        answer: what ``ask`` returned or raised.
    """

    model_id: str | None
    ask: Callable[[Any], Any]
    user: User = OWNER
    work: int = 0
    alone: bool = False
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
    """

    def __init__(
        self, limit: int, share: GuestShare | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.limit, self.share = limit, share or GuestShare()
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

    def add(self, job: Job, user: User, running: bool = False, draft: bool = False) -> None:
        """Add a job.

        Args:
            job: to add.
            user: whose it is.
            running: whether a job runs now, for the estimate in the message of QueueFull.
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
        mine = self._guests.get(user.id, ())
        if len(mine) >= self.share.waiting and not user.unmetered:
            raise QueueFull(
                f"{self.share.waiting} of your pictures are waiting already; wait for one of them.", soon=True
            )
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
        if self._owner:
            return self._owner.popleft()
        for guest in self._turns:
            tasks: deque[Any] = self._queries.get(guest) or self._guests[guest]
            task = tasks.popleft()
            # At the end: the other guests go first.
            del self._turns[guest]
            self._turns[guest] = None
            self._drop_empty()
            return task
        return self._drafts.popleft() if self._drafts else None

    def owner_waits(self) -> bool:
        """Whether a job of the owner waits."""
        return bool(self._owner)

    def has_task(self) -> bool:
        """Whether a job or a guest's query waits."""
        return bool(len(self) or self._queries)

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
            raise QueueFull(f"{SHARE_USED}; {self._when_renewed(spent, now)}.")
        self._spent.setdefault(guest, spent).append((now, pictures, work))

    @staticmethod
    def _when_renewed(spent: deque[tuple[float, int, int]], now: float) -> str:
        if not spent:
            return "ask for fewer or smaller pictures"
        return f"some of it comes back in {minutes(spent[0][0] + HOUR - now)}, or ask for fewer or smaller pictures"

    def _estimated_wait(self, running: bool) -> str:
        each = sum(self._seconds) / len(self._seconds) if self._seconds else 10.0
        return minutes((len(self) - len(self._drafts) + running) * each)


def minutes(seconds: float) -> str:
    """Seconds as a phrase, rounded up to minutes."""
    if seconds <= 60:
        return "about a minute"
    return f"about {math.ceil(seconds / 60)} minutes"


class TaskQueue:
    """What the worker does next: the owner's model queries (they are short) and jobs, those of guests in turn, then
    drafts, then loading models ahead.  Thread-safe.

    Attributes:
        changed: its lock, and notified at each change; the backend guards its own records with it, too.
        jobs: that wait.
        running: the job that the worker runs.
        closed: whether nothing more is taken.
    """

    def __init__(self, limit: int, share: GuestShare | None = None) -> None:
        self.changed = threading.Condition()
        self.jobs = JobQueue(limit, share)
        self.running: Job | None = None
        self.closed = False
        self._queries: deque[ModelQuery] = deque()
        self._warm_ups: deque[str] = deque()

    def add(self, job: Job, replaces: Sequence[Job] = ()) -> None:
        """Queue a job, cancel those that it replaces, and a running draft if it is none itself; raises QueueFull."""
        with self.changed:
            if self.closed:
                raise QueueFull(CLOSING)
            self.remove_ended()
            self.jobs.add(job, job.user, self.running is not None, job.draft)
            for other in replaces:
                other.cancel()
            if not job.draft and self.running is not None and self.running.draft:
                self.running.cancel()
            # Jobs of the owner go first and shift the positions of those behind them.
            self._announce_positions()
            self.changed.notify_all()

    def add_query(self, query: ModelQuery) -> None:
        """Queue a model query; raises QueryFailed."""
        with self.changed:
            if self.closed:
                raise QueryFailed(CLOSING)
            if not query.user.owner:
                try:
                    self.jobs.add_query(query)
                except QueueFull as problem:
                    raise QueryFailed(str(problem)) from None
            elif len(self._queries) >= QUERY_LIMIT:
                raise QueryFailed(TOO_MANY_QUERIES)
            else:
                self._queries.append(query)
            self.changed.notify_all()

    def take_query(self, model_id: str, user: User) -> ModelQuery | None:
        """Take out the next query that may interrupt a user's job with this model."""
        with self.changed:
            query = next((query for query in self._queries if query.may_interrupt(model_id, user)), None)
            if query is not None:
                self._queries.remove(query)
                return query
            return None if user.owner else self.jobs.take_query(model_id, user)

    def gives_way(self, query: ModelQuery) -> bool:
        """Whether a guest's query should stop because a task of the owner waits, or the program ends."""
        with self.changed:
            return self.closed or (not query.user.owner and bool(self._queries or self.jobs.owner_waits()))

    def put_back(self, query: ModelQuery) -> None:
        """Queue a query again that has given way."""
        with self.changed:
            if self.closed:
                query.answer.set_exception(QueryFailed(CLOSING))
            else:
                self.jobs.put_back(query)
                self.changed.notify_all()

    def add_warm_up(self, model_id: str) -> None:
        """Have a model loaded when nothing else is to do."""
        with self.changed:
            if model_id not in self._warm_ups:
                self._warm_ups.append(model_id)
                self.changed.notify_all()

    def remove_warm_up(self, model_id: str) -> None:
        """Do not load it after all."""
        with self.changed, suppress(ValueError):
            self._warm_ups.remove(model_id)

    def next(self) -> Job | ModelQuery | str | None:
        """Wait for the next task: a query, a job, or the id of a model to load; None once the queue is closed."""
        with self.changed:
            while True:
                self.remove_ended()
                if self.closed:
                    return None
                if self._queries:
                    return self._queries.popleft()
                if self._warm_ups and not self.jobs.has_task():
                    return self._warm_ups.popleft()
                if (task := self.jobs.next()) is not None:
                    if not isinstance(task, ModelQuery):
                        self.running = task
                        self._announce_positions()
                    return task
                self.changed.wait()

    def job_ended(self, job: Job, seconds: float) -> None:
        """The worker is done with the running job."""
        with self.changed:
            if not job.draft:
                self.jobs.record_duration(seconds)
            self.running = None
            self._announce_positions()

    def job_cancelled(self) -> None:
        """A job was cancelled, running or waiting."""
        with self.changed:
            self.remove_ended()
            self._announce_positions()

    def remove_ended(self) -> None:
        """Take jobs that were cancelled while they waited out of the queue."""
        with self.changed:
            if self.jobs.remove(lambda job: job.done):
                self._announce_positions()

    def active(self) -> int:
        """Number of jobs that run or wait, drafts not counted."""
        with self.changed:
            self.remove_ended()
            jobs = [job for job in (self.running, *self.jobs) if job is not None]
            return sum(not job.done and not job.draft for job in jobs)

    def current(self) -> Job | None:
        """The running job, or the one that is next."""
        with self.changed:
            return self.running or self.jobs.first()

    def alongside(self, job: Job) -> list[Job]:
        """Waiting jobs whose steps may be made between those of the running one (``Backend.submit``'s ``together``).

        None while another user's job waits: it would wait for all of them.
        """
        if not job.together:
            return []
        with self.changed:
            waiting = [other for other in self.jobs if not other.done and not other.draft]
            if any(other.user.id != job.user.id for other in waiting):
                return []
            same = {"sampling": job.request.sampling}
            return [
                other
                for other in waiting
                if other.together == job.together and other.request.model_copy(update=same) == job.request
            ]

    def waits_for(self, model_id: str) -> bool:
        """Whether a waiting job needs this model."""
        with self.changed:
            return any(job.request.model == model_id and not job.done for job in self.jobs)

    def close(self) -> None:
        """Take nothing more; queries that wait fail."""
        with self.changed:
            self.closed = True
            queries = [*self._queries, *self.jobs.queries()]
            self.jobs.clear()
            self._queries.clear()
            self.changed.notify_all()
        for query in queries:
            query.answer.set_exception(QueryFailed(CLOSING))

    def _announce_positions(self) -> None:
        running = self.running is not None and not self.running.done
        for place, job in enumerate(self.jobs):
            event = Queued(place + running)
            # One whose first steps are made already shows them.
            if not job.at[0] and event not in job.poll()[-1:]:
                job.emit(event)
