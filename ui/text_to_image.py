"""Text to image: describe a picture, watch it form, keep it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr
from gradio.components import Component

from pipelines.backend import Job, QueueFull
from pipelines.cards import ModelCard
from pipelines.request import MAX_SEED, InvalidRequest
from ui import controls, stream, words
from ui.controls import Controls
from ui.film import film
from ui.lexicon import lexicon, lexicon_value
from ui.plain import sentence
from ui.reel import Films

if TYPE_CHECKING:
    from pipelines.backend import Backend
    from pipelines.lenses import Decode
    from pipelines.trace import Trace

# What ``Page.opened`` holds for the generation that comes with the model, and what the film calls it.
BUNDLED = "bundled"
RECORDING = "recording"

SETTINGS_FIELDS = (
    "negative_prompt", "num_inference_steps", "guidance_scale", "scheduler", "width", "height", "seed", "model", "This",
)  # fmt: skip
# Handlers are the page's own; they check their values all the same, since visibility is no access control.
OWN: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
QUICK: dict[str, Any] = {**OWN, "queue": False}
WATCH: dict[str, Any] = {**OWN, "concurrency_limit": None}


@dataclass(frozen=True)
class Page:
    """What every tab is given.

    Attributes:
        blocks: the page that is being built.
        tab: the tab that is being built.
        tabs: the row of tabs; ``gr.Tabs(selected="denoising")`` as its update goes there.
        job: id of this browser's last job.
        opened: what the denoising tab shows, ``{"id": of a job or BUNDLED, "picture": from 0}`` or None.
        bundled: the generation that comes with the default model.
        films: lenses that were drawn before.
    """

    blocks: gr.Blocks
    backend: Backend
    cards: Mapping[str, ModelCard]
    default_model: str
    pictures_dir: Path
    tab: gr.Tab
    tabs: gr.Tabs
    job: gr.BrowserState
    opened: gr.State
    bundled: Trace | None
    films: Films

    def trace(self, opened: Any) -> Trace | None:
        """The trace that a value of ``opened`` names, or None."""
        name = opened.get("id") if isinstance(opened, dict) else None
        if name == BUNDLED:
            return self.bundled
        return self.backend.trace(name) if isinstance(name, str) else None

    def decode(self, trace: Trace) -> Decode:
        """What turns this trace's latents into pictures with its own model."""
        return lambda latents: self.backend.decode(trace.request.model, latents)


@dataclass(frozen=True)
class Tab:
    """The components of this tab."""

    controls: Controls
    film: gr.HTML
    generate: gr.Button
    stop: gr.Button
    dice: gr.Button
    settings: gr.Accordion
    lexicon: gr.HTML
    left_out: gr.HTML
    prompt_error: gr.HTML
    settings_error: gr.HTML
    run_error: gr.HTML
    job: gr.BrowserState

    def errors(self) -> dict[Component, Any]:
        """Updates that clear every error."""
        return {self.prompt_error: "", self.settings_error: "", self.run_error: ""}


def build(page: Page) -> None:
    """Lay the tab out and wire it up."""
    tab = lay_out(page)
    wire_running(page, tab)
    wire_settings(page, tab)
    wire_inside(page, tab)


