"""The line above the prompt."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.support.site import tiny_card
from ui.form.choosing.in_sight import first_in_sight, in_sight_value

PAGE: Any = SimpleNamespace(card={"tiny": tiny_card(Path("x"))}.get)


def test_it_names_what_is_in_use() -> None:
    named = {"model": "tiny", "scheduler": "euler_a", "width": 64, "height": 128}
    assert in_sight_value(PAGE, named, [("ControlNet", "map-picture")]) == {
        "model": "Tiny", "scheduler": "Euler ancestral", "size": "64 \u00d7 128",
        "guides": [{"label": "ControlNet", "opens": "map-picture"}],
    }  # fmt: skip


@pytest.mark.parametrize("nothing", [None, "", "nonsense", ["x"]])
def test_an_emptied_control_breaks_nothing(nothing: Any) -> None:
    page: Any = SimpleNamespace(card=lambda name: None)
    value = in_sight_value(page, dict.fromkeys(("model", "scheduler", "width", "height"), nothing))
    assert (value["model"], value["scheduler"]) == ("Choose a model", "Choose a sampler")
    assert value["size"] == "? \u00d7 ?" and value["guides"] == []


def test_the_first_value_is_that_of_the_untouched_form() -> None:
    value = first_in_sight(PAGE, tiny_card(Path("x")))
    assert (value["model"], value["size"]) == ("Tiny", "64 \u00d7 64")
