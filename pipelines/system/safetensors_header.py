"""The header of a safetensors file: 8 bytes with its length (little-endian), then JSON; no weight is read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.system.bounded_json import parse_json

# A tensor takes about 110 bytes and nine items; large models have some thousands of them, LoRAs up to ten thousand, and
# trainers' metadata take up to some megabytes.  What is larger was made to use up memory.
MAX_HEADER, MAX_ITEMS = 16 << 20, 1_500_000


@dataclass(frozen=True)
class SafetensorsHeader:
    """What a safetensors file says of itself; its entries come from the file as they are, and are not checked.

    Attributes:
        tensors: name -> {"dtype", "shape", "data_offsets"}, in a sound file.
        metadata: the entry ``__metadata__``; empty if there is none.
        data_start: bytes before the first tensor's data.
    """

    tensors: Mapping[str, Any]
    metadata: Mapping[str, Any]
    data_start: int


def read_header(path: Path) -> SafetensorsHeader:
    """Read the header of a safetensors file.

    Raises:
        ValueError: if it is no such file, or shorter than its header says.
        OSError: if it cannot be read.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > min(MAX_HEADER, size - 8):
            raise ValueError(f"{path.name} is no safetensors file")
        text = file.read(length)
    try:
        tensors = parse_json(text, MAX_HEADER, max_items=MAX_ITEMS)
    except ValueError:
        tensors = None
    if not isinstance(tensors, dict):
        raise ValueError(f"{path.name} is no safetensors file")
    metadata = tensors.pop("__metadata__", None)
    return SafetensorsHeader(tensors, metadata if isinstance(metadata, dict) else {}, 8 + length)


def try_read_header(path: Path) -> SafetensorsHeader | None:
    """As ``read_header``, but None for a file that is not safetensors or cannot be read."""
    try:
        return read_header(path)
    except (OSError, ValueError):
        return None
