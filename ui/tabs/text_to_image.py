"""Text to image: describe a picture, watch it form, keep it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import gradio as gr

from ui.components import stage_updates
from ui.components.recent_pictures import recent_pictures
from ui.components.stage import stage
from ui.form import run_events, settings_events
from ui.form.form import Form
from ui.form.layout import FormLayout
from ui.form.sections import TEXT_TO_IMAGE, settings_and_sections

if TYPE_CHECKING:
    from ui.context import PageContext


def build(page: PageContext) -> None:
    """Lay the tab out and attach its events."""
    form = lay_out(page)
    run_events.wire(form, lambda: recording(page))
    settings_events.wire(form)
    for section in form.sections:
        section.wire(form)


def recording(page: PageContext) -> dict[str, Any] | None:
    """The run that comes with the model, which a first visit begins with."""
    return stage_updates.replay(page.bundled_trace) if page.bundled_trace else None


def lay_out(page: PageContext) -> Form:
    """The form on the left, the stage in the middle, the recent pictures on the right."""
    layout = FormLayout(page)
    with gr.Row(elem_id="workspace", elem_classes="workspace"):
        with gr.Column(elem_id="form-column", elem_classes="form-column"):
            layout.prompt()
            layout.main()
            layout.generate_and_stop()
            settings_and_sections(layout, TEXT_TO_IMAGE)
        with gr.Column(elem_id="stage-column", elem_classes="stage-column"):
            shown = stage(recording(page))
            for component in layout.below_stage():
                component.render()
        recent = recent_pictures()
    return layout.form(shown, recent)
