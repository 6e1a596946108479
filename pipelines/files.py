"""Files that appear complete or not at all."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


@contextmanager
def appearing(target: Path, sync: bool = True) -> Iterator[BinaryIO]:
    """A file to write into, made beside its target and renamed once it is whole; after an error nothing is left.

    Args:
        target: where it appears; its folder must be there.
        sync: whether it must survive a power cut; costs some milliseconds.

    Raises:
        OSError: if it cannot be written.
    """
    beside = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
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
