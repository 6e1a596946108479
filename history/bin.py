"""The bin: deleted pictures can come back for 30 days.  Also what takes how much of the disk, and a rule to free it."""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from history.database import Database, HistoryUnavailable
from history.entries import COLUMNS, Entry, from_row
from history.folders import Folders, folder_bytes
from history.thumbnails import Thumbnails
from pipelines.jobs.users import OWNER, User
from pipelines.system.bounded_json import parse_json
from pipelines.system.guest_bytes import free_bytes

log = logging.getLogger(__name__)
DAY = 86400.0
# How long a deleted picture can come back.
KEEP_SECONDS = 30 * DAY
# Entries of one transaction.
BATCH = 200


@dataclass(frozen=True)
class DiskUse:
    """What the history takes of the disk.

    Attributes:
        pictures, bin: bytes of the pictures in use and of deleted ones; ``count`` and ``bin_count`` are their numbers.
        thumbnails, strips, traces, database: bytes.
        free: bytes that are free on the disk.
    """

    pictures: int
    count: int
    bin: int
    bin_count: int
    thumbnails: int
    strips: int
    traces: int
    database: int
    free: int


@dataclass(frozen=True)
class Retention:
    """When pictures are put into the bin by themselves; favourites and tagged pictures never are.

    Attributes:
        days: older ones are; 0 for no limit.
        megabytes: the oldest beyond this size are; 0 for no limit.
    """

    days: int = 0
    megabytes: int = 0


