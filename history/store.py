"""The history: keeps every finished picture with all that is known of it, and answers what the page asks of it."""

from __future__ import annotations

import json
import logging
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from history import marks
from history.bin import Bin
from history.database import Database, HistoryUnavailable
from history.entries import COLUMNS as COLUMNS
from history.entries import CRASHED, EntryDetail, NewEntry, insert, of_request
from history.exchange import FolderImport, saved_as
from history.folders import Folders
from history.parents import Relatives, family_of, link_parents, note_source
from history.reconcile import Reconciler
from history.replays.replays import Replays
from history.search import EntryCatalogue
from history.strips import StripArchive
from history.taking_in import GUEST_MARK
from history.thumbnails import Thumbnails
from pipelines.images.decoding_slots import DecodingSlots
from pipelines.images.geometry import flatten
from pipelines.images.png import save_png
from pipelines.images.settings_in_files import FORMATS
from pipelines.images.signing import NOT_SIGNED, Sign, SigningFailed
from pipelines.images.uploads import upload_id
from pipelines.jobs.results import made_facts
from pipelines.jobs.users import OWNER, User
from pipelines.request import GenerationRequest

if TYPE_CHECKING:
    from PIL import Image

    from pipelines.jobs.backend import PictureFacts

log = logging.getLogger(__name__)
# The ending of a file -> the name of its format.
FORMS = {**{ending: name for name, ending in FORMATS.items()}, ".jpeg": "jpeg"}
# Entries whose pictures are on the disk while the database cannot be written; they are entered when it can be again.
MAX_UNLISTED = 10_000
NOT_LISTED = "The picture is saved, but not listed in the History yet. {problem}"


