"""The recipe of a training sample: what its pictures show, how often, and where it stands.  Data, read from a file.

The draws are those of the training itself, number by number, so that a sample is a sample of the training set.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

MAX_PICTURES, MAX_THINGS, MAX_NAMES = 16_000, 2000, 32
# How many of these words a prompt may hold, so that reading one stays quick.
MAX_PROMPT_WORDS = 400


@dataclass(frozen=True)
class Shown:
    """What one picture shows.

    Attributes:
        thing: its place in the recipe's list.
        style: of the artwork; "" for a caption without a word for it, which shows the first style.
        colour: name of the background.
        size: "" for a caption without a word for it.
        other: the place of a second thing, to the right of the first, or None.
    """

    thing: int
    style: str
    colour: str
    size: str = ""
    other: int | None = None


@dataclass(frozen=True)
class Wanted:
    """What a prompt asks for, in the recipe's words; "" or () for what it does not say."""

    things: tuple[str, ...] = ()
    colour: str = ""
    style: str = ""
    size: str = ""


class SampleRecipe(BaseModel):
    """How the pictures of a sample are drawn.

    Attributes:
        seed: picture k is drawn by the generator of (seed, k).
        count: pictures of the sample.
        pixels: of a picture's side.
        tile: pixels of a piece of artwork's side.
        things: each name -> the name with its article.
        synonyms: a name -> other words for it.
        colours: of backgrounds, red, green and blue by name.
        backgrounds: each colour -> "on a green background".
        styles: each style's artwork, the first of which captions without a style word show.
        style_weights, size_weights: how often each is said; "" is not said.
        sides: of the artwork as a share of the picture, for each size; "" is not said.
        size_words: words for each size.
        pairs: share of pictures with two things.
        pair_side: of each of two things, as a share of the picture.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    seed: int = Field(ge=0)
    count: int = Field(ge=1, le=MAX_PICTURES)
    pixels: int = Field(ge=16, le=512)
    tile: int = Field(ge=8, le=256)
    things: dict[str, str] = Field(min_length=2, max_length=MAX_THINGS)
    synonyms: dict[str, tuple[str, ...]] = {}
    colours: dict[str, tuple[int, int, int]] = Field(min_length=1, max_length=MAX_NAMES)
    backgrounds: dict[str, str]
    styles: tuple[str, ...] = Field(min_length=1, max_length=MAX_NAMES)
    style_weights: dict[str, float]
    size_weights: dict[str, float]
    sides: dict[str, tuple[float, float]]
    size_words: dict[str, tuple[str, ...]] = {}
    pairs: float = Field(ge=0, le=1)
    pair_side: tuple[float, float]

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The things in order."""
        return tuple(self.things)

    def draw(self, rng: np.random.Generator) -> Shown:
        """What a training picture shows: any combination that is not held out."""
        colours = list(self.colours)
        while True:
            thing, other = (int(i) for i in rng.integers(len(self.names), size=2))
            colour = colours[int(rng.integers(len(colours)))]
            second = other if rng.random() < self.pairs and other != thing else None
            names = [self.names[i] for i in (thing, second) if i is not None]
            if not held_out(names, colour):
                size = "" if second is not None else _choose(self.size_weights, rng)
                return Shown(thing, _choose(self.style_weights, rng), colour, size, second)

    def caption(self, shown: Shown) -> str:
        """The plain caption: "a noto emoji of a small fox on a green background"."""
        name = self.names[shown.thing]
        words = f"a {shown.size} {name}" if shown.size else self.things[name]
        if shown.other is not None:
            words = f"{words} next to {self.things[self.names[shown.other]]}"
        opening = f"a {shown.style} emoji of " if shown.style else ""
        return f"{opening}{words} {self.backgrounds[shown.colour]}"

    def read(self, prompt: str) -> Wanted:
        """What a prompt names of what the recipe can show."""
        text = _plain(prompt)
        things = tuple(dict.fromkeys(self._phrases[found] for found in self._pattern.findall(text)))
        colours = "|".join(map(re.escape, sorted(self.colours, key=len, reverse=True)))
        said = re.search(rf"\bon (?:an? )?({colours})\b|\b({colours}) background", text)
        return Wanted(
            things[:2],
            next((one for one in said.groups() if one), "") if said else "",
            next((style for style in self.styles if re.search(rf"\b{re.escape(style)}\b", text)), ""),
            next((size for size, words in self.size_words.items() if set(words) & set(text.split())), ""),
        )

    @cached_property
    def _phrases(self) -> Mapping[str, str]:
        """Every name, synonym and plain plural -> the thing."""
        known = {_plain(word): name for name in self.things for word in (name, *self.synonyms.get(name, ()))}
        plurals = {f"{word}{ending}": name for word, name in known.items() for ending in ("s", "es")}
        return plurals | known

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        words = sorted(self._phrases, key=len, reverse=True)
        return re.compile(rf"\b(?:{'|'.join(map(re.escape, words))})\b")


def _plain(text: str) -> str:
    """The words of a text alone, in lower case."""
    return " ".join(re.findall(r"[a-z]+", text.lower())[:MAX_PROMPT_WORDS])


def held_out(names: Sequence[str], colour: str = "") -> bool:
    """Whether training never shows this: one in ten pairs of thing and colour, and one in ten pairs of things.

    Args:
        names: one thing, or two side by side.
        colour: of the background; "" to ask of the things alone.
    """
    pairs = [f"{name}|{colour}" for name in names if colour] + ["+".join(names)] * (len(names) == 2)
    return any(hashlib.sha256(pair.encode()).digest()[0] % 10 == 0 for pair in pairs)


def _choose(weights: Mapping[str, float], rng: np.random.Generator) -> str:
    """One of the keys, each as often as its weight says."""
    return list(weights)[int(rng.choice(len(weights), p=list(weights.values())))]
