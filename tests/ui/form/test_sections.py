"""The table of the form's sections: one entry is enough to add one."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gradio as gr
import pytest

from pipelines.jobs.backend import KeepFailed, QueueFull
from pipelines.request import TOO_MUCH_WORK, InvalidRequest
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


def sentence(value: Any) -> Any:
    """What is said, with or without a button."""
    return value["text"] if isinstance(value, dict) else value


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
    step = {"label": "Use 8", "to": "set", "value": 8}
    assert updates[added.errors[0]] == {"text": "Pictures must be at most 8.", **step}
    assert updates[form.run_error] == ""


@pytest.mark.parametrize(
    ("field", "place"),
    [("prompt", "prompt-error"), ("width", "width-error"), ("height", "height-error"),
     ("num_inference_steps", "steps-error"),
     ("sampling.scheduler", "scheduler-error"), ("sampling", "settings-error"), ("seed", "seed-error"),
     ("", "settings-error"), ("model", "model-error"), ("negative_prompt", "negative-error"),
     ("variation.seed", "variation-seed-error"), ("variation.strength", "variation-strength-error"),
     ("variation", "variations-error"), ("interpolation.seed", "blend-seed-error"),
     ("interpolation.prompt", "blend-prompt-error"), ("controls.0.weight", "map-weight-error"),
     ("controls.0.net", "map-net-error"), ("controls.0.end", "map-end-error"), ("controls", "map-picture-error"),
     ("reference", "look-picture-error"), ("reference.adapter", "look-adapter-error"),
     ("reference.weight", "look-weight-error")],
)  # fmt: skip
def test_each_field_has_its_place(form: Form, field: str, place: str) -> None:
    updates = form.show_error(InvalidRequest(field, "It is wrong."))
    shown = [component.elem_id for component, value in updates.items() if sentence(value) == "It is wrong."]
    assert shown == [place]
    assert set(updates) <= set(form.outputs)


@pytest.mark.parametrize(
    ("changes", "place", "words"),
    [({"width": 5000}, "width-error", "Width must be at most 2048."),
     ({"height": 7}, "height-error", "Height must be at least 8."),
     ({"width": 64.5}, "width-error", "Width must be a whole number."),
     ({"num_inference_steps": None}, "steps-error", "Steps is empty; give a number."),
     ({"guidance_scale": 31}, "guidance-error", "Guidance scale must be at most 30."),
     ({"prompt": "x" * 2001}, "prompt-error", "Prompt has 2001 characters; at most 2000 fit."),
     ({"negative_prompt": "a <lora:x:1>"}, "negative-error", "Negative prompt "),
     ({"seed": "banana"}, "seed-error", "Seed must be a whole number."),
     ({"seed": str(2**63 - 1)}, "seed-error", f"Seed must be at most {2**63 - 3} for 3 pictures."),
     ({"width": 2048, "height": 2048, "num_inference_steps": 150}, "settings-error", TOO_MUCH_WORK)],
)  # fmt: skip
def test_a_sentence_names_the_field_as_the_page_does(
    form: Form, changes: dict[str, Any], place: str, words: str
) -> None:
    with pytest.raises(InvalidRequest) as caught:
        form.request(values(form, **changes))
    shown = {component.elem_id: text for component, text in form.show_error(caught.value).items() if text}
    assert sentence(shown[place]).startswith(words)


def test_a_size_that_does_not_fit_the_model_is_said_with_one_that_does(form: Form) -> None:
    with pytest.raises(InvalidRequest) as caught:
        form.request(values(form, width=60)).check_size(8)
    shown = [sentence(value) for value in form.show_error(caught.value).values()]
    assert "Width must be a multiple of 8, such as 56 or 64." in shown


def test_each_sentence_marks_a_control_that_there_is(tmp_path: Path) -> None:
    with gr.Blocks() as blocks:
        form = text_to_image.lay_out(form_page(tmp_path))
    ids = {getattr(block, "elem_id", None) for block in blocks.blocks.values()}
    templates = [str(error.html_template) for section in form.sections for error in section.errors]
    about = {found for template in templates for found in re.findall(r'data-of="(.*?)"', template)}
    assert about <= ids and len(about) >= 20


@pytest.mark.parametrize(
    ("problem", "step"),
    [(InvalidRequest("model", "It is not here."), ("Open Models", "#/models")),
     (InvalidRequest("init.image", "There is none."), ("Choose an image", "source")),
     (QueueFull("The queue is full."), ("Try again", "generate")),
     (KeepFailed("The disk is full."), ("Try again", "generate"))],
)  # fmt: skip
def test_an_error_offers_what_to_do_next(form: Form, problem: Exception, step: tuple[str, str]) -> None:
    (value,) = [value for value in form.show_error(problem).values() if isinstance(value, dict)]
    assert value == {"text": str(problem), "label": step[0], "to": step[1]}


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
