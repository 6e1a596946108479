"""Which version of a model ran: revision, hashes, libraries."""

from __future__ import annotations

import hashlib
import threading
from pathlib import Path
from typing import Any

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


def test_what_waits_for_hashes_is_called_once_all_are_known(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(versions, "AT_ONCE_BYTES", 0)
    hashes, called = FileHashes(), list[str]()
    assert not hashes.after_reading(lambda: called.append("nothing is read"))
    held = threading.Lock()
    real = hashlib.file_digest

    def slow(*args: Any) -> Any:
        with held:
            return real(*args)

    monkeypatch.setattr(versions.hashlib, "file_digest", slow)
    (tmp_path / "a").write_bytes(b"a")
    with held:
        assert hashes.get(tmp_path / "a") == ""
        assert hashes.after_reading(lambda: called.append(hashes.get(tmp_path / "a")))
        assert called == []
    wait_for(lambda: called == [hashlib.sha256(b"a").hexdigest()])


def test_a_folder_names_each_of_its_files(tmp_path: Path) -> None:
    (tmp_path / "net").mkdir()
    (tmp_path / "net" / "weights.safetensors").write_bytes(b"a")
    (tmp_path / "ink.safetensors").write_bytes(b"b")
    files = {"net": tmp_path / "net", "ink": tmp_path / "ink.safetensors", "gone": tmp_path / "gone"}
    found = versions.adapter_versions(files, FileHashes())
    assert found == {
        "net/weights.safetensors": hashlib.sha256(b"a").hexdigest(), "ink": hashlib.sha256(b"b").hexdigest()
    }  # fmt: skip
