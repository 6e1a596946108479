"""Which pictures a picture came from, and the family of one entry."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass

from history.database import Database
from history.entries import COLUMNS, Entry, from_row, origin_of, single_request
from pipelines.jobs.users import User
from pipelines.request import GenerationRequest

# How a picture came from its parent: it began with it, repainted it, took it as an image prompt or as a control map,
# varies it, is the same run made again to compare both, or left its run at a step.
SOURCE, REFERENCE, CONTROL, VARIATION, REPLAY = "source", "reference", "control", "variation", "replay"
FORK = "fork"
# Bounds of a family.
MAX_GENERATIONS, MAX_MEMBERS = 8, 60
# Crops of one entry's picture that are remembered; then its older ones are forgotten.
MAX_CROPS = 500
# An upload as a written request names it.
_UPLOAD = re.compile(r'"(?:image|mask)":\s?"([0-9a-f]{32})"')


@dataclass(frozen=True)
class Link:
    """A child came from a parent, both by their ids, in one of the ways above."""

    child: str
    parent: str
    kind: str


@dataclass(frozen=True)
class Relatives:
    """The relatives of an entry.

    Attributes:
        members: the entry itself, its ancestors and its descendants, oldest first; at most ``MAX_MEMBERS``.
        links: between them.
    """

    members: tuple[Entry, ...]
    links: tuple[Link, ...]


def uploads_of(request: GenerationRequest) -> Iterator[tuple[str, str]]:
    """The uploads that a request names, each with the kind of link that it makes."""
    if request.init is not None and not request.init.noise_only:
        yield request.init.image, SOURCE
    if request.reference is not None:
        yield request.reference.image, REFERENCE
    yield from ((control.image, CONTROL) for control in request.controls)


def named_uploads(request: str) -> set[str]:
    """Every upload that a request names as JSON: its own, masks, and those of the run that it forked from."""
    return set(_UPLOAD.findall(request))


def needed_uploads(database: Database) -> set[str]:
    """The uploads that entries name, those in the bin included: without them no entry can be made again."""
    rows = database.read("SELECT request FROM details WHERE instr(request, '\"image\":')")
    return {upload for row in rows for upload in named_uploads(row[0])}


def link_parents(
    connection: sqlite3.Connection, number: int, request: GenerationRequest, seed: int, place: int, user: User
) -> None:
    """Write, inside a transaction, which entries a new one came from: those with the pixels that its request names."""
    found: set[tuple[int, str]] = set()
    for upload, kind in uploads_of(request):
        parent = _of_upload(connection, upload, user)
        found |= {(parent, kind)} if parent else set()
    if origin := origin_of(single_request(request, seed, place)):
        parent = _newest(connection, "recipe", origin, user)
        found |= {(parent, VARIATION)} if parent else set()
    if request.fork is not None and (parent := _of_run(connection, request.fork.run, place, user)):
        found.add((parent, FORK))
    connection.executemany(
        "INSERT OR IGNORE INTO parents (child, parent, kind) VALUES (?, ?, ?)",
        [(number, parent, kind) for parent, kind in found if parent != number],
    )


def note_source(connection: sqlite3.Connection, upload: str, original: str, user: User) -> None:
    """Write, inside a transaction, that one upload was made from another, if that is an entry's picture."""
    number = _of_upload(connection, original, user)
    if number is None:
        return
    if connection.execute("SELECT COUNT(*) FROM sources WHERE number = ?", (number,)).fetchone()[0] >= MAX_CROPS:
        connection.execute("DELETE FROM sources WHERE number = ?", (number,))
    connection.execute("INSERT OR REPLACE INTO sources (upload, number) VALUES (?, ?)", (upload, number))


def _of_upload(connection: sqlite3.Connection, upload: str, user: User) -> int | None:
    """The entry that an uploaded picture was made from, or that has its pixels."""
    row = connection.execute(
        "SELECT number FROM sources JOIN entries USING (number) WHERE upload = ? AND (? OR user = ?)",
        (upload, user.owner, user.id),
    ).fetchone()
    return int(row[0]) if row else _newest(connection, "pixels", upload, user)


def _of_run(connection: sqlite3.Connection, run: str, place: int, user: User) -> int | None:
    """The entry of a run's picture, by the picture's number."""
    row = connection.execute(
        "SELECT number FROM entries WHERE run = ? AND run != '' AND place = ? AND (? OR user = ?)",
        (run, place, user.owner, user.id),
    ).fetchone()
    return int(row[0]) if row else None


def _newest(connection: sqlite3.Connection, column: str, value: str, user: User) -> int | None:
    row = connection.execute(
        f"SELECT MAX(number) FROM details JOIN entries USING (number) WHERE {column} = ? AND {column} != '' "
        "AND (? OR user = ?)",
        (value, user.owner, user.id),
    ).fetchone()
    return int(row[0]) if row and row[0] is not None else None


def family_of(database: Database, entry: Entry, user: User) -> Relatives:
    """The relatives of an entry that a user may see."""
    numbers = {entry.number}
    for step, other in (("child", "parent"), ("parent", "child")):
        rows = database.read(
            f"WITH RECURSIVE relatives (number, depth) AS (SELECT ?, 0 UNION SELECT parents.{other}, depth + 1 "
            f"FROM parents JOIN relatives ON parents.{step} = relatives.number WHERE depth < {MAX_GENERATIONS}) "
            f"SELECT DISTINCT number FROM relatives LIMIT {MAX_MEMBERS}",
            (entry.number,),
        )
        numbers |= {int(row[0]) for row in rows}
    marks = ", ".join("?" * len(numbers))
    members = [
        from_row(row)
        for row in database.read(
            f"SELECT {COLUMNS} FROM entries WHERE number IN ({marks}) AND (? OR user = ?) ORDER BY number",
            (*numbers, user.owner, user.id),
        )
    ]
    known = {member.number: member.id for member in members}
    marks = ", ".join("?" * len(known))
    rows = database.read(
        f"SELECT child, parent, kind FROM parents WHERE child IN ({marks}) AND parent IN ({marks})", (*known, *known)
    )
    return Relatives(tuple(members), tuple(Link(known[row[0]], known[row[1]], row[2]) for row in rows))
