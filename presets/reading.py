"""What the rooms of the catalogue share: its error, and reading small JSON files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

# Configurations are a few KB; a tokenizer's vocabulary is never read here.
MAX_JSON = 4 << 20


class CatalogueError(ValueError):
    """A model that cannot be used, or a catalogue that cannot be read; the message is one plain sentence."""


def read_json(path: Path) -> dict[str, Any]:
    """A configuration file of a model.

    Raises:
        CatalogueError: if it is missing, too large, or does not hold a JSON object.
    """
    try:
        with path.open("rb") as file:
            text = file.read(MAX_JSON + 1)
    except OSError:
        raise CatalogueError(f"The model's file {path} is missing or cannot be read; copy the model again.") from None
    try:
        found = json.loads(text) if len(text) <= MAX_JSON else None
    except (ValueError, RecursionError):
        raise CatalogueError(f"The model's file {path} is not valid JSON; copy the model again.") from None
    if not isinstance(found, dict):
        raise CatalogueError(f"The model's file {path} does not hold a configuration; copy the model again.")
    return found


def read_json_or_nothing(path: Path) -> dict[str, Any]:
    """As ``read_json``, but an empty dict where there is nothing to read."""
    try:
        return read_json(path)
    except CatalogueError:
        return {}
