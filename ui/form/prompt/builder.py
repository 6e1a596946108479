"""A builder of prompts: everything that a model can draw, as pictures, with backgrounds, sizes and styles.

It opens as a dialog.  What it shows, a few hundred kilobytes, is asked for when it first opens for a model.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import gradio as gr

from pipelines.cards import ModelCard
from ui.components import phrases
from ui.components.assets import asset
from ui.components.data_uri import data_uri
from ui.components.gradio_events import UNQUEUED
from ui.form.prompt.guide import COMBINE, COUNT, RECOLOUR, PromptGuide
from ui.form.prompt.hints import listed

if TYPE_CHECKING:
    from ui.context import PageContext
    from ui.form.controls import Controls

_TEMPLATE = """
<dialog class="builder" aria-label="Build a prompt">
  <header><h2>Choose what to draw</h2>
    <button type="button" class="quiet" data-part="close" aria-label="Close">Close</button></header>
  <p class="wait" role="status" data-part="wait">Fetching the pictures of the things</p>
  <div class="made" data-part="made" hidden>
    <section class="pick">
      <label>Search <input type="search" data-part="query" placeholder="fox, fruit, weather" autocomplete="off"></label>
      <div class="things" role="group" aria-label="Things" data-part="things"></div>
      <p class="none" role="status" data-part="none"></p>
    </section>
    <section class="how" data-part="how"></section>
  </div>
  <footer>
    <p class="said"><b data-part="said" role="status"></b><span data-part="about"></span></p>
    <button type="button" class="quiet" data-part="use">Put into the prompt</button>
    <button type="button" class="quiet main" data-part="draw">Draw it</button>
  </footer>
</dialog>
"""


def prompt_builder(prefix: str = "") -> gr.HTML:
    """The component, closed."""
    return gr.HTML(
        None,
        html_template=_TEMPLATE,
        js_on_load=asset("form/prompt/box.js", "form/prompt/builder.js"),
        elem_id=f"{prefix}builder",
        elem_classes="builder-host",
        apply_default_css=False,
    )


def wire(page: PageContext, component: gr.HTML, controls: Controls) -> None:
    """Send the things of the chosen model when the dialog opens."""

    def fill(model: Any) -> dict[str, Any]:
        return builder_value(page.card(model))

    component.fill(fill, [controls.model], [component], **UNQUEUED)


def builder_value(card: ModelCard | None) -> dict[str, Any]:
    """What the dialog shows for a model; no things for a model without a vocabulary."""
    words = phrases.vocabulary(card) if card is not None else []
    guide = PromptGuide.of(card) or PromptGuide(things={})
    sheet = guide.sheet_bytes() if list(guide.things) == [word["name"] for word in words] else b""
    return {
        "model": card.id if card is not None else "",
        "things": [[str(w["name"]), [str(t) for t in (*w.get("synonyms", ()), *w.get("tags", ()))]] for w in words],
        "places": [{"name": place.label, "phrase": place.phrase, "colour": place.colour} for place in guide.places],
        "sizes": list(guide.sizes),
        "styles": [[name, beginning] for name, beginning in guide.styles.items()],
        "relation": next(iter(guide.relations), ""),
        "sheet": data_uri(sheet, "webp") if sheet else "",
        "tile": guide.sheet.tile if guide.sheet and sheet else 0,
        "columns": guide.sheet.columns if guide.sheet and sheet else 1,
        "about": " ".join(
            part for part in (limits(card, guide), guide.sheet.credit if guide.sheet and sheet else "") if part
        ),
    }


def limits(card: ModelCard | None, guide: PromptGuide) -> str:
    """What the model cannot do, one sentence."""
    cannot = [verb for verb in (RECOLOUR, COUNT, COMBINE) if verb not in guide.can]
    return f"{card.name} cannot {listed(cannot, 'or')} things." if card is not None and guide.things and cannot else ""
