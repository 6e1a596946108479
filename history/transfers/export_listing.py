"""``history.json`` of an export: what the history says of each picture, written and, untrusted, read back."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from history.marks import MAX_TAGS
from pipelines.system.bounded_json import parse_json

if TYPE_CHECKING:
    from history.entries import EntryDetail

log = logging.getLogger(__name__)
VERSION, NAME = 1, "history.json"
# What is in a picture's own file, too: left out of a listing that would be longer than is read.
_IN_FILES = ("request", "facts", "other_program")
LEFT_OUT = "The settings are in the pictures' own files alone: with them this listing would be too long to be read."
# Bounds of a listing that is read: bytes, pictures, and an entry's notes and their characters.
MAX_BYTES, MAX_LISTED, MAX_NOTES, MAX_NOTE = 32 * 2**20, 100_000, 20, 500


@dataclass(frozen=True)
class Listed:
    """What a listing says of a picture besides its settings, which are in its own file.

    Attributes:
        tags, favourite: how its user had marked it.
        notes: what its user was told.
    """

    tags: tuple[str, ...] = ()
    favourite: bool = False
    notes: tuple[str, ...] = ()


def written(described: Sequence[Mapping[str, Any]]) -> bytes:
    """A listing as a file; of one that would be longer than ``read`` takes, settings that are in files are left out."""
    data = _encoded({"version": VERSION, "entries": described}, indent=1)
    if len(data) <= MAX_BYTES:
        return data
    short = [
        {name: value for name, value in each.items() if not each.get("file") or name not in _IN_FILES}
        for each in described
    ]
    return _encoded({"version": VERSION, "note": LEFT_OUT, "entries": short})


def _encoded(listing: Mapping[str, Any], indent: int | None = None) -> bytes:
    return json.dumps(listing, indent=indent, ensure_ascii=False).encode("utf-8", "replace")


def described(detail: EntryDetail, file: str) -> dict[str, Any]:
    """An entry as JSON values; nothing in it tells who made it or names a job."""
    entry = detail.entry
    return {
        "id": entry.id, "file": file, "created": datetime.fromtimestamp(entry.created, UTC).isoformat(),
        "kind": entry.kind, "seed": entry.seed, "place": entry.place, "width": entry.width, "height": entry.height,
        "request": dict(detail.settings), "facts": dict(detail.facts), "notes": list(detail.notes),
        "other_program": dict(detail.foreign), "tags": list(detail.tags), "favourite": entry.favourite,
    }  # fmt: skip


def read(data: bytes) -> dict[str, Listed]:
    """What a listing says, by the names of the pictures' files without their folder; {} for what is no listing."""
    try:
        found = parse_json(data, MAX_BYTES, finite=False)
    except (ValueError, RecursionError) as problem:
        log.warning("The tags and favourites of an export are not read: %s", problem)
        return {}
    entries = found.get("entries") if isinstance(found, dict) and found.get("version") == VERSION else None
    listed = entries[:MAX_LISTED] if isinstance(entries, list) else []
    return {file_name(each): _listed(each) for each in listed if isinstance(each, dict) and file_name(each)}


def file_name(entry: Mapping[str, Any]) -> str:
    """The name of a listed picture's file."""
    file = entry.get("file")
    return file[:300].replace("\\", "/").rpartition("/")[2] if isinstance(file, str) else ""


def _listed(entry: Mapping[str, Any]) -> Listed:
    tags, notes = (_texts(entry.get(name)) for name in ("tags", "notes"))
    return Listed(
        tuple(tag[:200] for tag in tags[:MAX_TAGS]), entry.get("favourite") is True,
        tuple(note[:MAX_NOTE] for note in notes[:MAX_NOTES]),
    )  # fmt: skip


def _texts(value: Any) -> list[str]:
    found: Iterable[Any] = value if isinstance(value, list) else ()
    return [text for text in found if isinstance(text, str)]
