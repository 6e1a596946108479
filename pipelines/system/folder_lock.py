"""One program at a time on a folder: a lock that the system drops when the program ends, however it ends."""

from __future__ import annotations

import errno
import json
import os
import socket
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

        On a file system without locks the process counts that the file names, while it runs on this computer.

        Args:
            facts: what others are told about this program.
            wait: seconds.

        Raises:
            OSError: if there is no such file and none can be made.
        """
        file = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
        end = time.monotonic() + wait
        while not _take(file, self._path):
            if time.monotonic() > end:
                os.close(file)
                return False
            time.sleep(0.02)
        self._file = file
        with suppress(OSError):  # a full disk: the lock holds, although nothing is told of its holder
            os.ftruncate(file, 0)
            os.write(file, json.dumps({**facts, **_self()}).encode())
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
        if _take(file, path):
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


def _take(file: int, path: Path) -> bool:
    """Lock an open file without waiting; where there are no locks, whether the process that it names has ended."""
    locked = _try_to_lock(file)
    if locked is not None:
        return locked
    try:
        found = read_json_file(path, max_bytes=4096)
    except (OSError, ValueError):
        return True
    return not (isinstance(found, dict) and _runs(found))


def _self() -> dict[str, Any]:
    """What tells this process from others that have its number at another time or on another computer."""
    import psutil

    return {"pid": os.getpid(), "since": round(psutil.Process().create_time()), "computer": socket.gethostname()}


def _runs(facts: Mapping[str, Any]) -> bool:
    """Whether the process of ``_self`` runs, as another one than this."""
    import psutil

    pid = facts.get("pid")
    if not isinstance(pid, int) or pid == os.getpid() or facts.get("computer") != socket.gethostname():
        return False
    try:
        return round(psutil.Process(pid).create_time()) == facts.get("since")
    except (psutil.Error, ValueError, OverflowError):
        return False


def _try_to_lock(file: int) -> bool | None:
    """Lock an open file without waiting; closing it unlocks it.  None on a file system without locks."""
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
        return False if error.errno in _HELD else None
    return True
