"""The list of things: names, words for them, and their articles and plurals."""

from __future__ import annotations

import pytest

from pocket.world.colours import BACKGROUNDS
from pocket.world.grammar import article, plural
from pocket.world.renderer import FLYING
from pocket.world.vocabulary import THINGS, Concept, names_of_things


def words() -> dict[str, list[str]]:
    lines = [line for line in THINGS.read_text().splitlines() if line and line[0] != "#"]
    return {
        head.partition(" = ")[0]: found.split(", ") if found else []
        for head, _, found in (line.partition(": ") for line in lines)
    }


def test_every_word_belongs_to_one_thing() -> None:
    names, synonyms = names_of_things(), [word for found in words().values() for word in found]
    assert len(names) == len(set(names)) >= 478
    assert len(synonyms) == len(set(synonyms)) and not set(synonyms) & {*names, *BACKGROUNDS}
    assert set(names) >= FLYING


def test_the_articles_things_are_there() -> None:
    found = words()
    assert {"japanese castle", "shrine", "temple", "astronaut"} <= set(found)
    assert "golden retriever" in found["dog"] and "japanese temple" in found["japanese castle"]


def test_icons_are_found_by_their_labels() -> None:
    assert Concept("fox", "fox face").slug == "fox-face"
    assert Concept("x", "Joker\u2019s T-Rex (old)").slug == "jokers-t-rex-old"


@pytest.mark.parametrize(
    ("name", "expected"),
    [("axe", "an axe"), ("grapes", "grapes"), ("unicorn", "a unicorn"), ("bus", "a bus"), ("glass", "a glass")],
)
def test_article(name: str, expected: str) -> None:
    assert article(name) == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("cat", "cats"),
        ("fox", "foxes"),
        ("strawberry", "strawberries"),
        ("monkey", "monkeys"),
        ("mouse", "mice"),
        ("kitchen knife", "kitchen knives"),
        ("grapes", "grapes"),
        ("octopus", "octopuses"),
        ("glass", "glasses"),
    ],
)
def test_plural(name: str, expected: str) -> None:
    assert plural(name) == expected
