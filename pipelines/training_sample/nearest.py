"""The nearest renders of the training artwork to a picture, in pixels, after alignment."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
from PIL import Image

from pipelines.system.lru import LruDict
from pipelines.training_sample.alignment import ALIGNMENTS, SIDE, border, cut_out
from pipelines.training_sample.pictures import SamplePictures, premultiplied

# Pixels of a reference's drawing and of the rim around it.
DRAWING, RIM = 80, 8
# Root mean square differences of aligned pixels: the same drawing at another place and size; and another drawing.
# Of 40 training pictures none is further from its drawing than 0.060.  Of 80 results, 85% of those whose nearest one
# is of the thing that was asked for are within 0.15, and 44% of the others (``benchmarks.origins``).
SAME, OTHER = 0.065, 0.15
# References that are made at once; backgrounds whose references stay in memory, 35 MB each for pocket.
PART, KEEP_BACKGROUNDS = 240, 2
# Runs work that goes over so many pixels; the worker may do something else between two calls.
Run = Callable[[Callable[[], np.ndarray], int], np.ndarray]


@dataclass(frozen=True, eq=False)
class NearestPicture:
    """One render of the artwork.

    Attributes:
        thing: its name; ``style`` its artwork's.
        mirrored: whether it is the mirror image.
        distance: root mean square of the difference of the aligned pixels, 0 to 1.
        picture: on the background that it was compared on.
    """

    thing: str
    style: str
    mirrored: bool
    distance: float
    picture: Image.Image


class NearestPictures:
    """Finds the nearest renders.  Thread-safe, and without a lock while a part of the work waits to be done."""

    def __init__(self, pictures: SamplePictures) -> None:
        self._pictures = pictures
        self._lock = threading.Lock()
        self._references: LruDict[str, np.ndarray] = LruDict(KEEP_BACKGROUNDS)

    def find(self, pixels: np.ndarray, count: int, run: Run) -> list[NearestPicture]:
        """The renders of different things or styles that are nearest to a picture, the nearest first.

        Args:
            pixels: uint8 (h, w, 3).
            count: how many.
            run: does a part of the work.
        """
        around = border(pixels)
        colour = min(self._pictures.recipe.colours, key=lambda name: self._apart(name, around))
        references = self._on(colour, run)
        distances = run(lambda: _distances(pixels, around, references), pixels.shape[0] * pixels.shape[1])
        order = list(dict.fromkeys(int(i) // 2 for i in distances.argsort()))[:count]
        return [self._describe(i, colour, distances[2 * i : 2 * i + 2]) for i in order]

    def _apart(self, colour: str, other: tuple[int, ...]) -> int:
        return sum((a - b) ** 2 for a, b in zip(self._pictures.recipe.colours[colour], other, strict=True))

    def _on(self, colour: str, run: Run) -> np.ndarray:
        """Every piece of artwork on a background and its mirror image, cut out: float32 (2 n, 3 SIDE^2)."""
        with self._lock:
            if colour in self._references:
                return self._references[colour]
        background = self._pictures.recipe.colours[colour]
        parts = [run(partial(_references, part, background), len(part) * DRAWING**2) for part in self._parts()]
        found = np.concatenate(parts)
        with self._lock:
            self._references[colour] = found
        return found

    def _parts(self) -> Iterator[np.ndarray]:
        """The artwork, style by style, a part at a time."""
        for style in self._pictures.recipe.styles:
            art = self._pictures.art[style]
            yield from (art[k : k + PART] for k in range(0, len(art), PART))

    def _describe(self, i: int, colour: str, pair: np.ndarray) -> NearestPicture:
        recipe = self._pictures.recipe
        style, thing = recipe.styles[i // len(recipe.names)], i % len(recipe.names)
        mirrored = bool(pair[1] < pair[0])
        art = self._pictures.art[style][thing]
        pixels = _on_background(premultiplied(art[:, ::-1] if mirrored else art), recipe.colours[colour], recipe.pixels)
        return NearestPicture(
            recipe.names[thing], style, mirrored, float(pair.min() / (3 * SIDE**2)) ** 0.5, Image.fromarray(pixels)
        )


def _on_background(layer: Image.Image, background: tuple[int, ...], side: int) -> np.ndarray:
    """A premultiplied layer in the middle of a background, with a rim around it: uint8 (side, side, 3)."""
    rim = round(side * RIM / (DRAWING + 2 * RIM))
    inner = side - 2 * rim
    drawn = np.asarray(layer.resize((inner, inner), Image.Resampling.BICUBIC), np.float32)
    canvas = np.full((side, side, 3), background, np.float32)
    window = canvas[rim : rim + inner, rim : rim + inner]
    window[:] = window * (1 - drawn[..., 3:] / 255) + drawn[..., :3]
    return canvas.clip(0, 255).astype(np.uint8)


def _references(part: np.ndarray, background: tuple[int, ...]) -> np.ndarray:
    """Pieces (n, tile, tile, 4) and their mirror images on a background, cut out: float32 (2 n, 3 SIDE^2)."""
    side, rows = DRAWING + 2 * RIM, []
    for art in part:
        for one in (art, art[:, ::-1]):
            rows.append(cut_out(_on_background(premultiplied(one), background, side), background)[0])
    return np.stack(rows)


def _distances(pixels: np.ndarray, around: tuple[int, ...], references: np.ndarray) -> np.ndarray:
    """The square distance of each reference from the picture, in the best of its alignments, (m,)."""
    aligned = cut_out(pixels, around, ALIGNMENTS)
    squares = np.square(references).sum(1) + np.square(aligned).sum(1)[:, None]
    return (squares - 2 * aligned @ references.T).min(0).clip(min=0)
