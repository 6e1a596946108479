"""Strength as a picture: the source image with more and more noise, and the level at which the run starts.

Every level is computed when a picture is chosen and sent once; moving the strength asks the server nothing.  Four
strengths around the chosen one stand side by side, each with what the model sees in it; a quick model is asked for that
by itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import gradio as gr
import numpy as np
from gradio.components import Component  # not for types alone: Gradio reads the annotations of event handlers

from pipelines.jobs.backend import QueryFailed
from pipelines.request import GenerationRequest, InvalidRequest, make_request
from pipelines.request_errors import TRY_AGAIN
from pipelines.trace.trace import signal_share
from ui.components.assets import asset
from ui.components.data_uri import thumbnail_uri
from ui.components.gradio_events import CONCURRENT, event_value
from ui.components.next_steps import next_step
from ui.form import controls
from ui.form.form import Form, said
from ui.form.styles.composing import composed, read_names
from ui.inspector.charts import percent
from ui.tabs.image_to_image.prepared_image import PreparedImage

if TYPE_CHECKING:
    from pipelines.jobs.backend import ForwardProcess
    from ui.context import PageContext
    from ui.tabs.image_to_image.source import Source

# Levels are drawn no larger than this, and for at most so many steps and pixels; between them the nearest one is shown.
SIDE, MAX_LEVELS, MAX_PIXELS = 384, 50, 16 * 2**20
BUSY = "Updating"
# Predictions that are asked for at once.
MOST_LOOKS = 4
NO_NOISE = "At strength 0 there is no noise to predict from. Raise the strength."
_TEMPLATE = """
<section class="strength-strip" data-state="empty" aria-label="Where the run starts">
  <p class="hint" data-part="hint"></p>
  <div class="four" data-part="four" role="group" aria-label="Four strengths to choose from">
    <p class="row-head" data-row="noisy"><b>Where the run begins</b> <span class="term" data-part="mix"></span></p>
    <p class="row-head" data-row="look"><b>What the model sees in it</b>
      <span class="term" data-part="look-hint"></span></p>
  </div>
  <div class="strip" data-part="strip" role="slider" tabindex="0" aria-label="Strength, from the image to noise"
       aria-valuemin="0" aria-valuemax="0" aria-valuenow="0"></div>
  <div class="ends"><span aria-hidden="true">0: your image</span><p class="words" data-part="words" role="status"></p
    ><span aria-hidden="true">1: noise</span></div>
  <button type="button" class="quiet" data-part="again" hidden></button>
  <button type="button" class="quiet" data-part="see" disabled>Ask the model</button>
  <p class="sentence" data-part="about"></p>
  <button type="button" class="quiet" data-part="compare" hidden>Compare with the same noise alone</button>
</section>
"""


def strength_strip() -> gr.HTML:
    """The component.

    Its events: ``see`` (carries ``runs``, numbers of steps that would run), ``compare``, and ``again`` (draw the levels
    that could not be drawn).
    """
    code = asset("components/timeline.js", "tabs/image_to_image/strength_strip.js")
    return gr.HTML(None, html_template=_TEMPLATE, js_on_load=code, elem_id="strength-strip", apply_default_css=False)


def levels(page: PageContext, request: GenerationRequest, key: str) -> Iterator[dict[str, Any]]:
    """The component's values: first that it is busy, then every level; ``key`` names the request."""
    yield {"key": key, "state": "busy", "text": BUSY}
    init = request.init
    assert init is not None
    try:
        noise = page.queries.starting_latents(request)
        most = MAX_PIXELS // (request.width * request.height) - 1
        runs = drawn_steps(len(noise.timesteps), max(2, min(MAX_LEVELS, most)))
        rows = [len(noise.timesteps) - run for run in runs]
        latents = np.concatenate([noise.clean, *(noise.x_t[i] for i in rows)])
        pictures = page.queries.decode(request.model, latents)
        clean = page.inputs.get(init.image)
    except (InvalidRequest, QueryFailed) as problem:
        # What is wrong with the request is mended at its field.
        again = {} if isinstance(problem, InvalidRequest) else {"again": next_step(TRY_AGAIN)["label"]}
        yield {"key": key, "state": "failed", "text": said(problem), **again}
        return
    yield {
        "key": key,
        "state": "open",
        "text": "",
        "image": init.image,
        "steps": request.sampling.num_inference_steps,
        # A quick model is asked without being told to.
        "quick": is_quick(page, request.model),
        # Without a step the picture is not even taken through the autoencoder.
        "runs": [0, *runs],
        "frames": [thumbnail_uri(image, SIDE) for image in [clean, *pictures[1:]]],
        "mix": ["no noise", *(mix(noise, i) for i in rows)],
        "about": [about(noise, run, request) for run in [0, *runs]],
    }


def is_quick(page: PageContext, model: str) -> bool:
    """Whether a prediction of this model takes no time to speak of: it comes with the program."""
    card = page.card(model)
    return card is not None and (card.live or bool(card.recording))


def drawn_steps(steps: int, most: int = MAX_LEVELS) -> list[int]:
    """The numbers of steps that are drawn: all of them, or an even choice with both ends."""
    if steps <= most:
        return list(range(1, steps + 1))
    return sorted({1 + round(i * (steps - 1) / (most - 1)) for i in range(most)})


