"""The order of waiting jobs, the limits of guests, and the messages about them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from pipelines.jobs.backend import QueueFull
from pipelines.jobs.queue import GUEST_QUERY_LIMIT, HOUR, QUERY_LIMIT, GuestShare, JobQueue, ModelQuery, minutes
from pipelines.jobs.users import OWNER, User

A, B, C = (User(name) for name in "abc")


def job(
    name: str, pictures: int = 1, side: int = 64, steps: int = 10, scheduler: str = "ddim", together: str = ""
) -> Any:
    sampling = SimpleNamespace(num_inference_steps=steps, scheduler=scheduler)
    return SimpleNamespace(
        name=name,
        together=together,
        request=SimpleNamespace(width=side, height=side, num_images=pictures, sampling=sampling),
    )


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def make_queue(limit: int = 10, **share: int) -> JobQueue:
    return JobQueue(limit, GuestShare(**share), Clock())


def names(queue: JobQueue) -> str:
    return "".join(one.name for one in queue)


def take_all(queue: JobQueue) -> str:
    taken = ""
    while (one := queue.next()) is not None:
        taken += one.name
    return taken


def test_guests_take_turns_and_the_owner_goes_first() -> None:
    queue = make_queue()
    for name, user in (("1", A), ("2", A), ("3", A), ("4", B), ("5", C), ("6", B), ("o", OWNER), ("p", OWNER)):
        queue.add(job(name), user)
    assert names(queue) == "op145263"
    assert take_all(queue) == "op145263" and len(queue) == 0


def test_a_guest_whose_job_was_taken_waits_for_the_other_guests() -> None:
    queue = make_queue()
    for name, user in (("1", A), ("2", A), ("3", B)):
        queue.add(job(name), user)
    assert queue.next().name == "1"
    queue.add(job("4"), C)
    queue.add(job("5"), A)
    # b has waited longest, then a's second job, then c, who came after a's turn.
    assert names(queue) == "3245" and take_all(queue) == "3245"


def test_the_owners_late_job_is_next() -> None:
    queue = make_queue(limit=50, waiting=50)
    for k in range(50):
        queue.add(job(str(k % 10)), User(str(k)))
    queue.add(job("o"), OWNER)
    assert queue.first().name == "o" and queue.next().name == "o"


def test_a_guest_has_three_waiting_jobs_and_others_still_get_in() -> None:
    queue = make_queue()
    for _ in range(3):
        queue.add(job("a"), A)
    with pytest.raises(QueueFull, match="3 of your pictures are waiting already"):
        queue.add(job("a"), A)
    queue.add(job("b"), B)
    queue.next()
    queue.add(job("a"), A)


def test_the_lanes_of_a_guests_race_wait_together_and_nothing_more() -> None:
    queue = make_queue(limit=50)
    for _ in range(2):
        queue.add(job("a"), A)
    for _ in range(6):
        queue.add(job("a", together="race"), A)
    for another in (job("a", together="race"), job("a", together="other"), job("a")):
        with pytest.raises(QueueFull, match="8 of your pictures are waiting already") as problem:
            queue.add(another, A)
        assert problem.value.soon
    while len(queue) > 2:
        queue.next()
    queue.add(job("a"), A)


def test_a_full_queue_says_how_long_to_wait_and_still_lets_the_owner_in() -> None:
    queue = make_queue(limit=4)
    for k in range(4):
        queue.add(job("x"), User(str(k)))
    for _ in range(5):
        queue.record_duration(30.0)
    with pytest.raises(QueueFull, match="This computer is busy; try again in about 3 minutes"):
        queue.add(job("y"), User("late"), running=True)
    for _ in range(4):
        queue.add(job("o"), OWNER)
    with pytest.raises(QueueFull, match="4 pictures are waiting already"):
        queue.add(job("o"), OWNER)


@pytest.mark.parametrize("share", [{"pictures": 5}, {"work": 5 * 64 * 64 * 10}])
def test_a_guests_hourly_share_is_used_up_and_renewed(share: dict[str, int]) -> None:
    queue = make_queue(limit=100, waiting=100, **share)
    queue.add(job("a", pictures=4), A)
    with pytest.raises(QueueFull, match="share of this hour; some of it comes back in about 60 minutes"):
        queue.add(job("a", pictures=2), A)
    queue.add(job("a"), A)
    queue.add(job("b", pictures=4), B)
    queue._clock.now = 3000.0
    with pytest.raises(QueueFull, match="in about 10 minutes"):
        queue.add(job("a"), A)
    queue._clock.now = 3601.0
    queue.add(job("a", pictures=4), A)
    for _ in range(50):
        queue.add(job("o", pictures=8), OWNER)


def test_a_sampler_that_calls_the_model_twice_a_step_counts_twice() -> None:
    queue = make_queue(limit=100, waiting=100, work=2 * 64 * 64 * 10)
    with pytest.raises(QueueFull, match="ask for fewer"):
        queue.add(job("a", pictures=2, scheduler="heun"), A)
    queue.add(job("a", scheduler="heun"), A)
    with pytest.raises(QueueFull, match="share of this hour"):
        queue.add(job("a"), A)


def test_very_many_guests_are_not_gone_through_at_each_task() -> None:
    queue = make_queue(limit=100)
    queue._clock.now = 100.0
    queue.add(job("a"), A)
    known = queue._spent
    for _ in range(3):
        queue._clock.now += 1
        queue.add(job("b"), B)
        queue.next()
    assert queue._spent is known and set(known) == {"a", "b"}
    # One that was refused for good leaves nothing that could be stumbled over.
    queue._clock.now += HOUR
    with pytest.raises(QueueFull):
        queue.add(job("a", pictures=1000), A)
    queue._clock.now += 2 * HOUR
    queue.add(job("b"), B)
    assert set(queue._spent) == {"b"}


def test_a_job_beyond_a_whole_share_is_refused_with_advice() -> None:
    with pytest.raises(QueueFull, match="ask for fewer or smaller pictures"):
        make_queue(pictures=2).add(job("a", pictures=3), A)


def test_a_refused_job_costs_nothing_and_idle_guests_are_forgotten() -> None:
    queue = make_queue(limit=1, pictures=2)
    queue.add(job("a"), A)
    with pytest.raises(QueueFull, match="busy"):
        queue.add(job("b"), B)
    assert set(queue._spent) == {"a"}
    queue.next()
    queue._clock.now = 4000.0
    queue.add(job("b"), B)
    assert set(queue._spent) == {"b"}


def test_ended_jobs_leave_the_queue() -> None:
    queue = make_queue()
    for name, user in (("1", A), ("2", B), ("o", OWNER)):
        queue.add(job(name), user)
    assert queue.remove(lambda one: one.name in "1o") and names(queue) == "2"
    assert not queue.remove(lambda one: False)
    queue.clear()
    assert len(queue) == 0 and queue.next() is None and queue.first() is None


def test_waits_are_rounded_up_to_minutes() -> None:
    assert [minutes(s) for s in (0, 60, 61, 119, 3600)] == [
        "about a minute", "about a minute", "about 2 minutes", "about 2 minutes", "about 60 minutes",
    ]  # fmt: skip


def asks(user: User, model: str | None = "toy", work: int = 1) -> ModelQuery:
    return ModelQuery(model, lambda model: None, user, work)


def test_queries_of_guests_take_turns_with_the_jobs_of_all() -> None:
    queue = make_queue()
    queue.add(job("1"), B)
    first = [asks(A) for _ in range(3)]
    for query in first:
        queue.add_query(query)
    queue.add(job("2"), A)
    queue.add(job("o"), OWNER)
    # The owner, then b and a in turn; the queries of a hold up no job of b.
    queue.add(job("3"), B)
    taken = [queue.next() for _ in range(7)]
    assert [getattr(task, "name", "?") for task in taken] == ["o", "1", "?", "3", "?", "?", "2"]
    assert queue.next() is None


def test_a_guest_may_have_few_queries_waiting_and_all_guests_have_a_bound() -> None:
    queue = make_queue()
    for _ in range(GUEST_QUERY_LIMIT):
        queue.add_query(asks(A))
    with pytest.raises(QueueFull, match="Too many requests"):
        queue.add_query(asks(A))
    for k in range(QUERY_LIMIT - GUEST_QUERY_LIMIT):
        queue.add_query(asks(User(str(k))))
    with pytest.raises(QueueFull, match="Too many requests"):
        queue.add_query(asks(B))


def test_queries_count_towards_a_guests_share() -> None:
    queue = make_queue(work=1000, waiting=9)
    queue.add_query(asks(A, work=600))
    with pytest.raises(QueueFull, match="share of this hour"):
        queue.add_query(asks(A, work=401))
    with pytest.raises(QueueFull, match="share of this hour"):
        queue.add(job("a", side=8, steps=7), A)
    queue.add(job("b", side=8, steps=6), A)
    queue.add_query(asks(B, work=1000))
    # Programs of this computer, while nothing is shared.
    queue.add_query(asks(User("local", unmetered=True), work=10**9))
