"""What the buttons next to errors change in the form."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gradio as gr
import pytest

from pipelines.request import InvalidRequest
from pipelines.request_errors import OTHER_MODEL, OWN_SETTINGS, SMALLER
from tests.support.form_page import form_page
from ui.components.next_steps import NEXT_STEPS
from ui.form.form import Form, FormValues
from ui.form.settings_events import another_model, fixes_of, smaller
from ui.tabs import image_to_image, text_to_image


@pytest.fixture
def form(tmp_path: Path) -> Form:
    with gr.Blocks():
        return text_to_image.lay_out(form_page(tmp_path))


def values(form: Form, **changes: Any) -> FormValues:
    found: dict[Any, Any] = {component: getattr(component, "value", None) for component in form.inputs}
    changes = {"prompt": "a fox", "seed": "7", "keep_seed": True, **changes}
    return FormValues({**found, **{getattr(form.controls, name): value for name, value in changes.items()}})


def test_each_fix_is_there(form: Form, tmp_path: Path) -> None:
    with gr.Blocks():
        other = image_to_image.lay_out(form_page(tmp_path))[0]
    wanted = {kind for kind, (_, to) in NEXT_STEPS.items() if to == "fix"}
    assert wanted == set(fixes_of(form)) | set(fixes_of(other))


def test_smaller_is_one_picture_first_then_half_the_size(form: Form) -> None:
    c = form.controls
    assert smaller(form, values(form, num_images=4, width=512, height=256)) == {
        c.num_images: 1, c.width: 512, c.height: 256
    }  # fmt: skip
    assert smaller(form, values(form, num_images=1, width=512, height=264)) == {
        c.num_images: 1, c.width: 256, c.height: 128
    }  # fmt: skip


def test_smaller_goes_on_until_the_work_is_allowed(form: Form) -> None:
    asked = values(form, num_images=4, width=2048, height=2048, num_inference_steps=150)
    with pytest.raises(InvalidRequest):
        form.request(asked)
    changed = smaller(form, asked)
    assert form.request(FormValues({**asked, **changed})).num_images == 1


def test_an_empty_size_becomes_the_smallest(form: Form) -> None:
    changed = smaller(form, values(form, num_images=1, width=None, height=8))
    assert changed[form.controls.width] == changed[form.controls.height] > 0


def test_another_model_is_one_that_is_here(form: Form) -> None:
    tab: Any = SimpleNamespace(id="text-to-image")
    form = replace(form, page=replace(form.page, tab=tab))
    c, here = form.controls, form.page.library.available()
    updates = another_model(form, values(form, model="gone"))
    assert updates[c.model].value == form.page.default_model
    others = [card.id for card in here if card.id != form.page.default_model]
    updates = another_model(form, values(form, model=form.page.default_model))
    assert (updates[c.model].value in others) if others else updates == {}


def test_the_models_own_settings_come_back(form: Form) -> None:
    c, card = form.controls, form.page.cards[form.page.default_model]
    changed = fixes_of(form)[OWN_SETTINGS](values(form, guidance_scale=29, num_inference_steps=3))
    quality = card.qualities[card.default_quality]
    assert changed[c.guidance_scale].value == card.guidance_scale
    assert changed[c.num_inference_steps].value == quality.num_inference_steps
    assert fixes_of(form)["width"](values(form, width=60)).keys() == {c.width, c.height}
    assert fixes_of(form)["width"](values(form, model="gone")) == {}


def test_the_table_names_no_kind_twice() -> None:
    assert {SMALLER, OTHER_MODEL, OWN_SETTINGS} <= set(NEXT_STEPS)
