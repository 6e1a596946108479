"""The forward process on one picture, next to the run that went the other way.

Everything is computed when the panel opens and is sent once; the slider over t makes no request.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import gradio as gr
import numpy as np

from pipelines.jobs.backend import QueryFailed
from pipelines.request import InvalidRequest
from pipelines.request_errors import TRY_AGAIN
from pipelines.trace.trace import signal_share
from ui.components import phrases
from ui.components.assets import asset
from ui.components.data_uri import thumbnail_uri
from ui.components.gradio_events import CONCURRENT, UNQUEUED
from ui.components.image_upload import ImageUpload
from ui.components.next_steps import next_step
from ui.form.form import said
from ui.form.image_guidance import kept_id, store_upload
from ui.form.memory import LOAD, SAVE, stored_list
from ui.inspector.charts import PICTURE, Axis, Series, Values, axis_for, draw, graph, percent
from ui.inspector.panel import Panel, opened_trace

if TYPE_CHECKING:
    from PIL import Image

    from pipelines.trace.trace import Trace
    from ui.context import PageContext

THIS, UPLOAD = "this", "upload"
# The browser keeps what was chosen under this name.
KEY = "diffusion-playground-noise"
# Once it is back, the panel is made again if it is there already.
_BACK = "() => document.dispatchEvent(new CustomEvent('playground:noise-kept'))"
# Pictures are sent no larger than this, and for at most so many of the run's timesteps and pixels.
SIDE, MAX_LEVELS, MAX_PIXELS = 256, 50, 16 * 2**20
LAST_TIMESTEP = 999
# Beyond this many seconds a step, asking the model about every timestep is left to a button.
SLOW_SECONDS = 0.5
# Above this share of the variance the prediction counts as recognising the picture.
RECOGNISABLE = 0.5

_TEMPLATE = """
<section class="forward" data-state="empty" aria-label="Adding noise to a picture">
  <div data-part="body">
    <div class="dial">
      <label for="noise-t">How much noise (timestep t): <b data-part="t"></b></label>
      <div class="track"><input id="noise-t" type="range" min="0" max="0" step="1" value="0" data-part="range"></div>
    </div>
    <div class="three-views" data-part="cells"></div>
  </div>
  <p class="verdict" data-part="verdict" role="status"></p>
  <button type="button" class="quiet next-step" data-part="next" hidden></button>
</section>
"""
_INTRODUCTION = """
<p class="lead">A model like this is trained by an exercise: take a picture, add noise, and have it tell the two apart.
  Adding noise needs no model (the forward process, Ho et al. 2020): the slider does it. A run goes the
  other way, from noise to picture (the reverse process).
  The timestep t says how much noise there is: at the same t both are equally noisy.</p>
"""
_SIGNAL = """
<div class="chart-head">
  <h3>How much of the picture is left</h3>
  <p class="term">alpha-bar, the signal's share of the mix</p>
  <p><i class="key first" aria-hidden="true"></i>the picture's share of the mix at each t: this is the noise schedule.
    <i class="key second" aria-hidden="true"></i>what the single prediction has in common with the picture (share of its
    variance explained: 100% is the same picture, 0% no better than one flat colour).</p>
</div>
"""
_RATIO = """
<div class="chart-head">
  <h3>Picture against noise</h3>
  <p class="term">signal-to-noise ratio, SNR = alpha-bar / (1 &minus; alpha-bar)</p>
  <p>At 1 there is as much picture as noise. Each line down is less picture, by the same factor every time.</p>
