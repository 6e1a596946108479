"""The cards of LoRAs: what they say, and the pictures next to their files."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image

from pipelines.images.uploads import UploadStore
from pipelines.models.adapters.lora import LoraFile
from ui.form.choosing.lora_cards import MAX_PREVIEWS, LoraPreviews, card, listing, preview_file


@pytest.fixture
def previews(tmp_path: Path) -> LoraPreviews:
    page: Any = SimpleNamespace(inputs=UploadStore(tmp_path / "inputs").of(None))
    return LoraPreviews(page)


def lora(tmp_path: Path, name: str = "ink", **more: Any) -> LoraFile:
    return LoraFile(name, tmp_path / f"{name}.safetensors", **more)


def picture(path: Path, colour: str = "red") -> None:
    Image.new("RGB", (400, 300), colour).save(path)


def test_a_card_says_what_the_file_tells(tmp_path: Path) -> None:
    found = card(lora(tmp_path, words=("inkwash",), base="sdxl_base_v1-0"))
    assert (found["words"], found["base"]) == (["inkwash"], "Base model: sdxl_base_v1-0") and not found["problem"]
    plain = card(lora(tmp_path, problem="needs OFT"))
    assert plain["base"] == "Its file does not name its base model."
    assert plain["problem"] == "Cannot be used: it needs OFT."


@pytest.mark.parametrize("ending", [".preview.png", ".png", ".jpg", ".preview.webp"])
def test_the_picture_next_to_the_file_is_found(tmp_path: Path, previews: LoraPreviews, ending: str) -> None:
    file = lora(tmp_path, "ink.v1")
    assert previews.get(file) == "" and preview_file(file.path) is None
    picture(tmp_path / f"ink.v1{ending}")
    assert previews.get(file).startswith("data:image/jpeg;base64,")


def test_a_picture_is_read_again_once_it_is_replaced(tmp_path: Path, previews: LoraPreviews) -> None:
    file, path = lora(tmp_path), tmp_path / "ink.png"
    picture(path)
    first = previews.get(file)
    assert previews.get(file) == first
    picture(path, "blue")
    os.utime(path, ns=(1, 1))
    assert previews.get(file) not in ("", first)


def test_what_is_no_picture_leaves_the_card_without_one(tmp_path: Path, previews: LoraPreviews) -> None:
    (tmp_path / "ink.png").write_text("no picture")
    assert previews.get(lora(tmp_path)) == ""


def test_the_list_comes_at_once_and_the_pictures_after_it(tmp_path: Path, previews: LoraPreviews) -> None:
    files = [lora(tmp_path, f"ink{k}") for k in range(MAX_PREVIEWS + 2)]
    for name in ("ink1", f"ink{MAX_PREVIEWS + 1}"):
        picture(tmp_path / f"{name}.png")
    first, then = listing(files, previews)
    assert not any(each["preview"] for each in first["cards"])
    assert [each["name"] for each in then["cards"]] == [file.name for file in files]
    assert [each["name"] for each in then["cards"] if each["preview"]] == ["ink1"]
    assert len(list(listing(files[2:3], previews))) == 1
