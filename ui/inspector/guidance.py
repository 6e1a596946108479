"""Guidance at one step: the predicted x0 at another guidance scale, without another model call.

The run kept both answers of every step, so ``uncond + g (cond - uncond)`` is arithmetic; only turning the result into
pixels needs the decoder.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import gradio as gr
import numpy as np

from ui.components.assets import asset
from ui.components.data_uri import data_uri, thumbnail_uri
from ui.components.gradio_events import event_value
from ui.inspector.panel import Panel, decode_or_project, number_within, opened_trace

if TYPE_CHECKING:
    from pipelines.trace.trace import Trace
    from ui.context import PageContext

# The slider goes this far, or to twice the run's own value.
USUAL_MAX_SCALE = 15.0
SIDE = 384

_TEMPLATE = """
<section class="guidance-panel" data-state="empty" aria-label="Guidance at one step">
  <p class="lead">With guidance, most models predict twice at every step: with your prompt and without it. The
    difference between the two predictions is the direction in which the prompt pulls. Guidance says how far to follow
    it.</p>
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
    <div class="three-views" data-part="cells"></div>
    <p class="said" data-part="note"></p>
    <p class="said">This changes one step. In a run of its own, every later step would have started from a different
      latent and predicted differently, so this is not the picture you would get at that guidance.</p>
  </div>
</section>
"""
GUIDANCE_EMBEDDED = (
    "This model takes the guidance scale ({g:g}) as an input and predicts once a step, so there are no two "
    "predictions to compare. "
    "Make a picture with Pocket or a Stable Diffusion model to see what guidance does."
)
NO_GUIDANCE = (
    "This run was made without guidance (a scale of {g:g}): at 1 or below the model predicts once a step, with "
    "the prompt, so there is no second prediction to compare. Make a picture with Pocket or a Stable Diffusion model "
    "and a guidance above 1, and open it here."
)

FORMULAS = {
    False: (
        "prediction used = prediction without the prompt + g times (prediction with the prompt - prediction without)",
        "classifier-free guidance, CFG: uncond + g (cond - uncond), Ho and Salimans 2022",
    ),
    True: (
        "prediction used = negative prediction + g times (prediction with the prompt - negative prediction)",
        "classifier-free guidance with a negative prompt: negative + g (cond - negative), after Ho and Salimans 2022",
    ),
}


def panel_value(trace: Trace, k: int) -> dict[str, Any]:
    """The panel's value for a trace before the user asks for anything."""
    request, own = trace.request, trace.request.sampling.guidance_scale
    count = len(trace.steps)
    guided = trace.uncond is not None
    return {
        "run": trace.id,
        "picture": k,
        "own": own,
        "max": max(USUAL_MAX_SCALE, 2 * own),
        "steps": [f"Step {s.index + 1} of {count} (t = {s.timestep:.0f})" for s in trace.steps],
        "why": "" if guided else (GUIDANCE_EMBEDDED if own > 1 else NO_GUIDANCE).format(g=own),
        "formula": FORMULAS[guided and bool(request.negative_prompt.strip())],
        "cells": picture_titles(request.negative_prompt.strip()),
    }


def picture_titles(negative: str) -> list[list[str]]:
    """Title, term and sentence of each of the three pictures."""
    prompted = ["The prompt alone", "g = 1, cond", "What the model predicts for your prompt, without guidance."]
    if negative:
        away = [
            "What it pushes away from",
            "g = 0, negative prompt",
            f'The prediction for your negative prompt: "{negative}". In this run it took the place of the empty '
            "prompt.",
        ]
    else:
        away = ["No prompt at all", "g = 0, uncond", "What the model predicts without any prompt."]
    return [["", "", ""], prompted, away]


def difference(trace: Trace, k: int, i: int, g: float) -> str:
    """How far the guess at g is from the run's own, as a sentence with its figures."""
    own = trace.request.sampling.guidance_scale
    if g == own:
        return "This is the run's own guidance: the sampler went on with this guess."
    base = trace.x0(i)[k].astype(np.float64)
    away = trace.x0(i, g)[k] - base
    distance, size = (float(np.sqrt(np.mean(np.square(a)))) for a in (away, base - base.mean()))
    share = f", {distance / size:.0%} of the size of that guess" if size > 1e-6 else ""
    return f"Difference from the run's own guess at g = {own:g}: {distance:.3f}{share} (root mean square, in latents)."


def predict_at(page: PageContext, trace: Trace, k: int, i: int, g: float, sides: bool) -> dict[str, Any]:
    """The predicted x0 of step i at guidance g, and at 1 and 0 if ``sides``: data URIs and a sentence."""
    started = time.perf_counter()
    scales = [g, 1.0, 0.0] if sides else [g]
    images, rough = decode_or_project(page, trace, np.concatenate([trace.x0(i, scale)[k : k + 1] for scale in scales]))
    shown = [thumbnail_uri(image, SIDE) for image in images]
    # The same bytes as on the timeline, so that equal pictures look equal.
    if g == trace.frames_guidance:
        shown[0] = data_uri(trace.frames[i][k])
    note = rough or difference(trace, k, i, g)
    return {"step": i, "g": g, "images": shown, "said": note, "ms": round(1000 * (time.perf_counter() - started))}


def build(page: PageContext) -> Panel:
    """The panel: a slider over g, and three predictions for the step that the player shows."""
    panel = gr.HTML(
        None,
        html_template=_TEMPLATE,
        js_on_load=asset("inspector/guidance.js"),
        elem_id="guidance-panel",
        apply_default_css=False,
    )

    def refresh(value: Any) -> tuple[Any, ...]:
        found = opened_trace(page, value)
        return (panel_value(*found) if found else None,)

    def answer(value: Any, data: gr.EventData) -> Any:
        found = opened_trace(page, value)
        if found is None or found[0].uncond is None:
            return gr.skip()
        trace, k = found
        known = panel_value(trace, k)
        step = number_within(event_value(data, "step", None), 0, len(trace.steps) - 1)
        g = number_within(event_value(data, "g", None), 0.0, known["max"])
        if step is None or g is None:
            return gr.skip()
        # The script keeps the predictions at 1 and 0 as long as the step stays the same.
        sides = event_value(data, "sides", True) is not False
        return {**known, "guess": predict_at(page, trace, k, int(step), g, sides)}

    panel.guess(
        answer,
        [page.opened],
        [panel],
        show_progress="hidden",
        api_visibility="private",
        # The script sends one request at a time, and the next one when the answer arrives.
        trigger_mode="multiple",
        concurrency_limit=None,
    )
    return Panel(refresh, [panel])
