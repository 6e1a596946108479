"""What a prompt of pocket is made of, and the sheet of thumbnails."""

from __future__ import annotations

import json

from PIL import Image

from pocket.paths import ROOT
from pocket.world import plain, prompt_guide
from pocket.world.prompt_guide import COLUMNS, FILE, SHEET, TILE, guide, make_sheet, own_colours
from tests.support.toy_artwork import disc

MAX_BYTES = 700_000


def test_the_files_are_those_of_the_released_world() -> None:
    found = json.loads(FILE.read_text())
    names = [word["name"] for word in json.loads((ROOT / "vocabulary.json").read_text())]
    assert list(found["things"]) == names
    assert json.loads(json.dumps(guide(found["things"]))) == found
    assert SHEET.stat().st_size < MAX_BYTES
    with Image.open(SHEET) as sheet:
        assert sheet.size == (COLUMNS * TILE, -(-len(names) // COLUMNS) * TILE)


def test_the_notice_names_whose_pictures_they_are() -> None:
    notice = (ROOT.parent / "NOTICE").read_text()
    assert SHEET.name in notice and "Fluent Emoji" in notice


def test_a_thing_has_the_colours_that_cover_it() -> None:
    red = Image.new("RGBA", (10, 10), (220, 30, 40, 255))
    red.paste((0, 140, 140, 255), (0, 0, 10, 3))
    assert own_colours(red) == ["red", "teal"]
    assert own_colours(Image.new("RGBA", (4, 4))) == []
    assert set(own_colours(Image.fromarray(disc()))) <= set(plain.COLOURS)


def test_the_sheet_holds_the_pictures_in_rows() -> None:
    pictures = [Image.new("RGBA", (80, 80), (k, 0, 0, 255)) for k in range(COLUMNS + 1)]
    sheet = make_sheet(pictures)
    assert sheet.size == (COLUMNS * TILE, 2 * TILE)
    assert sheet.getpixel((TILE // 2, TILE + TILE // 2)) == (COLUMNS, 0, 0, 255)


def test_the_guide_is_written_so_that_a_change_can_be_read(tmp_path) -> None:
    file = tmp_path / "guide.json"
    prompt_guide.write(file, guide({"fox": ["orange"], "owl": []}))
    assert json.loads(file.read_text())["things"] == {"fox": ["orange"], "owl": []}
    assert '"fox": ["orange"],\n"owl": []' in file.read_text()
