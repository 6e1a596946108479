"""Teach: a model learns a new word from the user's pictures, and the user watches."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import gradio as gr

from ui.components.assets import asset
from ui.components.gradio_events import UNQUEUED
from ui.tabs.teach import answers, templates
from ui.tabs.teach.current import CurrentTeaching

if TYPE_CHECKING:
    from ui.context import PageContext

STYLES = ("tabs/teach/teach.css",)
_SCRIPTS = ("tabs/history/calls.js", *(f"tabs/teach/{name}.js" for name in ("pictures", "paper", "progress", "teach")))


def build(page: PageContext) -> None:
    """Lay the tab out and attach its event: ``ask`` is one of ``ANSWERS``."""
    component = gr.HTML(
        None,
        html_template=templates.TEMPLATE,
        js_on_load=asset(*_SCRIPTS),
        elem_id="teach",
        apply_default_css=False,
    )
    current = CurrentTeaching(page.pictures_dir.parent, page.backend)

    def answer(data: gr.EventData) -> dict[str, Any]:
        return answers.answer(page, current, data)

    component.ask(answer, None, [component], trigger_mode="multiple", **UNQUEUED)
