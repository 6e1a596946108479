"""Which version of a model ran: the revision of its repository on the hub, and the SHA-256 of its files."""

from __future__ import annotations

import hashlib
import json
import logging
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from pipelines.system.atomic_files import atomic_write
from pipelines.system.bounded_json import read_json_file
from pipelines.system.fingerprint import file_stamp

log = logging.getLogger(__name__)
# Larger files are read in the background; until they are, their hash is not known.
AT_ONCE_BYTES = 64 * 2**20
# Files of one model that are named, and hashes that are remembered.
MAX_FILES, MAX_KNOWN = 16, 5000
LIBRARIES = ("torch", "diffusers", "transformers", "peft", "openvino")
# In the hub's cache a file is a link to one that is named by its SHA-256, below a folder named by the commit.
_SHA256, _COMMIT = re.compile(r"[0-9a-f]{64}"), re.compile(r"[0-9a-f]{40}")


class FileHashes:
    """SHA-256 of files, each read once for each version of it.  Thread-safe.

    Args:
        path: a JSON file that remembers them, or None.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._path, self._lock = path, threading.Lock()
        self._known: dict[str, str] = {}
        self._reading: set[str] = set()
        self._waiting: list[Callable[[], None]] = []
        if path is not None:
            with suppress(OSError, ValueError):
                found = read_json_file(path)
                self._known = {str(k): str(v) for k, v in found.items()} if isinstance(found, dict) else {}

    def get(self, file: Path) -> str:
        """The file's hash in hex; "" if it cannot be read, or is large and still being read."""
        try:
            if _SHA256.fullmatch(name := file.resolve().name):
                return name
            key, size = f"{file} {file_stamp(file)}", file.stat().st_size
        except OSError:
            return ""
        with self._lock:
            if key in self._known or key in self._reading:
                return self._known.get(key, "")
            self._reading.add(key)
        if size <= AT_ONCE_BYTES:
            self._read(file, key)
        else:
            threading.Thread(target=self._read, args=(file, key), name="file-hash", daemon=True).start()
        return self._known.get(key, "")

    def after_reading(self, call: Callable[[], None]) -> bool:
        """Call this once all files that are being read are; never, if there are none: then False."""
        with self._lock:
            if self._reading:
                self._waiting.append(call)
            return bool(self._reading)

    def _read(self, file: Path, key: str) -> None:
        found = ""
        with suppress(OSError), file.open("rb") as opened:
            found = hashlib.file_digest(opened, "sha256").hexdigest()
        with self._lock:
            self._reading.discard(key)
            if found:
                self._known = dict([*self._known.items(), (key, found)][-MAX_KNOWN:])
                self._save()
            waiting, self._waiting = ([], self._waiting) if self._reading else (self._waiting, [])
        for call in waiting:
            try:
                call()
            except Exception:
                log.exception("What waited for the hash of a file failed")

    def _save(self) -> None:
        if self._path is None:
            return
        try:
            self._path.parent.mkdir(exist_ok=True)
            with atomic_write(self._path, sync=False) as file:
                file.write(json.dumps(self._known).encode())
        except OSError as error:
            log.info("The hashes of files could not be remembered: %s", error)


def model_version(source: str, path: Path | None, hashes: FileHashes) -> dict[str, Any]:
    """What tells a model from its other versions, as JSON values without paths of this computer.

    Args:
        source: of the model's card: a hub id, a folder or a single file.
        path: where its files are, None if that is not known.
        hashes: of files.
    """
    found: dict[str, Any] = {"source": source if path is None or not _is_path(source) else Path(source).name}
    if path is None:
        return found
    if revision := next((name for name in reversed(path.parts) if _COMMIT.fullmatch(name)), ""):
        found["revision"] = revision
    files = {name: digest for name, file in _weights(path) if (digest := hashes.get(file))}
    return {**found, **({"sha256": files} if files else {})}


def adapter_versions(files: Mapping[str, Path], hashes: FileHashes) -> dict[str, str]:
    """The hashes of adapters' files, by the names that requests use; of a folder each file's, as name/file."""
    parts = {
        name if path.is_file() else f"{name}/{part}": file
        for name, path in files.items()
        for part, file in _weights(path)
    }
    return {name: digest for name, file in parts.items() if (digest := hashes.get(file))}


def library_versions() -> dict[str, str]:
    """The installed versions of the libraries that make pictures."""
    found = {}
    for name in LIBRARIES:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def _is_path(source: str) -> bool:
    return Path(source).is_absolute() or Path(source).suffix.lower() == ".safetensors" or source.count("/") > 1


def _weights(path: Path) -> Iterator[tuple[str, Path]]:
    """The files with weights below a path, by their names in it."""
    if path.is_file():
        yield path.name, path
        return
    found = sorted(path.glob("*.safetensors")) + sorted(path.glob("*/*.safetensors"))
    for file in found[:MAX_FILES]:
        yield file.relative_to(path).as_posix(), file
