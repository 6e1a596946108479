"""What the browser kept of a form comes back where it still fits, and nothing else does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gradio as gr
import pytest

from pipelines.images.uploads import UploadStore
from tests.support.form_page import form_page
from tests.support.source_tab import SourceTab
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
    kept = memory.kept_of(form)
    good = ["blend", 0.5, "7", "an owl", "8", 4, "", "depth", None, 1.5, 0.25, 0.5, "", None, 0.5]
    found = memory.brought_back(form, json.dumps(good))
    # No ControlNet is there, so none is chosen.
    assert [value(found[one]) for one in kept if one in found] == [one for one in good if one is not None]
    section = next(section for section in form.sections if kept[0] in section.kept)
    assert [found[group].visible for group in section.follows[:2]] == [False, True]
    bad = ["sideways", 7, "9" * 99, None, 8, True, 7, "magic", "gone", 9, -1, "x", "i" * 99, "gone", 2]
    for text in (json.dumps(bad), "[", "[1]", json.dumps(good[:-1])):
        assert memory.brought_back(form, text) == {kept[0]: gr.skip()}


def test_image_to_image_keeps_what_it_has_of_its_own(tmp_path: Path) -> None:
    tab = SourceTab(UploadStore(tmp_path / "inputs"))
    here, own = tab.source, tab.source.kept
    good = {
        here.mode: "part", here.strength: 0.25, here.fit: "pad", here.colour: "rgba(12, 7, 250, 1)", here.feather: 9,
        here.only_masked: True, here.padding: 64, here.left: 8, here.right: 0, here.up: 16, here.down: 24,
    }  # fmt: skip
    before = {one: getattr(one, "value", None) for one in memory.kept_of(tab.form)}

    def back(**changes: Any) -> dict[Any, Any]:
        values = {**before, **good, **{getattr(here, name): changed for name, changed in changes.items()}}
        found = memory.brought_back(tab.form, json.dumps([values[one] for one in memory.kept_of(tab.form)]))
        return {one: value(update) for one, update in found.items() if one in own}

    assert back() == good
    for name, wrong in (("mode", "all"), ("strength", 2), ("fit", "bend"), ("colour", "teal;"), ("left", -1)):
        found = back(**{name: wrong})
        assert found.get(getattr(here, name)) != wrong, name
    found = memory.brought_back(tab.form, json.dumps([{**before, **good}[one] for one in memory.kept_of(tab.form)]))
    # What the mode and the tick show comes with them: what is not built yet announces no change.
    assert found[here.inpaint_group].visible and found[tab.views.mask_tab].visible and found[here.padding].visible
    assert not found[here.outpaint_group].visible
