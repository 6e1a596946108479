"""Pictures out and in: a selection as a zip with one JSON, a picture in another format, and folders of any program."""

from __future__ import annotations

import hashlib
import logging
import re
import secrets
import time
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO

from history import marks
from history.bin import Bin
from history.database import Database, HistoryUnavailable
from history.entries import COLUMNS, FOREIGN, Entry, EntryDetail, NewEntry, from_row, insert
from history.folders import Folders
from history.parents import link_parents
from history.readers import texts_with_hidden
from history.taking_in import entry_from_file
from history.thumbnails import Thumbnails
from history.transfers import export_listing
from history.transfers.export_listing import Listed
from history.transfers.import_sources import Found, Unreadable, pictures_in
from pipelines.images.carried_texts import encode_with_texts
from pipelines.images.geometry import flatten
from pipelines.images.provenance import TRAINED
from pipelines.images.settings_in_files import (
    FORMATS,
    encode,
    encode_without_settings,
    source_type_of,
    without_settings,
)
from pipelines.images.signing import Sign
from pipelines.images.uploads import MAX_PIXELS, decode_upload, upload_id
from pipelines.jobs.users import User
from pipelines.request import InvalidRequest
from pipelines.system.atomic_files import atomic_write
from pipelines.system.text import printable

log = logging.getLogger(__name__)
# The names that this program gives to pictures.
_OWN_NAME = re.compile(r"\d{8}-\d{6}-\d{3}-[\w-]{1,60}", re.ASCII)
# Pictures with the same pixels that an imported one is compared with.
MAX_COMPARED = 20
# While an import counts its files, its progress is told after so many.
COUNTED_AT_ONCE = 200
STOPPED = "The import was stopped; start it again to go on."


@dataclass(frozen=True)
class ImportProgress:
    """How far an import is.

    Attributes:
        done, total: files.
        added, known, refused: files that were new, that were there already, and that are no pictures or unreadable.
        problem: one sentence if it ended early, else "".
    """

    done: int = 0
    total: int = 0
    added: int = 0
    known: int = 0
    refused: int = 0
    problem: str = ""


def export(details: Iterable[EntryDetail], target: Path) -> int:
    """Write a zip with the pictures of some entries and one JSON that describes them; how many pictures.

    Args:
        details: of the entries, read one after the other; those without a picture are in the JSON alone.
        target: the zip; it appears whole or not at all.

    Raises:
        OSError: if it cannot be written.
    """
    listed, count = [], 0
    with atomic_write(target, sync=False) as file, _new_zip(file) as archive:
        for detail in details:
            name = ""
            if detail.picture is not None:
                name = f"pictures/{detail.entry.file}"
                archive.write(detail.picture, name)
                count += 1
            listed.append(export_listing.described(detail, name))
        archive.writestr(export_listing.NAME, export_listing.written(listed), zipfile.ZIP_DEFLATED)
    return count


def _new_zip(file: BinaryIO) -> zipfile.ZipFile:
    """A zip to write into; files from before 1980, which a zip cannot say, get its first day."""
    return zipfile.ZipFile(file, "w", zipfile.ZIP_STORED, strict_timestamps=False)


