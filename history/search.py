"""Finding entries: filters, full-text search as one types, and pages by a cursor."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from history.database import Database
from history.entries import COLUMNS, Entry, from_row, number_at, searchable
from pipelines.jobs.users import User

PAGE_SIZE, MAX_PAGE = 60, 500
# Words of one search; more find the same.
MAX_WORDS, MAX_SEARCH = 16, 300
# Entries that a search counts; more are "more than 10,000".
MAX_COUNTED = 10_000
# Every text of an entry that is searched.
_TEXTS = "search.prompt || ' ' || search.negative_prompt || ' ' || search.model || ' ' || search.tags"
# When the last entry was deleted (exactly as the database has it, 0 outside of the bin), and its number.
_CURSOR = re.compile(r"(\d{1,17}(?:\.\d{1,17})?)_(\d{1,17})", re.ASCII)


@dataclass(frozen=True)
class Filters:
    """Which entries are wanted; what is left empty does not matter.

    Attributes:
        text: words of prompts, model or tags, all of which must be there; the last one may be unfinished.
        model, scheduler, kind, tag: as they stand in entries.
        size: width and height.
        after, before: when it was made, seconds since the epoch: after <= created < before.
        favourite: whether only favourites are wanted.
        user: id of the user who made it; only the owner may ask for others'.
        in_bin: whether the bin is looked at instead.
    """

    text: str = ""
    model: str = ""
    scheduler: str = ""
    kind: str = ""
    tag: str = ""
    size: tuple[int, int] | None = None
    after: float | None = None
    before: float | None = None
    favourite: bool = False
    user: str = ""
    in_bin: bool = False


@dataclass(frozen=True)
class Page:
    """Some entries, newest first.

    Attributes:
        cursor: names the page behind this one; "" if there is none.
    """

    entries: tuple[Entry, ...]
    cursor: str


@dataclass(frozen=True)
class Choice:
    """A value that a filter can have, and how many entries have it."""

    value: str
    count: int


class EntryCatalogue:
    """The entries that a user may see.

    Args:
        database: of the history.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def page(self, user: User, filters: Filters | None = None, cursor: str = "", size: int = PAGE_SIZE) -> Page:
        """A page of entries, newest first; those of the bin by when they were deleted.

        Args:
            user: who asks.
            filters: None for all.
            cursor: of the page before; one that is none begins at the newest.
            size: entries of a page, at most ``MAX_PAGE``.

        Raises:
            HistoryUnavailable: if the database cannot be read.
        """
        filters, size = filters or Filters(), max(1, min(size, MAX_PAGE))
        conditions, values = _conditions(user, filters)
        if found := _CURSOR.fullmatch(cursor):
            conditions.append("(deleted, number) < (?, ?)" if filters.in_bin else "entries.number < ?")
            values += [float(found[1]), int(found[2])] if filters.in_bin else [int(found[2])]
        # A search is read in the order of its rows, too.
        order = "deleted DESC, number DESC" if filters.in_bin else "number DESC"
        if _searches(filters) and not filters.in_bin:
            order = "search.rowid DESC"
        rows = self._database.read(
            f"SELECT {COLUMNS} {_source(filters)} WHERE {' AND '.join(conditions)} ORDER BY {order} LIMIT {size + 1}",
            values,
        )
        entries = tuple(from_row(row) for row in rows[:size])
        last = entries[-1] if len(rows) > size else None
        return Page(entries, f"{last.deleted or 0!r}_{last.number}" if last else "")

    def count(self, user: User, filters: Filters | None = None) -> int:
        """How many entries there are; of those that a search finds no more than ``MAX_COUNTED`` and one are counted."""
        filters = filters or Filters()
        conditions, values = _conditions(user, filters)
        # A search looks at each entry's own row, which takes a second for a word that most of 100,000 have.
        most = f"LIMIT {MAX_COUNTED + 1}" if _searches(filters) else ""
        sql = f"SELECT COUNT(*) FROM (SELECT 1 {_source(filters)} WHERE {' AND '.join(conditions)} {most})"
        return int(self._database.read(sql, values)[0][0])

    def choices(self, user: User) -> dict[str, list[Choice]]:
        """The values that the filters model, scheduler, kind, size, tag and (for the owner) user can have."""
        mine, values = ("", ()) if user.owner else ("AND user = ?", (user.id,))
        found = {}
        for name, column in (("model", "model"), ("scheduler", "scheduler"), ("kind", "kind"), ("user", "user"),
                             ("size", "width || 'x' || height")):  # fmt: skip
            group = "width, height" if name == "size" else column
            found[name] = self._choices(
                f"SELECT {column}, COUNT(*) FROM entries WHERE deleted IS NULL {mine} GROUP BY {group}", values
            )
        found["tag"] = self._choices(
            "SELECT tag, COUNT(*) FROM tags JOIN entries USING (number) "
            f"WHERE deleted IS NULL {mine} GROUP BY tag", values
        )  # fmt: skip
        return found

    def find(self, user: User, entry_id: str) -> Entry | None:
        """The entry with this id, in the bin or not, if the user may see it."""
        rows = self._database.read(
            f"SELECT {COLUMNS} FROM entries WHERE id = ? AND (? OR user = ?)", (entry_id, user.owner, user.id)
        )
        return from_row(rows[0]) if rows else None

    def of_run(self, user: User, run: str, place: int) -> Entry | None:
        """The entry of a run's picture (from 0), in the bin or not, if the user may see it."""
        rows = self._database.read(
            f"SELECT {COLUMNS} FROM entries WHERE run = ? AND run != '' AND place = ? AND (? OR user = ?)",
            (run, place, user.owner, user.id),
        )
        return from_row(rows[0]) if rows else None

    def all(self, user: User, filters: Filters | None = None) -> Iterator[Entry]:
        """Every entry that is wanted, a page at a time."""
        cursor = ""
        while True:
            page = self.page(user, filters, cursor, MAX_PAGE)
            yield from page.entries
            if not (cursor := page.cursor):
                return

    def _choices(self, sql: str, values: tuple[Any, ...]) -> list[Choice]:
        found = [
            Choice(str(row[0]), int(row[1])) for row in self._database.read(sql, values) if row[0] not in ("", "0x0")
        ]
        return sorted(found, key=lambda choice: (-choice.count, choice.value))


