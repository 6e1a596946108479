"""What is set, below Generate; and that one event follows the controls."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gradio as gr
import pytest

from tests.support.form_page import form_page
from tests.support.site import tiny_card
from ui.form import summary
from ui.form.summary import NAMES, first_value, summary_value
from ui.tabs import text_to_image

PAGE: Any = SimpleNamespace(card={"tiny": tiny_card(Path("x"))}.get)


def test_it_names_what_is_set() -> None:
    named = {"model": "tiny", "num_images": 4, "seed": "7", "keep_seed": True, "guidance_scale": 3.5}
    assert summary_value(PAGE, {**named, "negative_prompt": "blur"}) == {
        "id": "tiny", "count": "4 pictures", "seed": "7", "locked": True, "more": "Guidance 3.5 \u00b7 negative prompt",
    }  # fmt: skip


@pytest.mark.parametrize("nothing", [None, "", "nonsense"])
def test_an_emptied_control_breaks_nothing(nothing: Any) -> None:
    value = summary_value(PAGE, {**dict.fromkeys(NAMES, nothing), "num_images": 1})
    assert (value["id"], value["count"]) == ("", "1 picture")
    assert value["more"].endswith("negative prompt")


def test_the_first_value_is_that_of_the_untouched_form() -> None:
    value = first_value(PAGE, tiny_card(Path("x")), False)
    assert (value["id"], value["count"], value["locked"]) == ("tiny", "1 picture", False)


def test_one_event_follows_the_controls(tmp_path: Path) -> None:
    """The line above the prompt, the shapes and the samplers come along with it."""
    with gr.Blocks() as blocks:
        form = text_to_image.lay_out(replace(form_page(tmp_path), blocks=blocks))
        summary.wire(form)
    c, wanted = form.controls, {form.summary, form.in_sight, form.sizes, form.samplers}
    (event,) = [each for each in blocks.fns.values() if wanted & set(each.outputs)]
    assert set(event.outputs) == wanted
    kept = [component for section in form.sections for component in section.in_use_of]
    values = {component: getattr(component, "value", None) for component in event.inputs}
    follow: Any = event.fn
    found = follow({**values, c.width: 128, c.height: 64, c.scheduler: "ddim", kept[0]: "0" * 32})
    assert found[form.in_sight]["size"] == "128 \u00d7 64" and found[form.in_sight]["scheduler"] == "DDIM"
    assert found[form.in_sight]["guides"] == [{"label": "ControlNet", "opens": "map-picture"}]
    assert (found[form.sizes]["width"], found[form.samplers]["chosen"]) == (128, "ddim")
