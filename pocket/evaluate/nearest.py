"""A second judge that learns nothing: the nearest render of the artwork, in pixels, after alignment.

It shares no weights, no augmentation and no composition with the training: what stands on the background is cut out,
scaled to one size and compared with every concept in every style, mirrored too, on the same background, moved and
scaled by a few per cent to where it fits best.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from itertools import product

import numpy as np
from PIL import Image

from pocket.world import plain
from pocket.world.artwork import fetch, load_artwork
from pocket.world.vocabulary import Concept

SIDE = 32
# A pixel belongs to the thing if a channel is so far from the background.
DIFFERENT = 28
# A soft edge moves the box around a thing by a pixel or two: of these alignments the one that fits best counts.
ALIGNMENTS = tuple(product((0.94, 1.0, 1.06), (-0.03, 0.0, 0.03), (-0.03, 0.0, 0.03)))


class Nearest:
    """Compares pictures with the artwork.

    Attributes:
        names: (concept, style) of each reference.
    """

    def __init__(self, concepts: list[Concept]) -> None:
        self._artwork = load_artwork(fetch(), concepts)
        self.names = [(concept, style) for style in self._artwork for concept in range(len(concepts)) for _ in range(2)]
        self._seen: dict[tuple[int, ...], np.ndarray] = {}

    @cached_property
    def _drawings(self) -> list[np.ndarray]:
        """Each artwork and its mirror image, premultiplied RGBA, float32 (80, 80, 4)."""
        found = []
        for pictures in self._artwork.values():
            for art in pictures:
                layer = np.asarray(art.resize((80, 80), Image.Resampling.BOX), np.float32)
                found += [layer, layer[:, ::-1]]
        return found

    def _references(self, background: tuple[int, ...]) -> np.ndarray:
        """What every artwork looks like on this background, (m, SIDE * SIDE * 3)."""
        if background not in self._seen:
            rows = []
            for layer in self._drawings:
                canvas = np.full((96, 96, 3), background, np.float32)
                canvas[8:88, 8:88] = canvas[8:88, 8:88] * (1 - layer[..., 3:] / 255) + layer[..., :3]
                rows.append(cut_out(canvas.clip(0, 255).astype(np.uint8), background)[0])
            self._seen[background] = np.stack(rows)
        return self._seen[background]

    def ranked(self, pixels: np.ndarray, colour: str) -> list[int]:
        """Concepts from the nearest on, for a picture (uint8 (h, w, 3)) with a background of this colour."""
        return list(dict.fromkeys(self.names[k][0] for k in self._distances(pixels, colour).argsort()))

    def style_of(self, pixels: np.ndarray, colour: str, concept: int) -> str:
        """The style in which this concept looks most like the picture."""
        distances = self._distances(pixels, colour)
        return min((d, style) for d, (k, style) in zip(distances, self.names, strict=True) if k == concept)[1]

    def _distances(self, pixels: np.ndarray, colour: str) -> np.ndarray:
        """The square distance of each reference from the picture, in the best of its alignments, (m,)."""
        references = self._references(plain.COLOURS[colour])
        aligned = cut_out(pixels, border(pixels), ALIGNMENTS)
        squares = np.square(references).sum(1) + np.square(aligned).sum(1)[:, None]
        return (squares - 2 * aligned @ references.T).min(0)


def border(pixels: np.ndarray) -> tuple[int, ...]:
    """The median colour of a picture's border, uint8 (h, w, 3)."""
    sides = pixels[:5], pixels[-5:], pixels[:, :5], pixels[:, -5:]
    edge = np.concatenate([side.reshape(-1, 3) for side in sides])
    return tuple(int(value) for value in np.median(edge, axis=0))


def box(pixels: np.ndarray, background: tuple[int, ...]) -> tuple[int, int, int, int]:
    """Left, top, right, bottom of what stands on the background; specks do not count."""
    thing = np.abs(pixels.astype(np.int16) - np.array(background)).max(2) > DIFFERENT
    columns, rows = np.flatnonzero(thing.sum(0) > 1), np.flatnonzero(thing.sum(1) > 1)
    if not len(columns) or not len(rows):
        return 0, 0, pixels.shape[1], pixels.shape[0]
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def cut_out(
    pixels: np.ndarray, background: tuple[int, ...], alignments: Sequence[tuple[float, float, float]] = ((1, 0, 0),)
) -> np.ndarray:
    """The thing in squares of SIDE pixels, as differences from the background: float32 (n, SIDE * SIDE * 3).

    Args:
        pixels: uint8 (h, w, 3).
        background: its colour.
        alignments: n times the side of the square as a share of the thing's longer side, and how far its middle is
            from the thing's, to the right and down, in the same measure.
    """
    left, top, right, bottom = box(pixels, background)
    side = max(right - left, bottom - top)
    # Room on every side, for a square may reach beyond the picture.
    room = Image.new("RGB", (pixels.shape[1] + 2 * side, pixels.shape[0] + 2 * side), background)
    room.paste(Image.fromarray(pixels), (side, side))
    found = []
    for scale, right_by, down_by in alignments:
        x, y = side + (left + right) / 2 + right_by * side, side + (top + bottom) / 2 + down_by * side
        square = (x - scale * side / 2, y - scale * side / 2, x + scale * side / 2, y + scale * side / 2)
        found.append(np.asarray(room.resize((SIDE, SIDE), Image.Resampling.BILINEAR, box=square), np.float32))
    return (np.stack(found) - np.array(background, np.float32)).reshape(len(found), -1) / 255
