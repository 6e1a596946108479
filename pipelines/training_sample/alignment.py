"""Cutting the thing out of a picture, so that two pictures can be compared wherever the thing stands in them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np
from PIL import Image

SIDE = 32
# A pixel belongs to the thing if a channel is so far from the background.
DIFFERENT = 28
# A soft edge moves the box around a thing by a pixel or two: of these alignments the one that fits best counts.
ALIGNMENTS = tuple(product((0.94, 1.0, 1.06), (-0.03, 0.0, 0.03), (-0.03, 0.0, 0.03)))


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
