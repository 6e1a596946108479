"""Wait for something that another thread or process does, however slow the machine is."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

# Long enough for a busy machine; what holds earlier is seen earlier.
SECONDS = 180.0


def holds_soon(what: Callable[[], Any], seconds: float = SECONDS) -> bool:
    """Whether something holds within so many seconds."""
    end = time.monotonic() + seconds
    while not (met := what()) and time.monotonic() < end:
        time.sleep(0.02)
    return bool(met)


def wait_for(what: Callable[[], Any], seconds: float = SECONDS) -> None:
    """Wait until something holds; an AssertionError if it does not."""
    assert holds_soon(what, seconds), f"this never held: {what()}"
