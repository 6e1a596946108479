"""History: everything that was made, found again, looked at, compared and used again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import gradio as gr

from ui.components.assets import asset
from ui.components.gradio_events import UNQUEUED
from ui.tabs.history import answers, comparison, detail, disk, grid, sending, transfers
from ui.tabs.history.transfer import Transfers

if TYPE_CHECKING:
    from ui.context import PageContext

STYLES = tuple(f"tabs/history/{name}.css" for name in ("grid", "detail", "comparison", "disk", "transfers"))
_SCRIPTS = ["components/family.js"] + [
    f"tabs/history/{name}.js"
    for name in ("calls", "grid", "filters", "recipe", "detail", "comparison", "disk", "transfers", "views")
]
_SAID = """
<dialog class="sure" data-part="sure" aria-label="Delete for good"><form method="dialog"><p data-part="sure-text"></p>
  <button class="quiet" value="" autofocus>Keep</button>
  <button class="quiet danger" value="yes">Delete for good</button></form></dialog>
<p class="said" data-part="said" role="status" hidden><span data-part="said-text"></span>
  <button type="button" class="link" data-do="undo" hidden>Undo</button></p>
<p class="waiting" data-part="waits" role="status" hidden></p>
"""
_PARTS = (grid.TEMPLATE, detail.TEMPLATE, comparison.TEMPLATE, disk.TEMPLATE, transfers.TEMPLATE, _SAID)
_TEMPLATE = f"""
<div class="history">{"".join(_PARTS)}</div>
"""


def build(page: PageContext) -> None:
    """Lay the tab out and attach its events: ``ask`` is one of ``ANSWERS``, ``send`` is of ``sending``."""
    component = gr.HTML(
        None, html_template=_TEMPLATE, js_on_load=asset(*_SCRIPTS), elem_id="history", apply_default_css=False
    )

    moving = Transfers()

    def answer(data: gr.EventData) -> dict[str, Any]:
        return answers.answer(page, data, moving)

    component.ask(answer, None, [component], trigger_mode="multiple", **UNQUEUED)
    sending.wire(page, component)
