"""Named colours: of plain backgrounds, and of things, whose main colour can be exchanged."""

from __future__ import annotations

import re

import numpy as np

BACKGROUNDS = {
    "white": (255, 255, 255),
    "black": (0, 0, 0),
    "grey": (128, 128, 128),
    "red": (220, 30, 40),
    "orange": (255, 140, 0),
    "yellow": (255, 221, 30),
    "green": (40, 160, 60),
    "blue": (30, 70, 210),
    "sky blue": (135, 206, 235),
    "purple": (125, 50, 170),
    "pink": (255, 160, 195),
    "brown": (120, 75, 40),
    "teal": (0, 140, 140),
}
# What a thing can be asked to be: bright enough for shading, so black is not quite black.
THING_COLOURS = {
    "red": (222, 40, 48),
    "orange": (255, 140, 20),
    "yellow": (255, 214, 40),
    "green": (52, 168, 72),
    "blue": (44, 96, 224),
    "purple": (140, 66, 190),
    "pink": (255, 134, 180),
    "brown": (134, 86, 48),
    "black": (44, 44, 50),
    "white": (246, 246, 244),
    "grey": (142, 144, 150),
}
NAMED = re.compile(rf"\b({'|'.join(THING_COLOURS)}|rainbow|golden)\b")


def can_be_recoloured(name: str) -> bool:
    """Whether a thing's name leaves its colour open: a "red apple" does not."""
    return NAMED.search(name) is None


def recolour(art: np.ndarray, colour: str) -> np.ndarray:
    """Exchange the main colour of artwork for a named one, with its shading.

    The main colour is the hue that covers most, or grey and white where there is little hue; hues within about 50
    degrees go with it.  Eyes, wheels and other parts keep theirs.

    Args:
        art: premultiplied RGBA, uint8 (h, w, 4).
        colour: a key of ``THING_COLOURS``.
    """
    alpha = art[..., 3:].astype(np.float32) / 255
    rgb = art[..., :3] / np.maximum(alpha, 1e-3) / 255
    value, chroma, hue = _value_chroma_hue(rgb)
    weight = chroma * alpha[..., 0]
    if weight.sum() > 0.15 * alpha.sum():
        distance = np.abs((hue - _main_hue(hue, weight) + 0.5) % 1 - 0.5)
        member = np.clip((0.17 - distance) / 0.05, 0, 1) * np.clip(chroma / 0.2 - 0.3, 0, 1)
    else:
        member = np.clip(1.6 - chroma / 0.15, 0, 1) * np.clip(value / 0.15 - 1.5, 0, 1)
    inside = member * alpha[..., 0] > 0.5
    middle = float(np.median(value[inside])) if inside.any() else 1.0
    target = _shaded(np.array(THING_COLOURS[colour], np.float32) / 255, value / max(middle, 0.1))
    mixed = rgb + (target - rgb) * member[..., None]
    return np.concatenate([mixed.clip(0, 1) * alpha * 255 + 0.5, art[..., 3:]], axis=2).astype(np.uint8)


def _value_chroma_hue(rgb: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Largest channel, largest less smallest, and hue in turns, each (h, w), of (h, w, 3) in [0, 1]."""
    value, low = rgb.max(2), rgb.min(2)
    chroma = value - low
    r, g, b = rgb[..., 0], rgb[..., 1], rgb[..., 2]
    safe = np.maximum(chroma, 1e-4)
    hue = np.where(value == r, (g - b) / safe, np.where(value == g, 2 + (b - r) / safe, 4 + (r - g) / safe))
    return value, chroma, hue / 6 % 1


def _main_hue(hue: np.ndarray, weight: np.ndarray) -> float:
    """The middle of the sixth of the circle that holds the most weight."""
    bins = np.bincount((hue * 36).astype(int).ravel() % 36, weight.ravel(), 36)
    window = sum(np.roll(bins, k) for k in range(-3, 4))
    return (int(window.argmax()) + 0.5) / 36


def _shaded(colour: np.ndarray, ratio: np.ndarray) -> np.ndarray:
    """The colour at lightness ratios (h, w): below 1 darker, above 1 towards white."""
    dark = np.clip(ratio, 0.35, 1)[..., None] * colour
    return dark + (1 - colour) * np.clip(ratio[..., None] - 1, 0, 0.45)
