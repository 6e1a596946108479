"""Files that appear whole or not at all, temporary folders, and removing what killed processes left of both."""

from __future__ import annotations

import atexit
import os
import re
import secrets
import shutil
import tempfile
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

_PREFIX = "diffusion-playground-"
# Names hold the id of the process that writes.
_FOLDER_NAME = re.compile(rf"{_PREFIX}(\d+)-\w+")
_PART_NAME = re.compile(r"\..+\.(\d+)-[0-9a-f]{8}\.part")


@contextmanager
def atomic_write(target: Path, sync: bool = True) -> Generator[BinaryIO]:
    """Open a temporary file in the target's folder, which replaces the target once it is whole; an error removes it.

    Args:
        target: where it appears; its folder must exist.
        sync: whether it must survive a power cut, which takes some milliseconds.

    Raises:
        OSError: if it cannot be written.
    """
    part = target.with_name(f".{target.name}.{os.getpid()}-{secrets.token_hex(4)}.part")
    try:
        with part.open("xb") as file:
            yield file
            file.flush()
            if sync:
                os.fsync(file.fileno())
        os.replace(part, target)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def remove_stale_parts(folder: Path) -> int:
    """Remove unfinished files of ``atomic_write`` whose processes are gone; how many."""
    removed = 0
    for path in folder.glob(".*.part"):
        if _owner_is_gone(path.name, _PART_NAME):
            with suppress(OSError):
                path.unlink()
                removed += 1
    return removed


def create_scratch_folder(parent: str | None = None) -> Path:
    """Create a temporary folder of this process, for this user alone; after a kill, the next start removes it.

    Args:
        parent: where to create it; the system's temporary folder if None, because guests may see its path.
    """
    parent = parent or tempfile.gettempdir()
    Path(parent).mkdir(parents=True, exist_ok=True)
    for path in Path(parent).glob(f"{_PREFIX}*"):
        if _owner_is_gone(path.name, _FOLDER_NAME):
            shutil.rmtree(path, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-", dir=parent)).resolve()
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def is_scratch_folder(folder: Path) -> bool:
    """Whether a folder is one of ``create_scratch_folder``, so that its content may be deleted."""
    return _FOLDER_NAME.fullmatch(folder.name) is not None


def _owner_is_gone(name: str, pattern: re.Pattern[str]) -> bool:
    """Whether a name holds the id of a process that does not exist (False if another process has that id by now)."""
    import psutil

    match = pattern.fullmatch(name)
    return match is not None and not psutil.pid_exists(int(match[1]))
