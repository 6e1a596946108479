"""Example prompts of the model, "surprise me", and the way to all the things that it can draw."""

from __future__ import annotations

from typing import Any

import gradio as gr

from pipelines.cards import ModelCard
from ui.components import phrases
from ui.components.assets import asset
from ui.form.prompt.guide import PromptGuide

_TEMPLATE = '<div class="examples" role="group" aria-label="Examples" data-part="examples"></div>'


def prompt_examples_value(card: ModelCard) -> dict[str, Any]:
    """What the component shows for a model."""
    guide = PromptGuide.of(card)
    return {
        "prompts": list(card.prompts),
        "things": [str(word["name"]) for word in phrases.vocabulary(card)],
        "places": [place.phrase for place in guide.places] if guide else [],
    }


def prompt_examples(card: ModelCard, prefix: str = "") -> gr.HTML:
    """The component: it writes into the prompt box, with no call to the server."""
    return gr.HTML(
        prompt_examples_value(card),
        html_template=_TEMPLATE,
        js_on_load=asset("form/prompt/box.js", "form/prompt/examples.js"),
        elem_id=f"{prefix}examples",
        apply_default_css=False,
    )