class Bin:
    """Deletes and restores entries.  All raise HistoryUnavailable.

    The database is written first: what it says of a file that a kill left at its old place is done at the next start.

    Args:
        clock: seconds since the epoch.
    """

    def __init__(
        self, database: Database, folders: Folders, thumbnails: Thumbnails, clock: Callable[[], float] = time.time
    ) -> None:
        self._database, self._folders, self._thumbnails, self._clock = database, folders, thumbnails, clock

    def delete(self, user: User, ids: Sequence[str]) -> tuple[str, ...]:
        """Put entries into the bin; the ids of those that were, for ``restore``."""
        entries = self._entries(user, ids, "deleted IS NULL")
        with self._database.write() as connection:
            connection.executemany(
                "UPDATE entries SET deleted = ? WHERE number = ?", [(self._clock(), each.number) for each in entries]
            )
        for entry in entries:
            move(entry.file, self._folders.pictures, self._folders.bin, self._folders)
        return tuple(entry.id for entry in entries)

    def restore(self, user: User, ids: Sequence[str]) -> tuple[str, ...]:
        """Take entries out of the bin; the ids of those that were."""
        entries = self._entries(user, ids, "deleted IS NOT NULL")
        with self._database.write() as connection:
            connection.executemany(
                "UPDATE entries SET deleted = NULL WHERE number = ?", [(each.number,) for each in entries]
            )
        for entry in entries:
            move(entry.file, self._folders.bin, self._folders.pictures, self._folders)
        return tuple(entry.id for entry in entries)

    def empty(self, user: User, ids: Sequence[str] | None = None) -> int:
        """Delete entries of the bin for good, all of them by default; how many."""
        if ids is not None:
            return self._remove(self._entries(user, ids, "deleted IS NOT NULL"))
        mine = "deleted IS NOT NULL AND (? OR user = ?)"
        return self._remove_all(mine, (user.owner, user.id))

    def expire(self) -> int:
        """Delete for good what has been in the bin for 30 days; how many."""
        return self._remove_all("deleted < ?", (self._clock() - KEEP_SECONDS,))

    # -- the disk ----------------------------------------------------------------------------------------------

    def disk_use(self) -> DiskUse:
        """What the history takes of the disk; looks at many files."""
        rows = self._database.read(
            "SELECT deleted IS NOT NULL, COUNT(*), SUM(bytes) FROM entries WHERE file != '' AND NOT missing GROUP BY 1"
        )
        sums = {int(row[0]): (int(row[1]), int(row[2])) for row in rows}
        (count, pictures), (bin_count, in_bin) = sums.get(0, (0, 0)), sums.get(1, (0, 0))
        return DiskUse(
            pictures=pictures, count=count, bin=in_bin, bin_count=bin_count,
            thumbnails=folder_bytes(self._folders.thumbnails), strips=folder_bytes(self._folders.strips),
            traces=folder_bytes(self._folders.data / "traces"),
            database=sum(path.stat().st_size for path in self._folders.data.glob("history*.db*")),
            free=free_bytes(self._folders.data),
        )  # fmt: skip

    @property
    def retention(self) -> Retention:
        """The rule that is set; by default there is none."""
        rows = self._database.read("SELECT value FROM settings WHERE name = 'retention'")
        try:
            found = parse_json(rows[0][0]) if rows else {}
            return Retention(max(0, int(found.get("days", 0))), max(0, int(found.get("megabytes", 0))))
        except (ValueError, TypeError, AttributeError):
            return Retention()

    def set_retention(self, rule: Retention) -> None:
        """Set the rule; it is applied at the next ``apply_retention``."""
        with self._database.write() as connection:
            connection.execute(
                "INSERT OR REPLACE INTO settings (name, value) VALUES ('retention', ?)", (json.dumps(asdict(rule)),)
            )

    def apply_retention(self) -> int:
        """Put into the bin what the rule says; how many."""
        rule, ids = self.retention, list[str]()
        plain = "deleted IS NULL AND NOT favourite AND file != '' AND number NOT IN (SELECT number FROM tags)"
        if rule.days:
            rows = self._database.read(
                f"SELECT id FROM entries WHERE {plain} AND created < ?", (self._clock() - rule.days * DAY,)
            )
            ids += [row[0] for row in rows]
        if rule.megabytes:
            # What is missing takes no room, and moving it frees none.
            there = "deleted IS NULL AND NOT missing"
            total = self._database.read(f"SELECT SUM(bytes) FROM entries WHERE {there}")[0][0] or 0
            oldest = f"SELECT id, bytes FROM entries WHERE {plain} AND NOT missing ORDER BY number"
            for row in self._database.read(oldest):
                if total <= rule.megabytes * 2**20:
                    break
                total -= row[1]
                ids.append(row[0])
        chosen = list(dict.fromkeys(ids))
        return sum(len(self.delete(OWNER, chosen[at : at + BATCH])) for at in range(0, len(chosen), BATCH))

    def tidy(self) -> None:
        """What is done now and then by itself: the retention rule, and emptying the bin; never raises."""
        try:
            self.apply_retention()
            self.expire()
        except (HistoryUnavailable, OSError) as problem:
            log.warning("The bin could not be emptied: %s", problem)

    # -- inside ------------------------------------------------------------------------------------------------

    def _entries(self, user: User, ids: Sequence[str], condition: str) -> list[Entry]:
        found: list[Entry] = []
        for at in range(0, len(ids), BATCH):
            some = ids[at : at + BATCH]
            marks = ", ".join("?" * len(some))
            rows = self._database.read(
                f"SELECT {COLUMNS} FROM entries WHERE id IN ({marks}) AND {condition} AND (? OR user = ?)",
                (*some, user.owner, user.id),
            )
            found += map(from_row, rows)
        return found

    def _remove_all(self, condition: str, values: Sequence[object]) -> int:
        removed = 0
        while rows := self._database.read(f"SELECT {COLUMNS} FROM entries WHERE {condition} LIMIT {BATCH}", values):
            done = self._remove([from_row(row) for row in rows])
            removed += done
            if done < len(rows):  # a file that cannot be deleted now
                break
        return removed

    def _remove(self, entries: Sequence[Entry]) -> int:
        """Delete files and then entries: after a kill in between, the next start finds entries without files."""
        gone = [entry for entry in entries if self._delete_files(entry)]
        with self._database.write() as connection:
            for entry in gone:
                connection.execute("DELETE FROM search WHERE rowid = ?", (entry.number,))
                connection.execute("DELETE FROM entries WHERE number = ?", (entry.number,))
        for run in {entry.run for entry in gone if entry.run}:
            if not self._database.read("SELECT 1 FROM entries WHERE run = ? AND run != '' LIMIT 1", (run,)):
                self._folders.delete_trace(run)
        return len(gone)

    def _delete_files(self, entry: Entry) -> bool:
        try:
            if path := self._folders.picture(entry.file):
                path.unlink(missing_ok=True)
            self._thumbnails.remove(entry.id)
            if entry.run:
                self._folders.strip(entry.run, entry.place).unlink(missing_ok=True)
        except OSError as error:
            log.warning("%s could not be deleted: %s", entry.file, error)
            return False
        return True


def move(file: str, source: Path, target: Path, folders: Folders) -> None:
    """Move a picture between two folders of the history; where that fails it is tried again at the next start."""
    if not file or not (source / file).is_file():
        return
    try:
        os.replace(source / file, folders.create(target) / file)
    except OSError as error:
        log.warning("%s could not be moved: %s", file, error)
