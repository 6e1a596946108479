"""Masks as people bring them: white on black, coloured on black, or white with transparent parts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pipelines.images.geometry import PAINTED_ALPHA
from pipelines.request import InvalidRequest

if TYPE_CHECKING:
    from PIL import Image

# A level counts as marked from here on.
MARKED = 128
# Largest difference of a pixel's channels up to which it is grey; the artefacts of a JPEG are below it.
GREY = 64
# Shares of the pixels below which a kind of pixel is an edge or an artefact.
FEW, VERY_FEW = 0.01, 0.002
# Share of the border that is opaque from which transparent parts count as holes, and up to which opaque ones do as
# strokes on an empty layer.
MOSTLY, HARDLY = 0.75, 0.25
COLOURS_AND_WHITE = "mask has colours next to white, so it is unclear what is marked; make it white where the image is "
COLOURS_AND_WHITE += "repainted and black elsewhere."
WHITE_AND_CLEAR = "mask is white and transparent, and either could be what is marked; make it white where the image is "
WHITE_AND_CLEAR += "repainted and black elsewhere, without transparency."


def mask_from_picture(image: Image.Image) -> Image.Image:
    """A mask "L", 255 where the image is repainted and 0 elsewhere.

    White or one bright colour on black marks the part.  In a mask that is white wherever it is opaque, the
    transparency says what is marked: a hole that was erased from a white area (as the images API of OpenAI reads it),
    or strokes on an empty layer.

    Args:
        image: RGB or RGBA.

    Raises:
        InvalidRequest: if it is unclear which part is marked.
    """
    from PIL import Image

    pixels = np.asarray(image)
    alpha = pixels[..., 3] if image.mode == "RGBA" else None
    if alpha is None or alpha.min() >= PAINTED_ALPHA:
        marked = _by_level(pixels[..., :3])
    else:
        visible = alpha >= PAINTED_ALPHA
        bright = pixels[..., :3].max(axis=-1) >= MARKED
        if visible.any() and (visible & ~bright).mean() <= FEW * visible.mean():
            marked = _by_transparency(pixels[..., :3], visible, bright)
        else:
            marked = _by_level(np.where(visible[..., None], pixels[..., :3], 0))
    return Image.fromarray(np.where(marked, 255, 0).astype(np.uint8))


def _by_level(pixels: np.ndarray) -> np.ndarray:
    """What white, or a colour, marks on black (h, w, 3)."""
    strongest = pixels.max(axis=-1)
    coloured = strongest - pixels.min(axis=-1) > GREY
    if coloured.mean() <= VERY_FEW:
        return pixels @ np.array([0.299, 0.587, 0.114], np.float32) >= MARKED
    if (~coloured & (strongest >= MARKED)).mean() > FEW:
        raise InvalidRequest("mask", COLOURS_AND_WHITE)
    return strongest >= MARKED


def _by_transparency(pixels: np.ndarray, visible: np.ndarray, bright: np.ndarray) -> np.ndarray:
    """What is marked where all that is opaque is white or coloured."""
    colours = pixels[visible]
    if (colours.max(axis=-1) - colours.min(axis=-1) > GREY).mean() > FEW:
        return visible  # coloured strokes
    border = np.concatenate([visible[0], visible[-1], visible[:, 0], visible[:, -1]]).mean()
    if border >= MOSTLY:
        return ~visible
    if border <= HARDLY:
        return visible
    # An eraser leaves the white beneath; an empty layer is black there.
    if bright[~visible].mean() >= 1 - FEW:
        return ~visible
    raise InvalidRequest("mask", WHITE_AND_CLEAR)
