"""The table of the form's sections: one entry is enough to add one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gradio as gr
import pytest

from pipelines.request import InvalidRequest
from tests.support.form_page import form_page
from ui.form import sections
from ui.form.form import Form, FormSection, FormValues, shows_errors_of
from ui.form.layout import FormLayout
from ui.form.sections import SECTIONS, SectionEntry
from ui.tabs import image_to_image, text_to_image

VALUES: Mapping[str, Any] = {"prompt": "a fox", "seed": "7", "keep_seed": True}


def clip_skip(layout: FormLayout) -> FormSection:
    """A section as a file of its own would define it: here it sets the number of pictures."""
    error = gr.HTML()
    number = gr.Number(3)
    return FormSection(
        frozenset({number}),
        lambda values: {"num_images": values[number]},
        (error,),
        shows_errors_of(frozenset({"num_images"}), error),
    )


@pytest.fixture
def form(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Form:
    entry = SectionEntry(clip_skip, (sections.TEXT_TO_IMAGE,), ("form/clip_skip.css",))
    monkeypatch.setattr(sections, "SECTIONS", {**SECTIONS, "clip_skip": entry})
    with gr.Blocks():
        return text_to_image.lay_out(form_page(tmp_path))


def values(form: Form, *, new_seed: bool = False, **changes: Any) -> FormValues:
    """The values of a form that was just laid out, with some of the shared controls changed."""
    found: dict[Any, Any] = {component: getattr(component, "value", None) for component in form.inputs}
    found |= {getattr(form.controls, name): value for name, value in {**VALUES, **changes}.items()}
    return FormValues(found, new_seed=new_seed)


def test_a_section_is_added_with_one_entry(form: Form) -> None:
    section = form.sections[-1]
    assert section.inputs < form.inputs and set(section.errors) < set(form.outputs)
    request = form.request(values(form))
    assert (request.prompt, request.num_images, request.seeds) == ("a fox", 3, (7, 8, 9))
    assert form.request(values(form, new_seed=True)).sampling.seed != 7


def test_an_error_is_shown_by_the_section_of_its_field(form: Form) -> None:
    added = form.sections[-1]
    with pytest.raises(InvalidRequest) as caught:
        form.request(FormValues({**values(form), next(iter(added.inputs)): 99}))
    updates = form.show_error(caught.value)
    assert updates[added.errors[0]].startswith("num_images is 99")
    assert updates[form.run_error] == ""


@pytest.mark.parametrize(
    ("field", "place"),
    [("prompt", "prompt-error"), ("width", "size-error"), ("height", "size-error"),
     ("num_inference_steps", "num-inference-steps-error"),
     ("sampling.scheduler", "scheduler-error"), ("sampling", "settings-error"), ("seed", "seed-error"),
     ("", "settings-error"), ("model", "model-error"), ("negative_prompt", "negative-prompt-error"),
     ("variation.seed", "variations-error"),
     ("controls.0.weight", "guides-error"), ("reference", "guides-error")],
)  # fmt: skip
def test_each_field_has_its_place(form: Form, field: str, place: str) -> None:
    updates = form.show_error(InvalidRequest(field, "It is wrong."))
    shown = [component.elem_id for component, value in updates.items() if value == "It is wrong."]
    assert shown == [place]
    assert set(updates) <= set(form.outputs)


def test_what_belongs_to_no_section_is_shown_below_generate(form: Form) -> None:
    assert form.show_error(InvalidRequest("unheard.of", "It is wrong."))[form.run_error] == "It is wrong."
    assert form.show_error(RuntimeError("The queue is full."))[form.run_error] == "The queue is full."


def test_every_section_lays_itself_out_in_its_tabs(tmp_path: Path) -> None:
    with gr.Blocks():
        here = form_page(tmp_path)
        forms = {sections.TEXT_TO_IMAGE: text_to_image.lay_out(here)}
        forms[sections.IMAGE_TO_IMAGE] = image_to_image.lay_out(here)[0]
    for tab, form in forms.items():
        # The prompt, its styles, the settings and, in image to image, the source image are no entries.
        own = 3 + (tab == sections.IMAGE_TO_IMAGE)
        assert len(form.sections) == own + sum(tab in entry.tabs for entry in SECTIONS.values())