class History:
    """The pictures of one data folder; a ``pipelines.jobs.backend.PictureStore``.  Thread-safe.

    Nothing is done before ``open`` or the first picture.

    Args:
        data_dir: the data folder, which must exist.
        clock: seconds since the epoch; tests set it.
        sign: signs each picture as the last thing that is written into its file; None for no signature.

    Attributes:
        catalogue: finds entries.
        bin: deletes, restores, and frees the disk.
        strips: keeps a strip of each timeline whose trace is dropped.
        thumbnails: small pictures for the grid.
        reconciler: compares the database with the files.
        replays: makes entries again and compares.
        export_slots: how many files are made of its pictures at once, for downloads and for the page's exports.
        problem: what is wrong with the picture that was kept last; see ``PictureStore``.
    """

    def __init__(self, data_dir: Path, clock: Callable[[], float] = time.time, sign: Sign | None = None) -> None:
        self.folders = Folders(Path(data_dir))
        self.database = Database(self.folders.database)
        self.catalogue = EntryCatalogue(self.database)
        self.thumbnails = Thumbnails(self.folders)
        self.strips = StripArchive(self.database, self.folders)
        self.bin = Bin(self.database, self.folders, self.thumbnails, clock)
        self.reconciler = Reconciler(self.database, self.folders, self.thumbnails, clock)
        self.database.on_damage = self.reconciler.start
        self.replays = Replays(self.database, self.bin, self.detail)
        self.export_slots = DecodingSlots()
        self._clock, self._sign = clock, sign
        self._unlisted: deque[tuple[NewEntry, GenerationRequest]] = deque(maxlen=MAX_UNLISTED)
        self._lock, self.problem = threading.Lock(), ""

    def open(self, background: bool = True) -> list[str]:
        """Open the database, enter runs that a crash cut off, and compare database and files.

        Args:
            background: whether the comparison runs in a thread, so that the page need not wait for it.

        Returns:
            One sentence for each thing that the user should know.
        """
        try:
            self.database.open()
            self._enter_crashed_runs()
        except HistoryUnavailable as problem:
            return [str(problem)]
        self.reconciler.start() if background else self.reconciler.run()
        return list(self.database.notes)

    def close(self) -> None:
        """The program ends in an orderly way: no run was cut off by a crash."""
        self.reconciler.stop()
        try:
            self._enter_unlisted()
            with self.database.write() as connection:
                connection.execute("DELETE FROM runs")
        except HistoryUnavailable as problem:
            log.warning("%s", problem)
        self.database.close()

    # -- PictureStore ------------------------------------------------------------------------------------------

    def keep(self, picture: Image.Image, request: GenerationRequest, facts: PictureFacts) -> str:
        """Save one picture and enter it; see ``PictureStore``.

        The file comes first and holds its settings: where the program is killed before the entry is written, or the
        database cannot be written, the entry is made from the file at the next start.
        """
        self.problem = ""
        made = made_facts(facts)
        path, notes = self._write(picture, request, facts, made)
        self.thumbnails.write(path.stem, picture)
        new = NewEntry(
            id=path.stem, created=self._clock(), user=facts.user, file=path.name, bytes=path.stat().st_size,
            width=picture.width, height=picture.height, run=facts.run, place=facts.number, facts=made,
            notes=notes, pixels=upload_id(flatten(picture)), **of_request(request, facts.seed, facts.number),
        )  # fmt: skip
        with self._lock:
            self._unlisted.append((new, request))
        try:
            self._enter_unlisted()
        except HistoryUnavailable as problem:
            log.warning("%s is saved, but not listed yet: %s", path.name, problem)
            self.problem = NOT_LISTED.format(problem=problem)
        return new.id

    def _write(
        self, picture: Image.Image, request: GenerationRequest, facts: PictureFacts, made: dict[str, Any]
    ) -> tuple[Path, tuple[str, ...]]:
        """The file of a new picture, and its notes; a signature that fails costs no picture."""
        folder = self.folders.create(self.folders.pictures)
        # The name tells that it is a guest's, where the entry is lost.
        mark = GUEST_MARK if facts.user.guest is not None else ""
        try:
            return save_png(picture, folder, request, facts.seed, made, self._sign, mark), facts.notes
        except SigningFailed as problem:
            log.warning("A picture is not signed: %s", problem)
            note = NOT_SIGNED.format(reason=problem)
            return save_png(picture, folder, request, facts.seed, made, mark=mark), (*facts.notes, note)

    def saved(self, user: User, entry_id: str, settings: bool = True, form: str = "") -> tuple[str, bytes] | None:
        """Name and bytes of an entry's picture to give away; None if the user sees no such picture.

        Args:
            user, entry_id: who asks, for which entry.
            settings: whether prompt and settings are in it.
            form: key of ``FORMATS``; "" for the one that it has.

        Raises:
            HistoryUnavailable, OSError: if it cannot be read.
            ValueError: if it is broken, or cannot be signed.
        """
        detail = self.detail(user, entry_id)
        if detail is None or detail.picture is None:
            return None
        own = FORMS.get(detail.picture.suffix.lower(), "png")
        name = detail.entry.file if form in ("", own) else f"{detail.picture.stem}{FORMATS[form]}"
        try:
            return name, saved_as(detail, form or own, settings, self._sign)
        except SigningFailed as problem:
            raise ValueError(str(problem)) from problem

    def path(self, entry_id: str) -> Path:
        """The file of a picture; raises KeyError."""
        try:
            entry = self.catalogue.find(OWNER, entry_id)
        except HistoryUnavailable:
            entry = None
        found = self.folders.picture(entry.file if entry else f"{entry_id}.png")  # of one that could not be entered
        if found is None:
            raise KeyError(entry_id)
        return found

    def started(self, run: str, request: GenerationRequest, user: User) -> None:
        """A run begins; see ``PictureStore``."""
        values = (run, user.id, user.guest is not None, request.model_dump_json(), self._clock())
        self._try("INSERT OR REPLACE INTO runs (run, user, guest, request, started) VALUES (?, ?, ?, ?, ?)", values)

    def ended(self, run: str) -> None:
        """A run is over; see ``PictureStore``."""
        self._try("DELETE FROM runs WHERE run = ?", (run,))

    def complete(self, run: str, facts: Mapping[str, Any]) -> None:
        """What became known of a run's files after its pictures were kept; see ``PictureStore``."""
        self._try(
            "UPDATE details SET facts = json_patch(facts, ?) WHERE number IN "
            "(SELECT number FROM entries WHERE run = ? AND run != '')",
            (json.dumps(dict(facts)), run),
        )

    # -- one entry ---------------------------------------------------------------------------------------------

    def detail(self, user: User, entry_id: str) -> EntryDetail | None:
        """Everything that is known of an entry that a user may see; raises HistoryUnavailable."""
        entry = self.catalogue.find(user, entry_id)
        rows = self.database.read("SELECT * FROM details WHERE number = ?", (entry.number,)) if entry else []
        if entry is None or not rows:
            return None
        settings, strip = _json(rows[0]["request"], {}), self.folders.strip(entry.run, entry.place)
        tags = self.database.read("SELECT tag FROM tags WHERE number = ? ORDER BY tag", (entry.number,))
        run = self.database.read(
            "SELECT id FROM entries WHERE run = ? AND run != '' AND deleted IS NULL ORDER BY place", (entry.run,)
        )
        return EntryDetail(
            entry=entry,
            request=_request(rows[0]["request"]),
            settings=settings,
            facts=_json(rows[0]["facts"], {}),
            notes=tuple(_json(rows[0]["notes"], [])),
            foreign=_json(rows[0]["foreign_settings"], {}),
            tags=tuple(row[0] for row in tags),
            picture=self.folders.picture(entry.file),
            strip=strip if entry.run and strip.is_file() else None,
            siblings=tuple(row[0] for row in run),
        )

    def thumbnail(self, user: User, entry_id: str) -> Path | None:
        """The small picture of an entry that a user may see; None if it has no picture."""
        entry = self.catalogue.find(user, entry_id)
        picture = self.folders.picture(entry.file) if entry else None
        return self.thumbnails.get(entry.id, picture, (entry.width, entry.height)) if entry and picture else None

    def picture_with_pixels(self, user: User, upload: str) -> Path | None:
        """The file of an entry that a user may see and that has the pixels of an upload; None if there is none."""
        rows = self.database.read(
            "SELECT file FROM entries JOIN details USING (number) WHERE pixels = ? AND pixels != '' "
            "AND deleted IS NULL AND (? OR user = ?) ORDER BY number DESC LIMIT 1",
            (upload, user.owner, user.id),
        )
        return self.folders.picture(rows[0][0]) if rows else None

    def family(self, user: User, entry_id: str) -> Relatives:
        """The pictures that an entry came from and that came from it."""
        entry = self.catalogue.find(user, entry_id)
        return family_of(self.database, entry, user) if entry else Relatives((), ())

    def related_runs(self, user: User, run: str, place: int) -> list[tuple[str, int]]:
        """Run and place of the pictures that a run's picture came from or that came from it, newest first."""
        entry = self.catalogue.of_run(user, run, place)
        members = family_of(self.database, entry, user).members if entry else ()
        return [(member.run, member.place) for member in reversed(members) if member.run and member != entry]

    def importer(self, user: User) -> FolderImport:
        """Imports folders of pictures for a user."""
        return FolderImport(self.database, self.folders, self.thumbnails, self.bin, user)

    def note_source(self, user: User, upload: str, original: str) -> None:
        """A picture was cropped or scaled: if it is an entry's, runs from what came of it are the entry's children.

        Args:
            user: who did it; nothing is noted of entries that the user may not see.
            upload: id of what came of it in the ``UploadStore``.
            original: the id that the picture itself has there.
        """
        if upload == original:
            return
        try:
            with self.database.write() as connection:
                note_source(connection, upload, original, user)
        except HistoryUnavailable as problem:
            log.warning("%s", problem)

    # -- marks -------------------------------------------------------------------------------------------------

    def set_favourite(self, user: User, ids: Sequence[str], favourite: bool) -> int:
        """Mark entries as favourites, or no longer; how many.  Raises HistoryUnavailable."""
        with self.database.write() as connection:
            return sum(
                connection.execute(
                    "UPDATE entries SET favourite = ? WHERE id = ? AND (? OR user = ?)",
                    (favourite, each, user.owner, user.id),
                ).rowcount
                for each in ids
            )

    def set_tags(self, user: User, ids: Sequence[str], add: Collection[str] = (), remove: Collection[str] = ()) -> int:
        """Add tags to entries and remove others; how many entries.  Raises HistoryUnavailable.

        Tags are trimmed and lower case; an entry has a bounded number of them (``history.marks``).
        """
        with self.database.write() as connection:
            numbers = [number for each in ids if (number := _number(connection, user, each)) is not None]
            for number in numbers:
                marks.set_tags(connection, number, add, remove)
        return len(numbers)

    # -- entering ----------------------------------------------------------------------------------------------

    def _enter_unlisted(self) -> None:
        """Enter every picture that is not entered yet, in order; raises HistoryUnavailable."""
        with self._lock:
            while self._unlisted:
                new, request = self._unlisted[0]
                with self.database.write() as connection:
                    number = insert(connection, new)
                    link_parents(connection, number, request, new.seed, new.place, new.user)
                self._unlisted.popleft()

    def _enter_crashed_runs(self) -> None:
        """Enter the runs that began and did not end before the program did, unless all their pictures are there."""
        rows = self.database.read("SELECT * FROM runs ORDER BY started")
        for row in rows:
            request = _request(row["request"])
            kept = self.database.read("SELECT COUNT(*) FROM entries WHERE run = ? AND run != ''", (row["run"],))[0][0]
            with self.database.write() as connection:
                if kept < (request.num_images if request else 1):
                    insert(connection, _crashed(row, request))
                connection.execute("DELETE FROM runs WHERE run = ?", (row["run"],))

    def _try(self, sql: str, values: Sequence[Any]) -> None:
        """Write what may be lost; an error is only logged."""
        try:
            with self.database.write() as connection:
                connection.execute(sql, values)
        except HistoryUnavailable as problem:
            log.warning("%s", problem)


def _crashed(row: sqlite3.Row, request: GenerationRequest | None) -> NewEntry:
    """The entry of a run that was cut off; one that this version cannot run is entered as it was written."""
    if request is not None:
        fields = {**of_request(request, request.sampling.seed), "width": request.width, "height": request.height}
    else:
        found = _json(row["request"], {})
        fields = {name: text for name in ("model", "prompt") if isinstance(text := found.get(name), str)}
        fields["written"] = row["request"]
    return NewEntry(
        id=f"crash-{row['run']}", created=row["started"], user=User(row["user"], unmetered=not row["guest"]),
        run=row["run"], **{**fields, "kind": CRASHED},
    )  # fmt: skip


def _number(connection: sqlite3.Connection, user: User, entry_id: str) -> int | None:
    row = connection.execute(
        "SELECT number FROM entries WHERE id = ? AND (? OR user = ?)", (entry_id, user.owner, user.id)
    ).fetchone()
    return int(row[0]) if row else None


def _request(text: str) -> GenerationRequest | None:
    """A request as it was written; None if this version cannot run it."""
    try:
        return GenerationRequest.model_validate_json(text)
    except ValueError:
        return None


def _json(text: str, default: Any) -> Any:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return default
    return found if isinstance(found, type(default)) else default
