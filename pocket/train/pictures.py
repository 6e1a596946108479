"""Where trainers get pictures from: drawn while they train, or from a stock that all cores drew before."""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Protocol

import numpy as np
import torch

from pocket.world.artwork import Artwork
from pocket.world.captions import caption
from pocket.world.media import MEDIA
from pocket.world.renderer import Renderer
from pocket.world.samples import Sample, draw_sample, is_held_out

# How many captions each picture of a stock has.
CAPTIONS = 6


class PictureSource(Protocol):
    """An endless source of pictures."""

    def draw(self, count: int) -> tuple[list[Sample], np.ndarray]:
        """So many samples and their pictures, uint8 (count, 256, 256, 3)."""
        ...


class Drawn:
    """Pictures that are drawn when they are asked for.

    With ``even_media`` each medium comes as often as any other: the autoencoder has most to learn from the rare ones.
    """

    def __init__(self, renderer: Renderer, seed: Sequence[int], even_media: bool = False) -> None:
        self.renderer, self.even_media = renderer, even_media
        self.rng = np.random.default_rng(seed)

    def draw(self, count: int) -> tuple[list[Sample], np.ndarray]:
        samples = [self.sample() for _ in range(count)]
        return samples, np.stack([self.renderer.draw(sample) for sample in samples])

    def sample(self) -> Sample:
        """A sample that is not held out."""
        things = self.renderer.things
        while True:
            sample = draw_sample(things, self.rng)
            if self.even_media:
                sample = dataclasses.replace(sample, medium=list(MEDIA)[int(self.rng.integers(len(MEDIA)))])
            if not is_held_out(sample, things):
                return sample


class Stock:
    """Pictures drawn once by all cores, within a time or up to a number; each is given out many times.

    Attributes:
        samples: what they show.
        captions: of each of them, a few.
        pixels: uint8 (n, 256, 256, 3).
    """

    def __init__(self, artwork: Path, seconds: float, most: int, seed: int = 0, part: int = 32) -> None:
        parts, end = [], time.monotonic() + seconds
        workers = os.cpu_count() or 1
        with ProcessPoolExecutor(workers, initializer=_open_renderer, initargs=(artwork,)) as pool:
            waiting = [pool.submit(_draw, seed, k, part) for k in range(2 * workers)]
            while waiting:
                parts.append(waiting.pop(0).result())
                if time.monotonic() < end and part * (len(parts) + len(waiting)) < most:
                    waiting.append(pool.submit(_draw, seed, len(parts) + len(waiting), part))
        self.samples = [sample for samples, _, _ in parts for sample in samples]
        self.captions = [captions for _, found, _ in parts for captions in found]
        self.pixels = np.concatenate([pixels for _, _, pixels in parts])
        self.rng = np.random.default_rng(seed)

    def draw(self, count: int) -> tuple[list[Sample], np.ndarray]:
        chosen = self.rng.integers(len(self.samples), size=count)
        return [self.samples[i] for i in chosen], self.pixels[chosen]


def _open_renderer(artwork: Path) -> None:
    torch.set_num_threads(1)
    _renderers[:] = [Renderer(Artwork(artwork))]


def _draw(seed: int, k: int, count: int) -> tuple[list[Sample], list[list[str]], np.ndarray]:
    renderer, rng = _renderers[0], np.random.default_rng((seed, k, 1))
    samples, pixels = Drawn(renderer, (seed, k)).draw(count)
    return samples, [[caption(s, renderer.things, rng) for _ in range(CAPTIONS)] for s in samples], pixels


# In a process that draws, its renderer.
_renderers: list[Renderer] = []


def to_tensor(pixels: np.ndarray, device: str = "cpu") -> torch.Tensor:
    """uint8 (n, h, w, 3) -> float32 (n, 3, h, w) in [-1, 1] on the device."""
    return torch.from_numpy(pixels).to(device).permute(0, 3, 1, 2).float().div_(127.5).sub_(1)


def halved(x: torch.Tensor) -> torch.Tensor:
    """Pictures (n, 3, h, w) at half of their size."""
    return torch.nn.functional.avg_pool2d(x, 2)
