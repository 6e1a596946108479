"""What users mark entries with: tags and favourites."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection

from history.entries import index

MAX_TAG, MAX_TAGS = 60, 40


def set_tags(
    connection: sqlite3.Connection, number: int, add: Collection[str] = (), remove: Collection[str] = ()
) -> None:
    """Add tags to an entry and remove others, inside a transaction; an entry has at most ``MAX_TAGS``."""
    added, removed = ({clean for tag in tags if (clean := clean_tag(tag))} for tags in (add, remove))
    connection.executemany("DELETE FROM tags WHERE tag = ? AND number = ?", [(tag, number) for tag in removed])
    have = {row[0] for row in connection.execute("SELECT tag FROM tags WHERE number = ?", (number,))}
    new = sorted(added - have)[: MAX_TAGS - len(have)]
    connection.executemany("INSERT INTO tags (tag, number) VALUES (?, ?)", [(tag, number) for tag in new])
    _index_again(connection, number)


def clean_tag(tag: str) -> str:
    """A tag as it is kept: trimmed to ``MAX_TAG`` characters, in lower case; "" for none."""
    return " ".join(tag.split()).lower()[:MAX_TAG].strip()


def _index_again(connection: sqlite3.Connection, number: int) -> None:
    """Make the texts of an entry searchable after its tags have changed."""
    row = connection.execute(
        "SELECT prompt, negative_prompt, model FROM details JOIN entries USING (number) WHERE number = ?", (number,)
    ).fetchone()
    tags = connection.execute("SELECT tag FROM tags WHERE number = ?", (number,)).fetchall()
    index(connection, number, row[0], row[1], row[2], " ".join(tag[0] for tag in tags))
