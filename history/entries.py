"""Entries of the history: what one row is, how it is made from a request, and how it is written."""

from __future__ import annotations

import hashlib
import json
import re
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from pipelines.images.png import single_image_request
from pipelines.jobs.users import OWNER, User
from pipelines.request import GenerationRequest, InvalidRequest, replaced
from pipelines.system.text import shorten

if TYPE_CHECKING:
    from pathlib import Path

# What an entry is.  Of a crashed run there is no picture.
TEXT, IMAGE, INPAINTING, FOREIGN, CRASHED = "text-to-image", "image-to-image", "inpainting", "other program", "crashed"
KINDS = (TEXT, IMAGE, INPAINTING, FOREIGN, CRASHED)
TITLE_LENGTH = 200
# Writing systems without spaces between words: each of their characters is searched as a word.
_CHARACTER = re.compile("([\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff\u0e00-\u0e7f])")
# The time in a picture's name, UTC (``pipelines.images.png.save_png``).
_STAMP = re.compile(r"(\d{8}-\d{6}-\d{3})-")


@dataclass(frozen=True)
class Entry:
    """One picture, or one run that a crash cut off, as the grid shows it.

    Attributes:
        number: its row: when it was made, in microseconds, and unique.
        id: unguessable, and the name of its file without the ending.
        user: id of who made it; ``guest`` says whether that was a guest.
        created: seconds since the epoch.
        kind: one of ``KINDS``.
        file: the picture's name in its folder, "" for none.
        bytes, width, height: of the picture.
        model, scheduler, seed: of the request; "", "" and 0 where they are not known.
        title: the beginning of the prompt.
        run: id of the job and the trace, "" if it is not known; ``place`` is the picture's number in it, from 0.
        missing: whether the file was not found when files and database were compared.
        deleted: when it was put into the bin; None if it was not.
    """

    number: int
    id: str
    user: str
    guest: bool
    created: float
    kind: str
    file: str
    bytes: int
    width: int
    height: int
    model: str
    scheduler: str
    seed: int
    title: str
    run: str
    place: int
    favourite: bool
    missing: bool
    deleted: float | None


COLUMNS = ", ".join(f"entries.{name}" for name in Entry.__dataclass_fields__)


@dataclass(frozen=True)
class EntryDetail:
    """Everything that is known of an entry.

    Attributes:
        request: that makes it again, None if there is none that this version can run.
        settings: the request as it was written, for entries whose request cannot be run any more.
        facts: how it was made: seconds, device, versions.
        notes: what the user was told.
        foreign: settings that another program wrote (``history.readers``), {} for none.
        tags: in alphabetical order.
        picture: its file, None if there is none.
        strip: what is left of its timeline once its trace is gone, or None.
        siblings: ids of all pictures of its run, in order.
    """

    entry: Entry
    request: GenerationRequest | None
    settings: Mapping[str, Any]
    facts: Mapping[str, Any]
    notes: tuple[str, ...]
    foreign: Mapping[str, Any]
    tags: tuple[str, ...]
    picture: Path | None
    strip: Path | None
    siblings: tuple[str, ...]


@dataclass(frozen=True)
class NewEntry:
    """An entry that is not in the database yet; the fields are those of ``Entry`` and ``EntryDetail``.

    Attributes:
        pixels: the id that the picture has as an upload (``pipelines.images.uploads.upload_id``).
        digest: SHA-256 of the file, of those that were taken in.
        written: a request as JSON that this version cannot run; "" if ``request`` says it.
    """

    id: str
    created: float
    kind: str
    user: User = OWNER
    guest: bool = False
    file: str = ""
    bytes: int = 0
    width: int = 0
    height: int = 0
    model: str = ""
    scheduler: str = ""
    seed: int = 0
    prompt: str = ""
    negative_prompt: str = ""
    run: str = ""
    place: int = 0
    request: GenerationRequest | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    notes: Sequence[str] = ()
    foreign: Mapping[str, Any] = field(default_factory=dict)
    pixels: str = ""
    digest: str = ""
    written: str = ""


def kind_of(request: GenerationRequest) -> str:
    """What kind of picture a request makes."""
    if request.init is None:
        return TEXT
    return INPAINTING if request.init.mask else IMAGE


def of_request(request: GenerationRequest, seed: int, place: int = 0) -> dict[str, Any]:
    """The fields of a ``NewEntry`` that come from its request; ``place`` is the picture's number in its run."""
    return {
        "kind": kind_of(request),
        "model": request.model,
        "scheduler": request.sampling.scheduler,
        "seed": seed,
        "prompt": request.prompt_of(place),
        "negative_prompt": request.negative_prompt,
        "request": request,
    }


