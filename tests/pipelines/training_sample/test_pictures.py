"""Reading a sample's file, and drawing its pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save

from pipelines.training_sample.pictures import MAX_FILE_BYTES, RECIPE, SampleError, SamplePictures
from tests.support.toy_sample import toy_art, toy_pictures, toy_recipe, write_toy_sample


def test_a_file_gives_the_same_pictures_every_time(tmp_path: Path) -> None:
    one = SamplePictures.open(write_toy_sample(tmp_path / "sample.safetensors"))
    for style, art in toy_art(one.recipe).items():
        np.testing.assert_array_equal(one.art[style], art)
    other, memory = SamplePictures.open(tmp_path / "sample.safetensors"), toy_pictures()
    for k in (0, 7, 39, 7):
        shown, pixels = one.draw(k)
        assert shown == one.shown(k) == memory.shown(k)
        np.testing.assert_array_equal(pixels, other.draw(k)[1])
        np.testing.assert_array_equal(pixels, memory.draw(k)[1])
    assert pixels.shape == (64, 64, 3) and pixels.dtype == np.uint8
    assert not np.array_equal(one.draw(0)[1], one.draw(1)[1])
    assert not np.array_equal(one.draw(0)[1], toy_pictures(seed=4).draw(0)[1])


@pytest.mark.parametrize("damage", ["missing", "large", "no recipe", "other sheet", "no sheet", "text"])
def test_a_broken_file_is_told_in_a_sentence(tmp_path: Path, damage: str) -> None:
    file = tmp_path / "sample.safetensors"
    recipe = toy_recipe().model_dump_json()
    sheet = np.zeros(10, np.uint8)
    if damage == "large":
        file.write_bytes(bytes(MAX_FILE_BYTES + 1))
    elif damage == "no recipe":
        file.write_bytes(save({"fluent": sheet}, {RECIPE: "{}"}))
    elif damage == "other sheet":
        write_toy_sample(file)
        data = toy_recipe(tile=16).model_dump_json()
        file.write_bytes(save({"fluent": sheet, "noto": sheet}, {RECIPE: data}))
    elif damage == "no sheet":
        file.write_bytes(save({"fluent": sheet}, {RECIPE: recipe}))
    elif damage == "text":
        file.write_text("hello there, this is no file of tensors")
    with pytest.raises(SampleError, match="cannot be read"):
        SamplePictures.open(file)
