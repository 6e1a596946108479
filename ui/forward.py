"""Adding noise: the forward process on one picture, beside the run that went the other way.

Everything is computed when the panel opens and sent once; the slider over t asks the server nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import gradio as gr
import numpy as np

from pipelines.backend import LookFailed
from pipelines.request import InvalidRequest
from pipelines.trace import share
from pipelines.uploads import read_upload
from ui import words
from ui.charts import Axis, Line, Values, axis_for, draw, graph, percent
from ui.dropped import Dropped
from ui.panel import Panel, chosen, picture_uri, script

if TYPE_CHECKING:
    from PIL import Image

    from pipelines.trace import Trace
    from ui.making import Page

THIS, UPLOAD = "this", "upload"
# Pictures are sent no larger than this, and for at most so many of the run's timesteps.
SIDE, MOST = 256, 50
LAST_T = 999
# Beyond this many seconds a step, asking the model about every timestep is left to a button.
SLOW_SECONDS = 0.5
# More than this share of the picture is "more than half".
HALF = 0.5

_TEMPLATE = """
<section class="forward" data-state="empty" aria-label="Adding noise to a picture">
  <div data-part="body">
    <div class="dial">
      <label for="noise-t">How much noise (timestep t): <b data-part="t"></b></label>
      <div class="track"><input id="noise-t" type="range" min="0" max="0" step="1" value="0" data-part="range"></div>
    </div>
    <div class="trio" data-part="cells"></div>
  </div>
  <p class="verdict" data-part="verdict" role="status"></p>
</section>
"""
_LEAD = """
<p class="lead">A model like this learns by an exercise: take a picture, add noise, and have it tell the two apart.
  Adding noise is easy and needs no model (the forward process, Ho et al. 2020): the slider does it. A run goes the
  other way, from noise to picture (the reverse process).
  The timestep t says how much noise: at the same t both are as noisy.</p>
"""
_SIGNAL = """
<div class="chart-head">
  <h3>How much of the picture is left</h3>
  <p class="term">alpha-bar, the signal's share of the mix</p>
  <p><i class="key first" aria-hidden="true"></i>the picture's share of the mix at each t: this is the noise schedule.
    <i class="key second" aria-hidden="true"></i>what the model's one look has in common with the picture (share of its
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
FOR_SLOW = (
    "One look at every noise level would keep the model busy for about {seconds}: this run took {each} a step. "
    "Ask for it with the button above the slider."
)


@dataclass(frozen=True)
class Asked:
    """What the panel is to show.

    Attributes:
        source: THIS for the opened trace's picture, UPLOAD for one of the visitor's.
        upload: path of the uploaded picture, or None.
        told: whether the model is told the prompt when it looks.
        looking: whether the model is asked at all.
    """

    source: str
    upload: str | None
    told: bool
    looking: bool


@dataclass(frozen=True, eq=False)
class Noisy:
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


def slow(trace: Trace) -> bool:
    """Whether this run took so long a step that the model is asked only on request."""
    return trace.seconds / len(trace.steps) > SLOW_SECONDS


def choose(count: int, most: int = MOST) -> list[int]:
    """At most ``most`` of ``count`` positions, evenly spread, both ends among them."""
    if count <= most:
        return list(range(count))
    return sorted({round(i * (count - 1) / (most - 1)) for i in range(most)})


def clean_latents(page: Page, trace: Trace, k: int, asked: Asked) -> np.ndarray:
    """The picture's latents, (1, c, h, w); raises InvalidRequest when an upload cannot be read."""
    if asked.source == UPLOAD:
        if not asked.upload:
            raise InvalidRequest("Choose a picture of your own above; it is cut to the size of this run's picture.")
        picture = read_upload(asked.upload, trace.request.width, trace.request.height)
        return page.backend.encode(trace.request.model, picture)
    # A run that was stopped has no finished picture: its last belief stands in.
    done = len(trace.steps) == trace.total
    return trace.final[k : k + 1] if done else trace.x0(len(trace.steps) - 1)[k : k + 1]


