"""The pool of encoded pictures: latents in half precision and what they show, in files of 1,024.

It grows while the diffusion model trains; once it is full, the oldest file is rendered again.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch

from pocket.train import processes
from pocket.world.samples import Sample

CHUNK = 1024


class Pool:
    """Latents of one size in memory and on disk; with several processes each has files of its own.

    Attributes:
        latents: half precision (n, c, s, s).
        samples: what each of them shows.
    """

    def __init__(self, folder: Path, most: int, rng: np.random.Generator | None = None) -> None:
        self.folder, self.most = folder, most
        self.rng = rng if rng is not None else np.random.default_rng()
        folder.mkdir(parents=True, exist_ok=True)
        self.files = sorted(folder.glob(f"{processes.rank()}-????.npz"))
        chunks = [_read(file) for file in self.files]
        self.latents = [latents for latents, _ in chunks]
        self.samples = [samples for _, samples in chunks]
        # The oldest file is rendered again next.
        ages = [file.stat().st_mtime for file in self.files]
        self.next = ages.index(min(ages)) if len(self.files) >= self._most_files else len(self.files)
        self.waiting: list[tuple[list[Sample], torch.Tensor]] = []

    @property
    def _most_files(self) -> int:
        return max(1, self.most // (CHUNK * processes.count()))

    def __len__(self) -> int:
        return sum(len(samples) for samples in self.samples)

    def scale(self) -> float:
        """1 / the standard deviation of the first file's latents, the same in every process."""
        latents, _ = _read(self.folder / "0-0000.npz")
        return 1 / latents.float().std().item()

    def add(self, samples: list[Sample], latents: torch.Tensor) -> None:
        """Take encoded pictures; each 1,024 of them become a file."""
        self.waiting.append((samples, latents))
        if sum(len(s) for s, _ in self.waiting) >= CHUNK:
            self._write([s for part, _ in self.waiting for s in part], torch.cat([z for _, z in self.waiting]))
            self.waiting = []

    def _write(self, samples: list[Sample], latents: torch.Tensor) -> None:
        file = self.folder / f"{processes.rank()}-{self.next:04}.npz"
        partial = file.with_suffix(".part.npz")
        np.savez(partial, latents=latents.numpy(), samples=np.array(json.dumps([asdict(s) for s in samples])))
        partial.replace(file)
        if self.next < len(self.files):
            self.latents[self.next], self.samples[self.next] = latents, samples
        else:
            self.files.append(file)
            self.latents.append(latents)
            self.samples.append(samples)
        self.next = (self.next + 1) % self._most_files

    def batch(self, count: int) -> tuple[torch.Tensor, list[Sample]]:
        """Latents (count, c, s, s), float32, and what they show."""
        files = self.rng.integers(len(self.latents), size=count)
        chosen = [(f, int(self.rng.integers(len(self.samples[f])))) for f in files]
        return torch.stack([self.latents[f][i] for f, i in chosen]).float(), [self.samples[f][i] for f, i in chosen]


def _read(file: Path) -> tuple[torch.Tensor, list[Sample]]:
    archive = np.load(file)
    return torch.from_numpy(archive["latents"]), [Sample(**entry) for entry in json.loads(str(archive["samples"]))]
