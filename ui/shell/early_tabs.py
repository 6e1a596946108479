"""Tabs that are built before they are opened: while the page is idle, and under the pointer."""

from __future__ import annotations

from collections.abc import Mapping

import gradio as gr

from ui.components.assets import asset


def early_tabs(tabs: Mapping[str, gr.Tab]) -> gr.HTML:
    """The component, invisible.

    Args:
        tabs: by id; the first one is built with the page.
    """
    ids = {name: tab._id for name, tab in list(tabs.items())[1:]}
    return gr.HTML(
        ids,
        html_template="<i></i>",
        js_on_load=asset("shell/early_tabs.js"),
        elem_classes="keys",
        apply_default_css=False,
    )
