"""The fields of a form's request: styles added, wildcards drawn, hostile values left for the request to refuse."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gradio as gr
import pytest

from pipelines.request import InvalidRequest, make_request
from presets.prompts.styles import make_style
from presets.user_presets import UserPresets
from tests.support.form_page import form_page
from ui.context import PageContext
from ui.form import taken_settings
from ui.form.form import Form, FormValues, said
from ui.form.styles.composing import composed, read_names, with_embeddings
from ui.form.styles.section import drawn_text
from ui.tabs import text_to_image

FIELDS: dict[str, Any] = {
    "model": "tiny", "prompt": "a {fox|owl|cat|bear}", "negative_prompt": "dull", "prompt_syntax": "compel",
    "width": 64, "height": 64, "num_images": 4, "scheduler": "euler", "num_inference_steps": 4,
    "guidance_scale": 4.0, "seed": 7,
}  # fmt: skip


@pytest.fixture
def page(tmp_path: Path) -> PageContext:
    presets = UserPresets.of(tmp_path)
    presets.styles.save(make_style("Ink", "ink drawing of {prompt}", "colour"))
    with gr.Blocks():
        return replace(form_page(tmp_path), presets=presets)


@pytest.fixture
def form(page: PageContext) -> Form:
    with gr.Blocks():
        return text_to_image.lay_out(page)


def values(form: Form, **changes: Any) -> FormValues:
    found: dict[Any, Any] = {component: getattr(component, "value", None) for component in form.inputs}
    return FormValues({**found, **{getattr(form.controls, name): value for name, value in changes.items()}})


def test_a_request_holds_what_is_sent_and_what_was_typed(page: PageContext) -> None:
    request = make_request(**composed(page, {**FIELDS, "styles": ["Ink"]}))
    assert request.negative_prompt == "dull, colour" and request.typed is not None
    assert (request.typed.prompt, request.typed.styles) == (FIELDS["prompt"], ("Ink",))
    for k in range(4):
        alone = make_request(**composed(page, {**FIELDS, "styles": ["Ink"], "num_images": 1, "seed": 7 + k}))
        assert alone.prompt == request.prompt_of(k) == f"ink drawing of a {request.drawn_for(k)[0]}"
    assert drawn_text(request).startswith("Drawn: 1 ") and drawn_text(alone) == f"Drawn: {alone.drawn_for(0)[0]}"


def test_pictures_of_one_seed_have_one_prompt_and_the_end_of_a_blend_is_composed_too(page: PageContext) -> None:
    found = composed(page, {**FIELDS, "variation": {"seed": 3, "strength": 0.3}})
    assert "prompts" not in found and make_request(**found).prompts == ()
    found = composed(page, {**FIELDS, "styles": ["Ink"], "interpolation": {"prompt": "a {hut|hut}", "seed": None}})
    request = make_request(**found)
    assert request.interpolation is not None and request.interpolation.prompt == "ink drawing of a hut"


def test_what_was_sent_is_not_composed_again(page: PageContext) -> None:
    request = make_request(**composed(page, {**FIELDS, "num_images": 1}))
    again = composed(page, {**FIELDS, "num_images": 1, "prompt": request.prompt})
    assert make_request(**again).prompt == request.prompt and "typed" not in again


def test_a_negative_part_that_is_not_read_is_not_sent(page: PageContext) -> None:
    found = composed(page, {**FIELDS, "styles": ["Ink"], "guidance_scale": 1.0, "negative_prompt": ""})
    assert found["negative_prompt"] == "" and found["prompt"].startswith("ink drawing")


@pytest.mark.parametrize(
    "changes",
    [{"prompt": 3}, {"prompt": None}, {"prompt": "x" * 5000}, {"num_images": "many"}, {"num_images": float("nan")},
     {"num_images": 10**9}, {"negative_prompt": ["a"]}, {"interpolation": "x"}, {"guidance_scale": "4"}],
)  # fmt: skip
def test_values_that_are_wrong_are_left_for_the_request_to_refuse(page: PageContext, changes: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest):
        make_request(**composed(page, {**FIELDS, "styles": ["Ink"], **changes}))


def test_problems_are_shown_at_their_control(page: PageContext, form: Form) -> None:
    for fields, place in (({"prompt": "{" * 40}, "prompt-error"), ({"styles": ["Gone"]}, "styles-error")):
        with pytest.raises(InvalidRequest) as caught:
            composed(page, {**FIELDS, **fields})
        shown = {component.elem_id: text for component, text in form.show_error(caught.value).items()}
        assert shown[place] == said(caught.value)


@pytest.mark.parametrize(
    ("text", "names"),
    [('["a", "b", "a"]', ["a", "b"]), ("[]", []), ("", []), (None, []), ("{}", []), ("[1, null]", []), ("[" * 3000, []),
     ("x", []), ('["' + "y" * 9000 + '"]', []), (json.dumps([str(k) for k in range(99)]), [str(k) for k in range(17)])],
)  # fmt: skip
def test_chosen_names_are_read_with_bounds(text: Any, names: list[str]) -> None:
    assert read_names(text) == names


def test_a_form_sends_its_chosen_styles(page: PageContext, form: Form) -> None:
    asked = values(form, prompt="a hut", keep_seed=True, seed="5")
    asked[form.chosen_styles] = '["Ink"]'
    request = form.request(asked)
    assert request.prompt == "ink drawing of a hut" and request.typed is not None and request.typed.prompt == "a hut"


def test_taken_settings_set_the_chosen_styles(form: Form) -> None:
    fields = {"prompt": "a hut", "styles": ["Ink"]}
    assert taken_settings.updates_of(form, fields, "tiny")[form.chosen_styles] == '["Ink"]'
    assert taken_settings.updates_of(form, {"prompt": "a hut", "styles": []}, "tiny")[form.chosen_styles] == "[]"
    assert form.chosen_styles not in taken_settings.updates_of(form, {"prompt": "a hut <lora:ink:1>"}, "tiny")


def test_embeddings_that_a1111_names_without_a_mark_get_one() -> None:
    adapters: Any = SimpleNamespace(embeddings=lambda: [SimpleNamespace(name="EasyNegative")])
    fields = {**FIELDS, "prompt": "a fox, easynegative", "negative_prompt": "(EasyNegative:1.2)",
              "prompts": ("easynegative", "x"), "interpolation": {"prompt": "EASYNEGATIVE", "seed": None}}  # fmt: skip
    assert with_embeddings(adapters, fields) == fields, "compel's form has marks for them"
    found = with_embeddings(adapters, {**fields, "prompt_syntax": "a1111"})
    mark = "<embedding:EasyNegative>"
    assert (found["prompt"], found["negative_prompt"]) == (f"a fox, {mark}", f"({mark}:1.2)")
    assert found["prompts"] == (mark, "x") and found["interpolation"] == {"prompt": mark, "seed": None}
    for hostile in (None, 3, ["easynegative"], {}):
        assert with_embeddings(adapters, {"prompt_syntax": "a1111", "prompt": hostile})["prompt"] == hostile
