"""Where a run's processor seconds go: a line for each test and fixture, with those of all processes it started."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

_TICKS = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100


class Meter:
    """User and system time of this process and of all below it, browsers and servers included (Linux only)."""

    def __init__(self) -> None:
        self._own, self._waited = _used()

    def lap(self) -> float:
        """Seconds since the last call; of processes that began and ended in between, those that were waited for."""
        own, waited = _used()
        ended = sum(ticks for process, ticks in self._own.items() if process not in own)
        reaped = sum(max(ticks - self._waited.get(process, 0), 0) for process, ticks in waited.items())
        running = sum(ticks - self._own.get(process, 0) for process, ticks in own.items())
        self._own, self._waited = own, waited
        return (running + max(reaped - ended, 0)) / _TICKS


def _used() -> tuple[dict[int, int], dict[int, int]]:
    """Ticks of each process below this one: its own, and those of its children that have ended."""
    fields = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            fields[int(stat.parent.name)] = stat.read_text("utf-8", "replace").rpartition(")")[2].split()
    parents = {process: int(each[1]) for process, each in fields.items()}
    below = {process: each for process, each in fields.items() if _is_below(process, parents)}
    own = {process: int(each[11]) + int(each[12]) for process, each in below.items()}
    return own, {process: int(each[13]) + int(each[14]) for process, each in below.items()}


def _is_below(process: int, parents: dict[int, int]) -> bool:
    while process and process != os.getpid():
        process = parents.get(process, 0)
    return bool(process)


class CpuReport:
    """Writes a line for each phase of a test and each fixture: seconds, what, and its name."""

    def __init__(self, file: str) -> None:
        worker = os.environ.get("PYTEST_XDIST_WORKER")
        self._file = Path(f"{file}.{worker}" if worker else file)
        self._file.write_text("")
        self._meter = Meter()

    def _note(self, what: str, name: str) -> None:
        with self._file.open("a", encoding="utf-8") as file:
            file.write(f"{self._meter.lap():8.2f} {what:8} {name}\n")

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: Any, request: Any) -> Iterator[None]:
        """What came before belongs to the test, the rest to the fixture."""
        self._note("setup", request.node.nodeid)
        try:
            return (yield)
        finally:
            self._note("fixture", f"{request.node.nodeid} {fixturedef.argname}")

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> Iterator[None]:
        """Setting up, without the fixtures."""
        return (yield from self._phase("setup", item))

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Iterator[None]:
        """The test itself."""
        return (yield from self._phase("call", item))

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_teardown(self, item: pytest.Item) -> Iterator[None]:
        """What ends with the test."""
        return (yield from self._phase("teardown", item))

    def _phase(self, what: str, item: pytest.Item) -> Iterator[None]:
        self._note("between", item.nodeid)
        try:
            return (yield)
        finally:
            self._note(what, item.nodeid)

    def pytest_sessionfinish(self) -> None:
        """The last line."""
        self._note("rest", "")
        self._file.close()
