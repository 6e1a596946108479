"""When was it decided?  The steps that are tried, the other colour, and the sentence."""

from __future__ import annotations

import pytest

from ui.inspector.forks.decided import Outcome, other_colour, sentence, steps_to_try
from ui.inspector.forks.tree import relatives


def test_the_steps_reach_from_the_first_to_the_last() -> None:
    assert steps_to_try(25) == [0, 3, 7, 10, 14, 17, 21, 24]
    assert steps_to_try(4) == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("prompt", "other"),
    [
        ("a red apple on a blue background", "a blue apple on a blue background"),
        ("Green fox", "orange fox"),
        ("redo", ""),
    ],
)
def test_another_colour_is_offered(prompt: str, other: str) -> None:
    assert other_colour(prompt) == other


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ([1, 0.9, 0.6, 0.1, 0], "between step 2 and step 3"),
        ([1, 0.4, 0.2, 0.1, 0], "After 1 step it was decided"),
        ([1, 1, 1, 1, 0.9], "Even after step 4"),
        ([0.1, 0, 0, 0, 0], "even from the beginning"),
    ],
)
def test_one_sentence_says_when(changed: list[float], said: str) -> None:
    assert said in sentence([Outcome(step, share) for step, share in enumerate(changed)])


def test_relatives_are_found_up_and_down_and_circles_end() -> None:
    parents = {"b": "a", "c": "a", "d": "b", "x": "y"}
    assert relatives("b", parents, dict.fromkeys("abcdx")) == {"a": -1, "b": 0, "c": 0, "d": 1}
    assert relatives("b", parents, dict.fromkeys("bcd")) == {"b": 0, "d": 1}
    assert set(relatives("a", {"a": "b", "b": "a"}, dict.fromkeys("ab"))) == {"a", "b"}
