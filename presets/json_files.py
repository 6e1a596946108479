"""Reads small JSON files, and the error of everything that reads models' files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipelines.system.bounded_json import MAX_BYTES, parse_json
from pipelines.system.text import printable


class CatalogueError(ValueError):
    """A model that cannot be used, or a catalogue that cannot be read; the message is one sentence for the user.

    Names of files that are no text are made printable in it.
    """

    def __init__(self, message: str) -> None:
        super().__init__(printable(message))


def read_json(path: Path) -> dict[str, Any]:
    """Read a configuration file of a model.

    Raises:
        CatalogueError: if it is missing, too large, or does not hold a JSON object.
    """
    try:
        with path.open("rb") as file:
            text = file.read(MAX_BYTES + 1)
    except OSError:
        raise CatalogueError(f"The model's file {path} is missing or cannot be read; copy the model again.") from None
    try:
        found = parse_json(text) if len(text) <= MAX_BYTES else None
    except ValueError:
        raise CatalogueError(f"The model's file {path} is not valid JSON; copy the model again.") from None
    if not isinstance(found, dict):
        raise CatalogueError(f"The model's file {path} does not hold a configuration; copy the model again.")
    return found


def read_optional_json(path: Path) -> dict[str, Any]:
    """As ``read_json``, but {} for a missing or broken file."""
    try:
        return read_json(path)
    except CatalogueError:
        return {}
