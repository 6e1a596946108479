"""Short and printable forms of texts for messages, and paths of this computer taken out of them."""

from __future__ import annotations

import os
import re
import tempfile
from pathlib import PurePath

from pipelines.system.paths import PROJECT

# Absolute paths, as libraries write them into their messages.  A folder's name may hold single spaces where a
# separator follows, and apostrophes within words; the last name ends at a space, except in quotes.  Backslashes may be
# doubled.
_QUOTED = re.compile(r"""(['"`])(?:file:/*)?(?:~?/|[A-Za-z]:[\\/]|\\\\)(?:(?!\1)[^\n])*\1""")
_APOSTROPHE = r"(?<=\w)'(?=\w)"
_POSIX = re.compile(
    rf"""(?<![\w./~-])(?:file:/*)?~?/(?=[^\s/])
    (?:(?:[^\s/'"`]|{_APOSTROPHE})+(?:[ ](?:[^\s/'"`:;]|{_APOSTROPHE})+){{0,9}}/)*(?:[^\s/'"`,;()<>]|{_APOSTROPHE})*""",
    re.VERBOSE,
)
_WINDOWS = re.compile(
    rf"""(?<![\w])(?:[A-Za-z]:\\+|\\\\)
    (?:(?:[^\s\\'"`]|{_APOSTROPHE})+(?:[ ](?:[^\s\\'"`;]|{_APOSTROPHE})+){{0,9}}\\+)*
    (?:[^\s\\'"`,;()<>]|{_APOSTROPHE})*""",
    re.VERBOSE,
)
# Names, in the environment, the folders that the owner has chosen for this program, as PATH does.
FOLDERS = "PLAYGROUND_HIDDEN_FOLDERS"
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
    for root in _roots():
        # Known folders first, by their exact names; the patterns find other paths.
        text = re.sub(rf"(?<![\w/\\]){re.escape(root)}(?=[\\/]|\W|$)", "~", text)
    text = _QUOTED.sub(lambda found: found[1] + _last(found[0][1:-1]) + found[1], text)
    for pattern in (_POSIX, _WINDOWS):
        text = pattern.sub(lambda found: _last(found[0]), text)
    return text


def _roots() -> list[str]:
    """The folders of this computer that messages are about, the longest first, as they may be written."""
    named = [os.environ.get(name, "") for name in ("HF_HOME", "HF_HUB_CACHE", "XDG_CACHE_HOME", "GRADIO_TEMP_DIR")]
    chosen = os.environ.get(FOLDERS, "").split(os.pathsep)
    paths = [os.path.expanduser("~"), tempfile.gettempdir(), str(PROJECT), *named, *chosen]
    paths += [os.path.realpath(path) for path in paths if path]
    roots = {path.rstrip("\\/") for path in paths if _is_absolute(path) and len(PurePath(path).parts) > 1}
    return sorted(roots | {path.replace("\\", "\\\\") for path in roots}, key=len, reverse=True)


def first_line(error: Exception, *known_paths: str) -> str:
    """The first line of an error's text without paths, cut to a readable length; its class where there is no text."""
    line = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
    return shorten(hide_paths(line, *known_paths), 160)


def file_problem(error: OSError) -> str:
    """What happened to a file and what to do, in one sentence."""
    reason = hide_paths(error.strerror or type(error).__name__)
    return f"Reading or writing a file failed ({reason}); check the disk's space and try again."


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