def add_noise(page: Page, trace: Trace, k: int, clean: np.ndarray) -> Noisy:
    """The picture at the run's own timesteps, by the run's own scheduler, with the run's own noise."""
    request, model = trace.request, trace.request.model
    noised = page.backend.noised(model, request, clean, request.seeds[k])
    # Some samplers visit a level twice; one picture of it is enough.
    levels = {(t, s): i for i, (t, s) in enumerate(zip(noised.timesteps, noised.sigma, strict=True))}
    order = [levels[level] for level in sorted(levels)]
    order = [order[i] for i in choose(len(order))]
    x_t = np.concatenate([np.asarray(noised.x_t[i]) for i in order]).astype(np.float32)
    pictures = page.backend.decode(model, np.concatenate([clean, x_t]).astype(np.float32))
    return Noisy(
        [float(noised.timesteps[i]) for i in order],
        [share(float(noised.alpha[i]), float(noised.sigma[i])) for i in order],
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


def verdict(t: Sequence[float], signal: Sequence[float], alike: Values, told: bool) -> str:
    """Until where the model can tell what the picture is, in words, with the figures.

    Args:
        t, signal: timestep and alpha_bar of each noise level, from little noise to much.
        alike: what one look has in common with the picture at each level, 0 to 1.
        told: whether the model was told the prompt.
    """
    look = "one look, told the prompt," if told else "one look"
    if not alike or alike[0] is None:
        return "" if not alike else "This picture is a single colour, so there is nothing in it to recognise."
    kept = next((i for i, share in enumerate(alike) if (share or 0.0) <= HALF), len(alike))
    if kept == 0:
        return (
            f"Even at the least noise of this run (t = {t[0]:.0f}, {percent(1 - signal[0])} noise) the model's "
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


def film(page: Page, trace: Trace, k: int, noisy: Noisy) -> dict[str, Any]:
    """The panel's value without the model's looks: noised pictures, and the run's own at the same t."""
    request = trace.request
    nearest = [min(range(len(trace.steps)), key=lambda i: abs(trace.steps[i].timestep - t)) for t in noisy.t]
    backwards = page.backend.decode(request.model, np.concatenate([trace.vp(i)[k : k + 1] for i in nearest]))
    return {
        **key(trace, k),
        "state": "open",
        "labels": [
            f"t = {t:.0f} of {LAST_T} · {percent(kept)} picture, {percent(1 - kept)} noise"
            for t, kept in zip(noisy.t, noisy.signal, strict=True)
        ],
        "noised": [picture_uri(frame, SIDE) for frame in noisy.frames],
        "run": [picture_uri(frame, SIDE) for frame in backwards],
        "steps": nearest,
        "step_labels": [f"step {i + 1} of {len(trace.steps)}, t = {trace.steps[i].timestep:.0f}" for i in nearest],
        "looks": [],
        "alike": [],
        "verdict": "",
        "text": "",
    }


def key(trace: Trace, k: int) -> dict[str, Any]:
    """What the page tells one picture's values from another's by."""
    return {"key": f"{trace.id} {k}"}


def looked(page: Page, trace: Trace, noisy: Noisy, told: bool) -> tuple[list[Image.Image], Values]:
    """The model's belief from one look at each noise level, and its likeness to the picture."""
    request = trace.request
    beliefs = page.backend.believe(request.model, noisy.x_t, noisy.t, request.prompt if told else "")
    images = page.backend.decode(request.model, np.asarray(beliefs, np.float32))
    return images, [likeness(noisy.clean, image) for image in images]


def figures(noisy: Noisy, alike: Values) -> tuple[list[Any], dict[str, Any]]:
    """The two figures over t, and where their cursor stands at each noise level."""
    across = Axis(0.0, float(LAST_T))
    ratio: Values = [kept / (1 - kept) if 0 < kept < 1 else None for kept in noisy.signal]
    unit, steep = Axis(0.0, 1.06), axis_for(ratio, log=True)
    lines = [Line(noisy.signal, "picture left")] + ([Line(alike, "one look alike")] if alike else [])
    drawn = [
        draw(noisy.t, lines, (across, unit), "timestep t"),
        draw(noisy.t, [Line(ratio)], (across, steep), "timestep t"),
    ]
    pointers = {
        "at": [across.share(t) for t in noisy.t],
        "signal": [unit.share(kept) for kept in noisy.signal],
        "snr": [steep.share(v) for v in ratio],
    }
    return drawn, pointers


def story(page: Page, trace: Trace, k: int, asked: Asked) -> Iterator[tuple[dict[str, Any], list[Any] | None]]:
    """The panel's values one after the other, each with its figures (None: as they are); ends with the whole."""
    yield {**key(trace, k), "state": "busy", "text": "Adding noise to the picture"}, None
    try:
        noisy = add_noise(page, trace, k, clean_latents(page, trace, k, asked))
        value = film(page, trace, k, noisy)
        drawn, pointers = figures(noisy, [])
        value |= {"pointers": pointers}
        if not asked.looking:
            each = trace.seconds / len(trace.steps)
            text = FOR_SLOW.format(seconds=words.seconds(each * len(noisy.t)), each=words.seconds(each))
            yield {**value, "text": text}, drawn
            return
        yield (
            {**value, "asking": True, "text": f"Asking the model what it makes of each of {len(noisy.t)} noise levels"},
            drawn,
        )
        images, alike = looked(page, trace, noisy, asked.told)
    except (LookFailed, InvalidRequest) as problem:
        yield {**key(trace, k), "state": "failed", "text": str(problem)}, None
        return
    drawn, _ = figures(noisy, alike)
    looks = {
        "looks": [picture_uri(image, SIDE) for image in images],
        "alike": ["" if share is None else f"{share:.0%} in common with the picture" for share in alike],
        "verdict": verdict(noisy.t, noisy.signal, alike, asked.told),
    }
    yield {**value, **looks}, drawn


def build(page: Page, opened: gr.State) -> Panel:
    """The panel: whose picture, its noise levels under a slider, and the noise schedule."""
    gr.HTML(html_template=_LEAD, js_on_load=None, apply_default_css=False)
    with gr.Row(elem_id="forward-asks"):
        source = gr.Radio(
            [("This picture", THIS), ("A picture of mine", UPLOAD)],
            value=THIS,
            label="Add noise to",
            elem_id="forward-source",
            elem_classes="segments",
        )
        told = gr.Checkbox(
            False,
            label="Tell the model the prompt",
            info="Off: it has only the noisy picture to go by.",
            elem_id="told",
        )
        ask = gr.Button("Ask the model", size="sm", visible=False, elem_id="forward-ask")
    upload = Dropped(
        label="A picture of mine",
        type="filepath",
        sources=["upload", "clipboard"],
        height=200,
        visible=False,
        elem_id="forward-upload",
    )
    panel = gr.HTML(
        None, html_template=_TEMPLATE, js_on_load=script("forward.js"), elem_id="forward", apply_default_css=False
    )
    plots = []
    with gr.Row(elem_id="forward-charts"):
        for name, head in (("signal", _SIGNAL), ("snr", _RATIO)):
            with gr.Column(elem_id=f"forward-{name}", elem_classes="chart", min_width=0):
                gr.HTML(html_template=head, js_on_load=None, apply_default_css=False)
                plots.append(graph(f"graph-{name}"))
    wire(page, opened, Parts(source, told, ask, upload, panel, plots))

    def refresh(value: Any) -> tuple[Any, ...]:
        found = chosen(page, value)
        if found is None:
            return None, gr.Button(visible=False)
        # The page asks for the rest when the panel comes into view.
        return {**key(*found), "state": "closed"}, gr.Button(visible=slow(found[0]))

    return Panel(refresh, [panel, ask])


@dataclass(frozen=True)
class Parts:
    """The components of the panel."""

    source: gr.Radio
    told: gr.Checkbox
    ask: gr.Button
    upload: gr.Image
    panel: gr.HTML
    plots: list[gr.Plot]


def wire(page: Page, opened: gr.State, parts: Parts) -> None:
    """Everything that asks for other pictures."""
    inputs = [opened, parts.source, parts.upload, parts.told]
    outputs = [parts.panel, *parts.plots]

    def tell(value: Any, source: Any, upload: Any, told: Any, *, looking: bool) -> Iterator[Any]:
        found = chosen(page, value)
        if found is None:
            yield [gr.skip() for _ in outputs]
            return
        asked = Asked(source, upload, bool(told), looking or not slow(found[0]))
        for sheet, drawn in story(page, *found, asked):
            yield [sheet, *(drawn or [gr.skip() for _ in parts.plots])]

    def by_itself(*values: Any) -> Iterator[Any]:
        yield from tell(*values, looking=False)

    def on_request(*values: Any) -> Iterator[Any]:
        yield from tell(*values, looking=True)

    own: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
    quick: dict[str, Any] = {**own, "queue": False}
    late: dict[str, Any] = {**own, "trigger_mode": "always_last", "concurrency_limit": None}
    parts.source.input(lambda v: gr.Image(visible=v == UPLOAD), [parts.source], [parts.upload], **quick)
    # The script asks once for each picture that is opened, and drops what is about another one.
    parts.panel.open(by_itself, inputs, outputs, **{**late, "trigger_mode": "multiple"})
    changed = [parts.source.input, parts.upload.upload, parts.upload.clear, parts.told.input]
    gr.on(changed, by_itself, inputs, outputs, **late)
    parts.ask.click(on_request, inputs, outputs, **late)
