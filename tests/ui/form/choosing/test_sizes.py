"""The shapes that a model was made for."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gradio as gr
import pytest

from presets.catalogue import load
from tests.support.site import tiny_card
from ui.form.choosing.sizes import SWAP, chosen, shapes_of, value_of

CARDS = {card.id: card for card in load()}


def test_models_of_1024_pixels_get_the_sizes_of_sdxl() -> None:
    card = CARDS["sd15"].model_copy(update={"width": 1024, "height": 1024})
    found = [(shape.ratio, shape.width, shape.height) for shape in shapes_of(card)]
    assert found == [("1:1", 1024, 1024), ("4:3", 1152, 896), ("3:2", 1216, 832), ("16:9", 1344, 768)]


@pytest.mark.parametrize("card", CARDS.values(), ids=CARDS)
def test_the_shapes_of_each_model_are_possible_and_about_as_large(card: Any) -> None:
    shapes, pixels = shapes_of(card), card.width * card.height
    assert (shapes[0].width, shapes[0].height) == (card.width, card.height) and len(shapes) >= 3
    assert len({(shape.width, shape.height) for shape in shapes}) == len(shapes)
    for shape in shapes:
        assert shape.width % card.size_factor == shape.height % card.size_factor == 0
        assert shape.width >= shape.height and 0.85 <= shape.width * shape.height / pixels <= 1.05
        across, down = map(int, shape.ratio.split(":"))
        assert shape.width / shape.height == pytest.approx(across / down, rel=0.08)


def test_a_press_sets_both_sides_and_swaps_them() -> None:
    card = CARDS["pocket"]
    assert chosen(card, 128, 128, "4:3", False) == (144, 112)
    assert chosen(card, 128, 192, "4:3", True) == (112, 144)
    assert chosen(card, 144, None, SWAP, None) == (None, 144)


@pytest.mark.parametrize("ratio", [None, "", "5:4", 3, ["4:3"], {"width": 9}])
def test_what_a_browser_should_not_send_changes_nothing(ratio: Any) -> None:
    assert chosen(CARDS["pocket"], 128, 128, ratio, "yes") == (gr.skip(), gr.skip())
    assert chosen(None, 128, 128, "1:1", False) == (gr.skip(), gr.skip())


def test_a_tiny_model_and_an_unknown_one_have_what_they_can() -> None:
    page: Any = SimpleNamespace(card={"tiny": tiny_card(Path("x"))}.get)
    assert value_of(page, {"model": "tiny", "width": 64, "height": 32})["shapes"][0] == ["1:1", 64, 64]
    assert value_of(page, {"model": "gone", "width": None}) == {"shapes": [], "width": None, "height": None}
