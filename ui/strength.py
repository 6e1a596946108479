"""Strength, drawn: the picture with more and more noise, and where on that way the run begins.

Every level is computed when a picture is chosen and sent once; moving the strength asks the server nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import gradio as gr
import numpy as np

from pipelines.backend import LookFailed
from pipelines.request import GenerationRequest, InvalidRequest
from pipelines.trace import share
from ui.charts import percent
from ui.panel import picture_uri, script

if TYPE_CHECKING:
    from pipelines.looks import Noised
    from ui.making import Page

# Levels are drawn no larger than this, and for at most so many steps; between them the nearest one is shown.
SIDE, MOST = 384, 50
BUSY = "Adding noise to the picture"
_TEMPLATE = """
<section class="begin" data-state="empty" aria-label="Where the run starts">
  <div class="pair">
    <figure>
      <div class="well"><img data-part="noisy" alt="" hidden><p class="hint" data-part="hint"></p></div>
      <figcaption><b>Where the run begins</b> <span class="term" data-part="mix"></span></figcaption>
    </figure>
    <figure>
      <div class="well"><img data-part="look" alt="" hidden>
        <p class="hint" data-part="look-hint"></p></div>
      <figcaption><b>What the model sees in it</b> <span class="term">one look, predicted x0</span></figcaption>
    </figure>
  </div>
  <div class="strip" data-part="strip" role="slider" tabindex="0" aria-label="Strength, from the picture to noise"
       aria-valuemin="0" aria-valuemax="0" aria-valuenow="0"></div>
  <div class="ends" aria-hidden="true"><span>0: your picture</span><span>1: noise</span></div>
  <div class="line">
    <p class="words" data-part="words" role="status"></p>
    <button type="button" class="quiet" data-part="see" disabled>Ask the model</button>
  </div>
  <p class="sentence" data-part="about"></p>
  <button type="button" class="quiet" data-part="compare" hidden>Compare with the same noise alone</button>
</section>
"""


def panel() -> gr.HTML:
    """The component.

    Its events: ``see`` (carries ``index``, the number of steps that would run) and ``compare``.
    """
    code = script("timeline.js", "strength.js")
    return gr.HTML(None, html_template=_TEMPLATE, js_on_load=code, elem_id="begin", apply_default_css=False)


def story(page: Page, request: GenerationRequest, key: str) -> Iterator[dict[str, Any]]:
    """The panel's values: that it computes, then everything; ``key`` is what was asked for."""
    yield {"key": key, "state": "busy", "text": BUSY}
    try:
        levels = page.backend.starts(request)
        runs = chosen(len(levels.timesteps))
        rows = [len(levels.timesteps) - run for run in runs]
        latents = np.concatenate([levels.clean, *(levels.x_t[i] for i in rows)])
        pictures = page.backend.decode(request.model, latents)
    except (InvalidRequest, LookFailed) as problem:
        yield {"key": key, "state": "failed", "text": str(problem)}
        return
    init = request.init
    assert init is not None
    clean = page.backend.inputs.get(init.image)
    yield {
        "key": key,
        "state": "open",
        "text": "",
        "steps": request.sampling.num_inference_steps,
        # Without a step the picture is not even taken through the autoencoder.
        "runs": [0, *runs],
        "frames": [picture_uri(image, SIDE) for image in [clean, *pictures[1:]]],
        "mix": ["no noise", *(mix(levels, i) for i in rows)],
        "about": [about(levels, run, request) for run in [0, *runs]],
    }


def chosen(steps: int, most: int = MOST) -> list[int]:
    """The numbers of steps that are drawn: all of them, or an even choice with both ends."""
    if steps <= most:
        return list(range(1, steps + 1))
    return sorted({1 + round(i * (steps - 1) / (most - 1)) for i in range(most)})


def mix(levels: Noised, i: int) -> str:
    """What a level is made of."""
    signal = share(levels.alpha[i], levels.sigma[i])
    return f"t = {levels.timesteps[i]:.0f}: {percent(signal)} picture, {percent(1 - signal)} noise"


def about(levels: Noised, run: int, request: GenerationRequest) -> str:
    """What a number of steps means for the picture, in a sentence or two."""
    steps = request.sampling.num_inference_steps
    if run == 0:
        return "At strength 0 nothing runs: the picture comes back exactly as it is."
    if run < steps:
        return (
            f"The picture gets the noise of step {steps - run + 1} and the run goes on from there. What the noise "
            "hides, the model draws anew from your prompt; what still shows through, it keeps."
        )
    left = levels.alpha[0]
    return (
        f"The whole schedule runs, and hardly anything of the picture is left: its latent is multiplied by {left:.4f} "
        "(the square root of alpha-bar at the first step) before the noise is added."
    )


def seen(page: Page, request: GenerationRequest, key: str, run: Any) -> dict[str, Any]:
    """The model's one look from where a run of so many steps would begin."""
    steps = request.sampling.num_inference_steps
    fits = isinstance(run, int) and not isinstance(run, bool) and 1 <= run <= steps
    if not fits:
        return {"key": key, "look": {"text": "At strength 0 there is no noise to look through. Raise the strength."}}
    try:
        levels = page.backend.starts(request)
        i = steps - run
        believed = page.backend.believe(request.model, levels.x_t[i], [levels.timesteps[i]], request.prompt)
        (image,) = page.backend.decode(request.model, believed)
    except (InvalidRequest, LookFailed) as problem:
        return {"key": key, "look": {"text": str(problem)}}
    return {"key": key, "look": {"run": run, "uri": picture_uri(image, SIDE), "text": ""}}


def key_of(request: GenerationRequest) -> str:
    """What the levels depend on, as a text."""
    sampling, init = request.sampling, request.init
    facts: Mapping[str, Any] = {
        "model": request.model, "image": init.image if init else "", "size": (request.width, request.height),
        "scheduler": sampling.scheduler, "steps": sampling.num_inference_steps, "seed": sampling.seed,
    }  # fmt: skip
    return " ".join(str(value) for value in facts.values())
