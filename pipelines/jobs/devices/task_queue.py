"""What the workers do next: which task, and which worker takes it."""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from pipelines.events import Queued
from pipelines.jobs.backend import QueryFailed, QueueFull
from pipelines.jobs.devices.homes import Homes
from pipelines.jobs.job import Job
from pipelines.jobs.messages import CLOSING, TOO_MANY_QUERIES
from pipelines.jobs.queue import QUERY_LIMIT, GuestShare, JobQueue, ModelQuery
from pipelines.jobs.users import User

if TYPE_CHECKING:
    from pipelines.jobs.devices.batch_parts import BatchPart

# A job whose model is loaded on busy devices alone is passed by at most so many jobs of a model that is loaded on the
# free one, before the free one loads its model, too.
MOST_PASSES = 3


class TaskQueue:
    """What the workers do next: parts of batches, the owner's model queries (they are short) and jobs, those of guests
    in turn, then drafts, then loading models ahead; patient queries once no job waits.  Thread-safe.

    A free worker that has a task's model takes the task before one that would have to load it.

    Args:
        limit, share: see ``JobQueue``.
        loaded: for each worker, the ids of the models that it has in memory.

    Attributes:
        changed: its lock, and notified at each change; the backend guards its own records with it, too.
        homes: what the workers have in memory.
        jobs: that wait.
        parts: of running batches that free workers may make.
        running: the job that each worker runs.
        closed: whether nothing more is taken.
    """

    def __init__(
        self, limit: int, share: GuestShare | None = None, loaded: Sequence[Callable[[], Collection[str]]] = (tuple,)
    ) -> None:
        self.changed = threading.Condition()
        self.jobs = JobQueue(limit, share, workers=len(loaded))
        self.running: dict[int, Job] = {}
        self.closed = False
        self.homes = Homes(loaded)
        self._passes: Counter[str] = Counter()  # id of a waiting job -> jobs that passed it
        self._queries: deque[ModelQuery] = deque()
        self.parts: deque[BatchPart] = deque()
        self._warm_ups: deque[str] = deque()

    # -- adding ------------------------------------------------------------------------------------------------

    def add(self, job: Job, replaces: Sequence[Job] = ()) -> None:
        """Queue a job, cancel those that it replaces, and a running draft that is in its way; raises QueueFull."""
        with self.changed:
            if self.closed:
                raise QueueFull(CLOSING)
            self.remove_ended()
            self.jobs.add(job, job.user, len(self.running), job.draft)
            for other in replaces:
                other.cancel()
            if not job.draft and not self.homes.free:
                for running in [each for each in self.running.values() if each.draft][:1]:
                    running.cancel()
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

    # -- taking ------------------------------------------------------------------------------------------------

    def next(self, worker: int = 0) -> Job | ModelQuery | BatchPart | str | None:
        """Wait for a worker's next task: a query, a part of a batch, a job, or the id of a model to load.

        Returns:
            The task; None once the queue is closed, or the worker has left.
        """
        with self.changed:
            self.homes.free.add(worker)
            try:
                while True:
                    self.remove_ended()
                    if self.closed or worker not in self.homes.loaded:
                        return None
                    if (task := self._take(worker)) is not None:
                        return task
                    self.changed.wait()
            finally:
                self.homes.free.discard(worker)
                # Others have left it the tasks of its models, and may take them now.
                self.changed.notify_all()

    def _take(self, worker: int) -> Job | ModelQuery | BatchPart | str | None:
        for part in self.parts:
            if self.homes.suits(worker, part.request.model):
                self.parts.remove(part)
                return part
        quick = [each for each in self._queries if not each.patient and self._may_answer(worker, each)]
        if (query := _take_first(self._queries, quick)) is not None:
            return query
        if self._warm_ups and next(self.jobs.in_order(), None) is None:
            found = next((model for model in self._warm_ups if self.homes.may_load(worker)), None)
            if found is not None:
                self._warm_ups.remove(found)
                return found
        if (task := self._next_in_turn(worker)) is not None:
            self.jobs.take(task)
            if not isinstance(task, ModelQuery):
                self._passes.pop(task.id, None)
                self.running[worker] = task
                self._announce_positions()
        if task is not None:
            return task
        return _take_first(self._queries, [each for each in self._queries if _trains_here(self.homes, worker, each)])

    def _next_in_turn(self, worker: int) -> Job | ModelQuery | None:
        """The first job or guest's query for this worker; one of a model that it has may pass a few of others."""
        passed: list[Job] = []
        for task in self.jobs.in_order():
            if isinstance(task, ModelQuery):
                if not passed and self._may_answer(worker, task):
                    return task
                continue
            model = task.request.model
            if not self.homes.suits(worker, model):
                continue
            here = self.homes.single or self.homes.has(worker, model)
            if here and (not passed or _same_class(task, passed[0])):
                self._passes.update(other.id for other in passed)
                return task
            if not passed and (self._passes[task.id] >= MOST_PASSES or not self.homes.of(model)):
                return task
            passed.append(task)
        return passed[0] if passed else None

    def _may_answer(self, worker: int, query: ModelQuery) -> bool:
        """Whether a worker answers a query, which a busy one may do between two steps, without loading a model."""
        model = query.model_id
        between = not self.homes.single and model is not None and not self.homes.has(worker, model)
        if between and any(
            job.request.model == model and query.may_interrupt(job.request.model, job.user)
            for job in self.running.values()
        ):
            return False
        return self.homes.suits(worker, model)

    def take_query(self, model_id: str, user: User) -> ModelQuery | None:
        """Take out the next query that may interrupt a user's job with this model."""
        with self.changed:
            query = next((query for query in self._queries if query.may_interrupt(model_id, user)), None)
            if query is not None:
                self._queries.remove(query)
                return query
            return None if user.owner else self.jobs.take_query(model_id, user)

    # -- while it runs and afterwards --------------------------------------------------------------------------

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

    def job_ended(self, job: Job, seconds: float | None) -> None:
        """The worker is done with its job, which took so long; None if it has not run it."""
        with self.changed:
            if not job.draft and seconds is not None:
                self.jobs.record_duration(seconds)
            self.running = {worker: other for worker, other in self.running.items() if other is not job}
            self._announce_positions()

    def leave(self, worker: int, task: Job | ModelQuery | BatchPart | str) -> bool:
        """A worker cannot work and takes nothing more; another one does its task.  False if it is the last one."""
        with self.changed:
            if self.homes.single:
                return False
            del self.homes.loaded[worker]
            if isinstance(task, str):
                self._warm_ups.append(task)
            elif isinstance(task, ModelQuery):
                self._queries.appendleft(task) if task.user.owner else self.jobs.put_back(task)
            elif isinstance(task, Job):  # a part of a batch is made where the batch runs
                self.jobs.put_first(task)
                self.job_ended(task, None)
            self.changed.notify_all()
            return True

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
            return sum(not job.done and not job.draft for job in (*self.running.values(), *self.jobs))

    def current(self, worker: int = 0) -> Job | None:
        """The job that a worker runs, or the one that is next."""
        with self.changed:
            return self.running.get(worker) or self.jobs.first()

    def alongside(self, job: Job) -> list[Job]:
        """Waiting jobs whose steps may be made between those of the running one (``Backend.submit``'s ``together``).

        None while another user's job waits: it would wait for all of them.  None with several workers: each takes one.
        """
        if not job.together or not self.homes.single:
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
            self.parts.clear()
            self.changed.notify_all()
        for query in queries:
            query.answer.set_exception(QueryFailed(CLOSING))

    def _announce_positions(self) -> None:
        """Tell each waiting job how many are before it: with all workers busy, the first waits for one of theirs."""
        running = sum(not job.done for job in self.running.values())
        before = max(0, running - len(self.homes.loaded) + 1)
        for place, job in enumerate(self.jobs):
            event = Queued(place + before)
            # One whose first steps are made already shows them.
            if not job.at[0] and event not in job.poll()[-1:]:
                job.emit(event)


def _same_class(one: Job, other: Job) -> bool:
    """Whether one may pass the other: neither a guest the owner, nor a draft a picture."""
    return one.user.owner == other.user.owner and one.draft == other.draft


def _trains_here(homes: Homes, worker: int, query: ModelQuery) -> bool:
    """Whether a part of a training is for this worker: it cannot go on with the model of another device."""
    with_model = homes.of(query.model_id) if query.model_id is not None else []
    return query.patient and homes.suits(worker, query.model_id) and worker in (with_model or [worker])[:1]


def _take_first(queries: deque[ModelQuery], found: Sequence[ModelQuery]) -> ModelQuery | None:
    """Take out the first of those that were found."""
    if not found:
        return None
    queries.remove(found[0])
    return found[0]