def saved_as(detail: EntryDetail, form: str, settings: bool = True, sign: Sign | None = None) -> bytes:
    """The picture of an entry as a file to give away.

    Args:
        detail: of the entry, which must have a picture.
        form: key of ``FORMATS``; a picture that has this format already keeps its pixels exactly.
        settings: whether prompt and settings are in it, those of another program as it wrote them; the mark that a
            model made it is, wherever one did.
        sign: signs each file that this function writes; an imported picture keeps its own signature.

    Raises:
        SigningFailed: of ``sign``.
        OSError: if the picture cannot be read.
        InvalidRequest: if it is broken.
    """
    if detail.picture is None:
        raise FileNotFoundError(f"{detail.entry.id} has no picture")
    data = detail.picture.read_bytes()
    # A model made it if this or another program says so; a photograph that was brought here gets no such mark.
    made_here, is_marked = detail.entry.kind != FOREIGN, bool(detail.foreign or source_type_of(data))
    if detail.picture.suffix.lower().replace(".jpeg", ".jpg") == FORMATS[form]:
        if settings or not made_here or "imported_from" in detail.facts:
            return data if settings else without_settings(data, mark=made_here or is_marked)
        plain = without_settings(data, manifest=False)
        return sign(plain) if sign else plain
    image = decode_upload(data).image
    if settings and detail.request is not None:
        file = encode(image, form, detail.request, detail.entry.seed, detail.facts)
    elif settings and (made_here or detail.foreign):  # what a newer version of this program wrote is text here, too
        file = encode_with_texts(image, form, texts_with_hidden(data, image), source_type_of(data) or TRAINED)
    else:
        file = encode_without_settings(image, form, source_type_of(data) or TRAINED, mark=made_here or is_marked)
    return sign(file) if sign else file


