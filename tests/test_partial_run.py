"""Tests shared out among processes, and those that ``make test`` has run already."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from tests.support.partial_run import Passed, Taken, choose

NAMES = ("a.py::x[1]", "a.py::x[ü ::]", "a.py::y", "b.py::x", "b.py::y", "c.py::x")


class Item:
    """What is asked of a test."""

    def __init__(self, name: str) -> None:
        self.nodeid, self.path = name, name.partition("::")[0]


def chosen(left_out: list[Path]) -> list[str]:
    """The names of the tests that are run."""
    items: Any = [Item(name) for name in NAMES]
    gone: list[Any] = []
    options = {"leave_out": left_out}
    hook = SimpleNamespace(pytest_deselected=lambda items: gone.extend(items))
    choose(items, SimpleNamespace(getoption=options.get, hook=hook))  # type: ignore[arg-type]
    assert len(items) + len(gone) == len(NAMES)
    return [item.nodeid for item in items]


def report(name: str, when: str, outcome: str) -> Any:
    return SimpleNamespace(nodeid=name, when=when, passed=outcome == "passed", failed=outcome == "failed")


def test_each_file_is_run_whole_by_the_process_that_comes_to_it_first(tmp_path: Path) -> None:
    one, other = Taken(tmp_path / "taken"), Taken(tmp_path / "taken")
    items: Any = [Item(name) for name in NAMES]
    run: dict[str, list[str]] = {"one": [], "other": []}
    # The other begins while the first is in its first file, and is done with the second before the first gets there.
    for process, name, part in (
        (one, "one", items[:2]), (other, "other", items[:5]), (one, "one", items[2:]), (other, "other", items[5:]),
    ):  # fmt: skip
        run[name] += [item.nodeid for item in part if process.pytest_runtest_protocol(item) is None]
    assert run == {"one": [*NAMES[:3], NAMES[5]], "other": list(NAMES[3:5])}


def test_what_has_passed_is_left_out_and_nothing_else(tmp_path: Path) -> None:
    notes = Passed(tmp_path / "passed")
    for name, call, end in (
        (NAMES[0], "passed", "passed"), (NAMES[1], "passed", "passed"), (NAMES[2], "skipped", "passed"),
        (NAMES[3], "failed", "passed"), (NAMES[4], "passed", "failed"),
    ):  # fmt: skip
        for when, outcome in (("setup", "passed"), ("call", call), ("teardown", end)):
            notes.pytest_runtest_logreport(report(name, when, outcome))
    notes.pytest_sessionfinish()
    assert chosen([tmp_path / "passed"]) == list(NAMES[2:])
