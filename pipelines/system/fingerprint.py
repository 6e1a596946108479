"""Telling a file that was replaced from the file that it was, without reading it."""

from __future__ import annotations

from pathlib import Path

# Of one file: device, inode, size, and when its content and its entry last changed, in nanoseconds.
Stamp = tuple[int, int, int, int, int]


def file_stamp(path: Path) -> Stamp:
    """What changes when a file is written or replaced, even if its size and its date are set back.

    Raises:
        OSError: if it is not there.
    """
    found = path.stat()
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def stamp(path: Path) -> tuple[tuple[str, Stamp], ...]:
    """As ``file_stamp``, of a file or of every file directly in a folder; empty where there is none."""
    try:
        files = sorted(path.iterdir()) if path.is_dir() else [path]
        return tuple((file.name, file_stamp(file)) for file in files if file.is_file())
    except OSError:
        return ()
