"""Fitting images to a size, and masks: pure functions on images."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np

from pipelines.request import MAX_SIDE, InvalidRequest

if TYPE_CHECKING:
    from PIL import Image

WHITE = "#ffffff"
_CSS_RGB = re.compile(r"rgba?\(\s*([\d.]+)\s*,\s*([\d.]+)\s*,\s*([\d.]+)\s*(?:,[^)]*)?\)")
# Least alpha of a painted pixel: half, so that a mask and its inversion share no pixel.
PAINTED_ALPHA = 128
# How an image of another shape is fitted: label and explanation for the page.
FIT_MODES: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "crop": ("Crop", "Fills the frame and cuts off what stands over."),
        "pad": ("Pad", "Shows all of the picture and fills the rest with one colour."),
        "stretch": ("Stretch", "Pulls the picture into the frame: nothing is lost, but shapes change."),
    }
)


def parse_colour(colour: str) -> tuple[int, int, int]:
    """A colour as red, green and blue, 0 to 255 each; its alpha is ignored.

    CSS colours, as Gradio's colour picker sends them: "#rrggbb", "rgba(12.5, 7.1, 250, 1)", "white".

    Raises:
        InvalidRequest: if it is no colour.
    """
    from PIL import ImageColor

    try:
        levels = _CSS_RGB.fullmatch(colour)
        if levels is None:
            return ImageColor.getrgb(colour)[:3]
        red, green, blue = (min(255, round(float(level))) for level in levels.groups())
        return red, green, blue
    except (ValueError, TypeError, AttributeError):
        shown = str(colour)[:40]
        raise InvalidRequest("colour", f"The colour is {shown!r}; give it as #rrggbb, for example {WHITE}.") from None


def flatten(image: Image.Image, colour: str = WHITE) -> Image.Image:
    """An image as RGB: transparent parts show the colour."""
    from PIL import Image

    if image.mode != "RGBA":
        return image.convert("RGB")
    flat = Image.new("RGBA", image.size, parse_colour(colour))
    flat.alpha_composite(image)
    return flat.convert("RGB")


CENTRE = (0.5, 0.5)


def fit(
    image: Image.Image, width: int, height: int, how: str, colour: str = WHITE, focus: tuple[float, float] = CENTRE
) -> Image.Image:
    """An image as RGB of exactly this size.

    Args:
        image: RGB or RGBA.
        width, height: pixels of the result.
        how: key of ``FITS``.
        colour: behind transparent parts, and around a padded image.
        focus: which part a crop keeps, across and down: 0 the left or upper end, 0.5 the middle, 1 the other end.

    Raises:
        InvalidRequest: if there is no such fit or colour.
    """
    from PIL import Image, ImageOps

    if how not in FIT_MODES:
        raise InvalidRequest("fit", f"fit is {str(how)[:40]!r}; allowed: {', '.join(FIT_MODES)}.")
    around = parse_colour(colour)
    flat, size = flatten(image, colour), (width, height)
    if flat.size == size:
        return flat
    if how == "stretch":
        return flat.resize(size, Image.Resampling.LANCZOS)
    if how == "crop":
        return ImageOps.fit(flat, size, Image.Resampling.LANCZOS, centering=focus)
    scale = min(width / flat.width, height / flat.height)
    inner = (max(1, round(flat.width * scale)), max(1, round(flat.height * scale)))
    canvas = Image.new("RGB", size, around)
    at = ((width - inner[0]) // 2, (height - inner[1]) // 2)
    canvas.paste(flat.resize(inner, Image.Resampling.LANCZOS), at)
    return canvas


def mask_from_layers(layers: Sequence[Image.Image], size: tuple[int, int]) -> Image.Image:
    """A mask "L" of this size: 255 where any layer's alpha is at least ``PAINTED_ALPHA``, else 0."""
    from PIL import Image, ImageChops

    mask = Image.new("L", size)
    for layer in layers:
        alpha = layer.convert("RGBA").getchannel("A")
        painted = alpha.point(lambda level: 255 if level >= PAINTED_ALPHA else 0)
        mask = ImageChops.lighter(mask, painted.resize(size, Image.Resampling.NEAREST))
    return mask


def is_empty(mask: Image.Image) -> bool:
    """Whether no pixel is masked."""
    return mask.getbbox() is None


