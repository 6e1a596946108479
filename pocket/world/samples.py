"""What one picture shows, drawn at random from the world; one in ten combinations is never trained on.

python -m pocket.world.samples        writes these combinations to ``held_out.json``
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pocket.world.artwork import STYLES
from pocket.world.colours import BACKGROUNDS, THING_COLOURS, can_be_recoloured
from pocket.world.media import MEDIA
from pocket.world.scenes import SCENES
from pocket.world.vocabulary import Concept, names_of_things

HELD_OUT = Path(__file__).parent / "held_out.json"
# The examples of the article are held out too.
ALWAYS_HELD_OUT = {("japanese castle", "sunset"), ("dog", "space"), ("dragon", "purple")}

SURROUNDINGS = (*BACKGROUNDS, *SCENES)
RELATIONS = ("next to", "above", "below", "in front of", "behind")
FIRST_STYLE = next(iter(STYLES))

STYLE_WEIGHTS = {"fluent": 0.76, "noto": 0.12, "twemoji": 0.12}
MEDIUM_WEIGHTS = {"flat": 0.52} | dict.fromkeys((name for name in MEDIA if name != "flat"), 0.08)
PLAIN, COLOURED = 0.3, 0.25
# Several things: two different ones, or two or three of a kind.  The others may be small or large.
PAIRS, TWOS, THREES = 0.14, 0.06, 0.05
SIZE_WEIGHTS = {None: 0.8, "small": 0.1, "large": 0.1}
RELATION_WEIGHTS = {"next to": 0.5, "above": 0.13, "below": 0.12, "in front of": 0.13, "behind": 0.12}


@dataclass(frozen=True)
class Sample:
    """What one picture shows.

    Attributes:
        thing: its place in the list of things.
        surroundings: a plain background's colour or a scene.
        seed: with which the picture is drawn.
        style: of the artwork.
        medium: a key of ``MEDIA``.
        colour: what the thing is recoloured to.
        size: "small" or "large".
        count: how many of the thing there are.
        other: another thing, which stands as ``relation`` says: the first is next to, above, ... this one.
    """

    thing: int
    surroundings: str
    seed: int = 0
    style: str = FIRST_STYLE
    medium: str = "flat"
    colour: str | None = None
    size: str | None = None
    count: int = 1
    other: int | None = None
    relation: str | None = None

    @property
    def plain(self) -> bool:
        """Whether it is on a plain background."""
        return self.surroundings in BACKGROUNDS


def choose(weights: Mapping[str | None, float], rng: np.random.Generator) -> str | None:
    """One of the keys, each as often as its weight says."""
    names, shares = list(weights), np.array(list(weights.values()))
    return names[int(rng.choice(len(names), p=shares / shares.sum()))]


def draw_sample(things: list[Concept], rng: np.random.Generator) -> Sample:
    """A sample that is not held out."""
    while True:
        sample = draw_any(things, rng)
        if not is_held_out(sample, things):
            return sample


def draw_any(things: list[Concept], rng: np.random.Generator) -> Sample:
    """A sample of any combination."""
    first, second = (int(i) for i in rng.choice(len(things), 2, replace=False))
    names = list(BACKGROUNDS if rng.random() < PLAIN else SCENES)
    kind = rng.random()
    pair = kind < PAIRS
    count = 1 if pair or kind > PAIRS + TWOS + THREES else 2 if kind < PAIRS + TWOS else 3
    medium = choose(MEDIUM_WEIGHTS, rng)
    colour = None
    if MEDIA[medium].coloured and rng.random() < COLOURED and can_be_recoloured(things[first].name):
        colour = list(THING_COLOURS)[int(rng.integers(len(THING_COLOURS)))]
    where, seed = names[int(rng.integers(len(names)))], int(rng.integers(2**31))
    return Sample(
        first,
        where,
        seed,
        choose(STYLE_WEIGHTS, rng),
        medium,
        colour,
        choose(SIZE_WEIGHTS, rng) if count == 1 and not pair else None,
        count,
        second if pair else None,
        choose(RELATION_WEIGHTS, rng) if pair else None,
    )


def is_held_out(sample: Sample, things: list[Concept]) -> bool:
    """Whether the sample shows a combination that is never trained on."""
    return next(held_out_parts(sample, things), None) is not None


def held_out_parts(sample: Sample, things: list[Concept]) -> Iterator[tuple[str, str]]:
    """The held-out combinations in a sample: thing x surroundings, thing x colour, scene x medium."""
    name = things[sample.thing].name
    named = [(name, sample.surroundings)]
    if sample.other is not None:
        named.append((things[sample.other].name, sample.surroundings))
    if sample.colour is not None:
        named.append((name, sample.colour + " thing"))
    if not sample.plain and sample.medium != "flat":
        named.append((sample.surroundings, sample.medium))
    yield from (pair for pair in named if held_out(*pair))


def held_out(one: str, two: str) -> bool:
    """Whether two names are never shown together: one in ten, decided by a hash of them."""
    if (one, two.removesuffix(" thing")) in ALWAYS_HELD_OUT:
        return True
    return hashlib.sha256(f"{one}|{two}".encode()).digest()[0] % 10 == 0


def list_held_out(names: list[str]) -> dict[str, dict[str, list[str]]]:
    """All held-out combinations of things of these names, as ``held_out.json`` has them."""
    free = [name for name in names if can_be_recoloured(name)]
    media = [name for name in MEDIA if name != "flat"]
    return {
        "thing x surroundings": {name: [s for s in SURROUNDINGS if held_out(name, s)] for name in names},
        "thing x colour": {name: [c for c in THING_COLOURS if held_out(name, c + " thing")] for name in free},
        "scene x medium": {scene: [m for m in media if held_out(scene, m)] for scene in SCENES},
    }


def write_held_out(names: list[str]) -> None:
    """Write ``held_out.json``."""
    lines = []
    for kind, found in list_held_out(names).items():
        entries = ",\n".join(f"  {json.dumps(name)}: {json.dumps(never)}" for name, never in found.items())
        lines.append(f" {json.dumps(kind)}: {{\n{entries}\n }}")
    HELD_OUT.write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    write_held_out(names_of_things())
