"""Parts of the tests, and those that ``make test`` has run already."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CONFTEST = """
from pathlib import Path
from tests.support import partial_run
def pytest_addoption(parser):
    partial_run.add_options(parser)
def pytest_configure(config):
    if file := config.getoption("write_passed"):
        config.pluginmanager.register(partial_run.Passed(Path(file)))
def pytest_collection_modifyitems(items, config):
    partial_run.choose(items, config)
"""
FILES = {
    "test_a.py": "import pytest\n@pytest.mark.parametrize('x', ['1', 'ü', '::'])\ndef test_x(x): pass\n",
    "test_b.py": "import pytest\ndef test_skipped(): pytest.skip('x')\ndef test_fails(): assert False\n",
    "test_c.py": "import pytest\n@pytest.fixture\ndef breaks():\n    yield\n    assert False\ndef test_end(breaks): pass\n",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "conftest.py").write_text(CONFTEST)
    for name, text in FILES.items():
        (tmp_path / name).write_text(text, "utf-8")
    return tmp_path


def run(folder: Path, *options: str) -> str:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(folder), *options]
    path = {"PYTHONPATH": str(ROOT), "PYTHONUTF8": "1"}
    return subprocess.run(command, cwd=folder, env=path, capture_output=True, text=True, timeout=300).stdout


def test_what_has_passed_in_the_parts_is_left_out_and_nothing_else(folder: Path) -> None:
    passed = [folder / "one", folder / "two"]
    for part, file in enumerate(passed, 1):
        run(folder, "--part", f"{part}/2", "--write-passed", str(file))
    names = [name for file in passed for name in file.read_text("utf-8").splitlines()]
    assert len(names) == 3 and all("test_a.py::test_x[" in name for name in names)
    left = run(folder, *(option for file in passed for option in ("--leave-out", str(file))))
    assert "1 failed, 1 passed, 1 skipped, 3 deselected, 1 error" in left
    assert "2 failed" not in run(folder) and "4 passed" in run(folder)


def test_each_file_is_in_one_part(folder: Path) -> None:
    listed = [run(folder, "--part", f"{part}/2", "--collect-only") for part in (1, 2)]
    for name in FILES:
        assert sum(f"{name}::" in text for text in listed) == 1, listed
