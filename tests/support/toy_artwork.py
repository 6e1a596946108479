"""Artwork that tests draw themselves, so that no package is needed."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

from pocket.world.vocabulary import Concept

THINGS = [
    Concept("fox", "fox", ("sly",), ("vixen",)),
    Concept("red apple", "red apple"),
    Concept("house", "house"),
    Concept("cloud", "cloud"),
    *(Concept(f"thing {k}", f"thing {k}") for k in range(40)),
]
INK = (230, 120, 30)


class Discs:
    """Every thing is a disc with an eye in the middle of an empty canvas of 160 px."""

    def __init__(self) -> None:
        self.things = THINGS
        art = disc()
        self.pictures = {style: [art] * len(THINGS) for style in ("fluent", "noto", "twemoji")}


def disc() -> np.ndarray:
    """Premultiplied RGBA, uint8 (160, 160, 4)."""
    art = Image.new("RGBA", (160, 160), (0, 0, 0, 0))
    pen = ImageDraw.Draw(art)
    pen.ellipse((20, 20, 139, 139), (*INK, 255))
    pen.ellipse((70, 70, 90, 90), (10, 10, 10, 255))
    return np.asarray(art)
