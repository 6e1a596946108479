"""Media as image filters over a finished scene: watercolor, oil, pencil, pixel art, neon, paper cut-out.

Each filter takes the picture (uint8 (h, w, 3)), where things are (uint8 (h, w), 255 inside) and random numbers, and
returns a picture of the same shape.  Textures are made once and moved, turned and mirrored at random.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
from PIL import Image, ImageFilter
from scipy import ndimage

Filter = Callable[[np.ndarray, np.ndarray, np.random.Generator], np.ndarray]
TEXTURES = 6


@dataclass(frozen=True)
class Medium:
    """How a picture is made.

    Attributes:
        name: the label that files and judges use.
        apply: the filter.
        openings: what comes before "of a castle".
        tags: what stands in a list of tags, or after "in ... style".
        coloured: whether the colours of things can still be seen.
    """

    name: str
    apply: Filter
    openings: tuple[str, ...]
    tags: tuple[str, ...]
    coloured: bool = True


def noise(size: int, softness: float, seed: int) -> np.ndarray:
    """Smooth noise that repeats at the borders, of mean 0 and deviation 1: float32 (size, size)."""
    white = np.random.default_rng(seed).standard_normal((size, size)).astype(np.float32)
    soft = ndimage.gaussian_filter(white, softness, mode="wrap")
    return (soft - soft.mean()) / soft.std()


@cache
def noises(size: int, softness: float) -> np.ndarray:
    """A stack of noise fields, (n, size, size)."""
    return np.stack([noise(size, softness, 100 * k + round(softness)) for k in range(TEXTURES)])


def any_of(textures: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """One texture of a stack, rolled and mirrored at random."""
    texture = textures[rng.integers(len(textures))]
    texture = np.roll(texture, rng.integers(len(texture), size=2), (0, 1))
    return texture[:, ::-1] if rng.random() < 0.5 else texture


def blurred(pixels: np.ndarray, radius: float) -> np.ndarray:
    """A Gaussian blur of uint8 (h, w, 3) or (h, w)."""
    return np.asarray(Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(radius)))


def to_bytes(x: np.ndarray) -> np.ndarray:
    """Shares of 0 to 1 as uint8."""
    return (x * 255 + 0.5).clip(0, 255).astype(np.uint8)


def flat(pixels: np.ndarray, things: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return pixels


def watercolor(pixels: np.ndarray, things: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Edges that wander, darker where a wash ends, pigment that pools, and a border of white paper."""
    size = len(pixels)
    across, down = (2.6 * any_of(noises(size, 6), rng) for _ in range(2))
    rows, columns = np.mgrid[:size, :size]
    rows = (rows + down).astype(np.int32).clip(0, size - 1)
    columns = (columns + across).astype(np.int32).clip(0, size - 1)
    moved = pixels[rows, columns]
    sharp, soft = moved / np.float32(255), blurred(moved, size / 90) / np.float32(255)
    edge = np.abs(sharp - soft).mean(2, keepdims=True)
    wash = 0.45 * sharp + 0.55 * soft - 0.5 * edge
    pigment = 0.72 + 0.13 * any_of(noises(size, 14), rng)[..., None]
    return to_bytes(1 - (1 - wash) * pigment * paper_border(size, rng)[..., None])


def paper_border(size: int, rng: np.random.Generator) -> np.ndarray:
    """1 where there is paint, 0 at the rim of the sheet, with an uneven edge between, (size, size)."""
    axis = np.minimum(np.arange(size), np.arange(size)[::-1]) / size
    inside = np.minimum(axis[:, None], axis)
    return ((inside + 0.014 * any_of(noises(size, 6), rng) - 0.03) / 0.02).clip(0, 1).astype(np.float32)


