"""A line of text that may contain a user's words: written as text, never as HTML."""

from __future__ import annotations

import gradio as gr

_DRAW = """
const line = element.querySelector('p');
const draw = () => { line.textContent = props.value || ''; line.hidden = !props.value; };
// An error comes into view, once the drawer that holds it is open.
const come = () => { if (line.offsetParent && !line.hidden) line.scrollIntoView({ block: 'nearest' }); };
const alarm = () => { if (line.getAttribute('role') === 'alert' && props.value) setTimeout(come, 150); };
watch('value', () => { draw(); alarm(); });
draw();
"""


def message(value: str = "", *, elem_id: str, alert: bool = False, status: bool = False) -> gr.HTML:
    """A paragraph that takes no space while empty; screen readers read an alert at once and a status when idle."""
    role = "alert" if alert else "status" if status else "note"
    kind = "sentence problem" if alert else "sentence"
    return gr.HTML(value, html_template=f'<p class="{kind}" role="{role}"></p>', js_on_load=_DRAW, elem_id=elem_id)
