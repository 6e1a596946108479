"""Two pictures compared: pixel by pixel, then by what is left when small detail is taken away."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from PIL import Image

# Bits of a perceptual hash that may differ between pictures that look the same, of 64.
SAME_LOOK = 8
_SIDE, _KEPT = 32, 8


@dataclass(frozen=True)
class PictureDifference:
    """How two pictures differ.

    Attributes:
        sizes: width and height of both.
        changed, pixels: how many pixels differ, of how many; 0 for pictures of different sizes.
        most: the largest difference of a channel, 0 to 255.
        bits: of 64 bits of the perceptual hashes those that differ.
    """

    sizes: tuple[tuple[int, int], tuple[int, int]]
    changed: int
    pixels: int
    most: int
    bits: int

    @property
    def is_same(self) -> bool:
        """Whether the pictures are equal, pixel by pixel."""
        return self.sizes[0] == self.sizes[1] and not self.changed

    @property
    def looks_same(self) -> bool:
        """Whether the pictures look the same from afar."""
        return self.sizes[0] == self.sizes[1] and self.bits <= SAME_LOOK

    def sentence(self) -> str:
        """The difference in words."""
        if self.is_same:
            return "The same picture, pixel by pixel."
        (w, h), (other_w, other_h) = self.sizes
        if self.sizes[0] != self.sizes[1]:
            return f"Not the same: {w} \u00d7 {h} pixels then, {other_w} \u00d7 {other_h} now."
        few = f"{self.changed:,} of {self.pixels:,} pixels differ, by {self.most} of 255 at most"
        if self.looks_same:
            return f"Not the same pixel by pixel, but it looks the same: {few}."
        return f"Not the same: {few}, and it looks different ({self.bits} of 64 bits of the perceptual hash)."


def compare(then: Image.Image, now: Image.Image) -> PictureDifference:
    """Compare two pictures of any mode."""
    a, b = (np.asarray(image.convert("RGB"), dtype=np.int16) for image in (then, now))
    bits = int(np.count_nonzero(perceptual_hash(then) != perceptual_hash(now)))
    if a.shape != b.shape:
        return PictureDifference((then.size, now.size), 0, 0, 0, bits)
    apart = np.abs(a - b).max(axis=2)
    return PictureDifference((then.size, now.size), int(np.count_nonzero(apart)), apart.size, int(apart.max()), bits)


def perceptual_hash(image: Image.Image) -> np.ndarray:
    """64 bits: which of the lowest frequencies of a small grey copy are above their median (Zauner 2010, pHash)."""
    from PIL import Image
    from scipy.fft import dctn

    small = image.convert("L").resize((_SIDE, _SIDE), Image.Resampling.LANCZOS)
    low = dctn(np.asarray(small, dtype=np.float64), norm="ortho")[:_KEPT, :_KEPT].flatten()
    # The first is the brightness of all: it says nothing of the shapes.
    low[0] = 0.0
    return np.asarray(low > np.median(low[1:]) + 1e-6)
