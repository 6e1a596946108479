"""Tests shared out among processes, and those that ``make test`` has run already."""

from __future__ import annotations

import os
import subprocess
import sys
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from tests.support.partial_run import Passed, Taken, choose

ROOT = Path(__file__).parents[1]
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
    items: Any = [Item(name) for name in NAMES]
    one, other = (Taken(tmp_path / "taken").mine(items) for _ in range(2))
    run: dict[str, list[str]] = {"one": [], "other": []}
    # The other begins while the first is in its first file, and is done with the second before the first gets there.
    for process, name, count in (
        (one, "one", 1),
        (other, "other", 1),
        (one, "one", 2),
        (other, "other", 9),
        (one, "one", 9),
    ):
        run[name] += [item.nodeid for item in islice(process, count)]
    assert run == {"one": list(NAMES[:3]), "other": list(NAMES[3:])}


CONFTEST = """
import pytest
from tests.support import partial_run
pytest_addoption = partial_run.add_options
pytest_configure = partial_run.register

def noted(name):
    with open("notes", "a", buffering=1) as notes:
        print(name, "begins", file=notes)
        yield
        print(name, "ends", file=notes)

@pytest.fixture(scope="session")
def shared():
    yield from noted("all")

@pytest.fixture(scope="module")
def of_file(shared):
    yield from noted("file")
"""


def test_what_tests_share_begins_and_ends_once_although_files_between_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text(CONFTEST)
    for name in "abc":
        (tmp_path / f"test_{name}.py").write_text("def test_x(of_file): pass\ndef test_y(of_file): pass\n")
    (tmp_path / ".taken").mkdir()
    (tmp_path / ".taken/test_b.py").touch()
    command = [sys.executable, "-m", "pytest", "-q", "-c", "none.ini", "--rootdir=.", "--taken=.taken"]
    (tmp_path / "none.ini").write_text("[pytest]\n")
    done = subprocess.run(
        command, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True
    )
    assert done.returncode == 0 and "4 passed" in done.stdout, done.stdout + done.stderr
    notes = (tmp_path / "notes").read_text().splitlines()
    assert notes == ["all begins", "file begins", "file ends", "file begins", "file ends", "all ends"]


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
