"""Headers of safetensors files: what a sound one says, and what is refused."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from pipelines.system.safetensors_header import MAX_HEADER, MAX_ITEMS, read_header, try_read_header


def test_tensors_and_metadata_are_read_apart(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    save_file({"weight": torch.zeros(2, 3)}, path, metadata={"title": "Rain"})
    header = read_header(path)
    assert header.metadata == {"title": "Rain"} and list(header.tensors) == ["weight"]
    assert header.tensors["weight"]["shape"] == [2, 3]
    assert header.data_start + header.tensors["weight"]["data_offsets"][1] == path.stat().st_size


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"1234567",
        struct.pack("<Q", 2**60) + b"{}",
        struct.pack("<Q", 3) + b"{}",
        struct.pack("<Q", 4) + b"[1]x",
        struct.pack("<Q", 3) + b"[1]",
        struct.pack("<Q", 60_000) + b"[" * 60_000,
    ],
)
def test_other_files_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(content)
    with pytest.raises(ValueError):
        read_header(path)
    assert try_read_header(path) is None and try_read_header(tmp_path / "absent") is None


def test_a_header_beyond_the_limit_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    with path.open("wb") as file:
        file.write((MAX_HEADER + 1).to_bytes(8, "little"))
        file.truncate(MAX_HEADER + 100)  # a sparse file: no disk is used
    with pytest.raises(ValueError):
        read_header(path)


@pytest.mark.parametrize("piece", [b"{}", b"[]", b"1", b'""', b"[0,0]"])
def test_a_header_of_more_items_than_models_have_is_refused(tmp_path: Path, piece: bytes) -> None:
    path = tmp_path / "x.safetensors"
    text = b'{"a":[' + b",".join([piece] * (MAX_ITEMS + 1)) + b"]}"
    path.write_bytes(struct.pack("<Q", len(text)) + text)
    with pytest.raises(ValueError, match="no safetensors file"):
        read_header(path)
    assert try_read_header(path) is None


def test_a_header_of_many_thousand_tensors_is_read(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    entry = {"dtype": "BF16", "shape": [3072, 3072], "data_offsets": [22_000_000_000, 22_018_874_368]}
    notes = {"ss_tag_frequency": json.dumps({f"a tag, {k}": k for k in range(50_000)})}
    text = json.dumps({"__metadata__": notes, **{f"lora_unet_double_blocks_{k}.up": entry for k in range(60_000)}})
    path.write_bytes(struct.pack("<Q", len(text)) + text.encode())
    assert len(read_header(path).tensors) == 60_000
