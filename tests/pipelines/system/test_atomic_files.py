"""Files that appear whole, and removing what killed processes left."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.system import atomic_files


def gone_pid() -> int:
    """The id of a process that has ended."""
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        pass
    return process.pid


def test_half_written_files_of_killed_processes_are_removed_and_others_stay(tmp_path: Path) -> None:
    with atomic_files.atomic_write(tmp_path / "a.png") as file:
        file.write(b"x")
        (mine,) = tmp_path.glob(".*.part")
        dead = mine.with_name(mine.name.replace(str(os.getpid()), str(gone_pid())))
        dead.write_bytes(b"x")
        (tmp_path / ".other.part").write_bytes(b"x")
        assert atomic_files.remove_stale_parts(tmp_path) == 1
        assert mine.exists() and not dead.exists() and (tmp_path / ".other.part").exists()
    assert (tmp_path / "a.png").read_bytes() == b"x"


def test_temporary_files_of_a_killed_program_are_removed_at_the_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    mine = atomic_files.create_scratch_folder()
    dead = tmp_path / f"diffusion-playground-{gone_pid()}-abc"
    dead.mkdir()
    (dead / "x.png").write_bytes(b"x")
    (tmp_path / "diffusion-playground-notes").mkdir()
    other = atomic_files.create_scratch_folder()
    assert sorted(tmp_path.iterdir()) == sorted([mine, other, tmp_path / "diffusion-playground-notes"])
    if os.name == "posix":
        assert mine.stat().st_mode & 0o077 == 0
