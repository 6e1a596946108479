"""Hashes of model files in the forms in which other programs write them, read in the background.

A picture's settings name files by the beginning of one of them: AUTOMATIC1111, Fooocus and Civitai (AutoV2) by that of
the SHA-256 of the whole file, SwarmUI and Civitai (AutoV3) by that of its tensors alone, which stays the same when its
notes are edited, trainers by the one that they wrote into it, and AUTOMATIC1111's first versions by 64 KB of it.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
import threading
from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pipelines.system.atomic_files import atomic_write
from pipelines.system.bounded_json import read_json_file
from pipelines.system.safetensors_header import try_read_header

log = logging.getLogger(__name__)
# Files that are remembered, and bytes that are read at once.
MAX_KNOWN, PIECE = 5000, 1 << 22
# Where AUTOMATIC1111's first versions looked.
OLD_START, OLD_BYTES = 0x100000, 0x10000
_WRITTEN = re.compile(r"(?:0x|sha256:)?([0-9a-f]{8,64})")
_HEX = re.compile(r"[0-9a-f]{8,64}")
_TRAINED = "sshs_model_hash"


@dataclass(frozen=True)
class Digests:
    """The hashes of one file, in hex; "" for what it has not.

    Attributes:
        whole: SHA-256 of the file.
        tensors: SHA-256 of what follows the header of a safetensors file.
        trained: what its trainer wrote into it, a hash of the tensors as they were.
        old: 8 digits of AUTOMATIC1111's first versions.
    """

    whole: str
    tensors: str = ""
    trained: str = ""
    old: str = ""

    def fits(self, written: str) -> bool:
        """Whether a hash of another program, whole or its first 8 digits or more, is one of these."""
        found = _WRITTEN.fullmatch(written.strip().lower())
        if found is None:
            return False
        if len(found[1]) == 8 and found[1] == self.old:
            return True
        return any(each.startswith(found[1]) for each in (self.whole, self.tensors, self.trained) if each)


def is_hash(written: str) -> bool:
    """Whether a text is a hash that ``Digests.fits`` can find."""
    return _WRITTEN.fullmatch(written.strip().lower()) is not None


class LocalDigests:
    """The hashes of files on this computer, each read once for each size and date of it.  Thread-safe.

    Args:
        path: a JSON file that remembers them, or None.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._path, self._lock = path, threading.Lock()
        self._known: dict[str, tuple[tuple[int, int], Digests]] | None = None
        self._waiting: deque[Path] = deque()
        self._unreadable: set[tuple[str, tuple[int, int]]] = set()
        self._reading = False

    def get(self, file: Path) -> Digests | None:
        """The hashes of a file, if they were read since it was last changed; its content is not looked at."""
        try:
            stamp = _stamp(file)
        except OSError:
            return None
        with self._lock:
            found = self._all().get(str(file))
        return found[1] if found is not None and found[0] == stamp else None

    def read(self, files: Iterable[Path]) -> bool:
        """Read those that are not known, one after the other in a thread; whether there are any."""
        new = [file for file in files if self._is_new(file)]
        with self._lock:
            self._waiting.extend(file for file in new if file not in self._waiting)
            begins = bool(self._waiting) and not self._reading
            self._reading = self._reading or begins
        if begins:
            threading.Thread(target=self._work, name="file-digests", daemon=True).start()
        return bool(new)

    def _is_new(self, file: Path) -> bool:
        try:
            stamp = _stamp(file)
        except OSError:
            return False
        with self._lock:
            found = self._all().get(str(file))
            return (found is None or found[0] != stamp) and (str(file), stamp) not in self._unreadable

    def _work(self) -> None:
        while True:
            with self._lock:
                self._reading = bool(self._waiting)
                if not self._reading:
                    return
                file = self._waiting[0]
            self._read(file)
            with self._lock:
                self._waiting.popleft()

    def _read(self, file: Path) -> None:
        try:
            stamp = _stamp(file)
        except OSError:
            return
        try:
            found = digests_of(file)
            unchanged = _stamp(file) == stamp
        except OSError as error:
            log.info("The hash of %s could not be read: %s", file.name, error)
            with self._lock:
                self._unreadable.add((str(file), stamp))
            return
        if not unchanged:  # it is still being written; the next question reads it again
            return
        with self._lock:
            known = self._all()
            known.pop(str(file), None)
            known[str(file)] = stamp, found
            while len(known) > MAX_KNOWN:
                known.pop(next(iter(known)))
            self._save(known)

    def _all(self) -> dict[str, tuple[tuple[int, int], Digests]]:
        if self._known is None:
            self._known = _remembered(self._path)
        return self._known

    def _save(self, known: dict[str, tuple[tuple[int, int], Digests]]) -> None:
        if self._path is None:
            return
        try:
            self._path.parent.mkdir(exist_ok=True)
            with atomic_write(self._path, sync=False) as file:
                values = {name: [*stamp, asdict(found)] for name, (stamp, found) in known.items()}
                file.write(json.dumps(values).encode())
        except OSError as error:
            log.info("The hashes of files could not be remembered: %s", error)


def digests_of(file: Path) -> Digests:
    """Read the hashes of a file; raises OSError."""
    whole, tensors = hashlib.sha256(), hashlib.sha256()
    header = try_read_header(file)
    start = header.data_start if header else 0
    written = str(header.metadata.get(_TRAINED, "")).lower() if header else ""
    with file.open("rb") as opened:
        opened.seek(OLD_START)
        old = hashlib.sha256(opened.read(OLD_BYTES)).hexdigest()[:8]
        opened.seek(0)
        at = 0
        while piece := opened.read(PIECE):
            whole.update(piece)
            if start:
                tensors.update(piece[max(0, start - at) :])
            at += len(piece)
    trained = written if _HEX.fullmatch(written) else ""
    return Digests(whole.hexdigest(), tensors.hexdigest() if start else "", trained, old)


def _stamp(file: Path) -> tuple[int, int]:
    found = file.stat()
    return found.st_size, found.st_mtime_ns


def _remembered(path: Path | None) -> dict[str, tuple[tuple[int, int], Digests]]:
    """What a file remembers; nothing where it cannot be read."""
    found: dict[str, tuple[tuple[int, int], Digests]] = {}
    values: Any = None
    if path is not None:
        with suppress(OSError, ValueError):
            values = read_json_file(path)
    for name, value in values.items() if isinstance(values, dict) else ():
        with suppress(TypeError, ValueError, AttributeError):
            size, date, hashes = value
            digests = Digests(**{part: str(text) for part, text in hashes.items()})
            found[name] = (int(size), int(date)), digests
    return found
