"""The face of explanations."""

from __future__ import annotations

import io

from fontTools.ttLib import TTFont

from ui.components.assets import UI
from ui.shell.theme import READING_FACE, reading_face

MAX_BYTES = 100_000


def test_the_face_of_explanations_has_the_letters_that_the_page_needs() -> None:
    data = (UI / READING_FACE).read_bytes()
    letters = set(TTFont(io.BytesIO(data)).getBestCmap())
    assert letters >= {ord(letter) for letter in "AZaz09.,;:!?()%\u2019\u201c\u201d\u2013\u00b7\u00d7"}
    assert len(data) < MAX_BYTES and len(reading_face()) < 1.5 * MAX_BYTES
    assert "SIL" in (UI / READING_FACE).with_name("OFL.txt").read_text()
