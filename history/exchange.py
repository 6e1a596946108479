"""Pictures out and in: a selection as a zip with one JSON, a picture in another format, and folders of any program."""

from __future__ import annotations

import hashlib
import json
import logging
import secrets
import time
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import Any

from history.database import Database, HistoryUnavailable
from history.entries import EntryDetail, NewEntry, insert
from history.folders import Folders
from history.import_sources import Found, Unreadable, pictures_in
from history.parents import link_parents
from history.taking_in import entry_from_file
from history.thumbnails import Thumbnails
from pipelines.images.settings_in_files import FORMATS, encode, encode_without_settings, without_settings
from pipelines.images.signing import Sign
from pipelines.images.uploads import decode_upload
from pipelines.jobs.users import User
from pipelines.request import InvalidRequest
from pipelines.system.atomic_files import atomic_write
from pipelines.system.text import printable

log = logging.getLogger(__name__)
EXPORT_VERSION = 1
LISTING = "history.json"


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
    with atomic_write(target, sync=False) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for detail in details:
            name = ""
            if detail.picture is not None:
                name = f"pictures/{detail.entry.file}"
                archive.write(detail.picture, name)
                count += 1
            listed.append(_described(detail, name))
        text = json.dumps({"version": EXPORT_VERSION, "entries": listed}, indent=1, ensure_ascii=False)
        archive.writestr(LISTING, text.encode("utf-8", "replace"), zipfile.ZIP_DEFLATED)
    return count


def _described(detail: EntryDetail, file: str) -> dict[str, Any]:
    """An entry as JSON values; nothing in it tells who made it or names a job."""
    entry = detail.entry
    return {
        "id": entry.id, "file": file, "created": datetime.fromtimestamp(entry.created, UTC).isoformat(),
        "kind": entry.kind, "seed": entry.seed, "place": entry.place, "width": entry.width, "height": entry.height,
        "request": dict(detail.settings), "facts": dict(detail.facts), "notes": list(detail.notes),
        "other_program": dict(detail.foreign), "tags": list(detail.tags), "favourite": entry.favourite,
    }  # fmt: skip


def saved_as(detail: EntryDetail, form: str, settings: bool = True, sign: Sign | None = None) -> bytes:
    """The picture of an entry as a file to give away.

    Args:
        detail: of the entry, which must have a picture.
        form: key of ``FORMATS``; a picture that has this format already keeps its pixels exactly.
        settings: whether prompt and settings are in it; the mark that a model made it always is.
        sign: signs each file that this function writes; an imported picture keeps its own signature.

    Raises:
        SigningFailed: of ``sign``.
        OSError: if the picture cannot be read.
        InvalidRequest: if it is broken.
    """
    if detail.picture is None:
        raise FileNotFoundError(f"{detail.entry.id} has no picture")
    data = detail.picture.read_bytes()
    if detail.picture.suffix.lower().replace(".jpeg", ".jpg") == FORMATS[form]:
        if settings or "imported_from" in detail.facts:
            return data if settings else without_settings(data)
        plain = without_settings(data, manifest=False)
        return sign(plain) if sign else plain
    image = decode_upload(data).image
    if not settings or detail.request is None:
        file = encode_without_settings(image, form)
    else:
        file = encode(image, form, detail.request, detail.entry.seed, detail.facts)
    return sign(file) if sign else file


class FolderImport:
    """Copies pictures of any program into the history, with the settings that they hold.

    One file is in memory at a time.  A file that was imported before, by its content, is left out.

    Args:
        database, folders, thumbnails: of the history.
        user: whose they will be; imports are for the owner.
    """

    def __init__(self, database: Database, folders: Folders, thumbnails: Thumbnails, user: User) -> None:
        self._database, self._folders, self._thumbnails, self._user = database, folders, thumbnails, user

    def run(
        self,
        *sources: Path,
        progress: Callable[[ImportProgress], None] = lambda _: None,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> ImportProgress:
        """Import pictures.

        Args:
            sources: folders with those below them (never the history's own), zips, and single files.
            progress: called after each file.
            cancelled: polled before each file.

        Returns:
            The last progress.
        """
        state = ImportProgress(total=sum(1 for _ in self._found(sources)))
        for found in self._found(sources):
            if cancelled():
                return replace(state, problem="The import was stopped; start it again to go on.")
            try:
                outcome = self._add(found)
            except (HistoryUnavailable, OSError) as problem:
                reason = problem.strerror if isinstance(problem, OSError) else str(problem)
                return replace(state, problem=f"The import ended early ({reason}); make room and start it again.")
            state = replace(state, done=state.done + 1, **{outcome: getattr(state, outcome) + 1})
            progress(state)
        return state

    def _found(self, sources: Sequence[Path]) -> Iterator[Found]:
        return chain.from_iterable(pictures_in(source, self._folders) for source in sources)

    def _add(self, found: Found) -> str:
        """Import one file; which figure of the progress it counts for."""
        try:
            data = found.read()
        except Unreadable:  # others may be readable
            return "refused"
        digest = hashlib.sha256(data).hexdigest()
        if self._database.read("SELECT 1 FROM details WHERE digest = ? LIMIT 1", (digest,)):
            return "known"
        target = self._copy(found, data)
        try:
            new = entry_from_file(target, self._thumbnails)
        except InvalidRequest as problem:
            log.info("%s is not imported: %s", found.name, problem)
            target.unlink(missing_ok=True)
            return "refused"
        with self._database.write() as connection:
            new = replace(new, user=self._user, facts={**new.facts, "imported_from": printable(found.name)[:200]})
            self._enter(connection, new)
        return "added"

    def _enter(self, connection: Any, new: NewEntry) -> None:
        number = insert(connection, new)
        if new.request is not None:
            link_parents(connection, number, new.request, new.seed, new.place, new.user)

    def _copy(self, found: Found, data: bytes) -> Path:
        """Write a file into the history's folder, named by when it was last changed."""
        stamp = datetime.fromtimestamp(min(max(found.changed, 0.0), time.time()), UTC).strftime("%Y%m%d-%H%M%S-%f")[:-3]
        name = f"{stamp}-import-{secrets.token_hex(6)}{Path(found.name).suffix.lower()}"
        target = self._folders.create(self._folders.pictures) / name
        with atomic_write(target, sync=False) as file:
            file.write(data)
        return target