def feather_mask(mask: Image.Image, px: int) -> Image.Image:
    """min(d / (px + 1), 1): the weight of the new image, "L", at distance d inside the mask; 0 outside.

    d is the distance to the nearest unmasked pixel.  A part too thin for px fades over as many pixels as it has, so
    that its middle is fully new.  The image's own border does not fade.

    Args:
        mask: "L", 0 or 255.
        px: 0 for a hard edge.
    """
    from PIL import Image

    box = mask.getbbox()
    if px < 1 or box is None:
        return mask
    # Only the masked part, with one pixel around it to keep its edges, is computed.
    left, top, right, bottom = box
    near = (max(left - 1, 0), max(top - 1, 0), min(right + 1, mask.width), min(bottom + 1, mask.height))
    marked = np.asarray(mask.crop(near)) > 0
    soft = Image.new("L", mask.size)
    soft.paste(Image.fromarray(_feather_ramp(marked, px)), near)
    return soft


def _feather_ramp(marked: np.ndarray, px: int) -> np.ndarray:
    """Distance to the edge as 0 to 255; 255 from px + 1 on, or in the middle of a thinner part."""
    from scipy import ndimage

    if marked.all():
        return np.full(marked.shape, 255, np.uint8)
    inside = ndimage.distance_transform_edt(marked)
    parts, count = ndimage.label(marked, structure=np.ones((3, 3)))
    room = np.ones(count + 1)
    room[1:] = ndimage.maximum(inside, parts, np.arange(1, count + 1))
    return np.ceil(255 * np.minimum(inside / np.minimum(px + 1, room)[parts], 1)).astype(np.uint8)


def crop_box(mask: Image.Image, padding: int, aspect: tuple[int, int]) -> tuple[int, int, int, int]:
    """The box around the masked part: left, top, right, bottom.

    Padded, grown to the aspect ratio (width, height), and moved inside the image; where the image is too small for the
    aspect ratio, all of that side.
    """
    found = mask.getbbox()
    if found is None:
        raise InvalidRequest("mask", "Nothing is marked on the picture; paint over the part that is to change.")
    left, top, right, bottom = found
    width, height = right - left + 2 * padding, bottom - top + 2 * padding
    ratio = aspect[0] / aspect[1]
    width, height = max(width, math.ceil(height * ratio)), max(height, math.ceil(width / ratio))
    across = _clamped_span((left + right) / 2, width, mask.width)
    down = _clamped_span((top + bottom) / 2, height, mask.height)
    return across[0], down[0], across[1], down[1]


def _clamped_span(middle: float, length: int, limit: int) -> tuple[int, int]:
    """The interval of this length around a middle, moved or cut to lie within 0 and a limit."""
    length = min(length, limit)
    start = min(max(round(middle - length / 2), 0), limit - length)
    return start, start + length


def composite(original: Image.Image, painted: Image.Image, alpha: Image.Image) -> Image.Image:
    """alpha * painted + (1 - alpha) * original; where alpha is 0 the original's pixels, bit for bit."""
    from PIL import Image

    return Image.composite(painted.convert("RGB"), original.convert("RGB"), alpha)


def limit_size(image: Image.Image, colour: str = WHITE) -> Image.Image:
    """An image as RGB, reduced until no side is longer than ``MAX_SIDE``."""
    flat = flatten(image, colour)
    flat.thumbnail((MAX_SIDE, MAX_SIDE))
    return flat


def outpaint_canvas(
    image: Image.Image, left: int, right: int, up: int, down: int, multiple: int
) -> tuple[Image.Image, Image.Image]:
    """A larger canvas for outpainting, and the mask of its new part.

    The new part repeats the image's edge pixels, blurred, so that the model starts from matching colours.  Sides grow
    further, to the right and downwards, until they are multiples.

    Args:
        image: RGB.
        left, right, up, down: pixels to add at each side, 0 or more.
        multiple: the model's factor.

    Returns:
        The canvas, RGB, and its mask, "L", white in the new part.

    Raises:
        InvalidRequest: if nothing is added, or a side would be longer than ``MAX_SIDE``.
    """
    from PIL import Image, ImageFilter

    if min(left, right, up, down) < 0 or left + right + up + down == 0:
        raise InvalidRequest("edges", "Nothing is added at any side; say by how many pixels the picture is to grow.")
    width = math.ceil((image.width + left + right) / multiple) * multiple
    height = math.ceil((image.height + up + down) / multiple) * multiple
    if max(width, height) > MAX_SIDE:
        raise InvalidRequest(
            "edges", f"The canvas would be {width} x {height} pixels; at most {MAX_SIDE} a side are allowed."
        )
    beyond = ((up, height - image.height - up), (left, width - image.width - left), (0, 0))
    canvas = Image.fromarray(np.pad(np.asarray(image.convert("RGB")), beyond, mode="edge"))
    canvas = canvas.filter(ImageFilter.GaussianBlur(max(width, height) / 24))
    canvas.paste(image, (left, up))
    mask = Image.new("L", (width, height), 255)
    mask.paste(0, (left, up, left + image.width, up + image.height))
    return canvas, mask
