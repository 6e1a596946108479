"""The chain of pictures that runs of one browser started from: every "use as input" adds one, and a click goes back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import gradio as gr

from pipelines.request import InvalidRequest
from ui.panel import picture_uri, script

if TYPE_CHECKING:
    from pipelines.uploads import Inputs

# Pictures that are kept in a chain; the oldest results go first, the picture that it began with stays.
LONGEST = 24
SIDE = 72
YOURS, RESULT, EXAMPLE = "Yours", "Result", "Example"
_TEMPLATE = """
<section class="chain" aria-label="Pictures that you started from" hidden>
  <p class="sentence">Pictures that you started from. Click one to go back to it.</p>
  <ol></ol>
</section>
"""


def chain() -> gr.HTML:
    """The component; its event ``back`` carries the ``id`` of a stored picture."""
    return gr.HTML(
        None, html_template=_TEMPLATE, js_on_load=script("chain.js"), elem_id="chain", apply_default_css=False
    )


def read(links: Any) -> list[dict[str, str]]:
    """What a browser remembers, whatever it holds: ids with labels."""
    if not isinstance(links, list):
        return []
    fits = [link for link in links if isinstance(link, dict) and isinstance(link.get("id"), str)]
    return [{"id": link["id"], "label": str(link.get("label", ""))[:40]} for link in fits[:LONGEST]]


def add(links: Any, name: str, kind: str) -> list[dict[str, str]]:
    """The chain with one more picture; one that is there already stays where it is.

    Args:
        links: what the browser remembers.
        name: id of the stored picture.
        kind: YOURS, RESULT or EXAMPLE.
    """
    found = read(links)
    if any(link["id"] == name for link in found):
        return found
    # After the highest, not the count: the oldest may have gone.
    numbers = [number(link["label"]) for link in found if link["label"].startswith(kind)]
    label = kind if kind == EXAMPLE else f"{kind} {max(numbers, default=0) + 1}"
    return [*found[:1], *found[1:][-(LONGEST - 2) :], {"id": name, "label": label}]


def number(label: str) -> int:
    """The number that a label ends with, or 0."""
    end = label.rpartition(" ")[2]
    return int(end) if end.isascii() and end.isdigit() else 0


def shown(links: Any, inputs: Inputs, now: Any) -> dict[str, Any]:
    """The component's value; pictures that are gone are left out."""
    items = []
    for link in read(links):
        try:
            items.append({**link, "uri": picture_uri(inputs.get(link["id"]), SIDE)})
        except InvalidRequest:
            continue
    return {"items": items, "now": now if isinstance(now, str) else ""}