@cache
def strokes(size: int, length: float) -> tuple[np.ndarray, np.ndarray]:
    """Maps of brush strokes: which pixel gives each pixel its colour (n, size * size), and light on the paint."""
    maps, lights = [], []
    for seed in range(TEXTURES):
        rng = np.random.default_rng(seed)
        angle = 0.7 * noise(size, 30, 500 + seed) + rng.uniform(0, 3)
        found = _paint_strokes(angle, length, rng)
        maps.append(found.ravel())
        ridge = np.random.default_rng(seed + 9).standard_normal(size * size)[found]
        lights.append(ndimage.gaussian_filter(ridge, 0.6).astype(np.float32))
    return np.stack(maps), np.stack(lights)


def _paint_strokes(angle: np.ndarray, length: float, rng: np.random.Generator) -> np.ndarray:
    """Strokes along a field of angles, over one another: the place of the stroke's middle for each pixel (h, w)."""
    size = len(angle)
    found = np.arange(size * size).reshape(size, size)
    axis = np.arange(-round(length), round(length) + 1)
    dy, dx = np.meshgrid(axis, axis, indexing="ij")
    for y, x in rng.integers(size, size=(size * size // 18, 2)):
        cos, sin = np.cos(angle[y, x]), np.sin(angle[y, x])
        inside = ((dx * cos + dy * sin) / length) ** 2 + ((dy * cos - dx * sin) / (0.36 * length)) ** 2 < 1
        rows, columns = y + dy[inside], x + dx[inside]
        there = (rows >= 0) & (rows < size) & (columns >= 0) & (columns < size)
        found[rows[there], columns[there]] = y * size + x
    return found


def oil(pixels: np.ndarray, things: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Brush strokes that follow a field, each of one colour, with light on the ridges of the paint."""
    size = len(pixels)
    maps, lights = strokes(size, size / 46)
    k = int(rng.integers(len(maps)))
    painted = pixels.reshape(-1, 3)[maps[k]].reshape(pixels.shape) / np.float32(255)
    light = lights[k][..., None]
    rich = painted + 0.12 * (painted - painted.mean(2, keepdims=True))
    return to_bytes(rich * (1 + 0.025 * light))


def luminance(pixels: np.ndarray) -> np.ndarray:
    return pixels @ np.array([0.299, 0.587, 0.114], np.float32) / 255


def outlines(pixels: np.ndarray, radius: float) -> np.ndarray:
    """How strongly colours change at each pixel, from 0 on, float32 (h, w)."""
    soft = blurred(pixels, radius).astype(np.float32) / 255
    down, across = np.zeros(soft.shape[:2], np.float32), np.zeros(soft.shape[:2], np.float32)
    down[1:-1] = np.abs(soft[2:] - soft[:-2]).max(2)
    across[:, 1:-1] = np.abs(soft[:, 2:] - soft[:, :-2]).max(2)
    return np.hypot(down, across)


@cache
def hatching(size: int) -> np.ndarray:
    """Pencil strokes in one direction: 0 is paper, 1 lead, float32 (n, size, size)."""
    fields = []
    for seed in range(TEXTURES):
        white = np.random.default_rng(700 + seed).standard_normal((size, size)).astype(np.float32)
        streaks = ndimage.gaussian_filter1d(ndimage.gaussian_filter1d(white, 16, 1, mode="wrap"), 1.6, 0, mode="wrap")
        rows, columns = np.mgrid[:size, :size]
        slanted = streaks[(rows + columns) % size, columns]
        fields.append((slanted / slanted.std() * 0.6 + 0.5).clip(0, 1))
    return np.stack(fields).astype(np.float32)


def pencil(pixels: np.ndarray, things: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Grey outlines and hatching on paper, denser where the picture is dark."""
    size = len(pixels)
    line = (3.2 * outlines(pixels, size / 256) - 0.12).clip(0, 0.85)
    tone = 1 - blurred(to_bytes(luminance(pixels)), size / 128) / np.float32(255)
    lead = any_of(hatching(size), rng)
    shading = 0.75 * (1.25 * tone - 0.2).clip(0, 1) * (0.66 + 0.34 * lead)
    grey = 0.975 - np.maximum(line, 0.7 * shading)
    return to_bytes(np.repeat(grey[..., None], 3, 2) * np.array([1, 0.995, 0.98], np.float32))


def pixel_art(pixels: np.ndarray, things: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Large square pixels in few colours."""
    size = len(pixels)
    block = size // 32 if rng.random() < 0.7 else 3 * size // 128
    cells = -(-size // block)
    small = Image.fromarray(pixels).resize((cells, cells), Image.Resampling.BOX)
    few = small.quantize(28, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE).convert("RGB")
    return np.asarray(few).repeat(block, 0).repeat(block, 1)[:size, :size]


def neon(pixels: np.ndarray, things: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Glowing outlines in the colours of what they surround, in the dark."""
    size = len(pixels)
    line = (3.6 * outlines(pixels, size / 200) - 0.2).clip(0, 1)
    line = np.maximum(line, (2.2 * outlines(np.repeat(things[..., None], 3, 2), size / 200) - 0.5).clip(0, 1))
    near = blurred(pixels, size / 64).astype(np.float32)
    bright = near - 0.75 * near.min(2, keepdims=True) + 12
    colour = bright / bright.max(2, keepdims=True)
    light = colour * line[..., None]
    glow = blurred(to_bytes(light), size / 60) / np.float32(255)
    dark = np.array([0.022, 0.014, 0.055], np.float32) + 0.05 * colour * (things[..., None] > 0)
    return to_bytes(dark + 1.15 * glow + 0.8 * light + 0.25 * line[..., None] ** 2)


def paper(pixels: np.ndarray, things: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Sheets of few colours, cut out and laid on one another, each with a shadow; things have a white rim."""
    size = len(pixels)
    few = Image.fromarray(blurred(pixels, size / 170)).quantize(11, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    index, palette = np.asarray(few), np.array(few.getpalette(), np.float32)[:33].reshape(-1, 3) / 255
    height = rng.permutation(len(palette)).astype(np.float32)[index.clip(0, len(palette) - 1)] / len(palette)
    mask = Image.fromarray(things)
    rim = np.asarray(mask.filter(ImageFilter.MaxFilter(7))) > 127
    inside = things > 127
    height = np.where(rim, 1.6 + 0.3 * height * inside, height)
    sheet = np.where((rim & ~inside)[..., None], np.float32(0.97), palette[index.clip(0, len(palette) - 1)])
    step = max(2, size // 64)
    cast = np.roll(blurred(to_bytes(height / 2), size / 85) / np.float32(127), (step, step), (0, 1))
    shadow = (cast - height).clip(0, 1)
    grain = 0.006 * any_of(noises(size, 1), rng)
    return to_bytes(sheet * (1 - 0.45 * shadow[..., None]) + grain[..., None])


MEDIA = {
    medium.name: medium
    for medium in (
        Medium(
            "flat", flat, ("an illustration", "a flat illustration", "a vector drawing"), ("flat design", "vector art")
        ),
        Medium(
            "watercolor",
            watercolor,
            ("a watercolor painting", "a watercolor", "a watercolour painting"),
            ("watercolor", "watercolor painting", "watercolour"),
        ),
        Medium("oil", oil, ("an oil painting", "a painting in oil"), ("oil painting", "oil on canvas", "oil paint")),
        Medium(
            "pencil",
            pencil,
            ("a pencil drawing", "a pencil sketch", "a sketch"),
            ("pencil drawing", "pencil sketch", "sketch"),
            coloured=False,
        ),
        Medium("pixel art", pixel_art, ("a pixel art picture", "pixel art"), ("pixel art", "8-bit", "pixels")),
        Medium(
            "neon", neon, ("a neon sign", "a neon drawing"), ("neon", "neon lights", "glowing neon"), coloured=False
        ),
        Medium("paper", paper, ("a paper cut-out", "a paper cutout"), ("paper cut-out", "cut paper", "papercraft")),
    )
}
