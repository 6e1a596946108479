"""Checkpoints in several folders at once: each is written in one move, and the newest of them is read.

    python -m pocket.train --runs pocket/.runs/pocket3 --copy-to /somewhere/else

A second folder outside of the checkout survives what deletes the first.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch

# What reading half a file may raise.
UNREADABLE = (RuntimeError, EOFError, OSError, UnpicklingError, KeyError, ValueError)


@dataclass(frozen=True)
class Checkpoints:
    """Where a run keeps what it has learnt.

    Attributes:
        folder: the run's own folder, which holds the tokenizer and the latents too.
        copies: other folders that get each checkpoint.
    """

    folder: Path
    copies: tuple[Path, ...] = ()

    def save(self, name: str, state: dict[str, Any]) -> None:
        """Write ``name.pt`` to all folders."""
        for folder in (self.folder, *self.copies):
            folder.mkdir(parents=True, exist_ok=True)
            partial = folder / f"{name}.tmp"
            torch.save(state, partial)
            partial.replace(folder / f"{name}.pt")

    def load(self, name: str) -> dict[str, Any] | None:
        """The readable ``name.pt`` that has seen the most samples, or None."""
        found = list(self._readable(name))
        return max(found, key=lambda state: state["seen"]) if found else None

    def _readable(self, name: str) -> Iterator[dict[str, Any]]:
        for file in (folder / f"{name}.pt" for folder in (self.folder, *self.copies)):
            if file.exists():
                try:
                    yield torch.load(file, weights_only=True, map_location="cpu")
                except UNREADABLE as error:
                    print(f"{file} cannot be read: {error}", flush=True)
