"""Five questions that the denoising tab answers, each with the run's own figures and a place on the timeline.

Written for a beginner: every term is explained where it first appears.  Markup and script are free of Gradio, so that
the capsule asks the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import gradio as gr

from pipelines.trace import lenses
from ui.components import phrases
from ui.components.assets import asset
from ui.inspector.panel import Panel, opened_trace

if TYPE_CHECKING:
    from pipelines.trace.trace import Trace
    from ui.context import PageContext

# With fewer steps the figures do not show when the change happens.
ENOUGH_STEPS = 4
QUESTIONS_HTML = """
<section class="questions" aria-label="Five questions">
  <p class="sentence" data-part="empty">The questions are answered with the figures of a run; open one to read them.</p>
  <div class="bars" data-part="bars" aria-hidden="true"></div>
  <p class="count" data-part="count" aria-hidden="true"></p>
  <p class="unseen" data-part="said" role="status"></p>
  <ol data-part="list"></ol>
  <div class="step" data-part="step" hidden>
    <button type="button" class="quiet" data-part="show">Show me</button>
    <span class="grow"></span>
    <button type="button" class="quiet" data-part="back">Back</button>
    <button type="button" class="quiet second" data-part="next">Next</button>
  </div>
  <div class="more" data-part="more"></div>
