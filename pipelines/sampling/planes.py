"""Small pictures as a GPU hands them over: brightness in full, colour at half the width and height, as in a JPEG.

A JPEG of a preview keeps no more than that, so nothing that it shows is lost, and two pictures cross in the bytes of
one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch
    from PIL import Image

# JFIF 1.02: Y, Cb and Cr of R, G and B, all from 0 to 255.
_YCC = ((0.299, 0.587, 0.114), (-0.168736, -0.331264, 0.5), (0.5, -0.418688, -0.081312))
_OFFSETS = (0.0, 128.0, 128.0)


def pack(pixels: torch.Tensor) -> torch.Tensor:
    """Pictures as bytes (n, height, width, 3) to their planes Y, Cb and Cr, (n, bytes), where they are."""
    red, green, blue = pixels.float().unbind(-1)
    planes = [(r * red + g * green + b * blue + offset) for (r, g, b), offset in zip(_YCC, _OFFSETS, strict=True)]
    planes = [planes[0], *(_halved(one) for one in planes[1:])]
    return _joined([one.flatten(1) for one in planes])


def unpack(planes: np.ndarray, width: int, height: int) -> Image.Image:
    """The picture of one row of ``pack``."""
    from PIL import Image

    half = (width + 1) // 2, (height + 1) // 2
    ends = np.cumsum([width * height, half[0] * half[1]])
    brightness, *colours = np.split(planes, ends)
    made = [Image.fromarray(brightness.reshape(height, width))]
    for one in colours:
        small = Image.fromarray(one.reshape(half[::-1]))
        made.append(small.resize((2 * half[0], 2 * half[1]), Image.Resampling.NEAREST).crop((0, 0, width, height)))
    return Image.merge("YCbCr", made)


def _halved(plane: torch.Tensor) -> torch.Tensor:
    """The mean of each 2 x 2 pixels of (n, height, width); the last row and column stand for those that are missing."""
    import torch

    for axis in (1, 2):
        if plane.shape[axis] % 2:
            plane = torch.cat([plane, plane.narrow(axis, plane.shape[axis] - 1, 1)], axis)
    rows = (plane[:, ::2] + plane[:, 1::2]) / 2
    return (rows[:, :, ::2] + rows[:, :, 1::2]) / 2


def _joined(planes: list[torch.Tensor]) -> torch.Tensor:
    import torch

    return torch.cat(planes, 1).round().clamp(0, 255).to(torch.uint8)
