"""The labelled sheet of a comparison, and the sentence about its figures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from pipelines.grid.sheet import CELL, GAP, HEAD, SIDE_HEAD, Labels, distances, sheet, sheet_png, what_changed, written
from pipelines.images.png import read_request
from tests.support.known_trace import ask

REQUEST = ask()


def plain(colour: str, size: tuple[int, int] = (64, 64)) -> Image.Image:
    """A picture of one colour."""
    return Image.new("RGB", size, colour)


def test_each_picture_stands_in_its_place() -> None:
    labels = Labels(["1", "2"], ["a", "b"], ["p", "q"], "Seed", "Steps")
    drawn = sheet(labels, {(0, 0, 0): plain("red"), (1, 1, 1): plain("blue", (128, 64))})
    above = 2 * HEAD
    assert drawn.size == (SIDE_HEAD + 2 * (CELL + GAP) + GAP, 2 * (above + 2 * (CELL + GAP)) + GAP)
    first = (SIDE_HEAD + GAP + CELL // 2, above + CELL // 2)
    last = (SIDE_HEAD + GAP + CELL + GAP + CELL // 2, 2 * above + 3 * (CELL + GAP) + CELL // 2)
    assert drawn.getpixel(first) == (255, 0, 0) and drawn.getpixel(last) == (0, 0, 255)
    # A wide picture is not cut: it has bars above and below.
    assert drawn.getpixel((last[0], last[1] - CELL // 2 + 4)) not in ((0, 0, 255), (255, 255, 255))


def test_the_file_holds_the_common_settings(tmp_path: Path) -> None:
    file = tmp_path / "sheet.png"
    file.write_bytes(sheet_png(Labels(["1"]), REQUEST, {(0, 0, 0): plain("red")}))
    assert read_request(file) == REQUEST and b"trainedAlgorithmicMedia" in file.read_bytes()


def test_labels_that_the_font_lacks_are_numbered_and_long_ones_cut() -> None:
    assert written("\u72d0", 2) == "value 3" and written("64 \u00d7 64", 0) == "64 x 64"
    assert len(written("x" * 99, 0)) < 40


def test_the_sentence_names_where_most_changes_and_where_hardly_anything() -> None:
    row = [plain("black"), plain("white"), plain("white"), plain("#ddd")]
    found = distances(row)
    assert np.allclose(found, [1, 0, (255 - 0xDD) / 255])
    said = what_changed("Guidance scale", ["1", "2", "4", "8"], row)
    assert (
        "Between 1 and 2" in said and f"{found[0] / sum(found):.0%}" in said and "between 2 and 4 hardly at all" in said
    )
    assert "same" in what_changed("Seed", ["1", "2"], [plain("red")] * 2)
    assert "100%" in what_changed("Seed", ["1", "2"], row[:2]) and what_changed("Seed", ["1"], row[:1]) == ""
