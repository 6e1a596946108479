"""Short and printable forms of texts for messages, and paths of this computer taken out of them."""

from __future__ import annotations

import re
from pathlib import PurePath

# Absolute paths, as libraries write them into their messages.  A folder's name may hold single spaces where a
# separator follows; the last name ends at a space, except in quotes.
_QUOTED = re.compile(r"""(['"`])(?:file:/*)?(?:~?/|[A-Za-z]:[\\/]|\\\\)[^'"`\n]*\1""")
_POSIX = re.compile(r"""(?<![\w./~-])(?:file:/*)?~?/(?=[^\s/])(?:[^\s/'"`]+(?: [^\s/'"`:]+){0,4}/)*[^\s/'"`,;()<>]*""")
_WINDOWS = re.compile(r"""(?<![\w])(?:[A-Za-z]:\\|\\\\)(?:[^\s\\'"`]+(?: [^\s\\'"`]+){0,4}\\)*[^\s\\'"`,;()<>]*""")
_SURROGATE = re.compile("[\ud800-\udfff]")
_CONTROL_CHARACTERS = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")


def refuse_control_characters(value: str) -> str:
    """The text itself; raises ValueError if it is none that people can read."""
    if _CONTROL_CHARACTERS.search(value):
        raise ValueError("contains control characters; only printable text and line breaks are allowed")
    if _SURROGATE.search(value):
        raise ValueError("is not valid Unicode text")
    return value


def shorten(text: str, limit: int = 60) -> str:
    """A text cut to at most ``limit`` characters, with an ellipsis where something was cut."""
    return text if len(text) <= limit else text[: limit - 3] + "..."


def hide_paths(text: str, *known: str) -> str:
    """A text with only the last name of each absolute path: guests learn nothing of this computer's folders.

    Args:
        text: a message, for example of a library.
        known: paths that may stand in it, with spaces or without quotes.
    """
    for path in sorted(filter(_is_absolute, known), key=len, reverse=True):
        text = text.replace(path, _last(path))
    text = _QUOTED.sub(lambda found: found[1] + _last(found[0][1:-1]) + found[1], text)
    for pattern in (_POSIX, _WINDOWS):
        text = pattern.sub(lambda found: _last(found[0]), text)
    return text


def first_line(error: Exception, *known_paths: str) -> str:
    """The first line of an error's text without paths, cut to a readable length; its class where there is no text."""
    line = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
    return shorten(hide_paths(line, *known_paths), 160)


def _is_absolute(path: str) -> bool:
    return path.startswith(("/", "~", "\\\\")) or path[1:3] in (":\\", ":/")


def _last(path: str) -> str:
    """The last name of a path."""
    return re.split(r"[\\/]", path.rstrip("\\/"))[-1]


def printable(name: str | PurePath) -> str:
    """A file's name that can be written as UTF-8: what is none in it becomes U+FFFD.

    Linux allows any bytes in names; Python keeps those that are not UTF-8 as lone surrogates, which can neither be
    printed nor sent to a browser.
    """
    return _SURROGATE.sub("\ufffd", str(name))
