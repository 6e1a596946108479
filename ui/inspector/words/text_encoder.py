"""What the text encoder makes of the prompt: pictures after each of its layers, and with each word left out."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import gradio as gr

from pipelines.jobs.backend import QueryFailed
from pipelines.models.families import family_of
from pipelines.request import InvalidRequest
from pipelines.trace.words import text_encoder as lens
from pipelines.trace.words.attention import unavailable
from ui.components import phrases
from ui.components.assets import asset
from ui.components.data_uri import thumbnail_uri
from ui.components.gradio_events import CONCURRENT
from ui.inspector.forward_process import SLOW_SECONDS
from ui.inspector.panel import Panel, opened_trace
from ui.inspector.words.attention import seconds_a_step

if TYPE_CHECKING:
    from pipelines.cards import ModelCard
    from pipelines.trace.trace import Trace
    from ui.context import PageContext

SIDE = 256
_TEMPLATE = """
<section class="text-lens" data-state="empty" aria-label="What the text encoder makes of the prompt">
  <p class="lead">Before a picture begins, a text encoder turns the prompt into vectors, layer by layer. Cut it off
    early, or leave a word out, and draw from the same noise: the pictures show what each layer and each word adds.</p>
  <p class="said" data-part="text" role="status"></p>
  <div class="asking" data-part="asking" hidden>
    <button type="button" class="quiet second" data-part="ask">Draw them</button>
    <button type="button" class="quiet" data-part="quit" hidden>Stop</button>
    <span class="said" data-part="foretold"></span>
  </div>
  <div data-part="body" hidden>
    <h3 data-part="layers-title">After each layer</h3>
    <div class="row" data-part="layers"></div>
    <h3 data-part="words-title">Without a word</h3>
    <div class="row" data-part="words"></div>
  </div>
  <p class="said">What is left of the encoder is read as the whole one is: through its final norm (Diffusion Lens,
    <a href="https://arxiv.org/abs/2403.05846" target="_blank" rel="noopener noreferrer">Toker et al. 2024</a>), in
    Stable Diffusion XL at the layer before the last; its smaller encoder, of 12 layers, is cut at the same share.</p>
