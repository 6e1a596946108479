"""Fitting pictures to a size, and what masks mean: pure functions on pictures."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np

from pipelines.request import MAX_SIDE, InvalidRequest

if TYPE_CHECKING:
    from PIL import Image

WHITE = "#ffffff"
# How a picture of another shape is fitted: label and what it does, for the page.
FITS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "crop": ("Crop", "Fills the frame and cuts off what stands over."),
        "pad": ("Pad", "Shows all of the picture and fills the rest with one colour."),
        "stretch": ("Stretch", "Pulls the picture into the frame: nothing is lost, but shapes change."),
    }
)


def flatten(image: Image.Image, colour: str = WHITE) -> Image.Image:
    """A picture without transparency: what was see-through shows the colour."""
    from PIL import Image

    if image.mode != "RGBA":
        return image.convert("RGB")
    flat = Image.new("RGBA", image.size, colour)
    flat.alpha_composite(image)
    return flat.convert("RGB")


def fit(image: Image.Image, width: int, height: int, how: str, colour: str = WHITE) -> Image.Image:
    """A picture as RGB of exactly this size.

    Args:
        image: RGB or RGBA.
        width, height: pixels of the result.
        how: key of ``FITS``.
        colour: beneath transparency, and around a padded picture.

    Raises:
        InvalidRequest: if there is no such way or colour.
    """
    from PIL import Image, ImageColor, ImageOps

    if how not in FITS:
        raise InvalidRequest(f"fit is {how!r}; allowed: {', '.join(FITS)}.")
    try:
        ImageColor.getrgb(colour)
    except ValueError:
        raise InvalidRequest(f"The colour is {colour[:40]!r}; give it as #rrggbb, for example {WHITE}.") from None
    flat, size = flatten(image, colour), (width, height)
    if flat.size == size:
        return flat
    if how == "stretch":
        return flat.resize(size, Image.Resampling.LANCZOS)
    if how == "crop":
        return ImageOps.fit(flat, size, Image.Resampling.LANCZOS)
    scale = min(width / flat.width, height / flat.height)
    inner = (max(1, round(flat.width * scale)), max(1, round(flat.height * scale)))
    canvas = Image.new("RGB", size, colour)
    at = ((width - inner[0]) // 2, (height - inner[1]) // 2)
    canvas.paste(flat.resize(inner, Image.Resampling.LANCZOS), at)
    return canvas


def mask_of(layers: Sequence[Image.Image], size: tuple[int, int]) -> Image.Image:
    """What was painted on any layer, as "L" of this size: 255 where a layer is at least half opaque, else 0."""
    from PIL import Image, ImageChops

    mask = Image.new("L", size)
    for layer in layers:
        alpha = layer.convert("RGBA").getchannel("A")
        painted = alpha.point(lambda level: 255 if level >= 128 else 0)
        mask = ImageChops.lighter(mask, painted.resize(size, Image.Resampling.NEAREST))
    return mask


def invert(mask: Image.Image) -> Image.Image:
    """The mask the other way round."""
    from PIL import ImageChops

    return ImageChops.invert(mask.convert("L"))


def is_empty(mask: Image.Image) -> bool:
    """Whether nothing is marked."""
    return mask.getbbox() is None


def feathered(mask: Image.Image, px: int) -> Image.Image:
    """The share of the new picture at each pixel, "L": inside the mask it rises from its edge over ``px`` pixels.

    Outside it is 0 throughout: a mask shrunk by px and blurred by px reaches as far as the mask and no further.  A mask
    too thin for that fades over as many pixels as it has room for.
    """
    from PIL import Image, ImageFilter

    if px < 1:
        return mask
    # Beyond the picture's border the mask goes on, so that no seam is drawn along it.
    beyond = Image.fromarray(np.pad(np.asarray(mask), 2 * px, mode="edge"))
    shrunk = beyond.filter(ImageFilter.BoxBlur(px)).point(lambda level: 255 if level == 255 else 0)
    inner = shrunk.filter(ImageFilter.BoxBlur(px)).crop((2 * px, 2 * px, 2 * px + mask.width, 2 * px + mask.height))
    soft = np.where(np.asarray(mask) > 0, np.asarray(inner), 0).astype(np.uint8)
    return Image.fromarray(soft) if soft.any() else feathered(mask, px // 2)


def latent_mask(mask: Image.Image, factor: int) -> np.ndarray:
    """The cells of a latent that a mask touches: float32 (h / factor, w / factor), 1 for touched."""
    marked = np.asarray(mask) > 0
    height, width = marked.shape
    cells = marked.reshape(height // factor, factor, width // factor, factor)
    return cells.max(axis=(1, 3)).astype(np.float32)


def crop_box(mask: Image.Image, padding: int, aspect: tuple[int, int]) -> tuple[int, int, int, int]:
    """The part of a picture around what is marked: left, top, right, bottom.

    Padded, grown to the aspect (width, height), and moved inside the picture; where the picture is too small for the
    aspect, all of that side.
    """
    found = mask.getbbox()
    if found is None:
        raise InvalidRequest("Nothing is marked on the picture; paint over the part that is to change.")
    left, top, right, bottom = found
    width, height = right - left + 2 * padding, bottom - top + 2 * padding
    ratio = aspect[0] / aspect[1]
    width, height = max(width, math.ceil(height * ratio)), max(height, math.ceil(width / ratio))
    across = _span((left + right) / 2, width, mask.width)
    down = _span((top + bottom) / 2, height, mask.height)
    return across[0], down[0], across[1], down[1]


def _span(middle: float, length: int, limit: int) -> tuple[int, int]:
    """A stretch of this length around a middle, moved or cut to lie within 0 and a limit."""
    length = min(length, limit)
    start = min(max(round(middle - length / 2), 0), limit - length)
    return start, start + length


def composite(original: Image.Image, painted: Image.Image, alpha: Image.Image) -> Image.Image:
    """The painted picture over the original; where alpha is 0 the original's pixels, bit for bit."""
    from PIL import Image

    return Image.composite(painted.convert("RGB"), original.convert("RGB"), alpha)


