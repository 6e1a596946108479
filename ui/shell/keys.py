"""The list of keys behind ``?``: a dialog with every shortcut of the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import gradio as gr

from ui.components.assets import asset

# By what they are for: keys, as the browser names them where it has a name, and what they do.  "Ctrl" is Cmd on a Mac.
KEYS: Mapping[str, Sequence[tuple[tuple[str, ...], str]]] = {
    "Making a picture": (
        (("Ctrl", "Enter"), "Generate"),
        (("Escape",), "Stop the run, or close what is open"),
    ),
    "Timeline": (
        (("ArrowLeft", "ArrowRight"), "one step back, one step on"),
        ((" ",), "play or pause"),
        (("Home", "End"), "to the noise, to the picture, with the focus on the timeline"),
    ),
    "Crop of an image": ((("ArrowLeft", "ArrowRight"), "move the part that is used, with the focus on its frame"),),
    "Blend": ((("ArrowLeft", "ArrowRight", "Home"), "from picture to picture, with the focus on the strip"),),
    "Full screen": (
        (("ArrowLeft", "ArrowRight"), "previous picture, next picture"),
        (("+", "-"), "larger, smaller"),
    ),
    "History": (
        (("ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown"), "from picture to picture; with Shift, select them"),
        ((" ",), "open the picture"),
        (("f",), "favourite, or no longer"),
        (("Delete",), "into the bin"),
    ),
    "Choosing what to draw": (
        (("ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown"), "from thing to thing"),
        (("Enter",), "choose the thing"),
    ),
    "Everywhere": (
        (("Tab",), "to the next control, or group of buttons"),
        (("ArrowLeft", "ArrowRight"), "within a group of buttons"),
        (("?",), "this list"),
    ),
}
# What stands on a key where it is not its name.
CAPS = {
    "ArrowLeft": "\u2190",
    "ArrowRight": "\u2192",
    "ArrowUp": "\u2191",
    "ArrowDown": "\u2193",
    " ": "Space",
    "Escape": "Esc",
}


def keys() -> gr.HTML:
    """The component, closed."""
    groups = "".join(_group(title, rows) for title, rows in KEYS.items())
    template = f"""
<dialog class="keys-dialog" aria-label="Keys">
  <header><h2>Keys</h2><button type="button" class="quiet" data-part="close" autofocus>Close</button></header>
  <div class="all" tabindex="0" role="group" aria-label="All keys">{groups}</div>
</dialog>
"""
    return gr.HTML(
        html_template=template,
        js_on_load=asset("shell/keys.js", "shell/tab_stops.js", "shell/placeholders.js"),
        elem_id="keys",
        elem_classes="keys-host",
        apply_default_css=False,
    )


def _group(title: str, rows: Sequence[tuple[tuple[str, ...], str]]) -> str:
    lines = "".join(f"<dt>{' '.join(map(_cap, names))}</dt><dd>{about}</dd>" for names, about in rows)
    return f"<section><h3>{title}</h3><dl>{lines}</dl></section>"


def _cap(name: str) -> str:
    return f"<kbd{' data-ctrl' if name == 'Ctrl' else ''}>{CAPS.get(name, name)}</kbd>"
