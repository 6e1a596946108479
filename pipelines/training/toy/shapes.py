"""What the tiny model learns: sets of dots in the plane."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

# Dots of a data set.
DOTS = 800
# A letter is drawn this many pixels high before its ink becomes dots.
INK = 96
# The width of a line that the user draws, in the plane's units.
PEN = 0.04


@dataclass(frozen=True)
class ShapeSpec:
    """A data set.

    Attributes:
        label: name on the page.
        make: draws n dots, (n, 2), and the class of each, (n,), from 1; all 1 where there is a single class.
        classes: names of the classes, empty for a single class.
    """

    label: str
    make: Callable[[np.random.Generator, int, str], tuple[np.ndarray, np.ndarray]]
    classes: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Dots:
    """A data set with mean 0 and variance 1.

    Attributes:
        points: float32 (n, 2).
        labels: the class of each dot from 1, (n,).
        classes: names of the classes, empty for a single class.
    """

    points: np.ndarray
    labels: np.ndarray
    classes: tuple[str, ...] = ()

    def of(self, label: int) -> np.ndarray:
        """The dots of a class, or all for 0."""
        return self.points[self.labels == label] if label else self.points


def _moons(rng: np.random.Generator, n: int, _: str) -> tuple[np.ndarray, np.ndarray]:
    angle, lower = rng.uniform(0, np.pi, n), rng.random(n) < 0.5
    x = np.where(lower, 1 - np.cos(angle), np.cos(angle))
    y = np.where(lower, 0.5 - np.sin(angle), np.sin(angle))
    return np.stack([x, y], 1) + rng.normal(0, 0.06, (n, 2)), np.where(lower, 2, 1)


def _spiral(rng: np.random.Generator, n: int, _: str) -> tuple[np.ndarray, np.ndarray]:
    # The square root spreads the dots evenly along the line.
    angle = 3.5 * np.pi * np.sqrt(rng.uniform(0.03, 1, n))
    line = np.stack([angle * np.cos(angle), angle * np.sin(angle)], 1) / 5
    return line + rng.normal(0, 0.04, (n, 2)), np.ones(n, int)


def _two_clouds(rng: np.random.Generator, n: int, _: str) -> tuple[np.ndarray, np.ndarray]:
    right = rng.random(n) < 0.5
    return rng.normal(0, 0.55, (n, 2)) + np.where(right, 0.75, -0.75)[:, None] * [1, 0.4], np.where(right, 2, 1)


def _letter(rng: np.random.Generator, n: int, letter: str) -> tuple[np.ndarray, np.ndarray]:
    from PIL import Image, ImageDraw, ImageFont

    sheet = Image.new("L", (2 * INK, 2 * INK))
    ImageDraw.Draw(sheet).text((INK // 2, INK // 2), letter, fill=255, font=ImageFont.load_default(INK))
    rows, columns = np.nonzero(np.asarray(sheet) > 127)
    chosen = rng.integers(0, len(rows), n)
    ink = np.stack([columns[chosen], -rows[chosen]], 1) + rng.uniform(-0.5, 0.5, (n, 2))
    return ink / INK, np.ones(n, int)


DRAWN, LETTER = "drawn", "letter"
# By the name that the page sends; ``DRAWN`` has no entry: its dots are the user's own.
SHAPES: Mapping[str, ShapeSpec] = MappingProxyType(
    {
        "moons": ShapeSpec("Two moons", _moons, ("upper", "lower")),
        "spiral": ShapeSpec("Spiral", _spiral),
        LETTER: ShapeSpec("A letter", _letter),
        "clouds": ShapeSpec("Two clouds", _two_clouds, ("left", "right")),
    }
)


def make_dots(shape: str, letter: str = "D", drawn: Sequence[tuple[float, float]] = (), seed: int = 0) -> Dots:
    """The dots of a shape.

    Args:
        shape: a key of ``SHAPES``, or ``DRAWN``.
        letter: which one, for the shape of a letter.
        drawn: places of the pointer, at least two different ones, for ``DRAWN``.
        seed: of the draw.
    """
    rng = np.random.default_rng(seed)
    classes: tuple[str, ...] = ()
    if shape == DRAWN:
        places = np.asarray(drawn, np.float64)
        points = places[rng.integers(0, len(places), DOTS)] + rng.normal(0, PEN, (DOTS, 2))
        labels = np.ones(DOTS, int)
    else:
        spec = SHAPES[shape]
        points, labels = spec.make(rng, DOTS, letter)
        classes = spec.classes
    points = points - points.mean(0)
    return Dots((points / points.std()).astype(np.float32), labels, classes)
