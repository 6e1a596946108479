"""A second judge that learns nothing: the nearest render of the artwork, in pixels, after alignment.

It shares no weights, no augmentation and no composition with the training: what stands on the background is cut out,
scaled to one size and compared with every concept in every style, mirrored too, on the same background, moved and
scaled by a few per cent to where it fits best.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np
from PIL import Image

from pipelines.training_sample.alignment import ALIGNMENTS, border, cut_out
from pocket.world import plain
from pocket.world.artwork import fetch, load_artwork
from pocket.world.vocabulary import Concept


class Nearest:
    """Compares pictures with the artwork.

    Attributes:
        names: (concept, style) of each reference.
    """

    def __init__(self, concepts: list[Concept]) -> None:
        self._artwork = load_artwork(fetch(), concepts)
        self.names = [(concept, style) for style in self._artwork for concept in range(len(concepts)) for _ in range(2)]
        self._seen: dict[tuple[int, ...], np.ndarray] = {}

    @cached_property
    def _drawings(self) -> list[np.ndarray]:
        """Each artwork and its mirror image, premultiplied RGBA, float32 (80, 80, 4)."""
        found = []
        for pictures in self._artwork.values():
            for art in pictures:
                layer = np.asarray(art.resize((80, 80), Image.Resampling.BOX), np.float32)
                found += [layer, layer[:, ::-1]]
        return found

    def _references(self, background: tuple[int, ...]) -> np.ndarray:
        """What every artwork looks like on this background, (m, SIDE * SIDE * 3)."""
        if background not in self._seen:
            rows = []
            for layer in self._drawings:
                canvas = np.full((96, 96, 3), background, np.float32)
                canvas[8:88, 8:88] = canvas[8:88, 8:88] * (1 - layer[..., 3:] / 255) + layer[..., :3]
                rows.append(cut_out(canvas.clip(0, 255).astype(np.uint8), background)[0])
            self._seen[background] = np.stack(rows)
        return self._seen[background]

    def ranked(self, pixels: np.ndarray, colour: str) -> list[int]:
        """Concepts from the nearest on, for a picture (uint8 (h, w, 3)) with a background of this colour."""
        return list(dict.fromkeys(self.names[k][0] for k in self.distances(pixels, colour).argsort()))

    def style_of(self, pixels: np.ndarray, colour: str, concept: int) -> str:
        """The style in which this concept looks most like the picture."""
        distances = self.distances(pixels, colour)
        return min((d, style) for d, (k, style) in zip(distances, self.names, strict=True) if k == concept)[1]

    def distances(self, pixels: np.ndarray, colour: str) -> np.ndarray:
        """The square distance of each reference from the picture, in the best of its alignments, (m,)."""
        references = self._references(plain.COLOURS[colour])
        aligned = cut_out(pixels, border(pixels), ALIGNMENTS)
        squares = np.square(references).sum(1) + np.square(aligned).sum(1)[:, None]
        return (squares - 2 * aligned @ references.T).min(0)
