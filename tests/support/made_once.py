"""Folders of models that many tests need: made once in a process, and copied, which takes a tenth of the time."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from collections.abc import Callable, Hashable
from pathlib import Path

_made: dict[Hashable, Path] = {}


def made_once(key: Hashable, target: Path | str, make: Callable[[Path], object]) -> Path:
    """Copy a folder to ``target``, made by ``make`` where no earlier call had this key."""
    if key not in _made:
        folder = Path(tempfile.mkdtemp(prefix="playground-tests-"))
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        make(folder)
        _made[key] = folder
    return Path(shutil.copytree(_made[key], target, dirs_exist_ok=True, copy_function=shutil.copyfile))
