"""Text to image: describe a picture, watch it form, keep it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gradio as gr
from gradio.components import Component

from pipelines.request import GenerationRequest
from ui import guides, live, making, stream, variations
from ui.film import film
from ui.guides import Guides
from ui.live import Typing
from ui.making import Asking, Desk, Page
from ui.variations import Variations


def build(page: Page) -> None:
    """Lay the tab out and wire it up."""
    desk, blend, guided, typing = lay_out(page)
    asks = live.added(page, guides.added(asking(desk, blend), guided), typing, desk)
    making.wire_running(page, desk, asks, lambda: stream.replay(page.bundled) if page.bundled else None)
    guides.wire(page, desk, guided)
    making.wire_settings(page, desk)
    making.wire_onwards(page, desk)
    live.wire(page, desk, asks, typing)


def lay_out(page: Page) -> tuple[Desk, Variations, Guides, Typing]:
    """The left column asks, the right one shows."""
    parts = making.Parts(page)
    with gr.Row(elem_id="desk", elem_classes="desk"):
        with gr.Column(elem_id="asks", elem_classes="asks"):
            parts.prompt()
            parts.main()
            parts.go()
            typing = live.build(page)
            parts.settings()
            blend = variations.build(page, parts.named["num_images"])
            guided = guides.build(page)
        with gr.Column(elem_id="shows", elem_classes="shows"):
            stage = film()
            blend.strip.render()
    return parts.desk(stage), blend, guided, typing


def asking(desk: Desk, blend: Variations) -> Asking:
    """What variations and blends add to the desk."""

    def request_of(values: Mapping[Component, Any], new_seed: bool) -> GenerationRequest:
        return blend.request_of(desk.controls, values, new_seed=new_seed)

    return Asking(
        desk.controls.all() | blend.all(), blend.outputs(), request_of, blend.explain, blend.clear, blend.shown
    )
