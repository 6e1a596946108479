"""Sharing tests out among processes, and leaving out those that have passed elsewhere in the same ``make test``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import chain, groupby, pairwise
from pathlib import Path

import pytest


def add_options(parser: pytest.Parser) -> None:
    """The options that the Makefile uses."""
    group = parser.getgroup("partial run")
    group.addoption("--taken", metavar="FOLDER", help="run files that no process with the same FOLDER has run")
    group.addoption("--write-passed", metavar="FILE", help="write the names of the tests that have passed")
    group.addoption("--leave-out", action="append", default=[], metavar="FILE", help="leave the tests in FILE out")


def register(config: pytest.Config) -> None:
    """Put the options into effect."""
    if folder := config.getoption("taken"):
        config.pluginmanager.register(Taken(Path(folder)))
    if file := config.getoption("write_passed"):
        config.pluginmanager.register(Passed(Path(file)))


def choose(items: list[pytest.Item], config: pytest.Config) -> None:
    """Leave out the tests that have passed elsewhere."""
    passed = {name for file in config.getoption("leave_out") for name in Path(file).read_text("utf-8").splitlines()}
    config.hook.pytest_deselected(items=[item for item in items if item.nodeid in passed])
    items[:] = [item for item in items if item.nodeid not in passed]


class Taken:
    """Several processes collect the same tests; each takes the next file that no other has taken, until all are run."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        self._folder = folder

    def pytest_runtestloop(self, session: pytest.Session) -> bool | None:
        """Run the files that this process takes; None where the usual loop has to say something."""
        if session.testsfailed or session.config.option.collectonly:
            return None
        for item, following in pairwise(chain(self.mine(session.items), [None])):
            assert item is not None
            # The next one is known before: what the two share is kept, and nothing else.
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
            if session.shouldfail:
                raise session.Failed(session.shouldfail)
            if session.shouldstop:
                raise session.Interrupted(session.shouldstop)
        return True

    def mine(self, items: Iterable[pytest.Item]) -> Iterator[pytest.Item]:
        """The tests of the files that no other process has taken; a file is taken when its first test is asked for."""
        for file, tests in groupby(items, key=lambda item: item.nodeid.partition("::")[0]):
            with suppress(FileExistsError):
                (self._folder / file.replace("/", "-")).touch(exist_ok=False)
                yield from tests


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
