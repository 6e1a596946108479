"""When was it decided?  The steps that are tried, the other colour, and the sentence."""

from __future__ import annotations

from dataclasses import replace

import pytest
from PIL import Image, ImageDraw

from pipelines.trace.trace import Trace
from tests.support.known_trace import jpeg, make_trace
from ui.inspector.forks.decided import Outcome, other_colour, other_thing, outcome, sentence, steps_to_try
from ui.inspector.forks.tree import DRAWN, drawn, relatives

RED, BLUE = (200, 30, 30), (30, 30, 200)


def test_every_step_is_tried_a_few_over_the_whole_run_first() -> None:
    for total in (1, 4, 8, 9, 25, 50):
        assert sorted(steps_to_try(total)) == list(range(total)) and steps_to_try(total)[0] == 0
    assert steps_to_try(25)[:9] == [0, 3, 7, 10, 14, 17, 21, 24, 1]
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


def test_the_opened_run_and_what_it_came_from_are_drawn_however_many_there_are() -> None:
    parents = {"left": "root", **{str(k): "left" for k in range(60)}}
    found = relatives("59", parents, dict.fromkeys(["root", "left", *map(str, range(60))]))
    chosen = drawn("59", parents, found)
    assert len(found) == 62 and len(chosen) == DRAWN and {"root", "left", "59"} <= {*chosen}
    assert chosen == [run for run in found if run in chosen]
