"""Comparing database and files, both ways: after a kill, a restore, or changes by hand; and taking old pictures in."""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from history.bin import move
from history.database import Database, HistoryUnavailable
from history.entries import NewEntry, insert
from history.folders import Folders, picture_files
from history.parents import link_parents, needed_uploads
from history.taking_in import TracedPicture, entry_from_file, traced_pictures
from history.thumbnails import Thumbnails
from pipelines.request import InvalidRequest
from pipelines.system.text import printable

log = logging.getLogger(__name__)
# Entries of one transaction.
BATCH = 50


@dataclass(frozen=True)
class TakingIn:
    """How far the comparison is.

    Attributes:
        done, total: files that had no entry.
        over: whether it has ended.
    """

    done: int = 0
    total: int = 0
    over: bool = False


class Reconciler:
    """Makes the database and the files agree.

    Attributes:
        progress: how far it is, for the page.
    """

    def __init__(
        self, database: Database, folders: Folders, thumbnails: Thumbnails, clock: Callable[[], float] = time.time
    ) -> None:
        self._database, self._folders, self._thumbnails, self._clock = database, folders, thumbnails, clock
        self.progress = TakingIn()
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Compare in a thread."""
        self._thread = threading.Thread(target=self._run_safely, name="history-reconcile", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread after the picture that it reads; the next start goes on."""
        self._stopped.set()
        if self._thread is not None:
            self._thread.join(timeout=5)

    def run(self) -> None:
        """Compare now; raises HistoryUnavailable."""
        started = time.time()
        names = {folder: set(picture_files(folder)) for folder in (self._folders.pictures, self._folders.bin)}
        pictures, in_bin = names[self._folders.pictures], names[self._folders.bin]
        rows = self._database.read("SELECT number, file, missing, deleted IS NOT NULL FROM entries WHERE file != ''")
        self._move(rows, pictures, in_bin)
        self._note_missing(rows, pictures | in_bin)
        known = {row[1] for row in rows}
        unknown = [
            path
            for folder, found in names.items()
            for path in (folder / name for name in sorted(found - known))
            # A file that is being kept right now is entered by who keeps it.
            if _written_before(path, started)
        ]
        self._take_in(unknown, {Path(file).stem for file in known})
        self.progress = TakingIn(self.progress.done, len(unknown), over=True)

    def needed_uploads(self) -> set[str]:
        """The uploads without which some entry could not be made again.

        Raises:
            HistoryUnavailable: if that cannot be known, as before the comparison has ended.
        """
        if not self.progress.over:
            raise HistoryUnavailable("The history is still compared with the files.")
        return needed_uploads(self._database)

    def _run_safely(self) -> None:
        try:
            self.run()
        except (HistoryUnavailable, OSError) as problem:
            log.warning("Pictures and history could not be compared: %s", problem)
        except Exception:  # the page must not wait for a thread that has ended
            log.exception("Pictures and history could not be compared")
        finally:
            self.progress = TakingIn(self.progress.done, self.progress.total, over=True)

    def _move(self, rows: Sequence[Any], pictures: set[str], in_bin: set[str]) -> None:
        """Put files where the database says that they are; a kill may have come before they were moved."""
        for _, file, _, deleted in rows:
            if deleted and file in pictures and file not in in_bin:
                move(file, self._folders.pictures, self._folders.bin, self._folders)
            elif not deleted and file in in_bin and file not in pictures:
                move(file, self._folders.bin, self._folders.pictures, self._folders)

    def _note_missing(self, rows: Sequence[Any], there: set[str]) -> None:
        """Note which files are gone and which are back; settings stay, and deleted entries without a file go."""
        if not self._folders.data.is_dir():
            return
        changed = [(file not in there, number) for number, file, missing, _ in rows if (file not in there) != missing]
        gone = [number for number, file, _, deleted in rows if deleted and file not in there]
        with self._database.write() as connection:
            connection.executemany("UPDATE entries SET missing = ? WHERE number = ?", changed)
            connection.executemany("DELETE FROM search WHERE rowid = ?", [(number,) for number in gone])
            connection.executemany("DELETE FROM entries WHERE number = ?", [(number,) for number in gone])

    def _take_in(self, paths: list[Path], taken: set[str]) -> None:
        """Enter files that have no entry, the oldest first, so that parents are there before their children.

        Args:
            paths: of the files.
            taken: names without endings of the files that have entries; of equal ones only the first is an entry's id.
        """
        traced = traced_pictures(self._folders.data / "traces") if paths else {}
        batch: list[NewEntry] = []
        for done, path in enumerate(sorted(paths, key=lambda path: path.name), 1):
            if self._stopped.is_set():
                break
            if (new := self._read(path, traced, taken)) is not None:
                batch.append(new)
                taken.add(path.stem)
            self.progress = TakingIn(done, len(paths))
            if len(batch) >= BATCH:
                self._enter_all(batch)
                batch = []
        self._enter_all(batch)

    def _read(self, path: Path, traced: Mapping[str, TracedPicture], taken: set[str]) -> NewEntry | None:
        try:
            path = with_printable_name(path)
            entry_id = f"{path.stem}-{path.suffix[1:].lower()}" if path.stem in taken else path.stem
            return entry_from_file(path, self._thumbnails, traced, entry_id)
        except (InvalidRequest, OSError) as problem:
            log.info("%s is not taken into the history: %s", printable(path.name), problem)
        except Exception:  # one file must not keep the others out
            log.exception("%s is not taken into the history", printable(path.name))
        return None

    def _enter_all(self, batch: list[NewEntry]) -> None:
        """Enter the files of a batch together; where one of them cannot be entered, each alone."""
        try:
            self._enter(batch)
        except HistoryUnavailable:
            raise
        except Exception:
            for new in batch:
                try:
                    self._enter([new])
                except (ValueError, OverflowError):
                    log.exception("%s cannot be entered into the history", new.file)

    def _enter(self, batch: list[NewEntry]) -> None:
        with self._database.write() as connection:
            for new in batch:
                number = insert(connection, new)
                if (self._folders.bin / new.file).is_file():
                    connection.execute("UPDATE entries SET deleted = ? WHERE number = ?", (self._clock(), number))
                if new.request is not None:
                    link_parents(connection, number, new.request, new.seed, new.place, new.user)


def with_printable_name(path: Path) -> Path:
    """A file whose name can be written as UTF-8, so that database and page can name it; renamed if need be.

    Raises:
        OSError: if it cannot be renamed.
    """
    name = printable(path.name)
    if name == path.name:
        return path
    target = path.with_name(name)
    while target.exists():
        target = path.with_name(f"{Path(name).stem}-{secrets.token_hex(3)}{path.suffix}")
    return path.rename(target)


def _written_before(path: Path, moment: float) -> bool:
    try:
        return path.stat().st_ctime < moment
    except OSError:
        return False
