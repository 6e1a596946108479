"""Hashes of files in other programs' forms, read in the background and remembered by size and date."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from pipelines.hub.digests import OLD_BYTES, OLD_START, Digests, LocalDigests, digests_of, is_hash
from tests.support.waiting import wait_for

TRAINED = "ab" * 32


def lora(path: Path, note: str = "", value: float = 1.0) -> Path:
    save_file({"a": torch.full((300_000,), value)}, path, metadata={"sshs_model_hash": TRAINED, "note": note})
    return path


def read(digests: LocalDigests, *files: Path) -> None:
    digests.read(files)
    wait_for(lambda: not digests.read(files))


def test_a_file_has_the_hashes_that_other_programs_write(tmp_path: Path) -> None:
    file = lora(tmp_path / "a.safetensors")
    data = file.read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    found = digests_of(file)
    assert found.whole == hashlib.sha256(data).hexdigest()
    assert found.tensors == hashlib.sha256(data[start:]).hexdigest() and found.trained == TRAINED
    assert found.old == hashlib.sha256(data[OLD_START : OLD_START + OLD_BYTES]).hexdigest()[:8]
    # Other notes change the file, not its tensors.
    other = digests_of(lora(tmp_path / "b.safetensors", note="edited"))
    assert other.whole != found.whole and other.tensors == found.tensors
    for written in (found.whole, found.whole[:10].upper(), f"0x{found.tensors}", f"sha256:{found.whole}", found.old,
                    found.tensors[:12], TRAINED[:12]):  # fmt: skip
        assert found.fits(written) and is_hash(written)
    plain = tmp_path / "plain.bin"
    plain.write_bytes(b"x")
    assert digests_of(plain) == Digests(hashlib.sha256(b"x").hexdigest(), old=hashlib.sha256(b"").hexdigest()[:8])


@pytest.mark.parametrize("written", ["", "abc", "blake3:" + "0" * 64, "g" * 10, "0" * 65, "a" * 10])
def test_what_is_no_hash_of_it_fits_nothing(written: str) -> None:
    assert not Digests("0" * 64).fits(written)


def test_files_are_read_once_for_each_size_and_date(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, memory, reads = lora(tmp_path / "a.safetensors"), tmp_path / "memory" / "digests.json", list[Path]()
    monkeypatch.setattr("pipelines.hub.digests.digests_of", lambda path: (reads.append(path), digests_of(path))[1])
    digests = LocalDigests(memory)
    assert digests.get(file) is None and digests.read([tmp_path / "gone"]) is False
    read(digests, file)
    assert digests.get(file) == digests_of(file) and reads == [file]
    again = LocalDigests(memory)
    assert again.get(file) == digests_of(file) and not again.read([file])
    lora(file, value=2.0)
    os.utime(file, (1, 1))
    assert again.get(file) is None
    read(again, file)
    assert again.get(file) == digests_of(file) and reads == [file, file]


def test_a_file_that_cannot_be_read_is_not_asked_for_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = lora(tmp_path / "a.safetensors")

    def fail(path: Path) -> Digests:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("pipelines.hub.digests.digests_of", fail)
    digests = LocalDigests()
    read(digests, file)
    assert digests.get(file) is None


@pytest.mark.parametrize("text", ["", "[]", "{", '{"a": 1}', '{"a": [1, 2, {"x": 1}]}', '{"a": ["b", 2, {}]}', "null"])
def test_a_broken_memory_is_an_empty_one(tmp_path: Path, text: str) -> None:
    (tmp_path / "digests.json").write_text(text)
    digests = LocalDigests(tmp_path / "digests.json")
    file = lora(tmp_path / "a.safetensors")
    assert digests.get(file) is None
    read(digests, file)
    assert set(json.loads((tmp_path / "digests.json").read_text())) == {str(file)}
