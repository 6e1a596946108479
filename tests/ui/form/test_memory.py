"""What the browser kept of a form comes back where it still fits, and nothing else does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gradio as gr
import pytest

from tests.support.form_page import form_page
from ui.form import memory
from ui.form.form import Form
from ui.tabs import text_to_image

KEPT: dict[str, Any] = {
    "prompt": "a <b>fox</b>", "quality": "draft", "num_images": 2, "negative_prompt": None, "num_inference_steps": 7,
    "guidance_scale": 3.5, "scheduler": "ddim", "width": 64, "height": 128, "seed": "12", "keep_seed": True,
    "model": "tiny", "prompt_syntax": "a1111",
}  # fmt: skip


@pytest.fixture
def form(tmp_path: Path) -> Form:
    with gr.Blocks():
        return text_to_image.lay_out(form_page(tmp_path))


def stored(**changes: Any) -> str:
    values = {**KEPT, **changes}
    return json.dumps([values[name] for name in memory.NAMES])


def value(update: Any) -> Any:
    return update.get("value") if isinstance(update, dict) else getattr(update, "value", update)


def test_every_field_comes_back(form: Form) -> None:
    updates = memory.restored(form, stored())
    found = {name: value(updates[getattr(form.controls, name)]) for name in memory.NAMES}
    # No quality has seven steps of DDIM.
    assert found == {**KEPT, "quality": None}
    again = memory.restored(form, stored(scheduler="euler", num_inference_steps=4))
    assert value(again[form.controls.quality]) == "draft"


@pytest.mark.parametrize(
    "text",
    [None, 7, "", "[", "{}", "[]", "null", "[" * 9000, json.dumps([1] * len(memory.NAMES)), "x" * 30_000],
)
def test_what_this_page_did_not_write_changes_nothing(form: Form, text: Any) -> None:
    assert memory.restored(form, text) == {}


@pytest.mark.parametrize(
    "changes",
    [{"model": "gone"}, {"model": ["tiny"]}, {"width": "64"}, {"guidance_scale": True}, {"num_images": 3},
     {"keep_seed": 1}, {"prompt_syntax": "comfy"}, {"prompt": "x" * 3000}, {"num_inference_steps": -1},
     {"height": None}],
)  # fmt: skip
def test_values_that_no_control_holds_change_nothing(form: Form, changes: dict[str, Any]) -> None:
    assert memory.restored(form, stored(**changes)) == {}


def test_what_a_section_keeps_comes_back_where_it_fits(form: Form) -> None:
    kept = [one for section in form.sections for one in section.kept]
    good = ["blend", 0.5, "7", "an owl", "8", 4]
    assert memory.values_of(kept, json.dumps(good)) == good
    bad = ["sideways", 7, "9" * 99, None, 8, True]
    assert memory.values_of(kept, json.dumps(bad)) == [gr.skip()] * 6
    assert memory.values_of(kept, "[") == memory.values_of(kept, "[1]") == [gr.skip()] * 6
