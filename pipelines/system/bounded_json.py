"""JSON from files that users bring: bounded in size and depth, finite numbers, text that can be written as UTF-8."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

MAX_BYTES = 4 << 20
MAX_DEPTH = 64
MAX_DIGITS = 400
# A string, possessive; one that does not end is one, too: the time is linear and no state is kept for each character.
_STRING = re.compile(r'"(?:[^"\\]++|\\.)*+"?', re.DOTALL)
# Brackets of both kinds as one kind, and everything else.
_BRACKETS = bytes.maketrans(b"{}", b"[]")
_OTHERS = bytes(set(range(256)) - set(b"[]{}"))
_SURROGATE = re.compile("[\ud800-\udfff]")
# Where a surrogate may come from, besides one in the text itself.
_ESCAPED_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


def parse_json(
    text: str | bytes, max_bytes: int = MAX_BYTES, max_depth: int = MAX_DEPTH, max_items: int = 0, finite: bool = True
) -> Any:
    """Parse JSON that may be hostile.

    Bytes that are not UTF-8 and lone surrogates become U+FFFD, so that every string can be shown and saved.

    Args:
        text: the document; bytes are read as UTF-8.
        max_bytes: longest document, in bytes or characters.
        max_depth: deepest nesting of lists and objects.
        max_items: most brackets and commas together, those in strings included; whole numbers are short then, too, for
            reading long ones takes time; 0 for any number.
        finite: whether numbers must be finite.

    Raises:
        ValueError: if it is no JSON, too long, too deep, of too many items, or holds a number that is not finite.
    """
    if len(text) > max_bytes:
        raise ValueError("the JSON document is too long")
    if isinstance(text, bytes):
        text = text.decode("utf-8", "replace")
    # Each item has two strings at most; signs behind a backslash need not end one.
    if max_items and (
        sum(map(text.count, "[{,")) > max_items or text.count('"') - text.count('\\"') > 4 * (max_items + 1)
    ):
        raise ValueError("the JSON document has too many items")
    _check_depth(text, max_depth)
    options: dict[str, Any] = {"parse_float": _finite, "parse_constant": _refuse} if finite else {}
    if max_items:
        options["parse_int"] = _short_int
    found = json.loads(text, **options)
    may_have = _ESCAPED_SURROGATE.search(text) or _SURROGATE.search(text)
    return _without_surrogates(found) if may_have else found


def read_json_file(path: Path, max_bytes: int = MAX_BYTES, max_depth: int = MAX_DEPTH, finite: bool = True) -> Any:
    """Parse a file as ``parse_json`` does.

    Raises:
        OSError: if it cannot be read.
        ValueError: as ``parse_json``.
    """
    with path.open("rb") as file:
        return parse_json(file.read(max_bytes + 1), max_bytes, max_depth, finite=finite)


def _check_depth(text: str, max_depth: int) -> None:
    """Refuse what is nested too deeply, in linear time for any text: each pass takes the innermost pairs away."""
    if text.count("[") + text.count("{") <= max_depth:
        return
    left = _STRING.sub("", text).encode("ascii", "ignore").translate(_BRACKETS, _OTHERS)
    if left.count(b"[") == left.count(b"]"):
        for _ in range(max_depth):
            left = left.replace(b"[]", b"")
    if left:
        raise ValueError("the JSON document is nested too deeply, or its brackets do not match")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"the number {text[:20]} is too large")
    return value


def _short_int(text: str) -> int:
    if len(text) > MAX_DIGITS:
        raise ValueError(f"the number {text[:20]} is too long")
    return int(text)


def _refuse(text: str) -> float:
    raise ValueError(f"{text} is not a number")


def _without_surrogates(value: Any) -> Any:
    match value:
        case str():
            return _SURROGATE.sub("\ufffd", value)
        case list():
            return [_without_surrogates(each) for each in value]
        case dict():
            return {_without_surrogates(key): _without_surrogates(each) for key, each in value.items()}
    return value
