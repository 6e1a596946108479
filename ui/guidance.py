"""Guidance anatomy: what a step would have believed at another guidance scale, without asking the model again.

The run kept both answers of every step, so ``uncond + g (cond - uncond)`` is arithmetic; only turning the result into
pixels needs the decoder.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import gradio as gr
import numpy as np

from ui.panel import Panel, carried, chosen, look, number, picture_uri, script
from ui.stream import data_uri

if TYPE_CHECKING:
    from pipelines.trace import Trace
    from ui.making import Page

# The slider goes this far, or to twice the run's own value.
USUAL_MAX = 15.0
SIDE = 384

_TEMPLATE = """
<section class="anatomy" data-state="empty" aria-label="Guidance at one step">
  <p class="lead">With guidance, most models are asked twice at every step: what is in this noise, given your prompt,
    and what is in it without. The difference between the two answers is the way the prompt pulls. Guidance says how far
    to follow it.</p>
  <p class="formula"><span data-part="formula"></span>
    <span class="term" data-part="algebra"></span></p>
  <p class="sentence" data-part="why" hidden></p>
  <div data-part="body" hidden>
    <div class="dial">
      <label for="guess-g">What if guidance were <b data-part="g"></b> at this step (this step only)</label>
      <button type="button" class="quiet" data-part="back">Back to the run's own</button>
      <div class="track">
        <input id="guess-g" type="range" min="0" step="0.1" data-part="range">
        <span class="own" data-part="own" aria-hidden="true"></span>
      </div>
    </div>
    <p class="state" data-part="state" role="status"></p>
    <div class="trio" data-part="cells"></div>
    <p class="said" data-part="note"></p>
    <p class="said">This changes one step. In a run of its own, every later step would have started from a different
      mix and answered differently, so this is not the picture you would get at that guidance.</p>
  </div>
</section>
"""
NOT_SEEN = (
    "This model is told the guidance scale ({g:g}) and answers once a step, so there are no two answers to compare. "
    "Make a picture with Pocket or a Stable Diffusion model to see what guidance does."
)
NOT_GUIDED = (
    "This run was made without guidance (a scale of {g:g}): at 1 or below the model is asked once a step, with the "
    "prompt alone, so there is no second answer to compare. Make a picture with Pocket or a Stable Diffusion model "
    "and a guidance above 1, and open it here."
)

FORMULAS = {
    False: (
        "answer used = answer without the prompt + g times (answer with the prompt - answer without)",
        "classifier-free guidance, CFG: uncond + g (cond - uncond), Ho and Salimans 2022",
    ),
    True: (
        "answer used = answer to what to leave out + g times (answer with the prompt - answer to what to leave out)",
        "classifier-free guidance with a negative prompt: negative + g (cond - negative), after Ho and Salimans 2022",
    ),
}


def sheet(trace: Trace, k: int) -> dict[str, Any]:
    """What the panel knows of a trace before anything is asked."""
    request, own = trace.request, trace.request.sampling.guidance_scale
    count = len(trace.steps)
    guided = trace.uncond is not None
    return {
        "run": trace.id,
        "picture": k,
        "own": own,
        "max": max(USUAL_MAX, 2 * own),
        "steps": [f"Step {s.index + 1} of {count} (t = {s.timestep:.0f})" for s in trace.steps],
        "why": "" if guided else (NOT_SEEN if own > 1 else NOT_GUIDED).format(g=own),
        "formula": FORMULAS[guided and bool(request.negative_prompt.strip())],
        "cells": titles(request.negative_prompt.strip()),
    }


def titles(negative: str) -> list[list[str]]:
    """Title, term and sentence of each of the three pictures."""
    prompted = ["The prompt's own answer", "g = 1, cond", "What the model answers to your prompt, with no push."]
    if negative:
        away = [
            "What it pushes away from",
            "g = 0, negative prompt",
            f'The answer to what you wanted left out: "{negative}". In this run it took the place of the empty prompt, '
            "which was not asked.",
        ]
    else:
        away = ["No prompt at all", "g = 0, uncond", "What the model sees in this noise when it is told nothing."]
    return [["", "", ""], prompted, away]


def difference(trace: Trace, k: int, i: int, g: float) -> str:
    """How far the belief at g is from the run's own, as a sentence with its figures."""
    own = trace.request.sampling.guidance_scale
    if g == own:
        return "This is the run's own guidance: the picture is the one of the timeline."
    base = trace.x0(i)[k].astype(np.float64)
    away = trace.x0(i, g)[k] - base
    distance, size = (float(np.sqrt(np.mean(np.square(a)))) for a in (away, base - base.mean()))
    share = f", {distance / size:.0%} of the size of that belief" if size > 1e-6 else ""
    return f"Difference from the run's own belief at g = {own:g}: {distance:.3f}{share} (root mean square, in latents)."


def guess(page: Page, trace: Trace, k: int, i: int, g: float, sides: bool) -> dict[str, Any]:
    """Step i of picture k believed at guidance g, and at 1 and 0 when ``sides``: data URIs and a sentence."""
    started = time.perf_counter()
    scales = [g, 1.0, 0.0] if sides else [g]
    images, rough = look(page, trace, np.concatenate([trace.x0(i, scale)[k : k + 1] for scale in scales]))
    shown = [picture_uri(image, SIDE) for image in images]
    # The very bytes of the timeline, so that "the same" can be seen to be the same.
    if g == trace.request.sampling.guidance_scale:
        shown[0] = data_uri(trace.frames[i][k])
    note = rough or difference(trace, k, i, g)
    return {"step": i, "g": g, "images": shown, "said": note, "ms": round(1000 * (time.perf_counter() - started))}


def build(page: Page, opened: gr.State) -> Panel:
    """The panel: a slider over g, and three beliefs of the step that the player shows."""
    panel = gr.HTML(
        None, html_template=_TEMPLATE, js_on_load=script("guidance.js"), elem_id="anatomy", apply_default_css=False
    )

    def refresh(value: Any) -> tuple[Any, ...]:
        found = chosen(page, value)
        return (sheet(*found) if found else None,)

    def answer(value: Any, data: gr.EventData) -> Any:
        found = chosen(page, value)
        if found is None or found[0].uncond is None:
            return gr.skip()
        trace, k = found
        known = sheet(trace, k)
        step = number(carried(data, "step", None), 0, len(trace.steps) - 1)
        g = number(carried(data, "g", None), 0.0, known["max"])
        if step is None or g is None:
            return gr.skip()
        # The script keeps the beliefs at 1 and 0 for as long as the step stays the same.
        sides = carried(data, "sides", True) is not False
        return {**known, "guess": guess(page, trace, k, int(step), g, sides)}

    panel.guess(
        answer,
        [opened],
        [panel],
        show_progress="hidden",
        api_visibility="private",
        # The script has one question on its way at a time, and asks the next one as the answer arrives.
        trigger_mode="multiple",
        concurrency_limit=None,
    )
    return Panel(refresh, [panel])
