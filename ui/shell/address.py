"""The page's address: it names the tab, the run and the step on view, and opens what it names."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import gradio as gr

from ui.components.assets import asset
from ui.components.gradio_events import event_value

MAX_NAME = 80


def address() -> gr.HTML:
    """The component, invisible; its event ``go`` carries ``tab`` and ``run``, as the address names them."""
    return gr.HTML(
        None,
        html_template="<i></i>",
        js_on_load=asset("shell/address.js"),
        elem_id="address",
        elem_classes="keys",
        apply_default_css=False,
    )


def place(data: gr.EventData, tabs: Collection[str]) -> tuple[str, str, int] | None:
    """The tab, the run and its picture (from 0) of an event; None for a tab that does not exist."""
    tab, run = event_value(data, "tab", ""), event_value(data, "run", "")
    if not isinstance(tab, str) or tab not in tabs:
        return None
    name, _, picture = run[:MAX_NAME].partition(":") if isinstance(run, str) else ("", "", "")
    return tab, name, _number(picture)


def _number(text: Any) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 3 else 0
