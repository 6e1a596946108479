"""The tables of the history, as migrations: number k brings a database from ``user_version`` k to k + 1.

A migration that was published is never changed; a new one is added at the end.
"""

from __future__ import annotations

# An entry's number is the microsecond in which it was made (or the next free one): so entries, each index and
# the full-text search are in the order of time, and a page is read without sorting.
# An index for texts that are not empty is used only by queries that say so, too: ``run = ? AND run != ''``.
# What the grid shows is in ``entries``, whose rows are short; what only the detail view needs is in ``details``.
_FIRST = """
CREATE TABLE entries (
    number INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    user TEXT NOT NULL,
    guest INTEGER NOT NULL DEFAULT 0,
    created REAL NOT NULL,
    kind TEXT NOT NULL,
    file TEXT NOT NULL DEFAULT '',
    bytes INTEGER NOT NULL DEFAULT 0,
    width INTEGER NOT NULL DEFAULT 0,
    height INTEGER NOT NULL DEFAULT 0,
    model TEXT NOT NULL DEFAULT '',
    scheduler TEXT NOT NULL DEFAULT '',
    seed INTEGER NOT NULL DEFAULT 0,
    title TEXT NOT NULL DEFAULT '',
    run TEXT NOT NULL DEFAULT '',
    place INTEGER NOT NULL DEFAULT 0,
    favourite INTEGER NOT NULL DEFAULT 0,
    missing INTEGER NOT NULL DEFAULT 0,
    deleted REAL
);
CREATE INDEX entries_by_user ON entries (user) WHERE deleted IS NULL;
CREATE INDEX entries_by_model ON entries (model) WHERE deleted IS NULL;
CREATE INDEX entries_by_scheduler ON entries (scheduler) WHERE deleted IS NULL;
CREATE INDEX entries_by_kind ON entries (kind) WHERE deleted IS NULL;
CREATE INDEX entries_by_size ON entries (width, height) WHERE deleted IS NULL;
CREATE INDEX favourites ON entries (favourite) WHERE favourite AND deleted IS NULL;
CREATE INDEX entries_in_bin ON entries (deleted) WHERE deleted IS NOT NULL;
CREATE INDEX entries_by_file ON entries (file);
CREATE INDEX entries_by_run ON entries (run) WHERE run != '';

CREATE TABLE details (
    number INTEGER PRIMARY KEY REFERENCES entries ON DELETE CASCADE,
    prompt TEXT NOT NULL DEFAULT '',
    negative_prompt TEXT NOT NULL DEFAULT '',
    request TEXT NOT NULL DEFAULT '',
    facts TEXT NOT NULL DEFAULT '{}',
    notes TEXT NOT NULL DEFAULT '[]',
    foreign_settings TEXT NOT NULL DEFAULT '',
    pixels TEXT NOT NULL DEFAULT '',
    recipe TEXT NOT NULL DEFAULT '',
    digest TEXT NOT NULL DEFAULT ''
);
CREATE INDEX details_by_pixels ON details (pixels) WHERE pixels != '';
CREATE INDEX details_by_recipe ON details (recipe) WHERE recipe != '';
CREATE INDEX details_by_digest ON details (digest) WHERE digest != '';

CREATE VIRTUAL TABLE search USING fts5 (
    prompt, negative_prompt, model, tags,
    prefix = '1 2 3', tokenize = "unicode61 remove_diacritics 2"
);

CREATE TABLE tags (
    tag TEXT NOT NULL,
    number INTEGER NOT NULL REFERENCES entries ON DELETE CASCADE,
    PRIMARY KEY (tag, number)
) WITHOUT ROWID;
CREATE INDEX tags_by_entry ON tags (number);

CREATE TABLE parents (
    child INTEGER NOT NULL REFERENCES entries ON DELETE CASCADE,
    parent INTEGER NOT NULL REFERENCES entries ON DELETE CASCADE,
    kind TEXT NOT NULL,
    PRIMARY KEY (child, parent, kind)
) WITHOUT ROWID;
CREATE INDEX children ON parents (parent);

-- Uploaded pictures (by the hash of their pixels) that were made from a picture of the history.
CREATE TABLE sources (
    upload TEXT PRIMARY KEY,
    number INTEGER NOT NULL REFERENCES entries ON DELETE CASCADE
) WITHOUT ROWID;
CREATE INDEX sources_by_entry ON sources (number);

-- Runs that have begun and not ended.
CREATE TABLE runs (
    run TEXT PRIMARY KEY,
    user TEXT NOT NULL,
    guest INTEGER NOT NULL,
    request TEXT NOT NULL,
    started REAL NOT NULL
) WITHOUT ROWID;

CREATE TABLE settings (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
"""

MIGRATIONS = (_FIRST,)
