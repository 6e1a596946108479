"""The SQLite database of the history: connections, migrations with a backup before each, and errors as sentences."""

from __future__ import annotations

import logging
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from history.schema import MIGRATIONS

log = logging.getLogger(__name__)
# The program is alone on its data folder; only a backup tool may hold the database for a moment.
BUSY_SECONDS = 10.0
# In WAL mode with NORMAL, a commit survives the end of the program at once, a power cut after the next checkpoint.
# What a power cut takes is read again from the pictures, which are flushed and hold their settings.
_PRAGMAS = ("journal_mode = WAL", "synchronous = NORMAL", "foreign_keys = ON", "cache_size = -16000", "temp_store = 2")


DAMAGED = "The history was damaged and is read again from the pictures; tags and favourites are in {name}."
BROUGHT = "The history was brought to a new version; the one before is kept as {name}."


class HistoryUnavailable(RuntimeError):
    """The history cannot be read or written now; the message is one sentence for the user."""


class Database:
    """One database file with one connection that writes and one that reads.  Thread-safe.

    The connections are opened when they are first needed, and again after the file was replaced or has vanished.

    Args:
        path: of the file; its folder must exist.
        migrations: ``MIGRATIONS``; tests add to it.

    Attributes:
        notes: one sentence for each backup that a migration made, and for a damaged file that was put aside.
        on_damage: called after a damaged file was put aside while the program ran; a new one takes its place.
    """

    def __init__(self, path: Path, migrations: Sequence[str] = MIGRATIONS) -> None:
        self.path, self._migrations = path, migrations
        self.notes: list[str] = []
        self.on_damage: Callable[[], None] = lambda: None
        self._opened = 0  # how often a file was opened: an error of an earlier one says nothing about this one
        self._writing, self._reading = threading.RLock(), threading.RLock()
        self._writer: sqlite3.Connection | None = None
        self._reader: sqlite3.Connection | None = None
        self._inode: tuple[int, int] | None = None

    def read(self, sql: str, values: Sequence[Any] = ()) -> list[sqlite3.Row]:
        """The rows of a query; raises HistoryUnavailable."""
        opened = self._opened
        try:
            if self._reader is None or self._inode != _inode(self.path):
                with self._writing:
                    self._write_connection()
                    opened = self._opened
            with self._reading:
                return self._read_connection().execute(sql, values).fetchall()
        except sqlite3.Error as error:
            raise self._unavailable(error, opened) from error

    @contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """A transaction: all of it is written at the end, or nothing if an error leaves it.

        Raises:
            HistoryUnavailable: if it cannot be written.
        """
        with self._writing:
            opened = self._opened
            try:
                connection = self._write_connection()
                opened = self._opened
                connection.execute("BEGIN IMMEDIATE")
                try:
                    yield connection
                    connection.execute("COMMIT")
                except BaseException:
                    with suppress(sqlite3.Error):
                        connection.execute("ROLLBACK")
                    raise
            except sqlite3.Error as error:
                raise self._unavailable(error, opened) from error

    def open(self) -> None:
        """Open the file, and bring it to the newest version; raises HistoryUnavailable."""
        with self._writing:
            try:
                self._write_connection()
            except sqlite3.Error as error:
                raise self._unavailable(error, self._opened) from error

    def close(self) -> None:
        """Close the connections; the next use opens them again."""
        with self._writing, self._reading:
            for connection in (self._reader, self._writer):
                if connection is not None:
                    with suppress(sqlite3.Error):
                        connection.close()
            self._reader = self._writer = self._inode = None

    # -- connections -------------------------------------------------------------------------------------------

    def _write_connection(self) -> sqlite3.Connection:
        if self._writer is not None and self._inode != _inode(self.path):
            log.warning("The history's database %s was replaced or has vanished", self.path)
            self.close()
        if self._writer is None:
            self._writer = self._open_or_put_aside()
            self._opened += 1
            self._inode = _inode(self.path)
        return self._writer

    def _read_connection(self) -> sqlite3.Connection:
        if self._reader is None:
            self._reader = self._connect()
            self._reader.execute("PRAGMA query_only = ON")
        return self._reader

    def _connect(self) -> sqlite3.Connection:
        # Its folder is not created: where it has vanished, a drive may be missing.
        connection = sqlite3.connect(self.path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
        connection.row_factory = sqlite3.Row
        try:
            for pragma in _PRAGMAS:
                connection.execute(f"PRAGMA {pragma}")
        except BaseException:
            connection.close()
            raise
        return connection

    def _open_or_put_aside(self) -> sqlite3.Connection:
        """An open connection of the newest version; a damaged file is renamed and a new one begun."""
        try:
            return self._open_newest()
        except sqlite3.OperationalError:
            raise
        except sqlite3.DatabaseError as error:
            self._put_aside(error)
            return self._open_newest()

    def _put_aside(self, error: sqlite3.DatabaseError) -> None:
        """Rename a damaged file; raises the error itself where that cannot be done."""
        log.warning("The history's database is damaged: %s", error)
        aside = self.path.with_name(f"{self.path.stem}-damaged-{_stamp()}{self.path.suffix}")
        try:
            os.replace(self.path, aside)
            for ending in ("-wal", "-shm"):
                self.path.with_name(self.path.name + ending).unlink(missing_ok=True)
        except OSError:
            raise error from None
        self.notes.append(DAMAGED.format(name=aside.name))

    def _recover(self, error: sqlite3.Error, opened: int) -> HistoryUnavailable | None:
        """Put a file aside whose pages are damaged, unless another thread has; None for another error.

        Opening reads no more than the first pages: the others are looked at when they are used.
        """
        if isinstance(error, sqlite3.OperationalError) or "malformed" not in str(error):
            return None
        with self._writing, self._reading:
            if opened == self._opened:
                self.close()
                try:
                    self._put_aside(error)  # type: ignore[arg-type]
                except sqlite3.Error:
                    return None
                threading.Thread(target=self.on_damage, name="history-damage", daemon=True).start()
        return HistoryUnavailable(self.notes[-1] if self.notes else str(error))

    def _open_newest(self) -> sqlite3.Connection:
        connection = self._connect()
        try:
            self._migrate(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    # -- migrations --------------------------------------------------------------------------------------------

    def _migrate(self, connection: sqlite3.Connection) -> None:
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        newest = len(self._migrations)
        if version > newest:
            raise HistoryUnavailable(
                "The history was written by a newer version of this program; update it, or choose another --data-dir."
            )
        for k in range(version, newest):
            backup = self._back_up(connection, k) if k else None
            try:
                connection.executescript(
                    f"BEGIN IMMEDIATE; {self._migrations[k]}; PRAGMA user_version = {k + 1}; COMMIT;"
                )
            except BaseException:
                with suppress(sqlite3.Error):
                    connection.execute("ROLLBACK")
                if backup is not None:  # the database is as it was; the next try makes another one
                    backup.unlink(missing_ok=True)
                raise
            if backup is not None:
                self.notes.append(BROUGHT.format(name=backup.name))

    def _back_up(self, connection: sqlite3.Connection, version: int) -> Path:
        backup = self.path.with_name(f"{self.path.stem}-version-{version}-{_stamp()}{self.path.suffix}")
        try:
            connection.execute("VACUUM INTO ?", (str(backup),))
        except BaseException:
            backup.unlink(missing_ok=True)
            raise
        return backup

    def _unavailable(self, error: sqlite3.Error, opened: int) -> HistoryUnavailable:
        if (recovered := self._recover(error, opened)) is not None:
            return recovered
        reason = str(error)
        if not self.path.parent.is_dir():
            what = f"the folder {self.path.parent} has vanished; bring it back, or start with another --data-dir"
        elif "full" in reason:
            what = "the disk is full; make room, and it goes on"
        elif "readonly" in reason or "unable to open" in reason:
            what = f"the folder {self.path.parent} cannot be written; change its permissions"
        else:
            what = f"{reason}; start the program again, and see its log"
        return HistoryUnavailable(f"The history cannot be used now: {what}.")


def _inode(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _stamp() -> str:
    return time.strftime("%Y%m%d-%H%M%S")
