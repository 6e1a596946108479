"""What is drawn at random, and what never is."""

from __future__ import annotations

import json
from collections import Counter

import numpy as np
import pytest

from pocket.world import samples
from pocket.world.colours import BACKGROUNDS
from pocket.world.samples import Sample, draw_any, draw_sample, held_out_parts, is_held_out
from pocket.world.scenes import SCENES
from pocket.world.vocabulary import Concept, names_of_things
from tests.support.toy_artwork import THINGS

NAMED = [Concept(name, name) for name in names_of_things()]


@pytest.fixture(scope="module")
def drawn() -> list[Sample]:
    rng = np.random.default_rng(0)
    return [draw_any(THINGS, rng) for _ in range(6000)]


def share(found) -> float:
    return float(np.mean(list(found)))


def test_everything_occurs_as_often_as_it_should(drawn: list[Sample]) -> None:
    assert {s.surroundings for s in drawn} == {*BACKGROUNDS, *SCENES} and len(SCENES) >= 16
    assert share(s.plain for s in drawn) == pytest.approx(samples.PLAIN, abs=0.03)
    assert share(s.other is not None for s in drawn) == pytest.approx(samples.PAIRS, abs=0.02)
    counts = Counter(s.count for s in drawn)
    assert counts[2] / 6000 == pytest.approx(samples.TWOS, abs=0.015)
    assert counts[3] / 6000 == pytest.approx(samples.THREES, abs=0.015)
    assert all(s.other != s.thing and s.count == 1 and s.size is None for s in drawn if s.other is not None)
    media = Counter(s.medium for s in drawn)
    assert media["flat"] > 2500 and min(media.values()) > 350


def test_grey_media_and_named_colours_are_not_recoloured(drawn: list[Sample]) -> None:
    coloured = [s for s in drawn if s.colour]
    assert coloured and not {s.medium for s in coloured} & {"pencil", "neon"}
    assert not any(THINGS[s.thing].name == "red apple" for s in coloured)


def test_one_in_ten_is_held_out_and_never_drawn(drawn: list[Sample]) -> None:
    assert 0.08 < share(is_held_out(s, THINGS) for s in drawn) < 0.3
    rng = np.random.default_rng(1)
    trained = [draw_sample(THINGS, rng) for _ in range(3000)]
    assert not any(is_held_out(s, THINGS) for s in trained)


def test_a_held_out_other_thing_counts_too() -> None:
    pairs = ((a, s) for a in range(len(THINGS)) for s in SCENES if samples.held_out(THINGS[a].name, s))
    thing, scene = next(pairs)
    free = next(b for b in range(len(THINGS)) if not samples.held_out(THINGS[b].name, scene))
    found = list(held_out_parts(Sample(free, scene, other=thing, relation="next to"), THINGS))
    assert found == [(THINGS[thing].name, scene)]


def test_the_file_says_what_is_held_out() -> None:
    written = json.loads(samples.HELD_OUT.read_text())
    assert written == samples.list_held_out([thing.name for thing in NAMED])
    for kind, low, high in (("thing x surroundings", 0.09, 0.11), ("thing x colour", 0.08, 0.12)):
        per = len(samples.SURROUNDINGS) if "surroundings" in kind else len(samples.THING_COLOURS)
        total = sum(len(never) for never in written[kind].values())
        assert low < total / (per * len(written[kind])) < high
    never = [medium for media in written["scene x medium"].values() for medium in media]
    assert 4 <= len(never) <= 18 and "flat" not in never


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("japanese castle", {"surroundings": "sunset", "medium": "watercolor"}),
        ("dog", {"surroundings": "space"}),
        ("dragon", {"surroundings": "white", "colour": "purple"}),
    ],
)
def test_the_articles_examples_are_held_out(name: str, values: dict) -> None:
    place = [thing.name for thing in NAMED].index(name)
    assert is_held_out(Sample(place, **values), NAMED)
