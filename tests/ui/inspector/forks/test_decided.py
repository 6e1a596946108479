"""When was it decided?  The steps that are tried, the other colour, and the sentence."""

from __future__ import annotations

from dataclasses import replace

import pytest
from PIL import Image, ImageDraw

from pipelines.trace.trace import Trace
from tests.support.known_trace import jpeg, make_trace
from ui.inspector.forks.decided import Outcome, other_colour, other_thing, outcome, sentence, steps_to_try
from ui.inspector.forks.tree import relatives

RED, BLUE = (200, 30, 30), (30, 30, 200)


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


def test_another_thing_is_offered_too() -> None:
    assert other_thing("a red Fox on a hill") == "a red owl on a hill" and other_thing("a red hill") == ""


def test_every_step_is_tried_where_that_is_asked_for() -> None:
    assert steps_to_try(25, every=True) == list(range(25))


def test_colours_and_outlines_have_their_own_time() -> None:
    red, blue, square = (with_picture(*each) for each in ((RED, 12), (BLUE, 12), (BLUE, 13)))
    turned = outcome(2, blue, red, square, 0)
    # Its colour is the other's, its outline the original's.
    assert turned.colours is not None and turned.outlines is not None
    assert turned.colours > 0.5 > turned.outlines
    assert outcome(2, red, red, blue, 0).colours == 0 and outcome(1, blue, red, blue, 0).colours == 1
    assert outcome(2, red, red, red, 0).outlines is None
    said = sentence([Outcome(0, 1, 1, 1), Outcome(1, 1, 0.8, 0.2), Outcome(2, 0.2, 0.1, 0.1)])
    assert "colours until after 1 step, outlines only before the first step" in said


def with_picture(ink: tuple[int, int, int], side: int) -> Trace:
    """A run whose finished picture is a square."""
    image = Image.new("RGB", (32, 32), "white")
    ImageDraw.Draw(image).rectangle((4, 4, 4 + side, 4 + side), fill=ink)
    return replace(make_trace(), finals=(jpeg(image),))


def test_relatives_are_found_up_and_down_and_circles_end() -> None:
    parents = {"b": "a", "c": "a", "d": "b", "x": "y"}
    assert relatives("b", parents, dict.fromkeys("abcdx")) == {"a": -1, "b": 0, "c": 0, "d": 1}
    assert relatives("b", parents, dict.fromkeys("bcd")) == {"b": 0, "d": 1}
    assert set(relatives("a", {"a": "b", "b": "a"}, dict.fromkeys("ab"))) == {"a", "b"}
