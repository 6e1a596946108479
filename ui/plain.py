"""A line of text whose words may come from anyone: drawn as text, never as HTML."""

from __future__ import annotations

import gradio as gr

_DRAW = """
const line = element.querySelector('p');
const draw = () => { line.textContent = props.value || ''; line.hidden = !props.value; };
watch('value', draw);
draw();
"""


def sentence(value: str = "", *, elem_id: str, alert: bool = False, status: bool = False) -> gr.HTML:
    """A paragraph that takes up no room while it is empty; an alert is read out when it changes, a status in time."""
    role = "alert" if alert else "status" if status else "note"
    kind = "sentence problem" if alert else "sentence"
    return gr.HTML(value, html_template=f'<p class="{kind}" role="{role}"></p>', js_on_load=_DRAW, elem_id=elem_id)
