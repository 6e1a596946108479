"""Which word drew what: the attention of a run's words over its picture, at the step under the timeline."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import gradio as gr

from pipelines.jobs.backend import QueryFailed
from pipelines.system.text import shorten
from pipelines.trace.words.attention import AttentionMaps, unavailable
from ui.components import phrases
from ui.components.assets import asset
from ui.components.gradio_events import CONCURRENT, event_value
from ui.inspector.forward_process import SLOW_SECONDS
from ui.inspector.panel import Panel, number_within, opened_trace
from ui.inspector.words.packing import packed, packed_heads, word_name

if TYPE_CHECKING:
    from pipelines.request import GenerationRequest
    from pipelines.trace.trace import Trace
    from pipelines.trace.words.tokens import PromptWord
    from ui.components.frame_cache import FrameCache
    from ui.context import PageContext

# Steps of one task: another user's job waits for no more than this.
STEPS_A_TASK = 8
# What ``FrameCache`` calls the maps, and how large they may be in a capsule.
CACHED, CAPSULE_CHARACTERS = "attention", 2_000_000
WORDS_HTML = """
<section class="word-maps" data-state="empty" aria-label="Which word drew what">
  <p class="lead">At every step each place of the picture looks at the words of the prompt and takes from some more than
    from others. That share is its attention. Choose a word to see where it goes, or a place to see which words
    are read there.</p>
  <p class="said" data-part="text" role="status"></p>
  <div class="asking" data-part="asking" hidden>
    <button type="button" class="quiet second" data-part="ask">Compute the maps</button>
    <button type="button" class="quiet" data-part="quit" hidden>Stop</button>
    <span class="said" data-part="foretold"></span>
  </div>
  <div class="shown" data-part="body" hidden>
    <div class="chips" data-part="chips" role="radiogroup" aria-label="Words of the prompt"></div>
    <div class="columns">
      <figure>
        <div class="well" data-part="well" tabindex="0" role="application" aria-describedby="word-maps-keys"
          ><canvas width="384" height="384"></canvas><i data-part="place" hidden></i></div>
        <figcaption><span data-part="caption"></span>
          <span class="said" id="word-maps-keys" data-part="keys">Click a place of the picture, or use the arrow
            keys on it, to see its words; Escape takes the mark away.</span></figcaption>
      </figure>
      <div class="ranked">
        <h3 data-part="where" aria-live="polite"></h3>
        <ol data-part="bars"></ol>
        <p class="said" data-part="special"></p>
        <label class="level"><span>Layers</span> <select data-part="level"></select></label>
        <p class="said" data-part="note"></p>
      </div>
    </div>
    <details data-part="each">
      <summary>Each head of one layer</summary>
      <label class="level"><span>Layer</span> <select data-part="layer"></select></label>
      <p class="said" data-part="head-text" role="status"></p>
      <div class="heads" data-part="heads"></div>
    </details>
    <p class="said">Softmax(QK\u1d40) of the prompt's half, averaged over layers and heads; coarse maps are scaled
      up (DAAM,
      <a href="https://arxiv.org/abs/2210.04885" target="_blank" rel="noopener noreferrer">Tang et al. 2022</a>).
      Attention shows what is read where; it does not prove what a word caused.</p>
  </div>
</section>
"""
_START = """
const maps = new WordMaps(element.querySelector('.word-maps'), {
  ask: () => trigger('attend', {}), quit: () => trigger('quit', {}), heads: (asked) => trigger('heads', asked),
});
watch('value', () => maps.take(props.value));
maps.take(props.value);
"""
ADDED = " LoRAs, ControlNets and the image prompt of the run are put on again for it."
WEIGHTED = "Words with weights are shown as words; a weight changes a word's vector and so what is read of it."
CHUNKED = "This prompt was read in {count} chunks of the text window; every chunk has a start and an end of its own."
CUT = "The model's text window ends before: {text}. These words were not read."
NOT_READ = "This word was not read at this step, or shares its map with others."
FORKED = "The first {count} followed the prompt of the run that this one left, so there its words are shown."
JOINT = "In this model the picture also attends to itself, so the words' shares add up to less than 100%."


def panel_value(page: PageContext, trace: Trace, k: int) -> dict[str, Any]:
    """The panel's value before anything is asked; with the maps if they were computed before."""
    known = {"run": f"{trace.id}:{k}", "total": len(trace.steps)}
    if why := unavailable(trace, k):
        return {**known, "state": "unavailable", "text": why}
    if maps := cached(page, trace, k):
        return {**known, "state": "ready", "maps": maps}
    each, count = seconds_a_step(page, trace), len(trace.steps)
    about = f", about {phrases.seconds(count * each * (0.6 if trace.uncond is not None else 1.1))}" if each else ""
    added = ADDED if has_adapters(trace.request) else ""
    foretold = f"{count} model calls{about}.{added}"
    return {**known, "state": "closed", "slow": each > SLOW_SECONDS, "foretold": foretold}


def seconds_a_step(page: PageContext, trace: Trace) -> float:
    """How long a step of this run took; 0 where that says nothing, as the recorded run was made on another computer."""
    return 0.0 if trace is page.bundled_trace else trace.seconds_a_step


def has_adapters(request: GenerationRequest) -> bool:
    """Whether the run had LoRAs, ControlNets or an image prompt."""
    return bool(request.loras or request.controls or request.reference)


