"""A history in a folder of its own, with a clock that the test sets."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from history.store import History
from tests.support.history_entries import START, keep


class Clock:
    """Seconds since the epoch; goes on by a step at each look."""

    def __init__(self) -> None:
        self.now, self.step = START, 1

    def __call__(self) -> float:
        self.now += self.step
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def history(tmp_path: Path, clock: Clock) -> Iterator[History]:
    made = History(tmp_path, clock)
    assert made.open(background=False) == []
    yield made
    made.close()


@pytest.fixture
def make(history: History) -> Callable[..., str]:
    """Keeps a picture in the history; its id."""

    def make(prompt: str = "a fox", **options: Any) -> str:
        return keep(history, prompt, **options)

    return make