def lay_out(page: Page) -> Tab:
    """The left column asks, the right one shows; page.css reorders the groups on narrow screens."""
    card = page.cards[page.default_model]
    named: dict[str, Any] = {}
    with gr.Row(elem_id="desk"):
        with gr.Column(elem_id="asks"):
            with gr.Column(elem_id="ask-prompt"):
                named["prompt"] = controls.prompt_box(first_prompt(card))
                prompt_error = sentence(elem_id="prompt-error", alert=True)
                known = lexicon(card)
            with gr.Column(elem_id="ask-main"):
                named |= controls.main_controls(card)
            with gr.Column(elem_id="ask-go"):
                generate = gr.Button("Generate", variant="primary", elem_id="generate")
                stop = gr.Button("Stop", variant="stop", elem_id="stop")
                run_error = sentence(elem_id="run-error", alert=True)
            with gr.Accordion("Settings", open=False, elem_id="settings") as settings:
                settings_error = sentence(elem_id="settings-error", alert=True)
                named |= controls.sampling_controls(card)
                left_out = sentence(controls.not_offered(card), elem_id="left-out")
                named |= controls.size_controls(card)
                seeds, dice = controls.seed_controls()
                named |= seeds
                named["model"] = controls.model_control(page.cards, card.id)
        with gr.Column(elem_id="shows"):
            stage = film()
    return Tab(
        Controls(**named), stage, generate, stop, dice, settings, known, left_out,
        prompt_error, settings_error, run_error, page.job,
    )  # fmt: skip


def first_prompt(card: ModelCard) -> str:
    """The prompt that a first visit finds filled in: the recording's, else the card's first."""
    recorded = words.recording(card)
    return (recorded.request.prompt if recorded else "") or next(iter(card.prompts), "")


def explain(tab: Tab, problem: Exception) -> dict[Component, Any]:
    """Updates that put an error beside what caused it."""
    text = str(problem)
    if text.startswith("prompt "):
        return {**tab.errors(), tab.prompt_error: text}
    if isinstance(problem, InvalidRequest) and text.startswith(SETTINGS_FIELDS):
        return {**tab.errors(), tab.settings_error: text, tab.settings: gr.Accordion(open=True)}
    return {**tab.errors(), tab.run_error: text}


def show(tab: Tab, job: Job) -> Iterator[dict[Component, Any]]:
    """Film updates until the job is over."""
    for value in stream.watch(job):
        yield {tab.film: value}


def wire_running(page: Page, tab: Tab) -> None:
    """Generate, again, stop, and finding the job after a reload."""
    asked = tab.controls.all()
    told = [tab.film, tab.job, tab.controls.seed, *tab.errors(), tab.settings]

    def run(values: dict[Component, Any], *, new_seed: bool) -> Iterator[dict[Component, Any]]:
        try:
            request = controls.request_of(tab.controls.named(values), new_seed=new_seed)
            job = page.backend.submit(request)
        except (InvalidRequest, QueueFull) as problem:
            yield explain(tab, problem)
            return
        yield {**tab.errors(), tab.job: job.id, tab.controls.seed: str(request.sampling.seed)}
        yield from show(tab, job)

    def generate(values: dict[Component, Any]) -> Iterator[dict[Component, Any]]:
        yield from run(values, new_seed=False)

    def again(values: dict[Component, Any]) -> Iterator[dict[Component, Any]]:
        yield from run(values, new_seed=True)

    def attach(job_id: Any) -> Iterator[dict[Component, Any]]:
        page.backend.warm_up(page.default_model)
        if (job := find(page.backend, job_id)) is not None:
            yield from show(tab, job)
        elif page.bundled is not None:
            yield {tab.film: stream.replay(page.bundled)}

    def stop(job_id: Any) -> None:
        if (job := find(page.backend, job_id)) is not None:
            job.cancel()

    tab.generate.click(generate, asked, told, **WATCH)
    tab.film.again(again, asked, told, **WATCH)
    tab.stop.click(stop, [tab.job], None, **QUICK)
    page.blocks.load(attach, [tab.job], told, **WATCH)


def wire_inside(page: Page, tab: Tab) -> None:
    """Look inside: what is on the film opens in the denoising tab."""

    def look(job_id: Any, data: gr.EventData) -> tuple[Any, Any]:
        run, k = getattr(data, "run", None), getattr(data, "picture", 0)
        name = BUNDLED if run == RECORDING else run if isinstance(run, str) else job_id
        k = k if isinstance(k, int) and not isinstance(k, bool) and k >= 0 else 0
        return gr.Tabs(selected="denoising"), {"id": name, "picture": k}

    # Queued, although quick: Gradio tells of a changed state on this way alone.
    tab.film.inside(look, [tab.job], [page.tabs, page.opened], **WATCH)


