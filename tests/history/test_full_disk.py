"""A disk that takes nothing: a file system of a few megabytes, a limit of the size of files, one that is read-only."""

from __future__ import annotations

import errno
import io
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from history.store import History
from pipelines.jobs.messages import not_saved
from pipelines.jobs.users import OWNER
from tests.support.history_entries import keep

ROOT = Path(__file__).resolve().parents[2]
# Fills the disk, then makes room again; prints what happened as JSON.
FILL = """
import json, os, sys
from pathlib import Path
from PIL import Image
from history.store import History
from history.database import HistoryUnavailable
from pipelines.jobs.users import OWNER
from tests.support.history_entries import ask
from pipelines.jobs.backend import PictureFacts
folder, room, noise = Path(sys.argv[1]), sys.argv[2], Image.effect_noise((512, 512), 90).convert("RGB")
if room == "limit":
    import resource, signal
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
history = History(folder)
history.open(background=False)
def keep(number):
    return history.keep(noise, ask(f"fox {number}", width=512, height=512), PictureFacts(7))
kept, errors = [keep(0)], []
ballast = folder / "ballast"
if room == "limit":
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
for number in range(1, 200):
    try:
        kept.append(keep(number))
    except OSError as error:
        errors.append(error.errno)
        if len(errors) == 3:
            break
try:
    history.set_tags(OWNER, kept, add=["x" * 50 + str(k) for k in range(30)])
    marked = "all"
except HistoryUnavailable as problem:
    marked = str(problem)
left = sorted(path.name for path in (folder / "pictures").iterdir())
if room == "limit":
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
else:
    history.bin.delete(OWNER, kept[:3]) if marked == "all" else [history.path(each).unlink() for each in kept[:3]]
    try:
        history.bin.empty(OWNER)
    except HistoryUnavailable:
        pass
kept.append(keep(999))
history.close()
again = History(folder)
notes = again.open(background=False)
missing = {entry.id for entry in again.catalogue.all(OWNER) if entry.missing}
shown = {entry.id for entry in again.catalogue.all(OWNER)} - missing
on_disk = {path.stem for path in (folder / "pictures").glob("*.png")}
again.close()
print(json.dumps([errors, marked, left, shown == on_disk, kept[-1] in shown, notes, len(kept)]))
"""


def fill(folder: Path, room: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FILL, str(folder), room], cwd=ROOT, capture_output=True, text=True, timeout=600,
        env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    errors, marked, left, agree, last_is_shown, notes, _ = json.loads(done.stdout.splitlines()[-1])
    assert errors and (marked == "all" or "cannot be used now" in marked)
    assert not [name for name in left if name.endswith(".part")]
    assert agree and last_is_shown and notes == []


def test_a_file_system_that_fills_takes_no_half_picture_and_works_again_with_room(tmp_path: Path) -> None:
    with mounted(tmp_path / "small") as folder:
        fill(folder, "small")


@contextmanager
def mounted(folder: Path) -> Iterator[Path]:
    """A file system of six megabytes in memory."""
    folder.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if done.returncode:
        pytest.skip("only root can mount a small file system")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def set_writable(folder: Path, writable: bool) -> None:
    how = f"remount,{'rw' if writable else 'ro'}"
    subprocess.run(["mount", "-o", how, str(folder)], check=True)


def refuse_to_write(folder: Path, patch: pytest.MonkeyPatch) -> None:
    """Have Python's calls that write answer below this folder as a read-only file system does."""

    def refusing(call: Callable[..., Any], writes: Callable[..., bool]) -> Callable[..., Any]:
        def checked(path: Any, *given: Any, **more: Any) -> Any:
            if isinstance(path, str | os.PathLike) and os.fspath(path).startswith(str(folder)) and writes(*given):
                raise OSError(errno.EROFS, os.strerror(errno.EROFS), os.fspath(path))
            return call(path, *given, **more)

        return checked

    patch.setattr(io, "open", refusing(io.open, lambda mode="r", *_: not set("wax+").isdisjoint(mode)))
    for name in ("mkdir", "replace", "rename", "unlink"):
        patch.setattr(os, name, refusing(getattr(os, name), lambda *_: True))


def test_a_read_only_file_system_takes_nothing_until_it_can_be_written_to(tmp_path: Path) -> None:
    with mounted(tmp_path / "fixed") as folder:
        history = History(folder)
        assert history.open(background=False) == []
        made = [keep(history, "a fox")]
        # A database that is open for writing keeps a file system from becoming read-only.
        history.close()
        set_writable(folder, False)
        history = History(folder)
        history.open(background=False)
        with pytest.raises(OSError) as caught:
            keep(history, "refused")
        assert caught.value.errno == errno.EROFS and not_saved(caught.value).endswith("write into the folder.")
        assert [path.stem for path in (folder / "pictures").iterdir()] == made
        set_writable(folder, True)
        made.append(keep(history, "an owl"))
        history.close()
        again = History(folder)
        again.open(background=False)
        assert {entry.id for entry in again.catalogue.page(OWNER).entries} == set(made)
        again.close()


def test_a_folder_that_becomes_read_only_takes_nothing_and_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    history = History(tmp_path)
    history.open(background=False)
    made = [keep(history, "a fox"), keep(history, "an owl")]
    with monkeypatch.context() as patch:
        refuse_to_write(tmp_path, patch)
        with pytest.raises(OSError) as caught:
            keep(history, "refused")
        assert caught.value.errno == errno.EROFS and not_saved(caught.value).endswith("write into the folder.")
        assert sorted(path.stem for path in (tmp_path / "pictures").iterdir()) == sorted(made)
        assert [entry.id for entry in history.catalogue.page(OWNER).entries] == made[::-1]
    made.append(keep(history, "an anvil"))
    assert [entry.id for entry in history.catalogue.page(OWNER).entries] == made[::-1]
    history.close()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no limit of the size of files")
def test_a_limit_of_the_size_of_files_is_like_a_full_disk(tmp_path: Path) -> None:
    fill(tmp_path, "limit")
