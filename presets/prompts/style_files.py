"""Styles from files of other programs: AUTOMATIC1111's ``styles.csv``, Fooocus' JSON, and this program's own JSON."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator
from typing import Any

from pipelines.system.bounded_json import parse_json
from presets.prompts.styles import KEY, MAX_SAVED, Style, StyleError, make_style

MAX_CHARACTERS = 2 << 20
# A list or an object with what can be in it here; the first name of a styles.csv may begin with such a bracket, too.
_JSON = re.compile(r'\s*+(?:\[\s*+[\]{]|\{\s*+["}])')
# The columns of a styles.csv; its first versions called the prompt "text".
_COLUMNS = {"name": "name", "prompt": "prompt", "text": "prompt", "negative_prompt": "negative_prompt"}
NOT_KNOWN = "This is no file of styles: use a styles.csv of AUTOMATIC1111, or a JSON file of Fooocus or this program."


def read_styles(text: str) -> tuple[list[Style], int]:
    """The styles of a file, and how many of its entries cannot be used.

    Entries without a text, which some files use as headings, are neither.

    Args:
        text: what the file holds; a byte order mark may come first.

    Raises:
        StyleError: if it is no file of styles, or too large.
    """
    if len(text) > MAX_CHARACTERS:
        raise StyleError(f"This file of styles is larger than {MAX_CHARACTERS >> 20} MB; split it.")
    text = text.lstrip("\ufeff").replace("\0", "")
    rows = _json_rows(text) if _JSON.match(text) else _csv_rows(text)
    styles, refused = [], 0
    for row in rows:
        if not any(isinstance(row.get(name), str) and row[name].strip() for name in ("prompt", "negative_prompt")):
            continue
        try:
            styles.append(make_style(row.get("name"), row.get("prompt"), row.get("negative_prompt")))
        except StyleError:
            refused += 1
        if len(styles) + refused > MAX_SAVED:
            raise StyleError(f"This file holds more than {MAX_SAVED} styles; split it.")
    if not styles:
        raise StyleError(NOT_KNOWN)
    return styles, refused


def _json_rows(text: str) -> Iterable[dict[str, Any]]:
    try:
        found = parse_json(text)
    except (ValueError, RecursionError):
        raise StyleError(NOT_KNOWN) from None
    listed = found.get(KEY) if isinstance(found, dict) else found
    return [each for each in listed if isinstance(each, dict)] if isinstance(listed, list) else []


def _csv_rows(text: str) -> Iterator[dict[str, Any]]:
    """Rows by the names of their columns; texts in quotes may hold line breaks.  A file may lack its first line."""
    reader = csv.reader(io.StringIO(text, newline=""))
    columns = ["name", "prompt", "negative_prompt"]
    try:
        rows = (row for row in reader if any(map(str.strip, row)))
        for number, row in enumerate(rows):
            heads = [_COLUMNS.get(cell.strip().lower(), "") for cell in row]
            if number == 0 and "name" in heads and "prompt" in heads:
                columns = heads
            elif len(row) > 1:
                yield dict(zip(columns, row, strict=False))
    except csv.Error:  # a field that never ends
        raise StyleError(NOT_KNOWN) from None
