"""What is in use, on one line above the prompt: model, sampler, size, LoRAs and guides; each opens its control."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import gradio as gr

from pipelines.sampling.schedulers import SCHEDULERS
from ui.components.assets import asset

if TYPE_CHECKING:
    from pipelines.cards import ModelCard
    from ui.context import PageContext

# (what it is, the end of its control's id) of what an image guides.
Guide = tuple[str, str]

_PILL = (
    '<button type="button" class="pill" data-pill="{name}" data-says="{says}"{hidden}>'
    '<span data-part="text"></span></button>'
)
_PILLS = (
    ("model", "Model", ""),
    ("scheduler", "Sampler", ""),
    ("size", "Size", ""),
    ("lora", "LoRA", " hidden"),
    ("guides", "Guided by an image", " hidden"),
)
_TEMPLATE = (
    '<div class="in-sight pills" role="group" aria-label="What is in use">'
    + "".join(_PILL.format(name=name, says=says, hidden=hidden) for name, says, hidden in _PILLS)
    + "</div>"
)


def in_sight(value: Mapping[str, Any], prefix: str = "") -> gr.HTML:
    """The component; the LoRAs are read from the prompt in the browser."""
    return gr.HTML(
        dict(value),
        html_template=_TEMPLATE,
        js_on_load=asset("form/drawers.js", "form/choosing/lora_tags.js", "form/choosing/in_sight.js"),
        elem_id=f"{prefix}in-sight",
        elem_classes="in-sight-host",
        apply_default_css=False,
    )


def in_sight_value(page: PageContext, named: Mapping[str, Any], guides: Sequence[Guide] = ()) -> dict[str, Any]:
    """The component's value.

    Args:
        page: what every tab is given.
        named: values of the controls, by name.
        guides: what an image guides.
    """
    card, scheduler = page.card(named.get("model")), named.get("scheduler")
    spec = SCHEDULERS.get(scheduler) if isinstance(scheduler, str) else None
    return {
        "model": card.name if card else "Choose a model",
        "scheduler": spec.label if spec else "Choose a sampler",
        "size": f"{_side(named.get('width'))} \u00d7 {_side(named.get('height'))}",
        "guides": [{"label": label, "opens": opens} for label, opens in guides],
    }


def first_in_sight(page: PageContext, card: ModelCard) -> dict[str, Any]:
    """The value of a form before its first change."""
    scheduler = card.qualities[card.default_quality].scheduler
    named = {"model": card.id, "scheduler": scheduler, "width": card.width, "height": card.height}
    return in_sight_value(page, named)


def _side(value: Any) -> str:
    return f"{value:g}" if isinstance(value, int | float) else "?"