</section>
"""
_START = """
const asked = new Questions(element.querySelector('.questions'));
asked.memory = 'playground-question';
watch('value', () => asked.take(props.value?.questions));
asked.take(props.value?.questions);
"""


def questions(trace: Trace, k: int, on_page: bool = True) -> list[dict[str, Any]]:
    """The questions in order: title, paragraphs, where "Show me" goes (``go``) and what is then seen (``see``).

    Args:
        trace: the run whose figures are used, at least one step long; ``k`` is its picture.
        on_page: whether the page's other panels are there, too; a capsule has none.
    """
    return [_noise(trace, k), _prediction(trace), _steps(trace, k), _guidance(trace, on_page), _latent(trace)]


def _noise(trace: Trace, k: int) -> dict[str, Any]:
    count, middle, first = len(trace.steps), trace.steps[_half_noise_step(trace)], trace.steps[0]
    begun = (
        f"This run started from a picture with noise added to it: {_percent(first.alpha_bar)} picture and "
        f"{_percent(1 - first.alpha_bar)} noise."
    )
    after = "Every step holds" if trace.request.init else "After that you see"
    return {
        "title": "What is noise here?",
        "text": [
            "Noise is random numbers, like the snow of a television without a signal. "
            f"{begun if trace.request.init else 'A picture starts as nothing else.'} {_origin_of_noise(trace, k)}",
            f"{after} a blend of picture (the signal) and noise. "
            f"At step {middle.index + 1} of {count} it is {_percent(middle.alpha_bar)} picture and "
            f"{_percent(1 - middle.alpha_bar)} noise. Each step shifts the blend until no noise is left. "
            "The timestep t counts how noisy it is: 999 is all noise, 0 is none. On the stage the noise shows as soft "
            "blobs, not as snow, since it is noise in the latent (the last question), unpacked into a picture.",
        ],
        "go": {"index": 0, "left": "x_t", "right": "x0"},
        "see": "Goes to step 1. Left: what the model is given"
        f"{', the noisy picture' if trace.request.init else ', noise alone'}. Step on and watch the noise go.",
    }


def _origin_of_noise(trace: Trace, k: int) -> str:
    """Which seeds the noise of this picture comes from."""
    seed, mix = trace.request.seeds[k], phrases.noise_blend(trace.request, k)
    if mix is None:
        again = "the same seed gives the same noise, another seed gives another picture."
        return f"The noise of this one was drawn from the seed {seed}: {again}"
    return (
        f"The noise of this one is mixed from two: it lies {mix[1]:.0%} of the way from that of seed {seed} to that of "
        f"seed {mix[0]}. The same seeds and the same share give the same noise."
    )


def _prediction(trace: Trace) -> dict[str, Any]:
    middle = _half_noise_step(trace)
    return {
        "title": "What does the model predict?",
        "text": [
            "The model is given the noisy blend, how much noise is in it, and your prompt. It answers one question: "
            "which part of this is noise? Take that part away, and what is left is its guess of the picture "
            "(the predicted x0).",
            "It learnt this by practice: noise was added to known pictures, and it had to tell the two apart."
            + _VARIANTS.get(trace.prediction_type, ""),
        ],
        "go": {"index": middle, "left": "noise", "right": "x0"},
        "see": f"Goes to step {middle + 1}. Left: the predicted noise. Right: the model's guess of the picture.",
    }


# What the network itself outputs; everything on this page is computed from it exactly.
_VARIANTS = {
    "v_prediction": " (Strictly, this model answers with a fixed mix of the two, v-prediction; "
    "the noise and the picture are computed from it.)",
    "flow_prediction": " (Strictly, this model answers with the way from the picture to the noise, the flow; "
    "the noise and the picture are computed from it.)",
    "sample": " (This model names the picture, and the noise is computed from it.)",
}


def _steps(trace: Trace, k: int) -> dict[str, Any]:
    count = len(trace.steps)
    return {
        "title": "Why many steps?",
        "text": [
            "At step 1 almost any picture could lie under the noise, so the best single answer is an average of them "
            "all: a blur. So the sampler goes only a little way towards the guess, keeps the rest of the noise and "
            "asks the model again. With less noise fewer pictures fit, and the guess gets sharper.",
            _change_over_steps(trace, k)
            if count >= ENOUGH_STEPS
            else f"This run has too few steps to show it ({count}); try 25.",
        ],
        "go": {"index": 0, "left": "x0", "right": "change", "play": True},
        "see": "Plays from step 1. Left: the guess, from blur to picture. Right: what each step changed.",
    }


def _change_over_steps(trace: Trace, k: int) -> str:
    """When the change of this run happened, in its own figures."""
    count, shares = len(trace.steps), trace.cumulative_change(k)
    half = next(i for i, share in enumerate(shares) if share >= 0.5)
    tail = count // 4
    return (
        f"Here half of all change was done by step {half + 1} of {count}; the last {tail} steps made "
        f"{_percent(1 - shares[count - tail - 1])} of it. Fewer steps are quicker, but each leaps further on a vaguer "
        "guess."
    )


UNGUIDED = (
    "This run had a scale of {g:g}, so the model predicted once a step, with the prompt alone. Make a picture with "
    "Pocket or a Stable Diffusion model and a guidance above 1 to see the two answers apart."
)
EMBEDDED = (
    "This model takes the scale ({g:g}) as an input and predicts once a step: it learnt the guided answer directly. "
    "Make a picture with Pocket or a Stable Diffusion model to see the two answers apart."
)


def _guidance(trace: Trace, on_page: bool) -> dict[str, Any]:
    request = trace.request
    g = request.sampling.guidance_scale
    without = "with the negative prompt in its place" if request.negative_prompt.strip() else "without it"
    if trace.uncond is not None:
        second = (
            f"This run followed the difference {g:g} times. Too much gives harsh colours and pictures that are all "
            f"alike.{' The Guidance tab lets you try other values on any step.' if on_page else ''}"
        )
        index = _strongest_guidance(trace)
        go: dict[str, Any] = {"index": index, "left": "guidance", "right": "x0"}
        see = f"Goes to step {index + 1}, where the answers differ most. Left: bright where the prompt pulls hard."
    else:
        second = (EMBEDDED if g > 1 else UNGUIDED).format(g=g)
        see = "Plays this run, which had one answer at each step."
        go = {"index": 0, "left": "x_t", "right": "x0", "play": True}
    first = (
        f"With guidance, most models are asked twice at each step: once with your prompt, once {without}. The "
        "difference between the two answers shows which way the prompt pulls. Guidance (the guidance scale, CFG) says "
        "how far to follow it: 0 ignores the prompt, 1 takes the answer to the prompt as it is, more exaggerates the "
        "difference."
    )
    return {"title": "What does guidance do?", "text": [first, second], "go": go, "see": see}


def _latent(trace: Trace) -> dict[str, Any]:
    pixels, latents = lenses.value_counts(trace)
    channels, height, width = trace.x_t.shape[-3:]
    request = trace.request
    return {
        "title": "Why is a latent smaller than a picture?",
        "text": [
            "The steps do not work on pixels but on a latent: a coarse grid whose cells each hold a few numbers for a "
            "whole patch of the picture. A second network (the autoencoder, VAE) packs a picture into a latent and "
            "unpacks it again. So little is enough because neighbouring pixels are alike: the latent keeps what cannot "
            "be guessed, the unpacking redraws the rest.",
            f"Here {request.width} x {request.height} points of 3 colours are {pixels:,} numbers. The latent has "
            f"{width} x {height} cells of {channels}, {latents:,} numbers: {pixels / latents:.0f} times fewer to work "
            "on in every step.",
        ],
        "go": {"index": len(trace.steps) - 1, "left": "latent", "right": "x0"},
        "see": "Goes to the last step. Left: the latent, one square a cell. Right: the same, unpacked.",
    }


def _half_noise_step(trace: Trace) -> int:
    """The step whose blend is nearest to half picture, half noise."""
    return min(range(len(trace.steps)), key=lambda i: abs(trace.steps[i].alpha_bar - 0.5))


def _strongest_guidance(trace: Trace) -> int:
    """The step at which the prompt's answer differs most from the other one, as the picture itself would show it."""
    return max(range(len(trace.steps)), key=lambda i: float(abs(trace.x0(i, 1.0) - trace.x0(i, 0.0)).mean()))


def _percent(share: float) -> str:
    """A share in whole percent; what is not nothing does not read as nothing, nor all but everything as everything."""
    if 0 < share < 0.01:
        return "less than 1%"
    return "more than 99%" if 0.99 < share < 1 else f"{share:.0%}"


def build(page: PageContext) -> Panel:
    """The list; "Show me" moves the player in the browser, without the server."""
    shown = gr.HTML(
        None,
        html_template=QUESTIONS_HTML,
        js_on_load=asset("inspector/questions.js") + _START,
        elem_id="questions",
        apply_default_css=False,
    )

    def refresh(value: object) -> tuple[object, ...]:
        found = opened_trace(page, value)
        return ({"questions": questions(*found)} if found else None,)

    return Panel(refresh, [shown])