def single_request(request: GenerationRequest, seed: int, place: int) -> GenerationRequest:
    """The request that makes one picture of a run again; the whole request if none makes it alone."""
    try:
        return single_image_request(request, seed, place)
    except ValueError:  # facts of a file that was changed
        return request


def recipe_of(request: GenerationRequest) -> str:
    """A hash of a request: equal requests make equal pictures, from whichever text their prompts came."""
    return hashlib.sha256(request.model_dump_json(exclude={"typed"}).encode()).hexdigest()[:32]


def origin_of(request: GenerationRequest) -> str:
    """The recipe of the picture that a variation is near, "" if it is none."""
    if request.variation is None:
        return ""
    try:
        return recipe_of(replaced(request, variation=None))
    except InvalidRequest:
        return ""


def time_in_name(name: str) -> float | None:
    """When a picture was saved, by its name."""
    found = _STAMP.match(name)
    try:
        return (
            datetime.strptime(found[1] + "000", "%Y%m%d-%H%M%S-%f").replace(tzinfo=UTC).timestamp() if found else None
        )
    except ValueError:
        return None


def searchable(text: str) -> str:
    """A text as it is indexed and searched: scripts that put no spaces between words get them."""
    return _CHARACTER.sub(r" \1 ", text)


def insert(connection: sqlite3.Connection, new: NewEntry) -> int:
    """Write an entry inside a transaction; its number, also if an entry with this id is there already."""
    found = connection.execute("SELECT number FROM entries WHERE id = ?", (new.id,)).fetchone()
    if found is not None:
        return int(found[0])
    number = _free_number(connection, new.created)
    row = {
        "number": number,
        "id": new.id, "user": new.user.id, "guest": new.guest or new.user.guest is not None, "created": new.created,
        "kind": new.kind, "file": new.file, "bytes": new.bytes, "width": new.width, "height": new.height,
        "model": new.model, "scheduler": new.scheduler, "seed": new.seed, "title": shorten(new.prompt, TITLE_LENGTH),
        "run": new.run, "place": new.place,
    }  # fmt: skip
    _insert(connection, "entries", row)
    single = single_request(new.request, new.seed, new.place) if new.request else None
    details = {
        "number": number, "prompt": new.prompt, "negative_prompt": new.negative_prompt,
        "request": new.request.model_dump_json() if new.request else new.written, "facts": json.dumps(dict(new.facts)),
        "notes": json.dumps(list(new.notes)), "foreign_settings": json.dumps(dict(new.foreign)) if new.foreign else "",
        "pixels": new.pixels, "recipe": recipe_of(single) if single else "", "digest": new.digest,
    }  # fmt: skip
    _insert(connection, "details", details)
    index(connection, number, new.prompt, new.negative_prompt, new.model, "")
    return number


def index(connection: sqlite3.Connection, number: int, prompt: str, negative: str, model: str, tags: str) -> None:
    """Make the texts of an entry searchable, instead of those that were."""
    connection.execute("DELETE FROM search WHERE rowid = ?", (number,))
    texts = [searchable(text) for text in (prompt, negative, model, tags)]
    connection.execute(
        "INSERT INTO search (rowid, prompt, negative_prompt, model, tags) VALUES (?, ?, ?, ?, ?)", (number, *texts)
    )


def from_row(row: sqlite3.Row) -> Entry:
    """An entry from a row that has ``COLUMNS``."""
    values = {name: row[name] for name in Entry.__dataclass_fields__}
    flags = {name: bool(values[name]) for name in ("guest", "favourite", "missing")}
    return Entry(**{**values, **flags})


def number_at(moment: float) -> int:
    """The number that an entry made at this moment has, in seconds since the epoch; bounded as SQLite's numbers are."""
    return round(min(max(moment, 0.0), 9e9) * 1e6)


def _free_number(connection: sqlite3.Connection, created: float) -> int:
    number = number_at(created)
    while connection.execute("SELECT 1 FROM entries WHERE number = ?", (number,)).fetchone():
        number += 1
    return number


def _insert(connection: sqlite3.Connection, table: str, row: Mapping[str, Any]) -> None:
    names, places = ", ".join(row), ", ".join("?" * len(row))
    connection.execute(f"INSERT INTO {table} ({names}) VALUES ({places})", tuple(row.values()))
