"""Show me: a button next to a control that draws five values of it, from the present seed, in the Compare tab."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import gradio as gr
from gradio.components import Component  # not for types alone: Gradio reads the annotations of event handlers

from pipelines.grid.axes import AXES
from pipelines.request import InvalidRequest
from ui.components.assets import asset
from ui.components.gradio_events import CONCURRENT, event_value
from ui.form.form import Form, FormSection, FormValues, Updates

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ui.form.layout import FormLayout

# End of a control's id -> the setting that it holds.
CONTROLS: Mapping[str, str] = {
    "guidance": "guidance_scale",
    "steps": "num_inference_steps",
    "scheduler": "scheduler",
    "seed": "seed",
    "strength": "strength",
    "negative": "negative_prompt",
    "width": "size",
}
STYLES = ("form/show_me.css",)


def build(layout: FormLayout) -> FormSection:
    """Lay out the buttons; they hold no field of the request."""
    names = {f"{layout.prefix}{end}": [setting, AXES[setting].label] for end, setting in CONTROLS.items()}
    buttons = gr.HTML(
        {"controls": json.dumps(names)},
        html_template="<i></i>",
        js_on_load=asset("form/show_me.js"),
        elem_id=f"{layout.prefix}show-me",
        elem_classes="keys",
        apply_default_css=False,
    )
    return FormSection(frozenset(), lambda values: {}, wire=lambda form: wire(form, buttons))


def wire(form: Form, buttons: gr.HTML) -> None:
    """Send the form's settings to the Compare tab, which draws the chosen one at five values."""
    page = form.page

    def show(values: dict[Component, Any], data: gr.EventData) -> Updates:
        setting = event_value(data, "setting", "")
        if setting not in CONTROLS.values():
            return {page.shown_setting: gr.skip()}
        try:
            # The present seed, also where the next run would draw another one.
            request = form.request(FormValues({**values, form.controls.keep_seed: True}))
        except InvalidRequest as problem:
            return form.show_error(problem)
        sent = {"request": request, "setting": setting, "at": time.time()}
        return {**form.clear_errors(), page.shown_setting: sent, page.tabs: gr.Tabs(selected="compare")}

    outputs = [page.shown_setting, page.tabs, *form.outputs, form.settings]
    buttons.show(show, form.inputs, list(dict.fromkeys(outputs)), **CONCURRENT)