</section>
"""
NOT_THIS = "The text encoder of this model is not looked into here. Pocket and Stable Diffusion 1, 2 and XL can be."
WEIGHTS = " Words are left out of prompts without weights and marks alone, so this one is drawn whole."
FROM_NOISE = " They begin with noise alone, not with the run's picture."
GONE = "The model of this run is not here any more."


def panel_value(page: PageContext, trace: Trace, k: int, depth: int = 0) -> dict[str, Any]:
    """The panel's value before anything is drawn: how many pictures there are and how long they take.

    Args:
        page: has the models.
        trace: the run; ``k`` is the picture, from 0.
        depth: layers of the text encoder, 0 where nobody has asked the model yet.
    """
    known = {"run": f"{trace.id}:{k}", "layers": [], "words": []}
    own = page.cards.get(trace.request.model)
    if own is None:
        return {**known, "state": "unavailable", "text": GONE}
    if own.family not in lens.FAMILIES or family_of(own).own_loop or trace.cond is None:
        return {**known, "state": "unavailable", "text": NOT_THIS}
    if why := unavailable(trace, k):
        return {**known, "state": "unavailable", "text": why}
    return {
        **known,
        "state": "closed",
        "quick": seconds_a_step(page, trace) <= SLOW_SECONDS,
        "foretold": foretold(page, own, trace, k, depth),
    }


def foretold(page: PageContext, own: ModelCard, trace: Trace, k: int, depth: int) -> str:
    """What pressing the button means: pictures, steps, the model and about how long."""
    card = lens.quick_card(list(page.cards.values()), own, trace.request)
    request = lens.base_request(card, trace.request, k)
    layers, words = lens.variants(trace, k, depth or lens.FAMILIES[own.family])
    steps, count = request.sampling.num_inference_steps, len(layers) + len(words)
    halved = 0.5 if request.sampling.guidance_scale <= 1 and trace.uncond is not None else 1.0
    seconds = halved * count * steps * seconds_a_step(page, trace)
    time = f", about {phrases.seconds(seconds)}" if seconds else ""
    few = "1 step" if steps == 1 else f"{steps} steps"
    about = f"{'' if depth else 'up to '}{count} pictures of {few} each with {card.name}{time}."
    said = about[0].upper() + about[1:]
    return said + ("" if words else WEIGHTS) + (FROM_NOISE if trace.request.init else "")


def draw_all(page: PageContext, trace: Trace, k: int) -> Iterator[dict[str, Any]]:
    """The panel's values while the pictures are drawn, one after the other; the last one holds all, or says why not."""
    own = page.cards[trace.request.model]
    card = lens.quick_card(list(page.cards.values()), own, trace.request)
    request = lens.base_request(card, trace.request, k)
    value: dict[str, Any] = {"run": f"{trace.id}:{k}", "layers": [], "words": [], "answer": True}
    yield {**value, "state": "busy", "text": "Reading the text encoder"}
    try:
        depth = page.queries.words.text_layers(card.id)
        layers, words = lens.variants(trace, k, depth)
        spans, count = lens.words_to_leave_out(trace.request, k), len(layers) + len(words)
        for number, variant in enumerate((*layers, *words), 1):
            kind, changed, title = "layers", request, layer_title(round(variant.share * depth), depth)
            if variant.left_out is not None:
                span = spans[variant.left_out]
                kind, title = "words", f"without \u201c{request.prompt[slice(*span)]}\u201d"
                changed = request.model_copy(update={"prompt": lens.without_word(request.prompt, span)})
            image = page.queries.words.draw(changed, variant.share)
            value = {**value, kind: [*value[kind], {"title": title, "image": thumbnail_uri(image, SIDE)}]}
            done = number == count
            text = "" if done else f"Drawing: {number} of {count}"
            yield {**value, "state": "ready" if done else "busy", "text": text}
    except (QueryFailed, InvalidRequest) as problem:
        yield {**value, "state": "failed", "text": str(problem)}


def layer_title(layers: int, depth: int) -> str:
    """What is said of a picture after some layers."""
    if layers == 0:
        return "before the first layer: single words"
    return f"after layer {layers} of {depth}" + (", the whole encoder" if layers == depth else "")


def build(page: PageContext) -> Panel:
    """The panel: a button that says what it costs, and the pictures as they come."""
    panel = gr.HTML(
        None,
        html_template=_TEMPLATE,
        js_on_load=asset("inspector/words/text_encoder.js"),
        elem_id="text-lens",
        apply_default_css=False,
    )

    def refresh(value: Any) -> tuple[Any, ...]:
        found = opened_trace(page, value)
        return (panel_value(page, *found) if found else None,)

    def count(value: Any) -> Any:
        found = opened_trace(page, value)
        known = panel_value(page, *found) if found else None
        if found is None or known is None or known["state"] != "closed" or not known["quick"]:
            return gr.skip()
        own = page.cards[found[0].request.model]
        try:
            card = lens.quick_card(list(page.cards.values()), own, found[0].request)
            return panel_value(page, *found, page.queries.words.text_layers(card.id))
        except QueryFailed:
            return gr.skip()

    def draw(value: Any) -> Iterator[Any]:
        found = opened_trace(page, value)
        known = panel_value(page, *found) if found else None
        if found is None or known is None or known["state"] != "closed":
            yield known
            return
        yield from draw_all(page, *found)

    panel.count(count, [page.opened], [panel], **CONCURRENT)
    drawing = panel.drawn(draw, [page.opened], [panel], **{**CONCURRENT, "trigger_mode": "multiple"})
    panel.quit(None, None, None, cancels=[drawing], **{**CONCURRENT, "queue": False})
    return Panel(refresh, [panel])
