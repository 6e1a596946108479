"""What a sample's pictures show, and what a prompt wants of it."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from pipelines.training_sample.recipe import Shown, Wanted, held_out
from tests.support.toy_sample import toy_recipe


def test_nothing_is_drawn_that_is_held_out() -> None:
    recipe = toy_recipe(colours={f"colour {k}": (k, k, k) for k in range(20)})
    drawn = [recipe.draw(np.random.default_rng(k)) for k in range(400)]
    pairs = {(recipe.names[shown.thing], shown.colour) for shown in drawn}
    assert len(pairs) > 40
    assert not any(hashlib.sha256(f"{a}|{b}".encode()).digest()[0] % 10 == 0 for a, b in pairs)
    assert {shown.other is None for shown in drawn} == {True, False}


def test_two_things_are_held_out_together_or_for_either_colour() -> None:
    things = [f"thing {k}" for k in range(60)]
    alone = next(thing for thing in things if held_out([thing], "green"))
    free = [thing for thing in things if not held_out([thing], "green")]
    assert held_out([free[0], alone], "green")
    assert held_out([alone]) is False
    assert any(held_out([a, b]) for a in free for b in free if a != b)


@pytest.mark.parametrize(
    ("prompt", "wanted"),
    [
        ("a small fox on a green background", Wanted(("fox",), "green", "", "small")),
        ("A NOTO emoji of two Vixens, sky blue background", Wanted(("fox",), "sky blue", "noto")),
        ("a bus next to an owl on sky blue", Wanted(("bus", "owl"), "sky blue")),
        ("a red apple", Wanted(("red apple",))),
        ("a green foxglove; a buses' owner (((", Wanted(("bus",))),
        ("", Wanted()),
        ("fox " * 5000, Wanted(("fox",))),
    ],
)
def test_a_prompt_is_read(prompt: str, wanted: Wanted) -> None:
    assert toy_recipe().read(prompt) == wanted


def test_captions_are_plain_sentences() -> None:
    recipe = toy_recipe()
    assert recipe.caption(Shown(1, "", "sky blue")) == "an owl on a sky blue background"
    assert recipe.caption(Shown(0, "noto", "green", "small")) == "a noto emoji of a small fox on a green background"
    assert recipe.caption(Shown(0, "", "green", other=1)) == "a fox next to an owl on a green background"
