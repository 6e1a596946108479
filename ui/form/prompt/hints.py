"""Below the prompt: what a model with a small vocabulary understands of it, and how the prompt's marks are read.

The answer comes while the user types, before anything is drawn: what was understood, every word that was not, what the
model cannot do, and prompts that it can draw instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import gradio as gr

from pipelines.models.families import family_of
from pipelines.prompt import A1111, COMPEL
from pipelines.prompt.reading import read
from pipelines.prompt.tags import name_bare_embeddings
from presets.prompts.wildcards import WildcardError, Wildcards, has_wildcards
from ui.components.assets import asset
from ui.components.gradio_events import UNQUEUED, event_value
from ui.form.prompt.guide import PromptGuide
from ui.form.prompt.understanding import Understanding, understand
from ui.form.prompt.vocabulary import MAX_LENGTH, MAX_TEXT, Vocabulary, WordHint

if TYPE_CHECKING:
    from pipelines.cards import ModelCard
    from ui.context import PageContext
    from ui.form.controls import Controls

# Words that were not learned: named, and with suggestions of their own.
MAX_NAMED, MAX_SWAPS = 8, 4
_TEMPLATE = """
<div class="understood" data-part="answer">
  <p role="status" data-part="line"></p>
  <div class="instead" role="group" aria-label="Suggestions" data-part="instead" hidden></div>
</div>
<p class="reading" role="status" data-part="read"></p>
"""


def vocabulary_hints(prefix: str = "") -> gr.HTML:
    """The component: it listens to the prompt box of its form."""
    return gr.HTML(
        None,
        html_template=_TEMPLATE,
        js_on_load=asset("form/prompt/box.js", "form/prompt/hints.js"),
        elem_id=f"{prefix}hints",
        elem_classes="hints-host",
        apply_default_css=False,
    )


def wire(page: PageContext, component: gr.HTML, controls: Controls) -> None:
    """Answer the browser, which asks after a pause in typing, and what else changes how a prompt is read."""
    c = controls

    def ask(model: Any, negative: Any, syntax: Any, data: gr.EventData) -> dict[str, Any]:
        return read_again(model, negative, syntax, event_value(data, "text", ""))

    def read_again(model: Any, negative: Any, syntax: Any, text: Any) -> dict[str, Any]:
        return answer(page.card(model), text, negative, syntax, wildcards_of(page), embeddings_of(page, syntax))

    inputs = [c.model, c.negative_prompt, c.prompt_syntax]
    component.ask(ask, inputs, [component], **UNQUEUED)
    last: dict[str, Any] = {**UNQUEUED, "trigger_mode": "always_last"}
    changes = [c.negative_prompt.input, c.prompt_syntax.input]
    gr.on(changes, read_again, [*inputs, c.prompt], [component], **last)


def wildcards_of(page: PageContext) -> Wildcards:
    """The wildcards that prompts of a page may name."""
    return page.presets.wildcards if page.presets else Wildcards()


def embeddings_of(page: PageContext, syntax: Any) -> list[str]:
    """The embeddings that prompts of a page may name without a mark in this form."""
    return [file.name for file in page.backend.adapters.embeddings()] if syntax == A1111 else []


def answer(
    card: ModelCard | None,
    text: Any,
    negative: Any = "",
    syntax: Any = COMPEL,
    wildcards: Wildcards | None = None,
    embeddings: Sequence[str] = (),
) -> dict[str, Any]:
    """The component's value for a prompt; of wildcards, some words are read that they may draw.

    Args:
        card: of the model.
        text, negative: as typed.
        syntax: their form; A1111's names embeddings without marks.
        wildcards, embeddings: that are here.
    """
    text = text if isinstance(text, str) else ""
    value = {"text": text, "understood": [], "notes": [], "swaps": [], "rewrites": []}
    if draws := has_wildcards(text[:MAX_TEXT]):
        text = example_of(text[:MAX_TEXT], wildcards or Wildcards())
    if (learned := Vocabulary.of(card)) is not None:
        guide = PromptGuide.of(card)
        found = understand(text, learned, guide)
        unlearned = [hint for hint in learned.unlearned(text) if hint.at not in found.meant]
        value |= {
            "understood": list(found.parts),
            "notes": notes(found, unlearned, guide.pairs if guide else ""),
            # A word to exchange stands in the text as it was typed.
            "swaps": [] if draws else [swap(text, hint) for hint in unlearned if hint.near][:MAX_SWAPS],
            "rewrites": [] if draws else list(found.rewrites),
        }
    if isinstance(negative, str) and has_wildcards(negative[:MAX_TEXT]):
        negative = example_of(negative[:MAX_TEXT], wildcards or Wildcards())
    if syntax == A1111 and isinstance(negative, str):
        text, negative = (name_bare_embeddings(given[:MAX_TEXT], embeddings) for given in (text, negative))
    return {**value, "read": reading_line(card, text, negative, syntax)}


def example_of(text: str, wildcards: Wildcards) -> str:
    """A prompt with words drawn for its wildcards by some seed; as it was typed if they cannot be drawn."""
    try:
        return wildcards.expand(text, 0).text
    except WildcardError:
        return text


def notes(found: Understanding, unlearned: Sequence[WordHint], pairs: str) -> list[str]:
    """What was not understood and what the model cannot do, in short phrases.

    Args:
        found: what was understood.
        unlearned: the words that were not, in the prompt's order.
        pairs: what to expect of two things.
    """
    backgrounds = [shortened(hint.word) for hint in unlearned if hint.at in found.no_backgrounds]
    others = [shortened(hint.word) for hint in unlearned if hint.at not in found.no_backgrounds]
    said = [f"{listed(backgrounds)} {'is' if len(backgrounds) == 1 else 'are'} not a background here"] * bool(
        backgrounds
    )
    more = len(others) - MAX_NAMED
    if others:
        said.append(f"not learned: {', '.join(others[:MAX_NAMED])}{f' and {more} more' if more > 0 else ''}")
    if unlearned and not found.parts and not any(hint.near for hint in unlearned):
        said.append("try one of these, or a larger model from Models")
    said += [f"it cannot {listed(found.cannot, 'or')}"] * bool(found.cannot)
    return [*said, *([pairs[:1].lower() + pairs[1:].rstrip(".")] if found.pair and pairs else [])]


def listed(words: Sequence[str], last: str = "and") -> str:
    """Words in a row: "a, b and c"."""
    return f" {last} ".join(part for part in (", ".join(words[:-1]), *words[-1:]) if part)


def shortened(word: str) -> str:
    """A word that was typed, cut where nothing has a name that long."""
    return word if len(word) <= MAX_LENGTH else f"{word[: MAX_LENGTH - 1]}\u2026"


def swap(text: str, hint: WordHint) -> dict[str, Any]:
    """A word with what may stand in its place; ``at`` counts UTF-16 units, as JavaScript does."""
    at = len(text[: hint.at].encode("utf-16-le", "surrogatepass")) // 2
    return {"word": hint.word, "at": at, "near": list(hint.near), "misspelt": hint.misspelt}


def reading_line(card: ModelCard | None, text: str, negative: Any, syntax: Any) -> str:
    """What a model understands of the marks in a prompt and a negative prompt, in one line; "" for plain words."""
    negative, weights = negative if isinstance(negative, str) else "", card is None or family_of(card).prompt_weights
    return read(text[:MAX_TEXT], negative[:MAX_TEXT], syntax if isinstance(syntax, str) else COMPEL, weights).line
