"""Who waits for the worker, and in which order."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from pipelines.line import Line, QueueFull, Share, minutes
from pipelines.visitors import OWNER, Visitor

A, B, C = (Visitor(name) for name in "abc")


def job(name: str, pictures: int = 1, side: int = 64, steps: int = 10) -> Any:
    sampling = SimpleNamespace(num_inference_steps=steps)
    return SimpleNamespace(
        name=name, request=SimpleNamespace(width=side, height=side, num_images=pictures, sampling=sampling)
    )


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def line(limit: int = 10, **share: int) -> Line:
    return Line(limit, Share(**share), Clock())


def names(found: Line) -> str:
    return "".join(one.name for one in found)


def served(found: Line) -> str:
    taken = ""
    while (one := found.next()) is not None:
        taken += one.name
    return taken


def test_guests_take_turns_and_the_owner_goes_first() -> None:
    found = line()
    for name, visitor in (("1", A), ("2", A), ("3", A), ("4", B), ("5", C), ("6", B), ("o", OWNER), ("p", OWNER)):
        found.add(job(name), visitor)
    assert names(found) == "op145263"
    assert served(found) == "op145263" and len(found) == 0


def test_whoever_was_served_waits_for_all_others() -> None:
    found = line()
    for name, visitor in (("1", A), ("2", A), ("3", B)):
        found.add(job(name), visitor)
    assert found.next().name == "1"
    found.add(job("4"), C)
    found.add(job("5"), A)
    # b has waited longest, then a's second, then c who came later than a's turn was over.
    assert names(found) == "3245" and served(found) == "3245"


def test_an_owner_who_comes_late_is_next() -> None:
    found = line(limit=50, waiting=50)
    for k in range(50):
        found.add(job(str(k % 10)), Visitor(str(k)))
    found.add(job("o"), OWNER)
    assert found.first().name == "o" and found.next().name == "o"


def test_a_guest_has_three_waiting_and_others_are_not_kept_out_by_that() -> None:
    found = line()
    for _ in range(3):
        found.add(job("a"), A)
    with pytest.raises(QueueFull, match="3 of your pictures are waiting already"):
        found.add(job("a"), A)
    found.add(job("b"), B)
    found.next()
    found.add(job("a"), A)


def test_a_full_line_says_how_long_it_takes_and_still_lets_the_owner_in() -> None:
    found = line(limit=4)
    for k in range(4):
        found.add(job("x"), Visitor(str(k)))
    for _ in range(5):
        found.took(30.0)
    with pytest.raises(QueueFull, match="This computer is busy; try again in about 3 minutes"):
        found.add(job("y"), Visitor("late"), running=True)
    for _ in range(4):
        found.add(job("o"), OWNER)
    with pytest.raises(QueueFull, match="4 pictures are waiting already"):
        found.add(job("o"), OWNER)


@pytest.mark.parametrize("share", [{"pictures": 5}, {"work": 5 * 64 * 64 * 10}])
def test_a_guests_hour_is_shared_out_and_comes_back(share: dict[str, int]) -> None:
    found = line(limit=100, waiting=100, **share)
    found.add(job("a", pictures=4), A)
    with pytest.raises(QueueFull, match="share of this hour; some of it comes back in about 60 minutes"):
        found.add(job("a", pictures=2), A)
    found.add(job("a"), A)
    found.add(job("b", pictures=4), B)
    found._clock.now = 3000.0
    with pytest.raises(QueueFull, match="in about 10 minutes"):
        found.add(job("a"), A)
    found._clock.now = 3601.0
    found.add(job("a", pictures=4), A)
    for _ in range(50):
        found.add(job("o", pictures=8), OWNER)


def test_what_is_more_than_a_whole_share_says_what_to_do() -> None:
    with pytest.raises(QueueFull, match="ask for fewer or smaller pictures"):
        line(pictures=2).add(job("a", pictures=3), A)


def test_a_refused_job_costs_nothing_and_guests_who_left_are_forgotten() -> None:
    found = line(limit=1, pictures=2)
    found.add(job("a"), A)
    with pytest.raises(QueueFull, match="busy"):
        found.add(job("b"), B)
    assert set(found._spent) == {"a"}
    found.next()
    found._clock.now = 4000.0
    found.add(job("b"), B)
    assert set(found._spent) == {"b"}


def test_what_is_over_leaves_the_line() -> None:
    found = line()
    for name, visitor in (("1", A), ("2", B), ("o", OWNER)):
        found.add(job(name), visitor)
    assert found.drop(lambda one: one.name in "1o") and names(found) == "2"
    assert not found.drop(lambda one: False)
    found.clear()
    assert len(found) == 0 and found.next() is None and found.first() is None


def test_minutes_are_told_as_people_do() -> None:
    assert [minutes(s) for s in (0, 60, 61, 119, 3600)] == [
        "about a minute", "about a minute", "about 2 minutes", "about 2 minutes", "about 60 minutes",
    ]  # fmt: skip
