"""One program at a time on a folder."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from socket import gethostname

import psutil
import pytest

from pipelines.system.folder_lock import FolderLock, holder

ROOT = Path(__file__).resolve().parents[3]
HOLD = """
import sys
from pathlib import Path
from pipelines.system.folder_lock import FolderLock
lock = FolderLock(Path(sys.argv[1]))
print(lock.acquire({"who": sys.argv[2]}, wait=float(sys.argv[3])), flush=True)
sys.stdin.read()
"""


def start(path: Path, who: str, wait: float = 0.0) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path), who, str(wait)], cwd=ROOT, text=True, stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )  # fmt: skip


def said(program: subprocess.Popen[str]) -> str:
    assert program.stdout is not None
    return program.stdout.readline().strip()


def test_one_of_several_first_starts_wins_and_a_killed_one_leaves_no_lock(tmp_path: Path) -> None:
    path = tmp_path / "running.json"
    programs = [start(path, who) for who in "abcd"]
    answers = [said(program) for program in programs]
    assert sorted(answers) == ["False"] * 3 + ["True"]
    first = answers.index("True")
    assert (holder(path) or {})["who"] == "abcd"[first] and not FolderLock(path).acquire({}, wait=0)
    for program in programs:
        program.kill()
        program.communicate()
    assert holder(path) is None
    lock = FolderLock(path)
    assert lock.acquire({"who": "next"}) and (holder(path) or {})["who"] == "next"
    lock.release()
    assert holder(path) is None


def test_a_folder_without_locks_lets_everyone_through(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fcntl = pytest.importorskip("fcntl")

    def no_locks(file: int, how: int) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    assert FolderLock(tmp_path / "a").acquire({}) and FolderLock(tmp_path / "a").acquire({})
    # Another process that runs is named in the file; one that has ended, or of another computer, is not looked for.
    other = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE)
    facts = {"pid": other.pid, "since": round(psutil.Process(other.pid).create_time()), "computer": gethostname()}
    (tmp_path / "a").write_text(json.dumps(facts))
    assert not FolderLock(tmp_path / "a").acquire({}, wait=0) and (holder(tmp_path / "a") or {})["pid"] == other.pid
    for change in ({"computer": "elsewhere"}, {"since": 1}, {"pid": 2**40}, {"pid": "1"}):
        (tmp_path / "a").write_text(json.dumps({**facts, **change}))
        assert FolderLock(tmp_path / "a").acquire({}, wait=0), change
    (tmp_path / "a").write_text(json.dumps(facts))
    other.kill()
    other.communicate()
    assert FolderLock(tmp_path / "a").acquire({}, wait=0)


def test_a_full_disk_costs_what_is_told_of_the_holder_and_not_the_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("pipelines.system.folder_lock.os.write", full)
        lock = FolderLock(tmp_path / "a")
        assert lock.acquire({})
    assert holder(tmp_path / "a") == {} and not FolderLock(tmp_path / "a").acquire({}, wait=0)
    lock.release()


def test_no_program_holds_a_folder_that_is_not_there(tmp_path: Path) -> None:
    assert holder(tmp_path / "nowhere" / "running.json") is None
