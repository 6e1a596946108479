"""What the model can draw: example prompts, "surprise me", and its words, searchable in the browser."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr

from pipelines.cards import ModelCard
from ui import words

_TEMPLATE = """
<div class="lexicon">
  <p class="tries" data-part="tries"><span>Try</span></p>
  <p class="about" data-part="about"></p>
  <details data-part="search" hidden>
    <summary data-part="summary"></summary>
    <label>Search the words it knows
      <input type="search" data-part="query" placeholder="fox, fruit, weather" autocomplete="off">
    </label>
    <div class="found" data-part="found" tabindex="0" role="group" aria-label="Words found"></div>
  </details>
</div>
"""


def lexicon_value(card: ModelCard) -> dict[str, Any]:
    """What the component shows for a model."""
    known = words.vocabulary(card)
    about = ""
    if known or card.vocabulary:
        about = (
            f"{card.name} draws emoji-like pictures from a small vocabulary. For anything else fetch a larger model in "
            "Models."
        )
    return {
        "prompts": list(card.prompts),
        "words": [[str(w["name"]), [str(t) for t in w.get("tags", [])]] for w in known],
        "backgrounds": list(words.BACKGROUNDS),
        "about": about,
    }


def lexicon(card: ModelCard, prefix: str = "") -> gr.HTML:
    """The component: it writes into the prompt box, with no call to the server."""
    script = (Path(__file__).resolve().parent / "lexicon.js").read_text(encoding="utf-8")
    return gr.HTML(
        lexicon_value(card),
        html_template=_TEMPLATE,
        js_on_load=script,
        elem_id=f"{prefix}lexicon",
        apply_default_css=False,
    )
