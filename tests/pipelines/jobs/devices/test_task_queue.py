"""Which task is next, and which of several workers takes it."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from pipelines.events import Queued
from pipelines.jobs.backend import QueryFailed
from pipelines.jobs.devices.task_queue import MOST_PASSES, TaskQueue
from pipelines.jobs.job import Job
from pipelines.jobs.queue import ModelQuery
from pipelines.jobs.users import OWNER, User
from tests.support.toy_backend import ask
from tests.support.waiting import wait_for

A, B = User("a"), User("b")


def asks(user: User, model: str | None = "toy") -> ModelQuery:
    return ModelQuery(model, lambda model: None, user, 1)


def add(tasks: TaskQueue, model: str = "toy", user: User = OWNER, **more: Any) -> Job:
    tasks.add(found := Job(ask(model=model), user=user, **more))
    return found


class Workers:
    """Workers of a queue that only take tasks; each waits in a thread of its own until it has one."""

    def __init__(self, *loaded: set[str]) -> None:
        self.tasks = TaskQueue(50, loaded=[lambda models=models: models for models in loaded])
        self.taken: dict[int, Any] = {}

    def wait(self, *workers: int) -> None:
        """Let these workers wait for a task, in this order."""
        for worker in workers:
            threading.Thread(target=self._take, args=(worker,), daemon=True).start()
            wait_for(lambda worker=worker: worker in self.tasks.homes.free or worker in self.taken)

    def _take(self, worker: int) -> None:
        task = self.tasks.next(worker)
        with self.tasks.changed:
            self.taken[worker] = task

    def who(self, task: Any) -> int:
        """The worker that has taken a task."""
        wait_for(lambda: task in self.taken.values())
        return next(worker for worker, taken in self.taken.items() if taken is task)


def test_a_patient_query_waits_for_every_job_and_other_query() -> None:
    tasks = TaskQueue(50)
    training = ModelQuery("toy", lambda model: None, patient=True)
    tasks.add_query(training)
    tasks.add_query(short := asks(OWNER))
    job, guests = add(tasks), add(tasks, user=A)
    taken = []
    for _ in range(4):
        taken.append(task := tasks.next())
        if isinstance(task, Job):
            tasks.job_ended(task, None)
    assert taken == [short, job, guests, training]


def test_parts_of_a_training_stay_on_one_device() -> None:
    workers = Workers({"toy"}, {"toy"})
    workers.tasks.add_query(training := ModelQuery("toy", lambda model: None, patient=True))
    workers.wait(1, 0)
    assert workers.who(training) == 0 and 1 in workers.tasks.homes.free


@pytest.mark.parametrize(
    ("runs", "asking", "answered"),
    [(OWNER, OWNER, True), (OWNER, A, False), (A, OWNER, True), (A, A, True), (A, B, False),
     (OWNER, User("local", unmetered=True), False)],
)  # fmt: skip
def test_a_guests_query_never_interrupts_the_run_of_another(runs: User, asking: User, answered: bool) -> None:
    tasks = TaskQueue(10)
    query = asks(asking)
    tasks.add_query(asks(asking, "other"))
    tasks.add_query(query)
    assert (tasks.take_query("toy", runs) is query) == answered
    assert tasks.take_query("toy", runs) is None


def test_the_owners_queries_and_jobs_go_before_those_of_guests() -> None:
    tasks = TaskQueue(10)
    tasks.add_query(asks(A))
    queued = add(tasks)
    own = asks(OWNER)
    tasks.add_query(own)
    assert tasks.next() is own and tasks.next() is queued
    tasks.job_ended(queued, 1.0)
    guests: Any = tasks.next()
    assert guests.user is A
    waiting = asks(B)
    tasks.add_query(waiting)
    tasks.close()
    with pytest.raises(QueryFailed, match="shutting down"):
        waiting.answer.result(0)


def test_lanes_run_together_until_another_user_waits() -> None:
    tasks = TaskQueue(10)

    def add(seed: int, user: User = OWNER, **more: Any) -> Job:
        request = ask(seed=seed, **({"prompt": more.pop("prompt")} if "prompt" in more else {}))
        tasks.add(found := Job(request, user=user, **more))
        return found

    running = add(1, A, together="race")
    assert tasks.next() is running
    lanes = [add(2, A, together="race"), add(3, A, together="race")]
    add(4, A, together="race", prompt="an owl")  # another prompt needs other embeddings
    tasks.add(alone := Job(ask(seed=5), user=User("a", unmetered=True)))
    assert tasks.alongside(running) == lanes
    assert tasks.alongside(alone) == []
    other = add(6, B)
    assert tasks.alongside(running) == []
    other.cancel()
    tasks.remove_ended()
    lanes[0].cancel()
    assert tasks.alongside(running) == lanes[1:]


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_a_free_worker_that_has_the_model_takes_the_job(order: tuple[int, int]) -> None:
    workers = Workers({"other"}, {"toy"})
    workers.wait(*order)
    assert workers.who(add(workers.tasks)) == 1


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_a_model_that_is_nowhere_goes_to_the_emptiest_free_worker(order: tuple[int, int]) -> None:
    workers = Workers({"other"}, set())
    workers.wait(*order)
    assert workers.who(add(workers.tasks)) == 1


def test_a_model_whose_home_is_busy_gets_a_second_home() -> None:
    workers = Workers({"toy"}, set())
    workers.wait(0)
    assert workers.who(add(workers.tasks)) == 0
    workers.wait(1)
    assert workers.who(add(workers.tasks)) == 1


def test_a_few_jobs_of_a_workers_own_model_pass_one_whose_home_is_busy() -> None:
    workers = Workers({"toy"}, {"other"})
    workers.wait(0)
    workers.who(add(workers.tasks))
    first, own = add(workers.tasks), [add(workers.tasks, "other") for _ in range(MOST_PASSES + 1)]
    order = []
    for _ in range(MOST_PASSES + 2):
        order.append(job := workers.tasks.next(1))
        workers.tasks.job_ended(job, 1.0)  # type: ignore[arg-type]
    assert order == [*own[:MOST_PASSES], first, own[-1]]


def test_no_guest_passes_the_owner_and_no_draft_a_picture() -> None:
    workers = Workers({"toy"}, {"other"})
    workers.wait(0)
    workers.who(add(workers.tasks))
    draft, guests = add(workers.tasks, "other", draft=True), add(workers.tasks, "other", A)
    owners = add(workers.tasks)
    assert [workers.tasks.next(1) for _ in range(3)] == [owners, guests, draft]


def test_guests_take_turns_on_all_workers() -> None:
    workers = Workers({"toy"}, {"toy"})
    jobs = [add(workers.tasks, user=user) for user in (A, A, A, B)]
    workers.wait(0, 1)
    assert {workers.who(jobs[0]), workers.who(jobs[3])} == {0, 1}


def test_the_first_that_waits_is_next_while_a_worker_is_free() -> None:
    workers = Workers({"toy"}, {"toy"}, {"toy"})
    jobs = [add(workers.tasks) for _ in range(5)]
    assert [workers.tasks.next(k) for k in range(2)] == jobs[:2]
    assert jobs[2].poll() == [Queued(2), Queued(1), Queued(0)]
    assert workers.tasks.next(2) is jobs[2] and workers.tasks.active() == 5
    assert [job.poll()[-1] for job in jobs[3:]] == [Queued(1), Queued(2)]


def test_a_draft_is_cancelled_only_where_no_worker_is_free() -> None:
    workers = Workers({"toy"}, {"toy"})
    draft = add(workers.tasks, draft=True)
    assert workers.tasks.next(0) is draft
    workers.wait(1)
    picture = add(workers.tasks)
    assert workers.who(picture) == 1 and not draft.cancelled
    add(workers.tasks)
    assert draft.cancelled


def test_a_query_waits_for_the_worker_that_runs_its_model_and_needs_no_second_copy() -> None:
    workers = Workers({"toy"}, {"other"})
    running = add(workers.tasks)
    assert workers.tasks.next(0) is running
    workers.wait(1)
    query, elsewhere = asks(OWNER), asks(OWNER, "other")
    workers.tasks.add_query(query)
    workers.tasks.add_query(elsewhere)
    assert workers.who(elsewhere) == 1
    assert workers.tasks.take_query("toy", OWNER) is query


def test_the_task_of_a_worker_that_cannot_work_is_done_by_another() -> None:
    workers = Workers({"toy"}, set())
    jobs = [add(workers.tasks, user=A), add(workers.tasks, user=A)]
    assert workers.tasks.next(0) is jobs[0]
    assert workers.tasks.leave(0, jobs[0])
    assert workers.tasks.running == {} and workers.tasks.next(0) is None
    assert [workers.tasks.next(1) for _ in range(2)] == jobs
    assert not workers.tasks.leave(1, jobs[1]), "the last one goes on and says of each job what is wrong"


def test_a_closed_queue_lets_every_worker_go() -> None:
    workers = Workers({"toy"}, {"toy"})
    workers.wait(0, 1)
    workers.tasks.close()
    wait_for(lambda: workers.taken == {0: None, 1: None})