def cached(page: PageContext, trace: Trace, k: int) -> dict[str, Any] | None:
    """The maps of a picture if they were computed before."""
    found = page.frame_cache.get(trace, k, CACHED)
    return json.loads(found[0]) if found else None


def capsule_value(trace: Trace, k: int, frame_cache: FrameCache) -> dict[str, Any]:
    """The maps for a capsule, under "attention"; nothing if they were not computed or are large."""
    found = frame_cache.get(trace, k, CACHED)
    if found is None or len(found[0]) > CAPSULE_CHARACTERS:
        return {}
    known = {"run": f"{trace.id}:{k}", "total": len(trace.steps), "state": "ready", "text": ""}
    return {"attention": {**known, "maps": json.loads(found[0])}}


def compute(page: PageContext, trace: Trace, k: int) -> Iterator[dict[str, Any]]:
    """The panel's values while its maps are computed; the last one holds them, or says why there are none."""
    known = {"run": f"{trace.id}:{k}", "total": len(trace.steps), "answer": True}
    count, found = len(trace.steps), None
    try:
        for start in range(0, count, STEPS_A_TASK):
            yield {**known, "state": "busy", "text": f"Reading the attention: step {start + 1} of {count}"}
            steps = range(start, min(start + STEPS_A_TASK, count))
            part = page.queries.words.attention(trace, k, steps)
            found = part if found is None else found.followed_by(part)
    except QueryFailed as problem:
        yield {**known, "state": "failed", "text": str(problem)}
        return
    assert found is not None
    maps = {**packed(found), "about": about(trace, found)}
    page.frame_cache.put(trace, k, CACHED, [json.dumps(maps)])
    yield {**known, "state": "ready", "maps": maps}


def about(trace: Trace, found: AttentionMaps) -> str:
    """What is special about the words of this prompt, in sentences."""
    request = trace.request
    starts = next((len(word.places) for word in found.words if word.kind == "start"), 1)
    said = []
    if request.prompt_syntax == "a1111" and starts > 1:
        said.append(CHUNKED.format(count=starts))
    if "(" in request.prompt:
        said.append(WEIGHTED)
    if found.unread:
        said.append(CUT.format(text=shorten(found.unread, 80)))
    if found.joint:
        said.append(JOINT)
    own = sum(request.at_step(step) is request for step in found.steps)
    if own < len(found.steps) and len(set(found.read)) > 1:
        said.append(FORKED.format(count=_steps(len(found.steps) - own)))
    return " ".join(said)


def _steps(count: int) -> str:
    return "step" if count == 1 else f"{count} steps"


def heads(page: PageContext, trace: Trace, k: int, maps: dict[str, Any], asked: gr.EventData) -> dict[str, Any] | None:
    """The maps of one word in each head of a layer; None for a question that makes no sense."""
    step = number_within(event_value(asked, "step"), 0, len(trace.steps) - 1)
    word = number_within(event_value(asked, "word"), 0, len(maps["words"]) - 1)
    layer = event_value(asked, "layer")
    if step is None or word is None or layer not in [each["name"] for each in maps["layers"]]:
        return None
    key = {"step": int(step), "word": int(word), "layer": layer}
    try:
        words, found = page.queries.words.heads(trace, k, int(step), layer)
    except QueryFailed as problem:
        return {**key, "text": str(problem)}
    place = place_of(int(word), [(each["kind"], each["text"]) for each in maps["words"]], words)
    return {**key, "text": NOT_READ} if place is None else {**key, "text": "", **packed_heads(found[:, place])}


def place_of(word: int, shown: Sequence[tuple[str, str]], words: Sequence[PromptWord]) -> int | None:
    """Where a word of the page, of kinds and texts, stands among those of a step; None if it was not read there."""
    alike = [k for k, each in enumerate(words) if (each.kind, word_name(each)) == shown[word]]
    number = shown[:word].count(shown[word])
    return alike[number] if number < len(alike) else None


def build(page: PageContext) -> Panel:
    """The panel; its script asks by itself where that is quick, else at the press of a button."""
    panel = gr.HTML(
        None,
        html_template=WORDS_HTML,
        js_on_load=asset("inspector/words/attention.js") + _START,
        elem_id="word-maps",
        apply_default_css=False,
    )

    def refresh(value: Any) -> tuple[Any, ...]:
        found = opened_trace(page, value)
        return (panel_value(page, *found) if found else None,)

    def attend(value: Any) -> Iterator[Any]:
        found = opened_trace(page, value)
        known = panel_value(page, *found) if found else None
        if found is None or known is None or known["state"] != "closed":
            yield known
            return
        yield from compute(page, *found)

    def each_head(value: Any, data: gr.EventData) -> Any:
        found = opened_trace(page, value)
        maps = cached(page, *found) if found else None
        if found is None or maps is None:
            return gr.skip()
        answer = heads(page, *found, maps, data)
        return gr.skip() if answer is None else {**panel_value(page, *found), "answer": True, "heads": answer}

    asking = panel.attend(attend, [page.opened], [panel], **{**CONCURRENT, "trigger_mode": "multiple"})
    panel.quit(None, None, None, cancels=[asking], **{**CONCURRENT, "queue": False})
    panel.heads(each_head, [page.opened], [panel], **{**CONCURRENT, "trigger_mode": "always_last"})
    return Panel(refresh, [panel])
