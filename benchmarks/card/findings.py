"""What a section has found: written after each item, so that what was measured outlasts a crash."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pipelines.system.text import first_line


class Findings:
    """The items of one section, and the time that is left for it.

    Args:
        path: the JSON file that they are written to, or None.
        seconds: how long the section may take: what is not begun by then is left out.

    Attributes:
        found: by item; of one that failed the error.
        left_out: names of those for which no time was left.
        skipped: why the section has nothing to measure here, "" if it has.
    """

    def __init__(self, path: Path | None, seconds: float) -> None:
        self._path, self._ends = path, time.monotonic() + seconds
        self._started = time.monotonic()
        self.found: dict[str, Any] = {}
        self.left_out: list[str] = []
        self.skipped = ""
        self._problem = ""

    def measure(self, name: str, work: Callable[[], Mapping[str, Any]]) -> None:
        """Add what the work returns; if it fails, its error, and the rest goes on."""
        if time.monotonic() >= self._ends:
            self.left_out.append(name)
        else:
            started = time.monotonic()
            found = _result(work)
            self.found[name] = {**found, "took_seconds": round(time.monotonic() - started, 2)}
            _free_memory()
        self.write()

    def skip(self, reason: str) -> None:
        """There is nothing to measure on this machine."""
        self.skipped = reason
        self.write()

    def fail(self, error: Exception) -> None:
        """The section itself has failed."""
        self._problem = _told(error)

    def as_json(self) -> dict[str, Any]:
        """Everything, as JSON can hold it."""
        skipped = {"skipped": self.skipped} if self.skipped else {}
        left_out = {"left_out": self.left_out} if self.left_out else {}
        seconds = round(time.monotonic() - self._started, 1)
        problem = {"problem": self._problem} if self._problem else {}
        return {"seconds": seconds, **skipped, "found": self.found, **left_out, **problem}

    def write(self) -> None:
        """Write the file as it is now."""
        if self._path is not None:
            self._path.write_text(json.dumps(self.as_json(), indent=1), encoding="utf-8")


def _result(work: Callable[[], Mapping[str, Any]]) -> dict[str, Any]:
    try:
        return dict(work())
    except Exception as error:
        return {"error": _told(error)}


def _told(error: Exception) -> str:
    return f"{type(error).__name__}: {first_line(error)}"


def _free_memory() -> None:
    from pipelines.jobs.loader import free_memory

    free_memory()
