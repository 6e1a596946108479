"""The line above the page that says why the graphics card is not used, and what to do; for the owner."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gradio as gr

from pipelines.jobs.backend import BackendStatus
from pipelines.system.gpu.torch_build import command_in
from ui.components.assets import asset
from ui.components.gradio_events import UNQUEUED
from ui.server.current_user import current_user

# The worker looks at the card when it loads the first model.
TICK_SECONDS = 2.0

_TEMPLATE = """
<div class="card-notice" role="status" hidden>
  <p><i class="card-notice-mark" aria-hidden="true"></i><span data-part="text"></span></p>
  <button type="button" class="quiet" data-part="copy">Copy the command</button>
  <button type="button" class="quiet" data-part="close">Dismiss</button>
</div>
"""


def notice_value(status: BackendStatus, owner: bool) -> dict[str, str] | None:
    """The component's value: the sentence and the command in it, "" for none; None before the worker knows the card.

    Args:
        status: of the backend.
        owner: whether the owner is told: guests can install nothing.
    """
    text = status.card_problem if owner else ""
    return None if text is None else {"text": text, "command": command_in(text)}


def card_notice(blocks: gr.Blocks, ask: Callable[[], BackendStatus]) -> None:
    """The component, and a timer that ends once the card is known."""
    line = gr.HTML(
        {"text": "", "command": ""},
        html_template=_TEMPLATE,
        js_on_load=asset("shell/card_notice.js"),
        elem_id="card-notice",
        elem_classes="card-notice-host",
        apply_default_css=False,
    )
    clock = gr.Timer(TICK_SECONDS)

    def look() -> tuple[Any, Any]:
        value = notice_value(ask(), current_user().owner)
        return (gr.skip(), gr.skip()) if value is None else (value, gr.Timer(active=False))

    gr.on([blocks.load, clock.tick], look, None, [line, clock], **UNQUEUED)
