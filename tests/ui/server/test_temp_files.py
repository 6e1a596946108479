"""The cleaner of temporary files: old ones are deleted, used ones stay."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from tests.support.waiting import wait_for
from ui.server import temp_files
from ui.server.temp_files import TempFiles


@pytest.fixture(autouse=True)
def age_by_mtime(monkeypatch: pytest.MonkeyPatch) -> None:
    """Count age by mtime alone: a test cannot set a ctime."""
    monkeypatch.setattr(temp_files, "_last_used", lambda path: path.lstat().st_mtime)


def put(path: Path, hours: float) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x")
    for each in (path, path.parent):
        os.utime(each, (time.time() - hours * 3600,) * 2)
    return path


def test_files_older_than_a_day_go_and_their_folder_with_the_next_sweep(tmp_path: Path) -> None:
    files = TempFiles(tmp_path / "cache")
    old, young = put(files.folder / "a" / "old.png", 25), put(files.folder / "b" / "young.png", 23)
    bare = files.folder / "c"
    bare.mkdir()
    os.utime(bare, (0, 0))
    assert files.sweep() == 1
    assert not old.exists() and young.exists() and not bare.exists()
    os.utime(old.parent, (0, 0))
    assert files.sweep() == 0 and not old.parent.exists() and young.parent.exists()


def test_files_outside_the_folder_stay(tmp_path: Path) -> None:
    files, other = TempFiles(tmp_path / "cache"), put(tmp_path / "pictures" / "mine.png", 1000)
    (files.folder / "link").symlink_to(other.parent)
    files.sweep()
    assert other.exists()


def test_a_file_that_cannot_be_deleted_stops_no_sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = TempFiles(tmp_path / "cache")
    stuck, free = put(files.folder / "a" / "stuck", 30), put(files.folder / "b" / "free", 30)
    original = Path.unlink

    def unlink(self: Path, missing_ok: bool = False) -> None:
        if self == stuck:
            raise PermissionError
        original(self, missing_ok)

    monkeypatch.setattr(Path, "unlink", unlink)
    assert files.sweep() == 1 and stuck.exists() and not free.exists()


def test_it_sweeps_again_and_again_until_it_is_stopped(tmp_path: Path) -> None:
    files = TempFiles(tmp_path / "cache", interval=0.01)
    files.start()
    for name in ("one", "two"):
        path = put(files.folder / name / "x", 30)
        wait_for(lambda path=path: not path.exists())
    files.stop()


def test_a_copy_of_an_old_file_is_new(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    files = TempFiles(tmp_path / "cache")
    copy = put(files.folder / "a" / "copy.png", 1000)
    # Its ctime is now, although it has the original's mtime.
    assert files.sweep() == 0 and copy.exists()


def test_an_unfinished_upload_goes_after_an_hour(tmp_path: Path) -> None:
    files = TempFiles(tmp_path / "cache")
    old, young = (put(files.folder / name, hours) for name, hours in (("tmpold", 1.1), ("tmpyoung", 0.9)))
    copy = put(files.folder / "a" / "tmpcopy", 1.1)
    assert files.sweep() == 1 and not old.exists() and young.exists() and copy.exists()
