"""Database and files are made to agree at the start, both ways; pictures of earlier versions are taken in."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from history import reconcile
from history.database import HistoryUnavailable
from history.entries import NewEntry
from history.search import Filters
from history.store import History
from pipelines.images.png import save_png
from pipelines.images.uploads import UploadStore
from pipelines.jobs.users import OWNER
from tests.support.foreign_pictures import png
from tests.support.history_entries import ask, picture
from tests.support.waiting import wait_for

Make = Callable[..., str]


def reopened(history: History, folder: Path) -> History:
    history.database.close()
    again = History(folder)
    again.open(background=False)
    return again


def test_pictures_of_earlier_versions_are_taken_in_at_the_first_start(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    paths = [
        save_png(picture("red", (300, 200)), tmp_path / "pictures", ask(num_images=2), 8, {"seconds": 1, "picture": 1}),
        save_png(picture("blue"), tmp_path / "pictures", ask("a cat"), 7),
    ]
    Image.new("RGB", (8, 8)).save(tmp_path / "pictures" / "holiday.png")
    (tmp_path / "pictures" / "notes.txt").write_text("no picture")
    (tmp_path / "pictures" / "broken.png").write_bytes(b"no picture either")
    (tmp_path / "pictures" / ".half.png.1-00000000.part").write_bytes(b"x")
    for folder, name in (("traces", "run1"), ("traces/guests", "run2")):
        (tmp_path / folder).mkdir(parents=True)
        path = {"run1": f"/elsewhere/{paths[0].name}", "run2": f"C:\\data\\{paths[1].name}"}[name]
        pictures = [{"path": "/x/other.png", "seed": 1}, {"path": path, "seed": 7}]
        (tmp_path / folder / f"{name}.json").write_text(json.dumps({"pictures": pictures, "created": 5.0}))
    (tmp_path / "traces" / "broken.json").write_text("[]")
    history = History(tmp_path)
    history.open()
    wait_for(lambda: history.reconciler.progress.over)
    entries = {entry.id: entry for entry in history.catalogue.page(OWNER).entries}
    assert entries.keys() == {paths[0].stem, paths[1].stem, "holiday"}
    first, second = (entries[path.stem] for path in paths)
    assert (first.run, first.place, first.seed, first.guest) == ("run1", 1, 8, False)
    assert (second.run, second.guest) == ("run2", True)
    assert abs(first.created - paths[0].stat().st_mtime) < 60
    detail = history.detail(OWNER, first.id)
    assert detail is not None and detail.request == ask(num_images=2) and detail.facts["seconds"] == 1
    assert entries["holiday"].kind == "other program"
    assert (tmp_path / "thumbnails" / first.id[:6] / f"{first.id}.jpg").is_file()
    again = reopened(history, tmp_path)
    assert again.catalogue.count(OWNER) == 3
    again.close()


def test_a_file_whose_entry_a_kill_prevented_is_entered(history: History, make: Make, tmp_path: Path) -> None:
    make("kept")
    lost = save_png(picture("blue"), tmp_path / "pictures", ask("lost"), 7)
    again = reopened(history, tmp_path)
    assert {entry.title for entry in again.catalogue.page(OWNER).entries} == {"kept", "lost"}
    assert again.path(lost.stem) == lost
    again.close()


def test_an_entry_whose_file_is_gone_keeps_its_settings_until_it_is_back(
    history: History, make: Make, tmp_path: Path
) -> None:
    entry = make()
    path = history.path(entry)
    path.rename(tmp_path / "away.png")
    again = reopened(history, tmp_path)
    found = again.detail(OWNER, entry)
    assert found is not None and found.entry.missing and found.picture is None and found.request == ask()
    assert again.thumbnail(OWNER, entry) is None and again.bin.disk_use().count == 0
    (tmp_path / "away.png").rename(path)
    third = reopened(again, tmp_path)
    found = third.detail(OWNER, entry)
    assert found is not None and not found.entry.missing and found.picture == path
    third.close()


def test_files_are_moved_to_where_the_database_says(history: History, make: Make, tmp_path: Path) -> None:
    deleted, restored, gone = make("deleted"), make("restored"), make("gone")
    history.bin.delete(OWNER, [deleted, gone])
    # As kills leave them: a deleted one not moved yet, one in the bin that is in use, a file deleted before its entry.
    os.replace(tmp_path / "bin" / f"{deleted}.png", tmp_path / "pictures" / f"{deleted}.png")
    os.replace(tmp_path / "pictures" / f"{restored}.png", tmp_path / "bin" / f"{restored}.png")
    (tmp_path / "bin" / f"{gone}.png").unlink()
    again = reopened(history, tmp_path)
    assert {path.stem for path in (tmp_path / "bin").iterdir()} == {deleted}
    assert {path.stem for path in (tmp_path / "pictures").iterdir()} == {restored}
    assert [entry.id for entry in again.catalogue.page(OWNER, Filters(in_bin=True)).entries] == [deleted]
    assert again.detail(OWNER, gone) is None
    again.close()


def test_a_lost_database_is_made_from_the_files_the_bin_included(history: History, make: Make, tmp_path: Path) -> None:
    kept, deleted = make("kept", colour="blue"), make("deleted")
    history.bin.delete(OWNER, [deleted])
    history.close()
    for path in tmp_path.glob("history.db*"):
        path.unlink()
    again = History(tmp_path)
    again.open(background=False)
    assert [entry.id for entry in again.catalogue.page(OWNER).entries] == [kept]
    assert [entry.id for entry in again.catalogue.page(OWNER, Filters(in_bin=True)).entries] == [deleted]
    again.close()


def test_stopping_ends_the_thread_and_the_next_start_goes_on(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    for k in range(3):
        save_png(picture(), tmp_path / "pictures", ask(f"fox {k}"), 7)
    history = History(tmp_path)
    history.reconciler._stopped.set()
    history.open()
    history.close()
    assert History(tmp_path).catalogue.count(OWNER) == 0
    again = History(tmp_path)
    again.open(background=False)
    assert again.catalogue.count(OWNER) == 3
    again.close()


def test_files_with_names_that_are_no_utf8_or_equal_but_for_the_ending_are_entered(
    history: History, make: Make, tmp_path: Path
) -> None:
    kept = make("kept")
    odd = os.fsencode(tmp_path / "pictures") + b"/caf\xe9.png"
    picture("blue", (300, 200)).save(tmp_path / "first.png")
    os.replace(tmp_path / "first.png", odd)
    for name, colour in (("a.jpg", "green"), ("a.png", "white"), (f"{kept}.webp", "black")):
        picture(colour, (300, 200)).save(tmp_path / "pictures" / name)
    again = reopened(reopened(history, tmp_path), tmp_path)
    entries = {entry.id: entry.file for entry in again.catalogue.page(OWNER).entries}
    assert entries == {
        kept: f"{kept}.png", f"{kept}-webp": f"{kept}.webp", "caf\ufffd": "caf\ufffd.png", "a": "a.jpg",
        "a-png": "a.png",
    }  # fmt: skip
    assert {path.name for path in (tmp_path / "pictures").iterdir()} == set(entries.values())
    assert again.path("a").name == "a.jpg" and again.path("a-png").name == "a.png"
    with Image.open(again.thumbnails.path("a")) as small:
        assert small.getpixel((9, 9))[1] < 200  # green, not white
    again.close()


def test_a_file_that_cannot_be_entered_keeps_no_other_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pictures").mkdir()
    for name in ("a", "b", "c"):
        picture().save(tmp_path / "pictures" / f"{name}.png")
    record = json.dumps({"version": 1, "request": ask().model_dump(mode="json"), "seed": 2**63})
    (tmp_path / "pictures" / "d.png").write_bytes(png({"diffusion_playground": record}))
    real = reconcile.entry_from_file

    def read(path: Path, *args: object) -> NewEntry:
        if path.name == "a.png":
            raise RuntimeError("no such colour")
        return replace(real(path, *args), seed=2**70 if path.name == "b.png" else 1)  # type: ignore[arg-type]

    monkeypatch.setattr(reconcile, "entry_from_file", read)
    history = History(tmp_path)
    history.open()
    wait_for(lambda: history.reconciler.progress.over)
    assert {entry.id for entry in history.catalogue.all(OWNER)} == {"c", "d"}
    monkeypatch.undo()
    again = reopened(history, tmp_path)
    found = {entry.id: entry for entry in again.catalogue.all(OWNER)}
    assert found.keys() == {"a", "b", "c", "d"} and found["d"].kind == "other program"
    again.close()


def test_uploads_that_an_entry_names_stay_however_old(history: History, make: Make, tmp_path: Path) -> None:
    store = UploadStore(tmp_path / "inputs")
    colours = ("red", "green", "blue", "white", "black")
    source, mask, old, in_bin, unused = (store.put(picture(colour)) for colour in colours)
    make("of it", init={"image": source, "strength": 0.5, "mask": mask})
    first = ask("first", init={"image": old, "strength": 0.5}).model_dump()
    make("fork", init={"image": old, "strength": 0.5}, fork={"step": 1, "original": first})
    history.bin.delete(OWNER, [make("deleted", reference={"adapter": "look", "image": in_bin})])
    for path in (tmp_path / "inputs").iterdir():
        os.utime(path, (1, 1))
    fresh = History(tmp_path)
    with pytest.raises(HistoryUnavailable):  # the comparison has not ended: other entries may need some
        store.remove_unused(60, needed=fresh.reconciler.needed_uploads)
    assert len(list((tmp_path / "inputs").iterdir())) == 5
    assert store.remove_unused(60, needed=history.reconciler.needed_uploads) == 1
    assert not store.path(unused).exists()
    fresh.close()
