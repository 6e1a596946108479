"""Pictures and captions of things on named background colours, as the released weights were trained on.

The artwork is composed anew for every sample (``compose``).  One in ten (concept, colour) pairs never appears in
training, nor one in ten pairs of two concepts (``is_held_out``), so that the evaluation asks for combinations that the
model has not seen.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from pocket.world.artwork import STYLES, fetch, load_artwork
from pocket.world.colours import BACKGROUNDS as COLOURS
from pocket.world.grammar import article, plural
from pocket.world.vocabulary import Concept, load_concepts

SIZE = 128

STYLE_WEIGHTS = {None: 0.5, "fluent": 0.1, "noto": 0.2, "twemoji": 0.2}

# The side of the artwork as a share of the canvas; None is a caption without a size word.
SIDES = {None: (0.66, 0.86), "small": (0.32, 0.44), "large": (0.92, 1.0)}
SIZE_WORDS = {"small": ["small", "tiny", "little"], "large": ["large", "big", "huge"]}
SIZE_WEIGHTS = {None: 0.88, "small": 0.06, "large": 0.06}
PAIR_SIDE = (0.41, 0.48)
PAIRS = 0.12


@dataclass(frozen=True)
class PlainSample:
    """What one training picture shows; with ``other``, that concept stands to the right of the first."""

    concept: int
    style: str | None
    colour: str
    size: str | None = None
    other: int | None = None


def compose(
    art: Image.Image,
    colour: str,
    rng: np.random.Generator,
    size: int = SIZE,
    word: str | None = None,
    other: Image.Image | None = None,
) -> np.ndarray:
    """Put the artwork on a background: uint8 array (size, size, 3) with random scale, shift and flip.

    ``word`` is a key of ``SIDES``; ``other`` is a second artwork, which stands to the right of the first.
    """
    pixels = np.empty((size, size, 3), np.float32)
    pixels[:] = COLOURS[colour]
    if other is None:
        _paste(pixels, art, SIDES[word], 0, size, rng)
    else:
        _paste(pixels, art, PAIR_SIDE, 0, size // 2, rng)
        _paste(pixels, other, PAIR_SIDE, size // 2, size - size // 2, rng)
    return pixels.clip(0, 255).astype(np.uint8)


def _paste(pixels: np.ndarray, art: Image.Image, sides: tuple[float, float], left: int, width: int, rng) -> None:
    """Draw the artwork into the columns from ``left`` on, near the middle of that room."""
    height = len(pixels)
    side = int(height * rng.uniform(*sides))
    if rng.random() < 0.3:
        art = art.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    art = art.resize((side, side), Image.Resampling.BICUBIC, reducing_gap=2.0)
    x = left + int((width - side) * (0.5 + rng.uniform(-0.3, 0.3)))
    y = int((height - side) * (0.5 + rng.uniform(-0.3, 0.3)))
    layer = np.asarray(art, np.float32)
    pixels[y : y + side, x : x + side] *= 1 - layer[..., 3:] / 255
    pixels[y : y + side, x : x + side] += layer[..., :3]


class Pictures:
    """An endless source of composed pictures.

    Args:
        seed: of its random numbers.
        load: reads the concepts; those of the released weights if nothing else is said.
    """

    def __init__(self, seed: int, load: Callable[[Path], list[Concept]] = load_concepts) -> None:
        modules = fetch()
        self.concepts = load(modules)
        self.artwork = load_artwork(modules, self.concepts)
        self.rng = np.random.default_rng(seed)

    def draw(self) -> tuple[PlainSample, np.ndarray]:
        """One sample and its picture: uint8 array (128, 128, 3)."""
        sample = draw_sample(self.concepts, self.rng)
        art = self.artwork[sample.style or next(iter(STYLES))]
        other = None if sample.other is None else art[sample.other]
        return sample, compose(art[sample.concept], sample.colour, self.rng, word=sample.size, other=other)


def is_held_out(concept: Concept, colour: str, other: Concept | None = None) -> bool:
    """Whether this is kept out of training: one in ten, decided by a hash of the names.

    Of two concepts, the pair of them is held out as well as each with the colour.
    """
    if other is not None and (is_held_out(other, colour) or _one_in_ten(f"{concept.name}+{other.name}")):
        return True
    return _one_in_ten(f"{concept.name}|{colour}")


def _one_in_ten(name: str) -> bool:
    return hashlib.sha256(name.encode()).digest()[0] % 10 == 0


def held_out_pairs(concepts: list[Concept]) -> list[tuple[int, str]]:
    """Every held-out (concept index, colour), in a fixed random order."""
    pairs = [(i, c) for i, concept in enumerate(concepts) for c in COLOURS if is_held_out(concept, c)]
    order = np.random.default_rng(0).permutation(len(pairs))
    return [pairs[i] for i in order]


def held_out_twos(concepts: list[Concept], count: int) -> list[PlainSample]:
    """Pictures of two concepts, each pair held out; ``count`` of them, always the same."""
    rng, chosen = np.random.default_rng(2), []
    while len(chosen) < count:
        one, two = (int(i) for i in rng.integers(len(concepts), size=2))
        colour = list(COLOURS)[int(rng.integers(len(COLOURS)))]
        if one != two and is_held_out(concepts[one], colour, concepts[two]):
            chosen.append(PlainSample(one, None, colour, other=two))
    return chosen


def draw_sample(concepts: list[Concept], rng: np.random.Generator) -> PlainSample:
    """A training sample that is not held out; style-free captions are the most frequent."""
    colours = list(COLOURS)
    while True:
        index, other = (int(i) for i in rng.integers(len(concepts), size=2))
        colour = colours[int(rng.integers(len(colours)))]
        second = other if rng.random() < PAIRS and other != index else None
        if not is_held_out(concepts[index], colour, None if second is None else concepts[second]):
            size = None if second is not None else choose(SIZE_WEIGHTS, rng)
            return PlainSample(index, choose(STYLE_WEIGHTS, rng), colour, size, second)


def choose(weights: dict[str | None, float], rng: np.random.Generator) -> str | None:
    """One of the keys, each as often as its weight says."""
    return list(weights)[int(rng.choice(len(weights), p=list(weights.values())))]


def caption(
    concept: Concept,
    style: str | None,
    colour: str,
    rng: np.random.Generator | None = None,
    *,
    size: str | None = None,
    other: Concept | None = None,
) -> str:
    """A caption for the sample; without ``rng`` the plain form that the evaluation uses.

    With ``rng``, one in five uses another word for the concept, one in twelve a plural and one in four is a short
    form of the sentence.
    """
    if rng is None:
        thing = article(f"{size} {concept.name}" if size else concept.name)
        if other is not None:
            thing = f"{thing} next to {article(other.name)}"
        thing = f"a {style} emoji of {thing}" if style else thing
        return f"{thing} on a{'n' if colour[0] in 'aeiou' else ''} {colour} background"
    thing = _noun(concept, size, rng)
    if other is not None:
        thing = f"{thing} {rng.choice(['next to', 'and', 'beside'], p=[0.6, 0.25, 0.15])} {_noun(other, None, rng)}"
    if style:
        thing = rng.choice([f"a {style} emoji of {thing}", f"{thing}, {style} style", f"{thing} in {style} style"])
    elif rng.random() < 0.15:
        thing = f"an emoji of {thing}"
    an = "an" if colour[0] in "aeiou" else "a"
    endings = [f"on {an} {colour} background", f"on {colour}", f"{colour} background"]
    return f"{thing} {rng.choice(endings, p=[0.75, 0.15, 0.1])}"


def _noun(concept: Concept, size: str | None, rng: np.random.Generator) -> str:
    """The concept in words: its name or another word for it, mostly with the article, sometimes the plural."""
    name, draw = concept.name, rng.random()
    if concept.synonyms and draw < 0.14:
        name = str(rng.choice(concept.synonyms))
    elif concept.tags and draw > 0.94:
        name = str(rng.choice(concept.tags))
    many = rng.random() < 0.08
    name = plural(name) if many else name
    if size:
        name = f"{rng.choice(SIZE_WORDS[size], p=[0.6, 0.2, 0.2])} {name}"
    return name if many or rng.random() < 0.25 else article(name)
