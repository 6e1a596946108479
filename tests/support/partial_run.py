"""Running a part of the tests, and leaving out those that have passed elsewhere in the same ``make test``."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest


def add_options(parser: pytest.Parser) -> None:
    """The options that the Makefile uses."""
    group = parser.getgroup("partial run")
    group.addoption("--part", default="1/1", metavar="K/N", help="run the K-th of N parts of the files")
    group.addoption("--write-passed", metavar="FILE", help="write the names of the tests that have passed")
    group.addoption("--leave-out", action="append", default=[], metavar="FILE", help="leave the tests in FILE out")


def choose(items: list[pytest.Item], config: pytest.Config) -> None:
    """Keep the part that was asked for, without the tests that are left out."""
    part, parts = map(int, config.getoption("part").split("/"))
    passed = {name for file in config.getoption("leave_out") for name in Path(file).read_text("utf-8").splitlines()}
    place = _places(Counter(str(item.path) for item in items), parts)
    kept = [item for item in items if place[str(item.path)] == part - 1 and item.nodeid not in passed]
    config.hook.pytest_deselected(items=[item for item in items if item not in set(kept)])
    items[:] = kept


def _places(sizes: Counter[str], parts: int) -> dict[str, int]:
    """The part of each file, so that all have about as many tests; largest files first."""
    loads, found = [0] * parts, {}
    for path, size in sorted(sizes.items(), key=lambda each: (-each[1], each[0])):
        found[path] = loads.index(min(loads))
        loads[found[path]] += size
    return found


class Passed:
    """Notes the tests that have passed, and writes their names at the end."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._passed: dict[str, None] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """A test has passed if its call has, and its end has not failed."""
        if report.when == "call" and report.passed:
            self._passed[report.nodeid] = None
        elif report.failed:
            self._passed.pop(report.nodeid, None)

    def pytest_sessionfinish(self) -> None:
        """Write the names, one a line."""
        self._file.write_text("".join(f"{name}\n" for name in self._passed if "\n" not in name), "utf-8")
