"""What the clients of a long run measure, and what is left of the pictures that they were shown."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


def broken_pictures(folder: Path, names: Sequence[str]) -> list[str]:
    """Announced pictures that are gone, broken or without their settings, a line each."""
    from PIL import Image

    from pipelines.images.png import read_request

    wrong = []
    for name in names:
        try:
            with Image.open(folder / name, formats=("PNG",)) as image:
                image.load()
            read_request(folder / name)
        except Exception as error:
            wrong.append(f"{name}: {type(error).__name__}: {error}")
    return wrong


def part_files(data: Path) -> list[str]:
    """Half-written files in the data folder."""
    return [str(path.relative_to(data)) for path in data.rglob("*.part")]


@dataclass
class Record:
    """What the clients measured.  Thread-safe.

    Attributes:
        statuses: of all answers; 0 for none.
        done: number of actions, by name.
        waits: seconds from the owner's press until the first step.
        finished: seconds from the owner's press until its last picture is there.
        pages: seconds of a GET of the page, by who asked.
        announced: names of the pictures that were announced to a client.
        hung: requests that took too long, a line each.
        faults: broken promises, a line each.
    """

    statuses: Counter[int] = field(default_factory=Counter)
    done: Counter[str] = field(default_factory=Counter)
    waits: list[float] = field(default_factory=list)
    finished: list[float] = field(default_factory=list)
    pages: dict[str, list[float]] = field(default_factory=dict)
    announced: list[str] = field(default_factory=list)
    hung: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def count(self, status: int) -> None:
        """Count an answer."""
        with self._lock:
            self.statuses[status] += 1

    def did(self, action: str, times: int = 1) -> None:
        """Count an action."""
        with self._lock:
            self.done[action] += times

    def took(self, who: str, seconds: float) -> None:
        """Record how long the page took."""
        with self._lock:
            self.pages.setdefault(who, []).append(seconds)

    def to_json(self) -> dict[str, Any]:
        """What ``add`` takes, for a record of another process."""
        with self._lock:
            lists = {name: list(getattr(self, name)) for name in ("announced", "hung", "faults")}
            return {**lists, "statuses": list(self.statuses.items()), "done": list(self.done.items())}

    def add(self, found: Mapping[str, Any]) -> None:
        """Add what another process recorded."""
        for status, times in found["statuses"]:
            self.statuses[status] += times
        for action, times in found["done"]:
            self.did(action, times)
        self.announced += found["announced"]
        self.hung += found["hung"]
        self.faults += found["faults"]
