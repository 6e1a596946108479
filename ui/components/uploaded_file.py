"""Files that a script of the page has uploaded and then names in an event."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gradio.utils import get_upload_folder

MAX_PATH = 4096


def uploaded_file(path: Any) -> Path | None:
    """The file that an event names, if it lies in Gradio's folder of uploads, else None; events may say anything."""
    if not isinstance(path, str) or not 0 < len(path) <= MAX_PATH:
        return None
    try:
        found = Path(path).resolve()
        inside = found.is_relative_to(Path(get_upload_folder()).resolve())
        return found if inside and found.is_file() else None
    except (OSError, ValueError):  # a zero byte, half a surrogate pair, a part that is too long
        return None
