"""What is set, on one line."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.support.site import tiny_card
from ui.form.summary import first_value, summary_value

PAGE: Any = SimpleNamespace(card={"tiny": tiny_card(Path("x"))}.get)


def test_it_names_what_is_set() -> None:
    value = summary_value(PAGE, "tiny", 64, 128, 4, "7", True, 3.5, "ddim", "blur")
    assert value == {
        "model": "Tiny", "id": "tiny", "size": "64 \u00d7 128", "count": "4 pictures", "seed": "7", "locked": True,
        "more": "Guidance 3.5 \u00b7 DDIM \u00b7 negative prompt",
    }  # fmt: skip


@pytest.mark.parametrize("nothing", [None, "", "nonsense"])
def test_an_emptied_control_breaks_nothing(nothing: Any) -> None:
    value = summary_value(PAGE, "gone", nothing, nothing, 1, nothing, nothing, nothing, nothing, nothing)
    assert (value["model"], value["size"], value["count"]) == ("Choose a model", "? \u00d7 ?", "1 picture")
    assert value["more"].endswith("negative prompt")


def test_the_first_value_is_that_of_the_untouched_form() -> None:
    value = first_value(PAGE, tiny_card(Path("x")), False)
    assert (value["model"], value["size"], value["locked"]) == ("Tiny", "64 \u00d7 64", False)