def grow(
    image: Image.Image, left: int, right: int, up: int, down: int, multiple: int
) -> tuple[Image.Image, Image.Image]:
    """A larger canvas for outpainting, and the mask of what is new on it.

    The new part continues the picture's edge, softened away from it, so that a model that starts from it has colours
    to go on with.  Sides grow further, to the right and downwards, until they are multiples.

    Args:
        image: RGB.
        left, right, up, down: pixels to add at each side, 0 or more.
        multiple: the model's factor.

    Returns:
        The canvas, RGB, and its mask, "L", white where it is new.

    Raises:
        InvalidRequest: if nothing is added, or a side would be longer than ``MAX_SIDE``.
    """
    from PIL import Image, ImageFilter

    if min(left, right, up, down) < 0 or left + right + up + down == 0:
        raise InvalidRequest("Nothing is added at any side; say by how many pixels the picture is to grow.")
    width = math.ceil((image.width + left + right) / multiple) * multiple
    height = math.ceil((image.height + up + down) / multiple) * multiple
    if max(width, height) > MAX_SIDE:
        raise InvalidRequest(f"The canvas would be {width} x {height} pixels; at most {MAX_SIDE} a side are allowed.")
    beyond = ((up, height - image.height - up), (left, width - image.width - left), (0, 0))
    canvas = Image.fromarray(np.pad(np.asarray(image.convert("RGB")), beyond, mode="edge"))
    canvas = canvas.filter(ImageFilter.GaussianBlur(max(width, height) / 24))
    canvas.paste(image, (left, up))
    mask = Image.new("L", (width, height), 255)
    mask.paste(0, (left, up, left + image.width, up + image.height))
    return canvas, mask
