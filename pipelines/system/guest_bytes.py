"""What the program writes to the disk for guests, besides their uploads: counted by guest and in all."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

HOUR = 3600.0
# Bytes in an hour, of one guest and of all guests together: a guest who logs in again counts as another one.
BYTES_AN_HOUR, ALL_BYTES_AN_HOUR = 512 * 2**20, 2 * 2**30
# While less is free on the disk, nothing is written for guests.
MIN_FREE_BYTES = 2 * 2**30
DISK_NEARLY_FULL = "This computer's disk is nearly full, so nothing is kept for guests now; ask its owner to make room."


class NoBytesLeft(RuntimeError):
    """Nothing more is written for this guest now; the message is one sentence for the user."""


@dataclass(eq=False)
class Charge:
    """Bytes that are counted for a guest, at a time."""

    guest: str
    size: int
    at: float


def free_bytes(folder: Path) -> int:
    """Free bytes on the disk of a folder, which need not exist yet."""
    return shutil.disk_usage(_existing(folder)).free


def has_room(folder: Path) -> bool:
    """Whether guests' files may be put into a temporary folder; its disk may be a small one in memory."""
    usage = shutil.disk_usage(_existing(folder))
    return usage.free >= min(MIN_FREE_BYTES, usage.total // 4)


def _existing(folder: Path) -> Path:
    return next(path for path in (folder, *folder.absolute().parents) if path.is_dir())


class GuestBytes:
    """The bytes of the last hour.  Thread-safe.

    Args:
        folder: on the disk that is written to.
        each, together: bytes in an hour of one guest and of all.
        clock: monotonic seconds; tests set it.
        free: free bytes on a folder's disk; tests set it.
    """

    def __init__(
        self,
        folder: Path,
        each: int = BYTES_AN_HOUR,
        together: int = ALL_BYTES_AN_HOUR,
        clock: Callable[[], float] = time.monotonic,
        free: Callable[[Path], int] = free_bytes,
    ) -> None:
        self._folder, self._each, self._together = folder, each, together
        self._clock, self._free = clock, free
        self._temporary: list[Path] = []
        self._charges: list[Charge] = []
        self._lock = threading.Lock()

    def watch(self, folder: Path) -> None:
        """Look at the disk of a temporary folder, too, into which files are written for guests."""
        self._temporary.append(folder)

    def check_disk(self) -> None:
        """Raise NoBytesLeft if the disk, or that of a temporary folder, is nearly full."""
        if self._free(self._folder) < MIN_FREE_BYTES or not all(map(has_room, self._temporary)):
            raise NoBytesLeft(DISK_NEARLY_FULL)

    def charge(self, guest: str | None, size: int) -> Charge | None:
        """Count bytes before they are written; None for the owner, who may write any number.

        Raises:
            NoBytesLeft: if that is more than the guest or all guests may write in an hour, or the disk is nearly full.
        """
        if guest is None:
            return None
        self.check_disk()
        now = self._clock()
        with self._lock:
            self._charges = [charge for charge in self._charges if charge.at > now - HOUR]
            mine = sum(charge.size for charge in self._charges if charge.guest == guest)
            total = sum(charge.size for charge in self._charges)
            if mine + size > self._each or total + size > self._together:
                whose = "You have" if mine + size > self._each else "All guests together have"
                raise NoBytesLeft(f"{whose} used up this hour's space for pictures; try again later.")
            found = Charge(guest, size, now)
            if size:  # 0 asks whether there is room
                self._charges.append(found)
            return found

    def settle(self, charge: Charge | None, size: int) -> None:
        """What was really written of a charge."""
        if charge is not None:
            with self._lock:
                charge.size = size
