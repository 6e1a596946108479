"""Which version of a model ran: revision, hashes, libraries."""

from __future__ import annotations

import hashlib
from pathlib import Path

from pipelines.hub import versions
from pipelines.hub.versions import FileHashes, adapter_versions, library_versions, model_version
from tests.support.waiting import wait_for

SHA = hashlib.sha256(b"weights").hexdigest()


def test_a_single_file_is_named_without_its_folder(tmp_path: Path) -> None:
    file = tmp_path / "dream.safetensors"
    file.write_bytes(b"weights")
    found = model_version(str(file), file, FileHashes())
    assert found == {"source": "dream.safetensors", "sha256": {"dream.safetensors": SHA}}


def test_a_model_of_the_hub_has_its_commit_and_the_hashes_that_its_cache_knows(tmp_path: Path) -> None:
    commit, blob = "c" * 40, "b" * 64
    snapshot = tmp_path / "models--owner--name" / "snapshots" / commit
    (snapshot / "unet").mkdir(parents=True)
    (tmp_path / blob).write_bytes(b"not read: its name is its hash")
    (snapshot / "unet" / "model.safetensors").symlink_to(tmp_path / blob)
    found = model_version("owner/name", snapshot, FileHashes())
    assert found == {"source": "owner/name", "revision": commit, "sha256": {"unet/model.safetensors": blob}}
    assert model_version("owner/name", None, FileHashes()) == {"source": "owner/name"}


def test_a_hash_is_remembered_until_the_file_changes(tmp_path: Path, monkeypatch) -> None:
    file, memory = tmp_path / "a.safetensors", tmp_path / "memory" / "hashes.json"
    file.write_bytes(b"weights")
    assert FileHashes(memory).get(file) == SHA
    with monkeypatch.context() as patch:
        patch.setattr(versions.hashlib, "file_digest", None)
        assert FileHashes(memory).get(file) == SHA
    file.write_bytes(b"others")
    assert FileHashes(memory).get(file) == hashlib.sha256(b"others").hexdigest()
    assert FileHashes(memory).get(tmp_path / "gone") == ""
    memory.write_text("[]")
    assert adapter_versions({"ink": file, "gone": tmp_path / "gone"}, FileHashes(memory)).keys() == {"ink"}


def test_a_large_file_is_read_in_the_background(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(versions, "AT_ONCE_BYTES", 3)
    file = tmp_path / "large.safetensors"
    file.write_bytes(b"weights")
    hashes = FileHashes()
    wait_for(lambda: hashes.get(file) == SHA)


def test_the_libraries_that_make_pictures_are_named() -> None:
    assert {"torch", "diffusers", "transformers"} <= library_versions().keys()
