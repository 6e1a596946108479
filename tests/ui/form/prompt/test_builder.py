"""The builder's value, and the guide of a card."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path

import pytest
from PIL import Image

from presets.catalogue import load
from ui.form.prompt.builder import builder_value
from ui.form.prompt.examples import prompt_examples_value
from ui.form.prompt.guide import MAX_SHEET_BYTES, PromptGuide, with_article

CARD = next(card for card in load() if card.id == "pocket")


def test_every_thing_of_the_model_has_its_picture() -> None:
    value, words = builder_value(CARD), json.loads(Path(CARD.vocabulary).read_text())
    assert [name for name, _ in value["things"]] == [word["name"] for word in words]
    data = base64.b64decode(value["sheet"].removeprefix("data:image/webp;base64,"))
    sheet = Image.open(io.BytesIO(data)).convert("RGBA")
    assert len(data) < MAX_SHEET_BYTES and sheet.width == value["columns"] * value["tile"]
    for k in range(len(words)):
        x, y = k % value["columns"] * value["tile"], k // value["columns"] * value["tile"]
        alpha = sheet.crop((x, y, x + value["tile"], y + value["tile"])).getchannel("A")
        assert alpha.getextrema()[1] > 200, words[k]["name"]
    assert "Fluent Emoji" in value["about"] and "cannot recolour, count or combine" in value["about"]


@pytest.mark.parametrize("content", ["", "[]", '{"things": 3}', '{"things": {}, "places": [{"name": 1}]}'])
def test_a_guide_that_cannot_be_read_is_left_out(tmp_path: Path, content: str) -> None:
    (tmp_path / "guide.json").write_text(content)
    card = CARD.model_copy(update={"prompt_guide": str(tmp_path / "guide.json")})
    assert PromptGuide.of(card) is None
    value = builder_value(card)
    assert len(value["things"]) == 474 and (value["places"], value["sheet"]) == ([], "")
    assert prompt_examples_value(card)["places"] == []


def test_pictures_of_other_things_are_not_shown(tmp_path: Path) -> None:
    guide = {"things": {"fox": []}, "sheet": {"file": "../x.webp", "tile": 56, "columns": 24}}
    (tmp_path / "guide.json").write_text(json.dumps(guide))
    (tmp_path / "words.json").write_text('[{"name": "fox"}]')
    files = {"prompt_guide": str(tmp_path / "guide.json"), "vocabulary": str(tmp_path / "words.json")}
    assert builder_value(CARD.model_copy(update=files))["sheet"] == ""
    assert builder_value(None)["things"] == []


@pytest.mark.parametrize(
    ("name", "said"),
    [("owl", "an owl"), ("jeans", "jeans"), ("unicorn", "a unicorn"), ("bus", "a bus"), ("glass", "a glass")],
)
def test_the_article(name: str, said: str) -> None:
    assert with_article(name) == said
