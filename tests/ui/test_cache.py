"""The folder of temporary files: what is old goes, what is in use stays."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from ui import cache
from ui.cache import Cache


@pytest.fixture(autouse=True)
def written(monkeypatch: pytest.MonkeyPatch) -> None:
    """Age by the time of writing alone: no test can set the time of the inode."""
    monkeypatch.setattr(cache, "_age", lambda path: path.lstat().st_mtime)


def put(path: Path, hours: float) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x")
    for each in (path, path.parent):
        os.utime(each, (time.time() - hours * 3600,) * 2)
    return path


def test_what_is_older_than_a_day_goes_and_its_folder_with_the_next_sweep(tmp_path: Path) -> None:
    kept = Cache(tmp_path / "cache")
    old, young = put(kept.folder / "a" / "old.png", 25), put(kept.folder / "b" / "young.png", 23)
    bare = kept.folder / "c"
    bare.mkdir()
    os.utime(bare, (0, 0))
    assert kept.sweep() == 1
    assert not old.exists() and young.exists() and not bare.exists()
    os.utime(old.parent, (0, 0))
    assert kept.sweep() == 0 and not old.parent.exists() and young.parent.exists()


def test_nothing_outside_is_touched(tmp_path: Path) -> None:
    kept, other = Cache(tmp_path / "cache"), put(tmp_path / "pictures" / "mine.png", 1000)
    (kept.folder / "link").symlink_to(other.parent)
    kept.sweep()
    assert other.exists()


def test_a_folder_that_cannot_be_cleaned_harms_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = Cache(tmp_path / "cache")
    stuck, free = put(kept.folder / "a" / "stuck", 30), put(kept.folder / "b" / "free", 30)
    plain = Path.unlink

    def unlink(self: Path, missing_ok: bool = False) -> None:
        if self == stuck:
            raise PermissionError
        plain(self, missing_ok)

    monkeypatch.setattr(Path, "unlink", unlink)
    assert kept.sweep() == 1 and stuck.exists() and not free.exists()


def test_it_looks_again_and_again_until_it_is_stopped(tmp_path: Path) -> None:
    kept = Cache(tmp_path / "cache", every=0.01)
    kept.start()
    for name in ("one", "two"):
        path = put(kept.folder / name / "x", 30)
        end = time.monotonic() + 30
        while path.exists() and time.monotonic() < end:
            time.sleep(0.01)
        assert not path.exists()
    kept.stop()


def test_a_copy_that_was_handed_out_again_is_young(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    kept = Cache(tmp_path / "cache")
    copy = put(kept.folder / "a" / "copy.png", 1000)
    # Made a moment ago, whatever the original's time says.
    assert kept.sweep() == 0 and copy.exists()
