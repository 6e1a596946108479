"""The files below the user's folders: linked folders too, under names that a prompt can say."""

from __future__ import annotations

import os
import re
import threading
import unicodedata
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from pipelines.system.fingerprint import Stamp, file_stamp
from pipelines.system.safetensors_header import SafetensorsHeader, try_read_header

# Bounds of a search.
MAX_DEPTH = 12
MAX_ENTRIES = 100_000
CONFIG = "config.json"
_SAFETENSORS = ".safetensors"
# Longest name in a request, less room for what tells two files of one name apart.
_LONGEST_NAME = 100
# What a mark in a prompt cannot hold, and what no text may.
_NOT_IN_NAMES = re.compile("[<>:/\\\\\x00-\x1f\x7f\ud800-\udfff]")

R = TypeVar("R")
# read(path, header): what a file is, None if it is of another kind.
Reader = Callable[[Path, SafetensorsHeader], R | None]


def prompt_name(path: Path) -> str:
    """A file's name, without its ending, as a prompt can say it: ``a:b<c> .safetensors`` is ``a_b_c_``."""
    return _plain(path.name)


def named(files: Iterable[R]) -> dict[str, R]:
    """Files by name; of two with one name the second is called after its folder too, then numbered.

    Args:
        files: dataclasses with ``name`` and ``path``, in the order of their paths.
    """
    found: dict[str, Any] = {}
    for file in files:
        name, folder = file.name, file.path.parent.name  # type: ignore[attr-defined]
        if name in found:
            if found[name].path.resolve() == file.path.resolve():  # type: ignore[attr-defined]
                continue
            name = f"{name} ({prompt_name(Path(folder))[:20]})"
        number = 2
        while name in found:
            name, number = f"{file.name} ({number})", number + 1  # type: ignore[attr-defined]
        found[name] = file if name == file.name else replace(file, name=name)  # type: ignore[attr-defined, type-var]
    return found


def find_by_name(files: Mapping[str, R], name: str) -> R | None:
    """The file of this name; if there is none, the one whose name differs in capitals or spaces alone."""
    if name in files:
        return files[name]
    wanted = _folded(name)
    found = [file for known, file in files.items() if _folded(known) == wanted]
    return found[0] if len(found) == 1 else None


def _plain(name: str) -> str:
    stem = name[: -len(_SAFETENSORS)] if name.lower().endswith(_SAFETENSORS) else name
    plain = _NOT_IN_NAMES.sub("_", unicodedata.normalize("NFC", stem))
    return " ".join(plain.split())[:_LONGEST_NAME].strip() or "_"


def _folded(name: str) -> str:
    return _plain(name).casefold()


class AdapterFolders:
    """The safetensors files and configurations below some folders; what each is, is read once for each version.

    Thread-safe.

    Args:
        folders: searched in this order.
        readers: of every kind that will be asked for, so that a file is opened once.
    """

    def __init__(self, folders: Sequence[Path], readers: Collection[Reader[Any]] = ()) -> None:
        self.folders = tuple(folders)
        self._readers = set(readers)
        self._known: dict[Path, tuple[Stamp, dict[Reader[Any], Any]]] = {}
        self._lock = threading.Lock()

    def files(self) -> list[Path]:
        """Every safetensors file, by folder and path."""
        return [path for path in self._all() if path.name.lower().endswith(_SAFETENSORS)]

    def configs(self) -> list[Path]:
        """Every ``config.json``."""
        return [path for path in self._all() if path.name == CONFIG]

    def read(self, reader: Reader[R]) -> list[R]:
        """What a reader finds in every file."""
        with self._lock:
            self._readers.add(reader)
            paths = self.files()
            known = {path: entry for path in paths if (entry := self._read(path, reader)) is not None}
            self._known = known
        return [found for path in paths if path in known and (found := known[path][1][reader]) is not None]

    def _read(self, path: Path, reader: Reader[Any]) -> tuple[Stamp, dict[Reader[Any], Any]] | None:
        try:
            stamp = file_stamp(path)
        except OSError:  # gone meanwhile
            return None
        known = self._known.get(path)
        if known is not None and known[0] == stamp and reader in known[1]:
            return known
        header = try_read_header(path)
        return stamp, {each: None if header is None else each(path, header) for each in self._readers}

    def _all(self) -> Iterator[Path]:
        seen: set[tuple[int, int]] = set()
        for folder in self.folders:
            yield from sorted(_walk(folder, seen))


def _walk(root: Path, seen: set[tuple[int, int]]) -> Iterator[Path]:
    """Every file below a folder; links are followed, each folder once."""
    pending, entries = [(root, 0)], 0
    while pending:
        folder, depth = pending.pop()
        try:
            status = folder.stat()
            if (status.st_dev, status.st_ino) in seen:
                continue
            seen.add((status.st_dev, status.st_ino))
            with os.scandir(folder) as listing:
                for entry in listing:
                    entries += 1
                    if entries > MAX_ENTRIES:
                        return
                    if _is(entry.is_file):
                        yield folder / entry.name
                    elif depth < MAX_DEPTH and _is(entry.is_dir):
                        pending.append((folder / entry.name, depth + 1))
        except OSError:  # not there, or not to be read
            continue


def _is(test: Callable[[], bool]) -> bool:
    try:
        return test()
    except OSError:  # a link to itself
        return False
