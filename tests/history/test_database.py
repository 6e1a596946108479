"""Migrations, the backup before each, and sentences for what goes wrong."""

from __future__ import annotations

import sqlite3
from contextlib import suppress
from pathlib import Path

import pytest

from history.database import Database, HistoryUnavailable
from history.schema import MIGRATIONS
from history.store import History
from pipelines.jobs.users import OWNER
from tests.support.history_entries import keep
from tests.support.waiting import wait_for

MORE = (*MIGRATIONS, "ALTER TABLE entries ADD COLUMN stars INTEGER NOT NULL DEFAULT 3")


def version(path: Path) -> int:
    connection = sqlite3.connect(path)
    try:
        return int(connection.execute("PRAGMA user_version").fetchone()[0])
    finally:
        connection.close()


def test_a_history_of_the_previous_schema_is_brought_forward_with_a_named_backup(tmp_path: Path) -> None:
    old = History(tmp_path)
    entry = keep(old)
    old.close()
    database = Database(tmp_path / "history.db", MORE)
    database.open()
    (note,) = database.notes
    (backup,) = tmp_path.glob(f"history-version-{len(MIGRATIONS)}-*.db")
    assert backup.name in note and version(backup) == len(MIGRATIONS) and version(database.path) == len(MORE)
    assert [tuple(row) for row in database.read("SELECT id, stars FROM entries")] == [(entry, 3)]
    assert [row[0] for row in Database(backup).read("SELECT id FROM entries")] == [entry]
    database.close()
    again = Database(tmp_path / "history.db", MORE)
    again.open()
    assert again.notes == []
    again.close()


def test_a_migration_that_fails_leaves_the_history_as_it_was(tmp_path: Path) -> None:
    old = History(tmp_path)
    keep(old)
    old.close()
    broken = Database(tmp_path / "history.db", (*MORE, "CREATE TABLE halves (a); INSERT INTO nowhere VALUES (1)"))
    with pytest.raises(HistoryUnavailable):
        broken.open()
    broken.close()
    assert version(tmp_path / "history.db") == len(MORE)
    # Each migration had its own backup; the one of that which failed would only be another copy at each try.
    for _ in range(2):
        with pytest.raises(HistoryUnavailable):
            broken.open()
    assert [version(path) for path in tmp_path.glob("history-version-*.db")] == [len(MIGRATIONS)]
    assert len(broken.notes) == 1
    found = Database(tmp_path / "history.db", MORE)
    assert found.read("SELECT name FROM sqlite_master WHERE name = 'halves'") == []
    found.close()


def test_each_migration_has_a_backup_of_its_own(tmp_path: Path) -> None:
    Database(tmp_path / "history.db").open()
    newest = Database(tmp_path / "history.db", (*MORE, "CREATE TABLE more (a)"))
    newest.open()
    versions = [version(path) for path in sorted(tmp_path.glob("history-version-*.db"))]
    assert versions == [len(MIGRATIONS), len(MORE)] and len(newest.notes) == 2
    newest.close()


def test_a_page_that_is_damaged_is_found_when_it_is_used_and_the_pictures_are_read_again(tmp_path: Path) -> None:
    history = History(tmp_path)
    history.open(background=False)
    ids = {keep(history, "x" * 1900, colour=f"#0000{k:02x}") for k in range(40)}
    history.close()
    data = bytearray((tmp_path / "history.db").read_bytes())
    for at in range(len(data) // 2 // 4096 * 4096, len(data), 4096):
        data[at : at + 4096] = b"\xff" * 4096
    (tmp_path / "history.db").write_bytes(data)
    again = History(tmp_path)
    with suppress(HistoryUnavailable):  # the comparison may be what comes upon it
        again.open(background=False)
    with suppress(HistoryUnavailable):
        again.detail(OWNER, max(ids))
    wait_for(lambda: {entry.id for entry in again.catalogue.all(OWNER)} == ids)
    assert len(list(tmp_path.glob("history-damaged-*.db"))) == 1 and len(again.database.notes) == 1
    assert again.detail(OWNER, min(ids)) is not None
    again.close()


def test_the_first_database_needs_no_backup(tmp_path: Path) -> None:
    database = Database(tmp_path / "history.db")
    database.open()
    assert database.notes == [] and [path.name for path in tmp_path.glob("*.db")] == ["history.db"]
    assert database.read("PRAGMA journal_mode")[0][0] == "wal"
    database.close()


def test_an_error_inside_a_transaction_undoes_it(tmp_path: Path) -> None:
    database = Database(tmp_path / "history.db")
    with pytest.raises(KeyError), database.write() as connection:
        connection.execute("INSERT INTO settings VALUES ('a', 'b')")
        raise KeyError
    assert database.read("SELECT * FROM settings") == []
    with pytest.raises(HistoryUnavailable, match="cannot be used now"), database.write() as connection:
        connection.execute("INSERT INTO settings VALUES ('a', 'b')")
        connection.execute("nonsense")
    assert database.read("SELECT * FROM settings") == []
    database.close()


def test_a_folder_without_permission_and_a_full_disk_are_one_sentence_each(tmp_path: Path) -> None:
    database = Database(tmp_path / "history.db")
    for error, words in (
        (sqlite3.OperationalError("database or disk is full"), "the disk is full; make room"),
        (sqlite3.OperationalError("attempt to write a readonly database"), "cannot be written; change its permissions"),
        (sqlite3.OperationalError("disk I/O error"), "disk I/O error; start the program again"),
    ):
        assert words in str(database._unavailable(error, 0))
    assert "has vanished" in str(Database(tmp_path / "no" / "h.db")._unavailable(sqlite3.OperationalError("unable"), 0))


def test_a_database_that_was_replaced_is_opened_again(tmp_path: Path) -> None:
    history = History(tmp_path)
    history.open(background=False)
    keep(history)
    (tmp_path / "history.db").unlink()
    assert history.catalogue.count(OWNER) == 0
    keep(history)
    assert history.catalogue.count(OWNER) == 1
    history.close()