</div>
"""
ASK_FIRST = (
    "Predicting at every noise level would take the model about {seconds}: this run took {each} a step. "
    "Start it with the button above the slider."
)


@dataclass(frozen=True)
class ForwardRequest:
    """What the user chose to see.

    Attributes:
        source: THIS for the opened trace's picture, UPLOAD for one of the user's.
        upload: path of the uploaded picture, or None.
        with_prompt: whether the prediction is conditioned on the prompt.
        looking: whether the model predicts x0 at all.
    """

    source: str
    upload: str | None
    with_prompt: bool
    ask_model: bool


@dataclass(frozen=True, eq=False)
class NoisyLevels:
    """One picture at m noise levels, from little noise to much.

    Attributes:
        t, signal: timestep 0 to 999, and alpha_bar (the signal's share of the mix), m each.
        x_t: the noised latents in variance-preserving scale, (m, c, h, w).
        clean: the picture as the decoder shows it.
        frames: the m noised pictures.
    """

    t: list[float]
    signal: list[float]
    x_t: np.ndarray
    clean: Image.Image
    frames: list[Image.Image]


def is_slow(trace: Trace) -> bool:
    """Whether a step of this run took so long that the model predicts only on request."""
    return trace.seconds_a_step > SLOW_SECONDS


def spread_positions(count: int, most: int = MAX_LEVELS) -> list[int]:
    """At most ``most`` of ``count`` positions, evenly spread, both ends among them."""
    if count <= most:
        return list(range(count))
    return sorted({round(i * (count - 1) / (most - 1)) for i in range(most)})


def clean_latents(page: PageContext, trace: Trace, k: int, choice: ForwardRequest) -> np.ndarray:
    """The picture's latents, (1, c, h, w); raises InvalidRequest when an upload cannot be read."""
    if choice.source == UPLOAD:
        if not choice.upload:
            raise InvalidRequest(
                "image", "Choose a picture of your own above; it is cut to the size of this run's picture."
            )
        picture = page.inputs.read_cropped(choice.upload, trace.request.width, trace.request.height)
        return page.queries.encode(trace.request.model, picture)
    # A stopped run has no finished picture: its last predicted x0 is used.
    done = len(trace.steps) == trace.total
    return trace.final[k : k + 1] if done else trace.x0(len(trace.steps) - 1)[k : k + 1]


def add_noise(page: PageContext, trace: Trace, k: int, clean: np.ndarray) -> NoisyLevels:
    """The picture at the run's own timesteps, by the run's own scheduler, with the run's own noise."""
    request, model = trace.request, trace.request.model
    noised = page.queries.forward_process(model, request, clean, request.seeds[k])
    # Some samplers visit a level twice; one picture of each is enough.
    levels = {(t, s): i for i, (t, s) in enumerate(zip(noised.timesteps, noised.sigma, strict=True))}
    order = [levels[level] for level in sorted(levels)]
    most = max(2, min(MAX_LEVELS, MAX_PIXELS // (request.width * request.height) - 1))
    order = [order[i] for i in spread_positions(len(order), most)]
    x_t = np.concatenate([np.asarray(noised.x_t[i]) for i in order]).astype(np.float32)
    pictures = page.queries.decode(model, np.concatenate([clean, x_t]).astype(np.float32))
    return NoisyLevels(
        [float(noised.timesteps[i]) for i in order],
        [signal_share(float(noised.alpha[i]), float(noised.sigma[i])) for i in order],
        x_t,
        pictures[0],
        pictures[1:],
    )


def likeness(picture: Image.Image, guess: Image.Image) -> float | None:
    """What a guess and a picture have in common, 0 to 1: the share of the picture's variance that it explains.

    1 - |guess - picture|^2 / |picture - its mean colour|^2, not below 0; None for a picture of a single colour.
    """
    wanted, got = (np.asarray(image.convert("RGB"), np.float64) for image in (picture, guess))
    spread = np.square(wanted - wanted.mean(axis=(0, 1))).sum()
    if spread < wanted.size:
        return None
    return float(max(0.0, 1.0 - np.square(got - wanted).sum() / spread))


def summary(t: Sequence[float], signal: Sequence[float], alike: Values, with_prompt: bool) -> str:
    """Up to which noise level the model can tell what the picture is, in words, with the figures.

    Args:
        t, signal: timestep and alpha_bar of each noise level, from little noise to much.
        alike: what one look has in common with the picture at each level, 0 to 1.
        with_prompt: whether the prediction was conditioned on the prompt.
    """
    look = "single prediction, given the prompt," if with_prompt else "single prediction"
    if not alike or alike[0] is None:
        return "" if not alike else "This picture is a single colour, so there is nothing in it to recognise."
    kept = next((i for i, share in enumerate(alike) if (share or 0.0) <= RECOGNISABLE), len(alike))
    if kept == 0:
        return (
            f"Even at the lowest noise of this run (t = {t[0]:.0f}, {percent(1 - signal[0])} noise) the model's "
            f"{look} has no more than {alike[0]:.0%} in common with the picture."
        )
    last = kept - 1
    there = f"t = {t[last]:.0f} ({percent(1 - signal[last])} noise)"
    if kept == len(alike):
        return f"Up to the most noise of this run, {there}, {look} has {alike[last]:.0%} in common with the picture."
    return (
        f"Until {there} the model's {look} still has more than half in common with the picture ({alike[last]:.0%}); "
        f"beyond it, it guesses (at t = {t[kept]:.0f}: {alike[kept] or 0.0:.0%})."
    )


def noised_value(page: PageContext, trace: Trace, k: int, noisy: NoisyLevels) -> dict[str, Any]:
    """The panel's value without predictions: noised pictures, and the run's own at the same t."""
    request = trace.request
    nearest = [min(range(len(trace.steps)), key=lambda i: abs(trace.steps[i].timestep - t)) for t in noisy.t]
    backwards = page.queries.decode(
        request.model, np.concatenate([trace.variance_preserving(i)[k : k + 1] for i in nearest])
    )
    return {
        **picture_key(trace, k),
        "state": "open",
        "labels": [
            f"t = {t:.0f} of {LAST_TIMESTEP} · {percent(kept)} picture, {percent(1 - kept)} noise"
            for t, kept in zip(noisy.t, noisy.signal, strict=True)
        ],
        "noised": [thumbnail_uri(frame, SIDE) for frame in noisy.frames],
        "run": [thumbnail_uri(frame, SIDE) for frame in backwards],
        "steps": nearest,
        "step_labels": [f"step {i + 1} of {len(trace.steps)}, t = {trace.steps[i].timestep:.0f}" for i in nearest],
        "looks": [],
        "alike": [],
        "verdict": "",
        "text": "",
    }


def picture_key(trace: Trace, k: int) -> dict[str, Any]:
    """The key by which the page tells one picture's values from another's."""
    return {"key": f"{trace.id} {k}"}


def predict_all(
    page: PageContext, trace: Trace, k: int, noisy: NoisyLevels, with_prompt: bool
) -> tuple[list[Image.Image], Values]:
    """The predicted x0 from one model call at each noise level, and its likeness to the picture."""
    request = trace.request
    prompt = request.prompt_of(k) if with_prompt else ""
    x0s = page.queries.predict_x0(request.model, noisy.x_t, noisy.t, prompt, request.prompt_syntax)
    images = page.queries.decode(request.model, np.asarray(x0s, np.float32))
    return images, [likeness(noisy.clean, image) for image in images]


def figures(noisy: NoisyLevels, alike: Values) -> tuple[list[Any], dict[str, Any]]:
    """The two figures over t, and where their cursor stands at each noise level."""
    across = Axis(0.0, float(LAST_TIMESTEP))
    ratio: Values = [kept / (1 - kept) if 0 < kept < 1 else None for kept in noisy.signal]
    unit, steep = Axis(0.0, 1.06), axis_for(ratio, log=True)
    lines = [Series(noisy.signal, "picture left", PICTURE)] + ([Series(alike, "one prediction")] if alike else [])
    drawn = [
        draw(noisy.t, lines, (across, unit), "timestep t"),
        draw(noisy.t, [Series(ratio, colour=PICTURE)], (across, steep), "timestep t"),
    ]
    pointers = {
        "at": [across.share(t) for t in noisy.t],
        "signal": [unit.share(kept) for kept in noisy.signal],
        "snr": [steep.share(v) for v in ratio],
    }
    return drawn, pointers


def panel_values(
    page: PageContext, trace: Trace, k: int, choice: ForwardRequest
) -> Iterator[tuple[dict[str, Any], list[Any] | None]]:
    """The panel's values one after the other, each with its figures (None: unchanged); the last one is complete."""
    yield {**picture_key(trace, k), "state": "busy", "text": "Adding noise to the picture"}, None
    try:
        noisy = add_noise(page, trace, k, clean_latents(page, trace, k, choice))
        value = noised_value(page, trace, k, noisy)
        drawn, pointers = figures(noisy, [])
        value |= {"pointers": pointers}
        if not choice.ask_model:
            each = trace.seconds_a_step
            text = ASK_FIRST.format(seconds=phrases.seconds(each * len(noisy.t)), each=phrases.seconds(each))
            yield {**value, "text": text}, drawn
            return
        yield (
            {**value, "asking": True, "text": f"Predicting at each of {len(noisy.t)} noise levels"},
            drawn,
        )
        images, alike = predict_all(page, trace, k, noisy, choice.with_prompt)
    except (QueryFailed, InvalidRequest) as problem:
        remedy = problem.remedy if isinstance(problem, InvalidRequest) else TRY_AGAIN
        yield {**picture_key(trace, k), "state": "failed", "text": said(problem), "next": next_step(remedy)}, None
        return
    drawn, _ = figures(noisy, alike)
    looks = {
        "looks": [thumbnail_uri(image, SIDE) for image in images],
        "alike": ["" if share is None else f"{share:.0%} in common with the picture" for share in alike],
        "verdict": summary(noisy.t, noisy.signal, alike, choice.with_prompt),
    }
    yield {**value, **looks}, drawn


def build(page: PageContext) -> Panel:
    """The panel: which picture, its noise levels under a slider, and the noise schedule."""
    gr.HTML(html_template=_INTRODUCTION, js_on_load=None, apply_default_css=False)
    with gr.Row(elem_id="forward-asks"):
        source = gr.Radio(
            [("This picture", THIS), ("My picture", UPLOAD)],
            value=THIS,
            label="Add noise to",
            elem_id="forward-source",
            elem_classes="segments",
        )
        with_prompt = gr.Checkbox(
            False,
            label="Give the model the prompt",
            info="Off: it has only the noisy picture.",
            elem_id="forward-message",
        )
        ask = gr.Button("Ask the model", size="sm", visible=False, elem_id="forward-ask")
    upload = ImageUpload(
        label="My picture",
        type="filepath",
        sources=["upload", "clipboard"],
        height=200,
        visible=False,
        elem_id="forward-upload",
    )
    panel = view("forward")
    plots = []
    with gr.Row(elem_id="forward-charts"):
        for name, head in (("signal", _SIGNAL), ("snr", _RATIO)):
            with gr.Column(elem_id=f"forward-{name}", elem_classes="chart", min_width=0):
                gr.HTML(html_template=head, js_on_load=None, apply_default_css=False)
                plots.append(graph(f"graph-{name}"))
    forward = ForwardPanel(source, with_prompt, ask, upload, kept_id("forward-kept"), panel, plots)
    wire(page, forward)
    wire_memory(page, forward)

    def refresh(value: Any) -> tuple[Any, ...]:
        found = opened_trace(page, value)
        if found is None:
            return None, gr.Button(visible=False)
        # The page asks for the rest when the panel comes into view.
        return {**picture_key(*found), "state": "closed"}, gr.Button(visible=is_slow(found[0]))

    return Panel(refresh, [panel, ask])


def view(elem_id: str) -> gr.HTML:
    """The pictures with their slider; its event ``open`` asks for the value of the run that ``picture_key`` names."""
    return gr.HTML(
        None,
        # Each has an id of its own: the label names the slider by it.
        html_template=_TEMPLATE.replace("noise-t", f"{elem_id}-noise-t"),
        js_on_load=asset("inspector/forward_process.js"),
        elem_id=elem_id,
        apply_default_css=False,
    )


@dataclass(frozen=True)
class ForwardPanel:
    """The components of the panel."""

    source: gr.Radio
    with_prompt: gr.Checkbox
    ask: gr.Button
    upload: gr.Image
    kept: gr.Textbox
    panel: gr.HTML
    plots: list[gr.Plot]


def wire(page: PageContext, panel: ForwardPanel) -> None:
    """Everything that asks for other pictures."""
    inputs = [page.opened, panel.source, panel.upload, panel.with_prompt]
    outputs = [panel.panel, *panel.plots]

    def tell(value: Any, source: Any, upload: Any, with_prompt: Any, *, ask_model: bool) -> Iterator[Any]:
        found = opened_trace(page, value)
        if found is None:
            yield [gr.skip() for _ in outputs]
            return
        choice = ForwardRequest(source, upload, bool(with_prompt), ask_model or not is_slow(found[0]))
        for sheet, drawn in panel_values(page, *found, choice):
            yield [sheet, *(drawn or [gr.skip() for _ in panel.plots])]

    def by_itself(*values: Any) -> Iterator[Any]:
        yield from tell(*values, ask_model=False)

    def on_request(*values: Any) -> Iterator[Any]:
        yield from tell(*values, ask_model=True)

    own: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
    quick: dict[str, Any] = {**own, "queue": False}
    late: dict[str, Any] = {**own, "trigger_mode": "always_last", "concurrency_limit": None}
    panel.source.input(lambda v: gr.Image(visible=v == UPLOAD), [panel.source], [panel.upload], **quick)
    # The script asks once for each picture that is opened, and drops what is about another one.
    panel.panel.open(by_itself, inputs, outputs, **{**late, "trigger_mode": "multiple"})
    changed = [panel.source.input, panel.upload.upload, panel.upload.clear, panel.with_prompt.input]
    gr.on(changed, by_itself, inputs, outputs, **late)
    panel.ask.click(on_request, inputs, outputs, **late)


def wire_memory(page: PageContext, panel: ForwardPanel) -> None:
    """What was chosen survives a reload: the picture by its id, the rest by the browser; the slider keeps its place."""

    def store(path: Any) -> str:
        try:
            return store_upload(page, path) if isinstance(path, str) else ""
        except InvalidRequest:
            return ""  # the panel says what is wrong with it

    chosen = [panel.source, panel.with_prompt, panel.kept]
    panel.upload.change(store, [panel.upload], [panel.kept], **CONCURRENT)
    gr.on([one.change for one in chosen], None, chosen, None, js=SAVE % (KEY, KEY))
    stored = gr.Textbox(visible=False, max_length=1000)
    back = page.blocks.load(
        lambda text: brought_back(page, text), [stored], [*chosen, panel.upload], js=LOAD % (KEY, KEY, KEY), **UNQUEUED
    )
    back.then(None, None, None, js=_BACK, **UNQUEUED)


def brought_back(page: PageContext, text: Any) -> tuple[Any, ...]:
    """Updates of source, prompt, id of the upload and upload for what the browser has kept."""
    found = stored_list(text)
    if len(found) != 3:
        return (gr.skip(),) * 4
    source, with_prompt, kept = found
    image = None
    if isinstance(kept, str) and kept:
        with suppress(InvalidRequest):
            image = page.inputs.get(kept)
    # Without its picture there is nothing of the user's to add noise to.
    mine = source == UPLOAD and image is not None
    shown = gr.Image(visible=False) if image is None else gr.Image(image, visible=mine)
    return UPLOAD if mine else THIS, with_prompt is True, "" if image is None else kept, shown
