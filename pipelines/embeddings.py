"""Textual inversion: new words for a text encoder, learnt from pictures (Gal et al. 2022, arXiv:2208.01618)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipelines.loras import named, read_header

# Vectors of one word, and the widths of the text encoders that may read them.
MOST_VECTORS = 128
MOST_WIDTH = 8192
# How files for Stable Diffusion XL name the vectors of its two text encoders.
CLIP_L, CLIP_G = "clip_l", "clip_g"


@dataclass(frozen=True)
class EmbeddingFile:
    """A word on this machine.

    Attributes:
        name: of the file, without its ending; a prompt says ``<embedding:name>``.
        path: where it is.
        keys: name of the tensor -> its shape (vectors, width).
    """

    name: str
    path: Path
    keys: Mapping[str, tuple[int, int]]


def scan(folders: Sequence[Path]) -> dict[str, EmbeddingFile]:
    """Every word in safetensors files below the folders, by name."""
    return named(folders, read)


def read(path: Path) -> EmbeddingFile | None:
    """What a file's own header says; None for what is no word, or cannot be read."""
    header = read_header(path)
    if header is None:
        return None
    shapes = {name: _shape(entry) for name, entry in header.items() if name != "__metadata__"}
    known = {name: shape for name, shape in shapes.items() if shape is not None}
    # One tensor (diffusers, AUTOMATIC1111), or one for each encoder of Stable Diffusion XL.
    if not known or len(known) != len(shapes) or not (len(known) == 1 or set(known) == {CLIP_L, CLIP_G}):
        return None
    return EmbeddingFile(path.stem, path, known)


def _shape(entry: object) -> tuple[int, int] | None:
    shape = entry.get("shape") if isinstance(entry, dict) else None
    if not isinstance(shape, list) or not 1 <= len(shape) <= 2 or not all(isinstance(n, int) for n in shape):
        return None
    vectors, width = (1, *shape) if len(shape) == 1 else shape
    return (vectors, width) if 1 <= vectors <= MOST_VECTORS and 1 <= width <= MOST_WIDTH else None
