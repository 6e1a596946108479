"""Keeping pictures: what an entry holds, whose it is, and what happens when the disk does not take it."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from history.database import HistoryUnavailable
from history.entries import CRASHED, recipe_of
from history.search import Filters
from history.store import History
from pipelines.images.png import read_request
from pipelines.images.uploads import UploadStore
from pipelines.jobs.users import OWNER
from tests.support.history_entries import GUEST, OTHER_GUEST, ask, keep, picture

Make = Callable[..., str]


def test_an_entry_holds_everything_that_is_known_of_a_picture(history: History, make: Make) -> None:
    first = make("a fox", run="job", num_images=2, notes=("It was cut.",), negative_prompt="blurry")
    second = make("a fox", run="job", num_images=2, number=1)
    found = history.detail(OWNER, second)
    assert found is not None
    assert (found.entry.seed, found.entry.place, found.entry.model) == (8, 1, "pocket")
    assert found.entry.kind == "text-to-image" and found.entry.title == "a fox"
    assert found.request == ask("a fox", num_images=2) and found.facts == {"device": "cpu", "picture": 1}
    assert found.siblings == (first, second) and found.strip is None and found.tags == ()
    assert found.picture == history.path(second) and read_request(found.picture).sampling.seed == 8
    about = history.detail(OWNER, first)
    assert about is not None and about.notes == ("It was cut.",)
    assert about.entry.bytes == history.path(first).stat().st_size
    assert history.detail(OWNER, "nothing") is None
    with pytest.raises(KeyError):
        history.path("../history")


def test_what_is_kept_is_there_after_a_restart(history: History, make: Make, tmp_path: Path) -> None:
    ids = [make(f"fox {k}") for k in range(3)]
    history.set_favourite(OWNER, ids[:1], True)
    history.set_tags(OWNER, ids[1:2], add=["  Good  ONE "])
    history.close()
    again = History(tmp_path)
    assert again.open(background=False) == []
    page = again.catalogue.page(OWNER)
    assert [entry.id for entry in page.entries] == ids[::-1]
    assert [entry.favourite for entry in page.entries] == [False, False, True]
    found = again.detail(OWNER, ids[1])
    assert found is not None and found.tags == ("good one",)
    again.close()


def test_a_guest_sees_and_changes_its_own_alone(history: History, make: Make) -> None:
    mine, theirs = make("mine", user=GUEST), make("theirs", user=OTHER_GUEST)
    assert [entry.id for entry in history.catalogue.page(GUEST).entries] == [mine]
    assert {entry.id for entry in history.catalogue.page(OWNER).entries} == {mine, theirs}
    assert all(entry.guest for entry in history.catalogue.page(OWNER).entries)
    assert [entry.id for entry in history.catalogue.page(OWNER, Filters(user=GUEST.id)).entries] == [mine]
    assert history.catalogue.page(GUEST, Filters(user=OTHER_GUEST.id)).entries == ()
    assert history.detail(GUEST, theirs) is None and history.thumbnail(GUEST, theirs) is None
    assert history.family(GUEST, theirs).members == ()
    assert history.set_favourite(GUEST, [mine, theirs], True) == 1
    assert history.set_tags(GUEST, [theirs], add=["x"]) == 0
    assert history.bin.delete(GUEST, [mine, theirs]) == (mine,)
    assert history.bin.restore(OTHER_GUEST, [mine]) == () and history.bin.empty(OTHER_GUEST) == 0
    assert history.catalogue.choices(GUEST)["model"] == [] and history.catalogue.count(OTHER_GUEST) == 1


def test_a_large_picture_has_a_thumbnail_and_a_small_one_is_its_own(history: History, make: Make) -> None:
    small, large = make(), make(size=(640, 320))
    assert history.thumbnail(OWNER, small) == history.path(small)
    path = history.thumbnail(OWNER, large)
    assert path is not None and path != history.path(large)
    with Image.open(path) as found:
        assert found.size == (256, 128) and found.format == "JPEG"
    path.unlink()
    assert history.thumbnail(OWNER, large) == path and path.is_file()


def test_tags_have_bounds_and_can_be_removed(history: History, make: Make) -> None:
    entry = make()
    history.set_tags(OWNER, [entry], add=[f"tag {k}" for k in range(99)])
    found = history.detail(OWNER, entry)
    assert found is not None and len(found.tags) == 40
    history.set_tags(OWNER, [entry], remove=found.tags[1:], add=["", " "])
    found = history.detail(OWNER, entry)
    assert found is not None and found.tags == ("tag 0",)


# -- where pictures came from --------------------------------------------------------------------------------------


def test_a_picture_made_from_another_is_its_child(history: History, make: Make, tmp_path: Path) -> None:
    uploads = UploadStore(tmp_path / "inputs")
    parent = make(colour="blue")
    child = make(init={"image": uploads.put(picture("blue")), "strength": 0.5})
    cropped = uploads.put(picture("blue", (8, 8)))
    original = uploads.put(picture("blue"))
    history.note_source(OWNER, cropped, original)
    history.note_source(OWNER, uploads.put(picture("pink", (8, 8))), uploads.put(picture("white")))
    history.note_source(GUEST, uploads.put(picture("pink")), original)
    assert [tuple(row) for row in history.database.read("SELECT upload FROM sources")] == [(cropped,)]
    other = make(init={"image": cropped, "strength": 0.5}, colour="green")
    grandchild = make(init={"image": uploads.put(picture("green")), "strength": 0.5})
    family = history.family(OWNER, child)
    assert [entry.id for entry in family.members] == [parent, child]
    family = history.family(OWNER, parent)
    assert [entry.id for entry in family.members] == [parent, child, other, grandchild]
    assert {(link.child, link.parent, link.kind) for link in family.links} == {
        (child, parent, "source"), (other, parent, "source"), (grandchild, other, "source"),
    }  # fmt: skip


def test_few_crops_of_a_picture_are_remembered(
    history: History, make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("history.parents.MAX_CROPS", 3)
    original = UploadStore(tmp_path / "inputs").put(picture("blue"))
    make(colour="blue")
    for k in range(5):
        history.note_source(OWNER, f"{k:032x}", original)
    assert [int(row[0], 16) for row in history.database.read("SELECT upload FROM sources ORDER BY upload")] == [3, 4]


def test_a_variation_is_the_child_of_the_picture_that_it_varies(history: History, make: Make) -> None:
    parent = make(num_images=2, number=1)
    child = make(seed=8, variation={"seed": 1, "strength": 0.3}, colour="blue")
    assert [(link.child, link.parent, link.kind) for link in history.family(OWNER, child).links] == [
        (child, parent, "variation")
    ]


def test_a_guests_picture_has_no_parent_that_the_guest_cannot_see(history: History, make: Make, tmp_path: Path) -> None:
    make(colour="blue")
    upload = UploadStore(tmp_path / "inputs").put(picture("blue"))
    child = make(user=GUEST, init={"image": upload, "strength": 0.5})
    assert history.family(GUEST, child).links == () and history.family(OWNER, child).links == ()


def test_hashes_that_are_known_later_are_added_to_the_run(history: History, make: Make) -> None:
    made, other = make(run="a"), make(run="b")
    history.complete("a", {"model": {"source": "x", "sha256": {"x": "1"}}, "adapters": {"ink": "2"}})
    found = history.detail(OWNER, made)
    assert found is not None and found.facts["device"] == "cpu" and found.facts["model"]["sha256"] == {"x": "1"}
    untouched = history.detail(OWNER, other)
    assert untouched is not None and "model" not in untouched.facts
    history.complete("", {"model": {}})


# -- crashes -------------------------------------------------------------------------------------------------------


def test_a_run_that_a_crash_cut_off_stands_there_with_its_settings(history: History, tmp_path: Path) -> None:
    for run, user in (("ended", OWNER), ("lost", GUEST), ("whole", OWNER), ("half", OWNER)):
        history.started(run, ask(run, num_images=2), user)
    history.ended("ended")
    for run, count in (("whole", 2), ("half", 1)):
        for number in range(count):
            keep(history, run, run=run, num_images=2, number=number)
    history.database.close()  # as a kill leaves it
    again = History(tmp_path)
    again.open(background=False)
    crashed = again.catalogue.page(OWNER, Filters(kind=CRASHED)).entries
    assert [entry.run for entry in crashed] == ["half", "lost"] and crashed[1].guest
    found = again.detail(GUEST, "crash-lost")
    assert found is not None and found.request == ask("lost", num_images=2) and found.picture is None
    again.close()
    third = History(tmp_path)
    third.open(background=False)
    assert third.catalogue.count(OWNER, Filters(kind=CRASHED)) == 2
    third.close()


@pytest.mark.parametrize("written", ['{"model": "future", "prompt": "a fox", "power": 3}', '{"model": 1}', "[", "[]"])
def test_a_crashed_run_that_this_version_cannot_read_is_entered_as_it_was_written(
    history: History, tmp_path: Path, written: str
) -> None:
    history.started("lost", ask(), GUEST)
    with history.database.write() as connection:
        connection.execute("UPDATE runs SET request = ?", (written,))
    again = History(tmp_path)
    again.open(background=False)
    found = again.detail(GUEST, "crash-lost")
    assert found is not None and found.request is None and found.entry.kind == CRASHED
    assert found.settings == (json.loads(written) if written.startswith("{") else {})
    assert found.entry.title == ("a fox" if "fox" in written else "")
    again.close()


def test_a_guests_picture_stays_a_guests_when_only_its_file_is_left(history: History, tmp_path: Path) -> None:
    theirs, mine = keep(history, user=GUEST), keep(history, colour="blue")
    assert GUEST.id not in theirs and theirs.endswith("-guest") and not mine.endswith("-guest")
    history.close()
    (tmp_path / "history.db").unlink()
    (tmp_path / "pictures" / "my-guest.png").write_bytes((tmp_path / "pictures" / f"{mine}.png").read_bytes())
    again = History(tmp_path)
    again.open(background=False)
    marked = {entry.id: entry.guest for entry in again.catalogue.all(OWNER)}
    assert marked == {theirs: True, mine: False, "my-guest": False}
    again.close()


def test_a_program_that_ends_in_an_orderly_way_leaves_no_crash(history: History, tmp_path: Path) -> None:
    history.started("run", ask(), OWNER)
    history.close()
    again = History(tmp_path)
    again.open(background=False)
    assert again.catalogue.count(OWNER) == 0
    again.close()


# -- a disk that takes nothing -------------------------------------------------------------------------------------


def test_a_picture_that_the_disk_does_not_take_leaves_nothing(
    history: History, make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("pipelines.system.atomic_files.os.fsync", full)
        with pytest.raises(OSError, match="No space left"):
            make()
    assert list((tmp_path / "pictures").iterdir()) == [] and history.catalogue.count(OWNER) == 0
    make()
    assert history.catalogue.count(OWNER) == 1


def test_a_disk_that_fills_while_thumbnails_are_written_costs_no_picture(
    history: History, make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("history.thumbnails.atomic_write", full)
        made = make(size=(640, 320))
        assert history.thumbnail(OWNER, made) == history.path(made), "the picture itself is shown"
    assert [entry.id for entry in history.catalogue.page(OWNER).entries] == [made]
    found = history.thumbnail(OWNER, made)
    assert found is not None and found.parent.parent.name == "thumbnails"


def test_a_picture_is_listed_later_when_only_the_database_takes_nothing(history: History, make: Make) -> None:
    history.database.path.with_name("history.db").chmod(0o600)
    with history.database.write() as connection:
        connection.execute("PRAGMA query_only = ON")
    first = make()
    assert history.path(first).is_file() and history.catalogue.count(OWNER) == 0
    assert history.problem.startswith("The picture is saved, but not listed in the History yet. The history cannot")
    with pytest.raises(HistoryUnavailable):
        history.set_favourite(OWNER, [first], True)
    assert history.database._writer is not None
    history.database._writer.execute("PRAGMA query_only = OFF")
    second = make(user=GUEST)
    assert [entry.id for entry in history.catalogue.page(OWNER).entries] == [second, first] and history.problem == ""


def test_a_vanished_data_folder_is_not_made_again(history: History, make: Make, tmp_path: Path) -> None:
    make()
    moved = tmp_path.with_name(tmp_path.name + "-moved")
    os.rename(tmp_path, moved)
    with pytest.raises(OSError, match="the data folder has vanished"):
        make()
    with pytest.raises(HistoryUnavailable, match=r"the folder .* has vanished"):
        history.catalogue.page(OWNER)
    history.started("run", ask(), OWNER)
    assert not tmp_path.exists()
    os.rename(moved, tmp_path)
    make()
    assert history.catalogue.count(OWNER) == 2


def test_a_deleted_pictures_folder_is_made_again(history: History, make: Make, tmp_path: Path) -> None:
    make()
    shutil.rmtree(tmp_path / "pictures")
    assert history.path(make()).is_file()


def test_a_damaged_database_is_put_aside_and_read_again_from_the_pictures(
    history: History, make: Make, tmp_path: Path
) -> None:
    ids = [make(f"fox {k}") for k in range(3)]
    history.close()
    (tmp_path / "history.db").write_bytes(b"not a database at all, but longer than its head is" * 99)
    again = History(tmp_path)
    (note,) = again.open(background=False)
    assert "was damaged" in note and list(tmp_path.glob("history-damaged-*.db"))
    assert {entry.id for entry in again.catalogue.page(OWNER).entries} == set(ids)
    again.close()


def test_a_database_of_a_newer_version_is_left_alone(history: History, tmp_path: Path) -> None:
    history.close()
    connection = sqlite3.connect(tmp_path / "history.db")
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    before = (tmp_path / "history.db").read_bytes()
    again = History(tmp_path)
    (note,) = again.open(background=False)
    assert "newer version" in note
    entry = keep(again)
    assert again.path(entry).is_file() and (tmp_path / "history.db").read_bytes() == before
    again.close()


def test_a_request_that_this_version_cannot_run_is_shown_as_it_was_written(history: History, make: Make) -> None:
    entry = make()
    with history.database.write() as connection:
        connection.execute("UPDATE details SET request = ?", (json.dumps({"model": "future", "power": 3}),))
    found = history.detail(OWNER, entry)
    assert found is not None and found.request is None and found.settings == {"model": "future", "power": 3}


def test_each_picture_of_a_run_is_found_by_its_own_prompt(history: History, make: Make) -> None:
    typed = {"prompt": "a {fox|owl}", "drawn": (("fox",), ("owl",))}
    run = {"run": "job", "num_images": 2, "prompts": ("a fox", "an owl"), "typed": typed}
    first, second = make("a fox", **run), make("a fox", number=1, **run)
    titles = [entry.title for name in (first, second) if (entry := history.catalogue.find(OWNER, name))]
    assert titles == ["a fox", "an owl"]
    assert [entry.id for entry in history.catalogue.page(OWNER, Filters(text="owl")).entries] == [second]
    about = history.detail(OWNER, second)
    assert about is not None and about.request is not None and about.request.drawn_for(1) == ("owl",)


def test_what_a_prompt_was_made_from_makes_no_other_picture(history: History, make: Make) -> None:
    plain = ask("a fox")
    assert recipe_of(plain) == recipe_of(ask("a fox", typed={"prompt": "a {fox|owl}"}))
    assert recipe_of(plain) != recipe_of(ask("a fox", num_images=2, prompts=("a fox", "an owl")))
