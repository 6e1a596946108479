"""The prompt that the tabs share, and the line that says when theirs differ."""

from __future__ import annotations

import gradio as gr

from ui.components.assets import asset

_TEMPLATE = """
<p class="shared sentence" hidden><span></span> <button type="button" class="chip">Use it here</button></p>
"""


def shared_prompt(first: str) -> gr.HTML:
    """The component; it needs no server.

    Args:
        first: the prompt that every tab begins with.
    """
    return gr.HTML(
        first,
        html_template=_TEMPLATE,
        js_on_load=asset("form/prompt/box.js", "form/prompt/shared.js"),
        apply_default_css=False,
    )
