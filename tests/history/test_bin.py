"""Deleting with undo, emptying after 30 days, the retention rule, and what the disk holds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from history.bin import DAY, Retention
from history.search import Filters
from history.store import History
from pipelines.images.uploads import UploadStore
from pipelines.jobs.users import OWNER
from tests.support.history_entries import picture

Make = Callable[..., str]
IN_BIN = Filters(in_bin=True)


def test_a_deleted_picture_lies_in_the_bin_and_comes_back(history: History, make: Make, tmp_path: Path) -> None:
    keep, gone = make("keep"), make("gone", size=(300, 300))
    history.set_favourite(OWNER, [gone], True)
    assert history.bin.delete(OWNER, [gone, "nothing", gone]) == (gone,)
    assert [entry.id for entry in history.catalogue.page(OWNER).entries] == [keep]
    assert [entry.id for entry in history.catalogue.page(OWNER, IN_BIN).entries] == [gone]
    assert [path.stem for path in (tmp_path / "bin").iterdir()] == [gone] and history.path(gone).is_file()
    assert history.thumbnail(OWNER, gone) is not None
    assert history.bin.restore(OWNER, [gone]) == (gone,)
    assert list((tmp_path / "bin").iterdir()) == [] and history.path(gone).parent.name == "pictures"
    assert [entry.favourite for entry in history.catalogue.page(OWNER).entries] == [True, False]


def test_what_was_deleted_can_come_back_after_a_restart(history: History, make: Make, tmp_path: Path) -> None:
    gone = make("gone")
    history.bin.delete(OWNER, [gone])
    history.close()
    again = History(tmp_path)
    again.open(background=False)
    assert again.bin.restore(OWNER, [gone]) == (gone,) and again.path(gone).parent.name == "pictures"
    again.close()


def test_children_outlive_a_parent_that_is_deleted_for_good(history: History, make: Make, tmp_path: Path) -> None:
    parent = make(colour="blue")
    upload = UploadStore(tmp_path / "inputs").put(picture("blue"))
    children = [make(colour="red", init={"image": upload, "strength": 0.5, "noise_only": False}) for _ in range(2)]
    assert len(history.family(OWNER, parent).members) == 3
    history.bin.empty(OWNER, history.bin.delete(OWNER, [parent]))
    assert [entry.id for entry in history.catalogue.page(OWNER).entries] == children[::-1]
    for child in children:
        detail = history.detail(OWNER, child)
        assert detail is not None and detail.request is not None and detail.picture is not None
        assert [member.id for member in history.family(OWNER, child).members] == [child]


def test_the_bin_is_emptied_by_hand_and_after_30_days(history: History, make: Make, tmp_path: Path, clock) -> None:
    first, second, third = make("one", run="a"), make("two", run="b", size=(300, 300)), make("three")
    (tmp_path / "traces" / "guests").mkdir(parents=True)
    for run in "ab":
        (tmp_path / "traces" / f"{run}.json").write_text("{}")
    history.bin.delete(OWNER, [first])
    clock.now += 29 * DAY
    history.bin.delete(OWNER, [second])
    assert history.bin.expire() == 0
    clock.now += DAY
    assert history.bin.expire() == 1
    assert [entry.id for entry in history.catalogue.page(OWNER, IN_BIN).entries] == [second]
    assert history.bin.empty(OWNER, [third]) == 0 and history.bin.empty(OWNER) == 1
    assert list((tmp_path / "bin").iterdir()) == [] and not list((tmp_path / "thumbnails").rglob("*.jpg"))
    assert list((tmp_path / "traces").glob("*.json")) == []
    assert history.detail(OWNER, first) is None and history.catalogue.count(OWNER) == 1
    assert history.database.read("SELECT COUNT(*) FROM search")[0][0] == 1
    assert history.database.read("SELECT COUNT(*) FROM details")[0][0] == 1


def test_what_many_entries_take_of_the_disk(history: History, make: Make) -> None:
    ids = [make(f"fox {k}", size=(300, 300)) for k in range(3)]
    history.bin.delete(OWNER, ids[:1])
    use = history.bin.disk_use()
    assert (use.count, use.bin_count) == (2, 1)
    assert use.bin == history.path(ids[0]).stat().st_size
    assert use.pictures == sum(history.path(each).stat().st_size for each in ids[1:])
    assert use.thumbnails and use.database and use.free and use.traces == use.strips == 0


def test_no_rule_deletes_anything_until_it_is_set(history: History, make: Make, clock) -> None:
    plain, favourite, tagged = make("plain"), make("favourite"), make("tagged")
    history.set_favourite(OWNER, [favourite], True)
    history.set_tags(OWNER, [tagged], add=["mine"])
    clock.now += 100 * DAY
    assert history.bin.retention == Retention() and history.bin.apply_retention() == 0
    history.bin.set_retention(Retention(days=90))
    assert history.bin.retention == Retention(days=90)
    new = make("new")
    history.bin.tidy()
    assert {entry.id for entry in history.catalogue.page(OWNER).entries} == {favourite, tagged, new}
    assert [entry.id for entry in history.catalogue.page(OWNER, IN_BIN).entries] == [plain]


def test_the_oldest_beyond_a_size_go_into_the_bin(history: History, make: Make) -> None:
    gone, ids = make("gone"), [make(f"fox {k}") for k in range(4)]
    with history.database.write() as connection:
        connection.execute("UPDATE entries SET bytes = ?", (2**20,))
        # Those without a file take no room; they stay with their settings.
        connection.execute("UPDATE entries SET missing = 1 WHERE id = ?", (gone,))
    history.bin.set_retention(Retention(megabytes=2))
    assert history.bin.apply_retention() == 2
    assert [entry.id for entry in history.catalogue.page(OWNER).entries] == [ids[3], ids[2], gone]
    assert history.bin.apply_retention() == 0


@pytest.mark.parametrize("value", ["", "[]", '{"days": "x"}', '{"days": -3}', '{"days": null}'])
def test_a_broken_rule_is_none(history: History, make: Make, value: str) -> None:
    make()
    with history.database.write() as connection:
        connection.execute("INSERT INTO settings VALUES ('retention', ?)", (value,))
    assert history.bin.retention == Retention() and history.bin.apply_retention() == 0


def test_a_file_that_cannot_be_deleted_keeps_its_entry(
    history: History, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = make()
    history.bin.delete(OWNER, [entry])
    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", _refuse)
        assert history.bin.empty(OWNER) == 0
    assert history.detail(OWNER, entry) is not None and history.bin.empty(OWNER) == 1


def _refuse(*_: object, **__: object) -> None:
    raise PermissionError(13, "in use")


@pytest.mark.parametrize("step", [0.0, 1e-7, 0.3])
def test_pages_of_the_bin_follow_one_another(history: History, make: Make, clock, step: float) -> None:
    ids = [make(f"a fox {k}") for k in range(9)]
    clock.now, clock.step = 1_790_000_000.1234567, step
    for k in range(0, 9, 3):  # three at one moment, and moments that no number of microseconds tells apart
        history.bin.delete(OWNER, ids[k : k + 3])
    seen, cursor = list[str](), ""
    for _ in range(20):
        page = history.catalogue.page(OWNER, IN_BIN, cursor, 2)
        seen += [entry.id for entry in page.entries]
        if not (cursor := page.cursor):
            break
    assert sorted(seen) == sorted(ids) and seen == [entry.id for entry in history.catalogue.page(OWNER, IN_BIN).entries]
    assert len(list(history.catalogue.all(OWNER, IN_BIN))) == 9