def _conditions(user: User, filters: Filters) -> tuple[list[str], list[Any]]:
    """The conditions of a query in SQL, and their values."""
    found: list[tuple[str, list[Any]]] = [("deleted IS NOT NULL" if filters.in_bin else "deleted IS NULL", [])]
    if not user.owner:
        found.append(("user = ?", [user.id]))
    for column in ("model", "scheduler", "kind", "user"):
        if value := getattr(filters, column):
            found.append((f"entries.{column} = ?", [value]))
    if filters.size:
        found.append(("width = ? AND height = ?", list(filters.size)))
    if filters.after is not None:
        found.append(("entries.number >= ?", [number_at(filters.after)]))
    if filters.before is not None:
        found.append(("entries.number < ?", [number_at(filters.before)]))
    if filters.favourite:
        found.append(("favourite", []))
    if filters.tag:
        found.append(("entries.number IN (SELECT number FROM tags WHERE tag = ?)", [filters.tag]))
    if filters.text.strip():
        match, symbols = match_expression(filters.text), symbols_of(filters.text)
        # A text without a letter, a digit or a symbol is in no prompt that anyone looks for.
        found += [("search MATCH ?", [match])] if match else [("0", [])] if not symbols else []
        found += [(f"instr({_TEXTS}, ?)", [symbol]) for symbol in symbols]
    return [condition for condition, _ in found], [value for _, values in found for value in values]


def _searches(filters: Filters) -> bool:
    return bool(filters.text.strip())


def _source(filters: Filters) -> str:
    """What a query reads from: with a text, the search first and the entries by its rows."""
    return "FROM search CROSS JOIN entries ON entries.number = search.rowid" if _searches(filters) else "FROM entries"


def symbols_of(text: str) -> list[str]:
    """The words of a search that are symbols alone, such as emoji and arrows: no index has them, only the texts."""
    words = text[:MAX_SEARCH].replace("\0", " ").split()
    return [word for word in words if not any(map(str.isalnum, word)) and any(map(_is_symbol, word))][:MAX_WORDS]


def _is_symbol(character: str) -> bool:
    return unicodedata.category(character) in ("So", "Sm", "Sc", "Sk")


def match_expression(text: str) -> str:
    """What a user typed as an expression of FTS5: every word must be there, the last one as a beginning.

    Words are quoted, so that no operator of the language can be written; those without letters and digits are left out.
    """
    text = searchable(text[:MAX_SEARCH].replace("\0", " ").replace('"', " "))
    words = [word for word in text.split() if any(map(str.isalnum, word))][:MAX_WORDS]
    unfinished = not text[-1:].isspace()
    return " ".join(f'"{word}"{"*" if unfinished and k == len(words) - 1 else ""}' for k, word in enumerate(words))
