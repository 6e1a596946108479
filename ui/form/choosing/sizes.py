"""Sizes that the model was made for: its own and others with about as many pixels; a button swaps the sides."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import gradio as gr

from pipelines.request import MAX_SIDE
from ui.components.assets import asset
from ui.components.gradio_events import UNQUEUED, event_value

if TYPE_CHECKING:
    from pipelines.cards import ModelCard
    from ui.context import PageContext
    from ui.form.controls import Controls

RATIOS = ((1, 1), (4, 3), (3, 2), (16, 9))
SWAP = "swap"
# Sides are multiples of a 16th of the model's own side, so that all of a row differ and none has many more pixels.
PARTS = 16

_TEMPLATE = """
<div class="sizes">
  <span class="label">Shape</span>
  <div class="pills" role="group" aria-label="Shape: width to height">
    <span class="shapes" data-part="shapes"></span>
    <button type="button" class="chip" data-part="swap" title="Swap width and height">
      <span aria-hidden="true">\u21c4</span> Swap</button>
  </div>
</div>
"""


@dataclass(frozen=True)
class Shape:
    """A size in landscape.

    Attributes:
        ratio: as photographers say it, "4:3".
        width, height: in pixels.
    """

    ratio: str
    width: int
    height: int


def shapes_of(card: ModelCard) -> list[Shape]:
    """The sizes of a model, the squarest first; of two alike the first.

    For models of 1,024 pixels these are the sizes that SDXL was trained on (Podell et al. 2023, arXiv:2307.01952).
    """
    pixels = card.width * card.height
    unit = card.size_factor * max(round(math.sqrt(pixels) / PARTS / card.size_factor), 1)
    found: dict[tuple[int, int], Shape] = {}
    for across, down in RATIOS:
        width = math.floor(math.sqrt(pixels * across / down) / unit) * unit
        height = round(math.sqrt(pixels * down / across) / unit) * unit
        if 0 < height <= width <= MAX_SIDE:
            found.setdefault((width, height), Shape(f"{across}:{down}", width, height))
    return list(found.values())


def value_of(page: PageContext, named: Mapping[str, Any]) -> dict[str, Any]:
    """The component's value for the values of the controls, by name."""
    card = page.card(named.get("model"))
    shapes = [[shape.ratio, shape.width, shape.height] for shape in shapes_of(card)] if card else []
    return {"shapes": shapes, "width": named.get("width"), "height": named.get("height")}


def sizes(page: PageContext, card: ModelCard, prefix: str = "") -> gr.HTML:
    """The component."""
    return gr.HTML(
        value_of(page, {"model": card.id, "width": card.width, "height": card.height}),
        html_template=_TEMPLATE,
        js_on_load=asset("form/choosing/sizes.js"),
        elem_id=f"{prefix}sizes",
        apply_default_css=False,
    )


def wire(page: PageContext, c: Controls, component: gr.HTML) -> None:
    """Set width and height as a press says."""

    def choose(model: Any, width: Any, height: Any, data: gr.EventData) -> tuple[Any, Any]:
        return chosen(page.card(model), width, height, event_value(data, "ratio"), event_value(data, "upright"))

    component.shape(choose, [c.model, c.width, c.height], [c.width, c.height], **UNQUEUED)


def chosen(card: ModelCard | None, width: Any, height: Any, ratio: Any, upright: Any) -> tuple[Any, Any]:
    """Width and height after a press; unchanged where it names no shape of the model."""
    if ratio == SWAP:
        return height, width
    shape = next((each for each in shapes_of(card) if each.ratio == ratio), None) if card else None
    if shape is None:
        return gr.skip(), gr.skip()
    return (shape.height, shape.width) if upright is True else (shape.width, shape.height)
