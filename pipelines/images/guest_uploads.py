"""Pictures that guests prepare: in memory until a run uses them, then in a folder of each guest, bounded in all."""

from __future__ import annotations

import hashlib
import threading
from contextlib import suppress
from pathlib import Path

from pipelines.system.atomic_files import atomic_write
from pipelines.system.guest_bytes import GuestBytes
from pipelines.system.lru import LruDict

# Bytes in memory of one guest and of all, and on the disk.
GUEST_MEMORY, ALL_MEMORY, DISK_BYTES = 48 * 2**20, 192 * 2**20, 512 * 2**20


class GuestUploads:
    """PNG files of guests by name, each guest's apart.  Thread-safe.

    A name is a hash of pixels and stands in every file that a run saves, so that knowing it says nothing of whose
    picture it is.

    Args:
        folder: created with the first file; it has one folder a guest.
        quota: counts what is written.
        disk_bytes: of all files; the least recently used are deleted first.
    """

    def __init__(self, folder: Path, quota: GuestBytes, disk_bytes: int = DISK_BYTES) -> None:
        self.folder, self._quota, self._disk_bytes = folder, quota, disk_bytes
        self._memory: dict[str, LruDict[str, bytes]] = {}
        self._lock = threading.Lock()

    def put(self, guest: str, name: str, data: bytes) -> None:
        """Keep a file in memory; what the guest used longest ago goes first."""
        with self._lock:
            self._memory.setdefault(guest, LruDict(max_bytes=GUEST_MEMORY, size=len))[name] = data
            while sum(files.nbytes for files in self._memory.values()) > ALL_MEMORY:
                # The guest with the most loses its oldest, so that many small ones stay.
                _, most = max(self._memory.items(), key=lambda item: item[1].nbytes)
                del most[next(iter(most))]
            self._drop_empty()

    def get(self, name: str, guest: str | None = None) -> bytes | None:
        """A file in memory, of one guest or of any."""
        with self._lock:
            groups = self._memory.values() if guest is None else filter(None, [self._memory.get(guest)])
            return next((files[name] for files in groups if name in files), None)

    def path(self, name: str, guest: str) -> Path:
        """Where a guest's file is once a run has used it."""
        return self.folder / hashlib.sha256(guest.encode()).hexdigest()[:16] / f"{name}.png"

    def paths(self, name: str) -> list[Path]:
        """Where it is on the disk, of all guests."""
        return list(self.folder.glob(f"*/{name}.png"))

    def save(self, guest: str, name: str) -> None:
        """Write a file that a run uses; does nothing if it is not in memory.

        Raises:
            NoBytesLeft: if the guest has used up its share of the disk.
            OSError: if it cannot be written.
        """
        data, path = self.get(name, guest), self.path(name, guest)
        if data is None:
            return
        charge = self._quota.charge(guest, len(data))
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with atomic_write(path) as file:
                file.write(data)
        except OSError:
            self._quota.settle(charge, 0)
            raise
        with self._lock:
            if (files := self._memory.get(guest)) is not None:
                files.pop(name, None)
            self._drop_empty()
        delete_oldest(self.folder, self._disk_bytes, keep=path)

    def _drop_empty(self) -> None:
        """Forget guests without files."""
        self._memory = {guest: files for guest, files in self._memory.items() if files}


def delete_oldest(folder: Path, max_bytes: int, keep: Path | None = None) -> None:
    """Delete the oldest PNG files below a folder beyond a number of bytes, never this one."""
    found = []
    for path in folder.rglob("*.png"):
        try:
            facts = path.stat()
        except OSError:  # another thread has deleted it
            continue
        found.append((facts.st_mtime, facts.st_size, path))
    used = sum(size for _, size, _ in found)
    for _, size, path in sorted(found, key=lambda each: each[:2]):
        if used <= max_bytes:
            return
        if path != keep:
            path.unlink(missing_ok=True)
            used -= size
            remove_if_empty(path.parent)


def remove_if_empty(folder: Path) -> None:
    """Remove a guest's folder that has no file."""
    with suppress(OSError):
        folder.rmdir()
