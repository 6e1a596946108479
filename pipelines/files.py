"""Files that appear complete or not at all."""

from __future__ import annotations

import atexit
import os
import re
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

_SCRATCH = "diffusion-playground-"
_FOLDER = re.compile(rf"{_SCRATCH}(\d+)-\w+")
_PART = re.compile(r"\..+\.(\d+)-[0-9a-f]{8}\.part")


@contextmanager
def appearing(target: Path, sync: bool = True) -> Iterator[BinaryIO]:
    """A file to write into, made beside its target and renamed once it is whole; after an error nothing is left.

    Args:
        target: where it appears; its folder must be there.
        sync: whether it must survive a power cut; costs some milliseconds.

    Raises:
        OSError: if it cannot be written.
    """
    beside = target.with_name(f".{target.name}.{os.getpid()}-{secrets.token_hex(4)}.part")
    try:
        with beside.open("xb") as file:
            yield file
            file.flush()
            if sync:
                os.fsync(file.fileno())
        os.replace(beside, target)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


def sweep(folder: Path) -> int:
    """Remove what programs were writing into a folder (``appearing``) when they were killed; how many files went."""
    gone = 0
    for path in folder.glob(".*.part"):
        if _widowed(path.name, _PART):
            with suppress(OSError):
                path.unlink()
                gone += 1
    return gone


def scratch() -> Path:
    """A new folder for what need not outlive this program; if that is killed, the next one removes it.

    It is in the system's place for such things, for its name may be told to guests, and for this user alone.
    """
    for left in Path(tempfile.gettempdir()).glob(f"{_SCRATCH}*"):
        if _widowed(left.name, _FOLDER):
            shutil.rmtree(left, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(prefix=f"{_SCRATCH}{os.getpid()}-")).resolve()
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def is_scratch(folder: Path) -> bool:
    """Whether a folder is one of ``scratch``: whatever is in it is this program's, and may go."""
    return _FOLDER.fullmatch(folder.name) is not None


def _widowed(name: str, pattern: re.Pattern[str]) -> bool:
    """Whether the program whose number is in a name is gone; False if there is none, or it is another's by now."""
    import psutil

    found = pattern.fullmatch(name)
    return found is not None and not psutil.pid_exists(int(found.group(1)))