class FolderImport:
    """Copies pictures of any program into the history, with the settings that they hold.

    One file is in memory at a time.  A picture that is here already, by its content, is left out; one that was deleted
    or whose file is missing comes back.  Tags and favourites of an export are read back in either case.

    Args:
        database, folders, thumbnails, bin: of the history.
        user: whose they will be; imports are for the owner.
    """

    def __init__(self, database: Database, folders: Folders, thumbnails: Thumbnails, bin: Bin, user: User) -> None:
        self._database, self._folders, self._thumbnails, self._bin = database, folders, thumbnails, bin
        self._user = user

    def run(
        self,
        *sources: Path,
        progress: Callable[[ImportProgress], None] = lambda _: None,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> ImportProgress:
        """Import pictures.

        Args:
            sources: folders with those below them (never the history's own), zips, and single files.
            progress: called after each file, and while files are counted.
            cancelled: polled before each file, and while files are counted.

        Returns:
            The last progress.
        """
        state = ImportProgress()
        for count, _ in enumerate(self._found(sources, cancelled), 1):
            state = ImportProgress(total=count)
            if count % COUNTED_AT_ONCE == 0:
                progress(state)
            if cancelled():
                break
        for found in self._found(sources, cancelled):
            if cancelled():
                break
            try:
                outcome = self._add(found)
            except (HistoryUnavailable, OSError) as problem:
                reason = problem.strerror if isinstance(problem, OSError) else str(problem)
                return replace(state, problem=f"The import ended early ({reason}); make room and start it again.")
            except Exception:  # one file must not keep the others out
                log.exception("%s is not imported", found.name)
                outcome = "refused"
            state = replace(state, done=state.done + 1, **{outcome: getattr(state, outcome) + 1})
            progress(state)
        return replace(state, problem=STOPPED) if cancelled() and state.done < max(1, state.total) else state

    def _found(self, sources: Sequence[Path], cancelled: Callable[[], bool]) -> Iterator[Found]:
        return chain.from_iterable(pictures_in(source, self._folders, cancelled) for source in sources)

    def _add(self, found: Found) -> str:
        """Import one file; which figure of the progress it counts for."""
        try:
            data = found.read()
        except Unreadable:  # others may be readable
            return "refused"
        digest = hashlib.sha256(data).hexdigest()
        here = self._here("digest", digest, data) or self._here("id", Path(found.name).stem, data)
        if here is not None:
            return self._again(here, found, data)
        target = self._copy(found, data)
        try:
            here = self._take_in(target, found, data)
        except InvalidRequest as problem:
            log.info("%s is not imported: %s", found.name, problem)
            self._drop(target)
            return "refused"
        except BaseException:  # started again, it would be copied a second time
            self._drop(target)
            raise
        if here is not None:  # under another name
            self._drop(target)
            return self._again(here, found, data)
        return "added"

    def _take_in(self, target: Path, found: Found, data: bytes) -> Entry | None:
        """Enter a file that was copied, unless the picture is here already: then its entry."""
        new = entry_from_file(target, self._thumbnails)
        here = self._here("pixels", new.pixels, data)
        if here is None:
            self._enter(replace(new, user=self._user, **self._origin(new, found)), found.listed)
        return here

    def _drop(self, target: Path) -> None:
        """Remove the copy of a file that has no entry."""
        target.unlink(missing_ok=True)
        self._thumbnails.remove(target.stem)

    def _origin(self, new: NewEntry, found: Found) -> dict[str, Any]:
        """Where it came from, and what its user was told when it was made."""
        facts = {**new.facts, "imported_from": printable(found.name)[:200]}
        return {"facts": facts, "notes": found.listed.notes if found.listed else ()}

    def _enter(self, new: NewEntry, listed: Listed | None) -> None:
        with self._database.write() as connection:
            number = insert(connection, new)
            if new.request is not None:
                link_parents(connection, number, new.request, new.seed, new.place, new.user)
            _mark(connection, number, listed)

    def _here(self, column: str, value: str, data: bytes) -> Entry | None:
        """The newest entry that has this value and exactly this file."""
        rows = self._database.read(
            f"SELECT {COLUMNS}, digest, pixels FROM entries JOIN details USING (number) WHERE {column} = ? "
            f"AND {column} != '' AND bytes = ? ORDER BY number DESC LIMIT {MAX_COMPARED}",
            (value, len(data)),
        )
        return next((from_row(row) for row in rows if self._is_file(row, data)), None)

    def _is_file(self, row: Any, data: bytes) -> bool:
        """Whether a file is that of an entry; of one whose file is gone its pixels decide."""
        if row["digest"] and row["digest"] == hashlib.sha256(data).hexdigest():
            return True
        try:
            if path := self._folders.picture(row["file"]):
                return path.read_bytes() == data
            return bool(row["pixels"]) and upload_id(flatten(decode_upload(data, MAX_PIXELS).image)) == row["pixels"]
        except (OSError, InvalidRequest):
            return False

    def _again(self, entry: Entry, found: Found, data: bytes) -> str:
        """Take over what an export says of an entry that is here; bring back what was deleted or whose file is gone."""
        gone = self._folders.picture(entry.file) is None
        if gone:
            with atomic_write(self._folders.create(self._folders.pictures) / entry.file, sync=False) as file:
                file.write(data)
        with self._database.write() as connection:
            connection.execute("UPDATE entries SET missing = 0 WHERE number = ?", (entry.number,))
            _mark(connection, entry.number, found.listed)
        restored = entry.deleted is not None and bool(self._bin.restore(self._user, [entry.id]))
        return "added" if gone or restored else "known"

    def _copy(self, found: Found, data: bytes) -> Path:
        """Write a file into the history's folder, named as an export names it, or by when it was last changed."""
        stamp = datetime.fromtimestamp(min(max(found.changed, 0.0), time.time()), UTC).strftime("%Y%m%d-%H%M%S-%f")[:-3]
        name, suffix = Path(found.name).stem, Path(found.name).suffix.lower()
        known = found.listed is not None and _OWN_NAME.fullmatch(name)
        if not known or self._database.read("SELECT 1 FROM entries WHERE id = ?", (name,)):
            name = f"{stamp}-import-{secrets.token_hex(6)}"
        folder = self._folders.create(self._folders.pictures)
        if (folder / f"{name}{suffix}").exists():
            name = f"{stamp}-import-{secrets.token_hex(6)}"
        target = folder / f"{name}{suffix}"
        with atomic_write(target, sync=False) as file:
            file.write(data)
        return target


def _mark(connection: Any, number: int, listed: Listed | None) -> None:
    if listed is None:
        return
    if listed.tags:
        marks.set_tags(connection, number, listed.tags)
    if listed.favourite:
        connection.execute("UPDATE entries SET favourite = 1 WHERE number = ?", (number,))