def mix(noise: ForwardProcess, i: int) -> str:
    """What a level is made of."""
    signal = signal_share(noise.alpha[i], noise.sigma[i])
    return f"t = {noise.timesteps[i]:.0f}: {percent(signal)} picture, {percent(1 - signal)} noise"


def about(noise: ForwardProcess, run: int, request: GenerationRequest) -> str:
    """What a number of steps means for the picture, in a sentence or two."""
    steps = request.sampling.num_inference_steps
    if run == 0:
        return "At strength 0 nothing runs: the image comes back exactly as it is."
    if run < steps:
        return (
            f"The image gets the noise of step {steps - run + 1} and the run goes on from there. What the noise "
            "hides, the model draws from your prompt; what still shows through, it keeps."
        )
    left = noise.alpha[0]
    return (
        f"The whole schedule runs, and hardly anything of the image is left: its latent is multiplied by {left:.4f} "
        "(the square root of alpha-bar at the first step) before the noise is added."
    )


def predictions(page: PageContext, request: GenerationRequest, key: str, runs: Any) -> dict[str, Any]:
    """The model's predictions from the levels at which runs of so many steps start, at most ``MOST_LOOKS``."""
    steps = request.sampling.num_inference_steps
    listed = runs[:MOST_LOOKS] if isinstance(runs, list) else []
    whole = [run for run in listed if isinstance(run, int) and not isinstance(run, bool)]
    asked = [run for run in dict.fromkeys(whole) if 1 <= run <= steps]
    if not asked:
        return {"key": key, "looks": [], "text": NO_NOISE}
    try:
        noise = page.queries.starting_latents(request)
        rows = [steps - run for run in asked]
        x_t, at = np.concatenate([noise.x_t[i] for i in rows]), [noise.timesteps[i] for i in rows]
        x0 = page.queries.predict_x0(request.model, x_t, at, request.prompt, request.prompt_syntax)
        images = page.queries.decode(request.model, x0)
    except (InvalidRequest, QueryFailed) as problem:
        return {"key": key, "looks": [], "text": said(problem)}
    looks = [{"run": run, "uri": thumbnail_uri(image, SIDE)} for run, image in zip(asked, images, strict=True)]
    return {"key": key, "looks": looks, "text": "", "prompt": request.prompt}


def key_of(request: GenerationRequest) -> str:
    """What the levels depend on, as a text."""
    sampling, init = request.sampling, request.init
    facts: Mapping[str, Any] = {
        "model": request.model, "image": init.image if init else "", "size": (request.width, request.height),
        "scheduler": sampling.scheduler, "steps": sampling.num_inference_steps, "seed": sampling.seed,
    }  # fmt: skip
    return " ".join(str(value) for value in facts.values())


def wire(form: Form, source: Source, strip: gr.HTML) -> None:
    """Draw the noise levels when they change, and predict when the user asks."""
    page, c = form.page, form.controls
    inputs = {source.prepared, c.model, c.prompt, c.prompt_syntax, c.scheduler, c.num_inference_steps, c.seed}
    inputs |= {form.chosen_styles}

    def draw(values: Mapping[Component, Any]) -> Iterator[dict[str, Any]]:
        try:
            request = levels_request(form, source, values)
        except InvalidRequest as problem:
            yield {"key": "failed", "state": "failed", "text": said(problem)}
            return
        if request is None:
            yield {"key": "none", "state": "empty", "text": ""}
            return
        yield from levels(page, request, key_of(request))

    def predict(values: Mapping[Component, Any], data: gr.EventData) -> Any:
        try:
            request = levels_request(form, source, values)
        except InvalidRequest:
            request = None
        if request is None:
            return gr.skip()
        return predictions(page, request, key_of(request), event_value(data, "runs", None))

    changes = [source.prepared.change, c.scheduler.change, c.num_inference_steps.change, c.seed.change, c.model.change]
    gr.on(changes, draw, inputs, [strip], trigger_mode="always_last", **CONCURRENT)
    strip.again(draw, inputs, [strip], trigger_mode="always_last", **CONCURRENT)
    strip.see(predict, inputs, [strip], trigger_mode="always_last", **CONCURRENT)


def levels_request(form: Form, source: Source, values: Mapping[Component, Any]) -> GenerationRequest | None:
    """The request whose noise levels are drawn: of the whole image, even in INPAINT; None without an image."""
    c, prepared = form.controls, values[source.prepared]
    if not isinstance(prepared, PreparedImage):
        return None
    width, height = prepared.size
    fields = {
        "model": values[c.model],
        "prompt": values[c.prompt] or "",
        "styles": read_names(values[form.chosen_styles]),
        "prompt_syntax": values[c.prompt_syntax],
        "scheduler": values[c.scheduler],
        "num_inference_steps": values[c.num_inference_steps],
        "guidance_scale": 1.0,
        "width": width,
        "height": height,
        "seed": controls.read_seed(values[c.seed], True),
        "init": {"image": prepared.fitted, "strength": 1.0},
    }
    return make_request(**composed(form.page, fields))
