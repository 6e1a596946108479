"""Scripts and style sheets: each lies next to the Python file that uses it and is named by its path inside ``ui``."""

from __future__ import annotations

from pathlib import Path

UI = Path(__file__).resolve().parents[1]


def asset(*names: str) -> str:
    """The text of one or several files, such as ``components/timeline.js``, in this order."""
    return "\n".join((UI / name).read_text(encoding="utf-8") for name in names)