def find(backend: Backend, job_id: Any) -> Job | None:
    """The job with this id, if it is one."""
    return backend.find(job_id) if isinstance(job_id, str) else None


def wire_settings(page: Page, tab: Tab) -> None:
    """What one control does to another."""
    c = tab.controls

    def choose_quality(model: Any, quality: Any) -> dict[Component, Any]:
        card = page.cards.get(model)
        if card is None or quality not in card.qualities:
            return {}
        chosen = card.qualities[quality]
        return {
            c.num_inference_steps: chosen.num_inference_steps,
            c.scheduler: gr.Dropdown(value=chosen.scheduler, info=controls.about_scheduler(chosen.scheduler)),
        }

    def tune(model: Any, scheduler: Any, steps: Any) -> tuple[Any, Any]:
        card = page.cards.get(model)
        quality = controls.quality_of(card, scheduler, steps) if card else None
        return quality, gr.Dropdown(info=controls.about_scheduler(scheduler))

    def guide(guidance: Any) -> Any:
        off = isinstance(guidance, int | float) and guidance <= 1
        return gr.Textbox(interactive=not off, info=controls.NO_NEGATIVE if off else controls.NEGATIVE)

    def keep(data: gr.EventData) -> tuple[Any, Any]:
        text = str(getattr(data, "seed", ""))
        fits = text.isascii() and text.isdigit() and len(text) <= 19 and int(text) <= MAX_SEED
        return (text, True) if fits else (gr.skip(), gr.skip())

    def change_model(model: Any, prompt: Any) -> dict[Component, Any]:
        return model_defaults(page, tab, model, prompt)

    c.quality.input(choose_quality, [c.model, c.quality], [c.num_inference_steps, c.scheduler], **QUICK)
    tuned = [c.model, c.scheduler, c.num_inference_steps]
    last: dict[str, Any] = {**QUICK, "trigger_mode": "always_last"}
    gr.on([c.scheduler.input, c.num_inference_steps.change], tune, tuned, [c.quality, c.scheduler], **last)
    c.guidance_scale.change(guide, [c.guidance_scale], [c.negative_prompt], **last)
    tab.dice.click(lambda: str(controls.draw_seed()), None, [c.seed], **QUICK)
    tab.film.keep(keep, None, [c.seed, c.keep_seed], **QUICK)
    changed = [*c.all() - {c.seed, c.keep_seed, c.num_images}, tab.lexicon, tab.left_out]
    c.model.input(change_model, [c.model, c.prompt], changed, **QUICK)


def model_defaults(page: Page, tab: Tab, model: Any, prompt: Any) -> dict[Component, Any]:
    """Updates for a model that was just chosen: everything that its card decides."""
    card = page.cards.get(model) if isinstance(model, str) else None
    if card is None:
        return {}
    c, quality = tab.controls, card.qualities[card.default_quality]
    examples = {text for other in page.cards.values() for text in other.prompts}
    own_prompt = isinstance(prompt, str) and prompt.strip() and prompt not in examples
    return {
        c.prompt: prompt if own_prompt else first_prompt(card),
        c.model: gr.Dropdown(info=controls.about_model(card)),
        c.quality: gr.Radio(controls.qualities(card), value=card.default_quality, info=words.cost(card)),
        c.num_inference_steps: quality.num_inference_steps,
        c.guidance_scale: card.guidance_scale,
        c.scheduler: gr.Dropdown(
            controls.offered(card), value=quality.scheduler, info=controls.about_scheduler(quality.scheduler)
        ),
        c.width: gr.Number(card.width, step=card.size_factor, info=controls.about_size(card)),
        c.height: gr.Number(card.height, step=card.size_factor),
        tab.lexicon: lexicon_value(card),
        tab.left_out: controls.not_offered(card),
    }
