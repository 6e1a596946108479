"""One program at a time on a folder: a lock that the system drops when the program ends, however it ends."""

from __future__ import annotations

import errno
import json
import os
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from pipelines.system.bounded_json import read_json_file

# How long a start waits for a lock: a look at the lock takes it for a moment.
WAIT_SECONDS = 0.5
# The locked byte lies far behind the text, since Windows lets no other program read a locked byte.
_LOCKED_BYTE = 1 << 30
# What the system says of a lock that another program holds; other errors mean that there are no locks here.
_HELD = (errno.EWOULDBLOCK, errno.EACCES, errno.EDEADLK)


class FolderLock:
    """The lock of a folder, in a file that stays and says who holds it.

    Args:
        path: of the file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: int | None = None

    def acquire(self, facts: Mapping[str, Any], wait: float = WAIT_SECONDS) -> bool:
        """Take the lock until ``release`` or the end of this program; False if another program holds it.

        A file system without locks lets everyone through.

        Args:
            facts: what others are told about this program.
            wait: seconds.

        Raises:
            OSError: if the file cannot be written.
        """
        file = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
        end = time.monotonic() + wait
        while not _try_to_lock(file):
            if time.monotonic() > end:
                os.close(file)
                return False
            time.sleep(0.02)
        self._file = file
        os.ftruncate(file, 0)
        os.write(file, json.dumps(facts).encode())
        return True

    def release(self) -> None:
        """Give the lock back; does nothing without it."""
        if self._file is not None:
            os.close(self._file)
            self._file = None


def holder(path: Path, wait: float = WAIT_SECONDS) -> dict[str, Any] | None:
    """What the program that holds a lock says of itself ({} if it says nothing); None if no program holds it."""
    try:
        file = os.open(path, os.O_RDWR)
    except OSError:
        return None
    try:
        if _try_to_lock(file):
            return None
    finally:
        os.close(file)
    end = time.monotonic() + wait
    while True:  # it writes just after it has locked
        with suppress(OSError, ValueError):
            found = read_json_file(path, max_bytes=4096)
            return found if isinstance(found, dict) else {}
        if time.monotonic() > end:
            return {}
        time.sleep(0.02)


def _try_to_lock(file: int) -> bool:
    """Lock an open file without waiting; closing it unlocks it."""
    try:
        if os.name == "nt":
            import msvcrt

            os.lseek(file, _LOCKED_BYTE, os.SEEK_SET)
            msvcrt.locking(file, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
            os.lseek(file, 0, os.SEEK_SET)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno not in _HELD
    return True
