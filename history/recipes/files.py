"""Recipes as files to give away: JSON, and a script, in a zip with the pictures that it starts from."""

from __future__ import annotations

import io
import json
import zipfile
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from history.recipes.plan import NoScript
from history.recipes.script import write

if TYPE_CHECKING:
    from history.entries import EntryDetail
    from history.recipes.plan import Materials

VERSION = 1
SCRIPT_NAME = "picture.py"


def json_file(detail: EntryDetail) -> tuple[str, bytes]:
    """An entry as JSON: its name and its bytes; nothing in it tells who made it, or names a folder."""
    text = json.dumps(as_json(detail), indent=2, ensure_ascii=False)
    return f"{detail.entry.id}.recipe.json", text.encode("utf-8", "replace")


def as_json(detail: EntryDetail) -> dict[str, Any]:
    """An entry as JSON values: what was asked for, in which versions it was made, and which picture of the run it is.

    Raises:
        NoScript: if its request is not known.
    """
    if detail.request is None:
        raise NoScript("The settings of this picture are not known in a form that can be run again.")
    entry = detail.entry
    return {
        "program": "Diffusion Playground",
        "version": VERSION,
        "id": entry.id,
        "created": datetime.fromtimestamp(entry.created, UTC).isoformat(),
        "request": detail.request.model_dump(mode="json"),
        "picture": entry.place,
        "seed": entry.seed,
        "facts": dict(detail.facts),
        "notes": list(detail.notes),
    }


def script_file(detail: EntryDetail, materials: Materials) -> tuple[str, bytes]:
    """The script of an entry, or a zip where it needs other files: its name and its bytes.

    Raises:
        NoScript: if no script makes its picture; with one sentence for the user.
    """
    script = write(detail, materials)
    text = script.text.encode("utf-8", "replace")
    if not script.files:
        return f"{detail.entry.id}.py", text
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr(SCRIPT_NAME, text)
        for name, content in script.files.items():
            archive.writestr(name, content)
    return f"{detail.entry.id}.zip", file.getvalue()
