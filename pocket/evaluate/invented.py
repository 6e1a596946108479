"""Ten shapes that no model has seen, each a few lines of drawing, for measuring how well pocket is taught."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np
from PIL import Image, ImageDraw

# Drawn larger and scaled down, so that edges are smooth.
CANVAS, SIDE = 512, 128
Pen = ImageDraw.ImageDraw
Point = tuple[float, float]


def _ring(centre: Point, radius: float, corners: int, turn: float = 0.0, inner: float = 1.0) -> list[Point]:
    """Corners of a regular shape; every second one at ``inner`` of the radius."""
    angles = [turn + 2 * math.pi * k / corners for k in range(corners)]
    radii = [radius * (inner if k % 2 else 1) for k in range(corners)]
    return [(centre[0] + r * math.sin(a), centre[1] - r * math.cos(a)) for a, r in zip(angles, radii, strict=True)]


def _disc(pen: Pen, centre: Point, radius: float, fill: str) -> None:
    x, y = centre
    pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=fill)


def _zorp(pen: Pen) -> None:
    """A violet triangle on two legs, with one eye."""
    for x in (190, 322):
        pen.line((x, 360, x, 440), fill="#2b1a4d", width=26)
    pen.polygon([(256, 70), (440, 380), (72, 380)], fill="#7a3fd1")
    _disc(pen, (256, 270), 58, "#ffffff")
    _disc(pen, (256, 270), 26, "#111111")


def _blick(pen: Pen) -> None:
    """A teal square with a hole, and orange corners."""
    pen.rectangle((110, 110, 402, 402), fill="#12908e")
    for x in (110, 402):
        for y in (110, 402):
            _disc(pen, (x, y), 52, "#f28c1e")
    _disc(pen, (256, 256), 62, "#f5e6c8")


def _quam(pen: Pen) -> None:
    """A star of eight points with a dark heart."""
    pen.polygon(_ring((256, 256), 200, 16, inner=0.5), fill="#e0367a")
    _disc(pen, (256, 256), 70, "#3a0b24")


def _drell(pen: Pen) -> None:
    """Three bars of three greens, one longer than the other."""
    for k, (fill, length) in enumerate((("#1d5c2d", 160), ("#3d9950", 250), ("#8fd694", 340))):
        pen.rounded_rectangle((86, 110 + 110 * k, 86 + length, 190 + 110 * k), 40, fill=fill)


def _vom(pen: Pen) -> None:
    """A crescent that holds a ball."""
    pen.pieslice((80, 80, 432, 432), 0, 180, fill="#25408f")
    _disc(pen, (256, 190), 86, "#f2c230")


def _tuffle(pen: Pen) -> None:
    """A tower of three discs, each smaller, with a spike."""
    pen.polygon([(256, 40), (282, 150), (230, 150)], fill="#c23b22")
    for y, radius, fill in ((400, 105, "#8c5a2b"), (270, 80, "#b98143"), (170, 54, "#e2b97a")):
        _disc(pen, (256, y), radius, fill)


def _spindra(pen: Pen) -> None:
    """A wheel of six spokes."""
    for x, y in _ring((256, 256), 180, 6):
        pen.line((256, 256, x, y), fill="#333f48", width=30)
        _disc(pen, (x, y), 44, "#00a0d2")
    _disc(pen, (256, 256), 60, "#333f48")


def _hexor(pen: Pen) -> None:
    """A hexagon in halves of two colours."""
    ring = _ring((256, 256), 195, 6)
    pen.polygon(ring, fill="#d94f30")
    pen.polygon([ring[0], ring[1], ring[2], ring[3]], fill="#f7d9a3")
    pen.line((*ring[0], *ring[3]), fill="#5c1a0c", width=20)


def _wabbit(pen: Pen) -> None:
    """A box with two antennae."""
    for x, top in ((200, 80), (312, 80)):
        pen.line((256, 230, x - (256 - x) * 0.4, top), fill="#4a4a4a", width=18)
        _disc(pen, (x - (256 - x) * 0.4, top), 34, "#ff5fa2")
    pen.rounded_rectangle((110, 210, 402, 420), 60, fill="#5b8c5a")
    for x in (200, 312):
        _disc(pen, (x, 310), 32, "#f4f4f4")


def _ploon(pen: Pen) -> None:
    """A drop with a stripe."""
    pen.polygon([(256, 50), (390, 270), (122, 270)], fill="#56359c")
    _disc(pen, (256, 310), 150, "#56359c")
    pen.rectangle((118, 290, 394, 340), fill="#ffd23f")


SHAPES: Mapping[str, Callable[[Pen], None]] = MappingProxyType(
    {
        "zorp": _zorp, "blick": _blick, "quam": _quam, "drell": _drell, "vom": _vom,
        "tuffle": _tuffle, "spindra": _spindra, "hexor": _hexor, "wabbit": _wabbit, "ploon": _ploon,
    }
)  # fmt: skip


def drawing(word: str) -> Image.Image:
    """A shape without a background, RGBA."""
    canvas = Image.new("RGBA", (CANVAS, CANVAS))
    SHAPES[word](ImageDraw.Draw(canvas))
    return canvas


def picture(word: str, background: tuple[int, ...], size: float = 0.8, moved: Point = (0.0, 0.0)) -> Image.Image:
    """A shape on a background, ``size`` of the picture's side large, moved by shares of it."""
    side = round(CANVAS * size)
    layer = drawing(word).resize((side, side), Image.Resampling.LANCZOS)
    canvas = Image.new("RGB", (CANVAS, CANVAS), tuple(background[:3]))
    left, top = (round((CANVAS - side) / 2 + CANVAS * each) for each in moved)
    canvas.paste(layer, (left, top), layer)
    return canvas.resize((SIDE, SIDE), Image.Resampling.LANCZOS)


def pixels(image: Image.Image) -> np.ndarray:
    """uint8 (h, w, 3)."""
    return np.asarray(image.convert("RGB"))
