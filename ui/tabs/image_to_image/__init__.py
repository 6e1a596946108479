"""Image to image: start from an image instead of noise, and change all of it, a part of it, or what lies beyond it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import gradio as gr

from ui.components.recent_pictures import recent_pictures
from ui.form import run_events, settings_events
from ui.form.form import Form
from ui.form.layout import FormLayout
from ui.form.sections import IMAGE_TO_IMAGE, settings_and_sections
from ui.tabs.image_to_image import noise_comparison, source, source_history, strength_strip, views
from ui.tabs.image_to_image.source import Source
from ui.tabs.image_to_image.views import Views

if TYPE_CHECKING:
    from ui.context import PageContext


def build(page: PageContext) -> None:
    """Lay the tab out and attach its events."""
    form, image, shown = lay_out(page)
    run_events.wire(form)
    settings_events.wire(form)
    source.wire(form, image, shown.strength_strip)
    views.wire(page, image, shown, form.controls)
    strength_strip.wire(form, image, shown.strength_strip)
    noise_comparison.wire(form, image, shown)
    source_history.wire(page, image, shown.history)
    for section in form.sections:
        section.wire(form)


def lay_out(page: PageContext) -> tuple[Form, Source, Views]:
    """The form on the left; on the right where the run starts, the result, and both side by side."""
    layout = FormLayout(page, "image-", keep_seed=True)
    with gr.Row(elem_id="image-workspace", elem_classes="workspace"):
        with gr.Column(elem_id="image-form-column", elem_classes="form-column"):
            named = source.source_controls(page)
            layout.prompt()
            with gr.Column(elem_classes="strength-group"):
                named["strength"] = source.strength_control(layout.card)
            layout.generate_and_stop()
            layout.main()
            with gr.Accordion("Fit", open=False, elem_id="image-fit-drawer", elem_classes="drawer"):
                named |= source.fit_controls()
            settings_and_sections(layout, IMAGE_TO_IMAGE)
        with gr.Column(elem_id="image-stage-column", elem_classes="stage-column"):
            shown = views.lay_out()
            for component in layout.below_stage():
                component.render()
        recent = recent_pictures("image-")
    size = {name: layout.named[name] for name in ("width", "height")}
    image = Source(**named, **size, editor=shown.editor)
    layout.sections.append(views.source_section(page, image, shown))
    return layout.form(shown.stage, recent), image, shown
