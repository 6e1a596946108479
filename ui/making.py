"""What the tabs that make pictures share: the desk with its controls, and the way of a request from it to the film."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr
from gradio.components import Component

from pipelines.backend import Job, KeepFailed, QueueFull
from pipelines.cards import ModelCard
from pipelines.request import MAX_SEED, GenerationRequest, InvalidRequest
from ui import controls, hints, stream, words
from ui.controls import Controls
from ui.lexicon import lexicon, lexicon_value
from ui.panel import carried, script
from ui.plain import sentence
from ui.reel import Films
from ui.visiting import visitor

if TYPE_CHECKING:
    from pipelines.backend import Backend
    from pipelines.lenses import Decode
    from pipelines.trace import Trace
    from presets.library import Library
    from ui.sharing import Sharing

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
# Gradio asks for a secret; a job's id is unguessable by itself.
SECRET = "diffusion-playground"


@dataclass(frozen=True)
class Page:
    """What every tab is given.

    What a browser remembers is laid out outside of the tabs: what is in a tab is read only when that is first opened.

    Attributes:
        blocks: the page that is being built.
        tab: the tab that is being built.
        tabs: the row of tabs; ``gr.Tabs(selected="denoising")`` as its update goes there.
        job: id of this browser's last job, whichever tab asked for it.
        made: id of this tab's last job.
        links: the chain of pictures that this browser's runs started from (``ui.chain``).
        opened: what the denoising tab shows, ``{"id": of a job or BUNDLED, "picture": from 0}`` or None.
        sent: what was sent to the image-to-image tab, ``{"id", "picture", "at"}`` or None.
        picked: what was chosen in the Models tab, ``{"model", "prompt", "at"}`` or None.
        bundled: the generation that comes with the default model.
        films: lenses that were drawn before.
        sharing: makes public links; None where there is nothing to be shared.
    """

    blocks: gr.Blocks
    backend: Backend
    library: Library
    default_model: str
    pictures_dir: Path
    tab: gr.Tab
    tabs: gr.Tabs
    job: gr.BrowserState
    made: gr.BrowserState
    links: gr.BrowserState
    opened: gr.State
    sent: gr.State
    picked: gr.State
    bundled: Trace | None
    films: Films
    sharing: Sharing | None = None

    @property
    def cards(self) -> Mapping[str, ModelCard]:
        """Every model that is known, by id."""
        return self.library.cards

    def card(self, model: Any) -> ModelCard | None:
        """The card that a control's value names, or None."""
        return self.cards.get(model) if isinstance(model, str) else None

    def trace(self, opened: Any) -> Trace | None:
        """The trace that a value of ``opened`` names, or None."""
        name = opened.get("id") if isinstance(opened, dict) else None
        if name == BUNDLED:
            return self.bundled
        return self.backend.trace(name, visitor()) if isinstance(name, str) else None

    def decode(self, trace: Trace) -> Decode:
        """What turns this trace's latents into pictures with its own model."""
        return lambda latents: self.backend.decode(trace.request.model, latents)


@dataclass(frozen=True)
class Desk:
    """The components that make pictures in a tab; ``mine`` holds the id of the tab's last job."""

    controls: Controls
    film: gr.HTML
    generate: gr.Button
    stop: gr.Button
    dice: gr.Button
    lora: gr.Dropdown
    settings: gr.Accordion
    hints: gr.HTML
    lexicon: gr.HTML
    left_out: gr.HTML
    prompt_error: gr.HTML
    settings_error: gr.HTML
    run_error: gr.HTML
    mine: gr.BrowserState

    def errors(self) -> dict[Component, Any]:
        """Updates that clear every error."""
        return {self.prompt_error: "", self.settings_error: "", self.run_error: ""}


@dataclass(frozen=True)
class Asking:
    """What a tab adds to its desk.

    Attributes:
        inputs: components whose values ``request_of`` reads, the desk's controls among them.
        outputs: components that the other functions update.
        request_of: values, and whether a new seed is wanted -> the request; raises InvalidRequest.
        explain: an error's text -> updates that put it beside its cause, or None when it belongs to the desk.
        clear: updates that clear this tab's own errors.
        shown: updates that go along with a value of the film.
        begun: updates once a run is accepted.
        submit: what makes the request, and updates that go along; None for a job of its own.
    """

    inputs: set[Component]
    outputs: list[Component]
    request_of: Callable[[Mapping[Component, Any], bool], GenerationRequest]
    explain: Callable[[str], dict[Component, Any] | None] = lambda text: None
    clear: Callable[[], dict[Component, Any]] = dict
    shown: Callable[[GenerationRequest, Mapping[str, Any]], dict[Component, Any]] = lambda request, value: {}
    begun: Callable[[], dict[Component, Any]] = dict
    submit: Callable[[GenerationRequest], tuple[Job, dict[Component, Any]]] | None = None


# -- laying out ----------------------------------------------------------------------------------------------------


@dataclass
class Parts:
    """The components of a desk while it is laid out, group by group; page.css orders the groups on narrow screens.

    Attributes:
        page: what every tab is given.
        prefix: of the tab's element ids.
        kept: whether the seed is kept unless someone says otherwise.
    """

    page: Page
    prefix: str = ""
    kept: bool = False

    def __post_init__(self) -> None:
        self.card = self.page.cards[self.page.default_model]
        self.named: dict[str, Any] = {}

    def prompt(self) -> None:
        """The prompt and the words that the model knows."""
        with gr.Column(elem_id=f"{self.prefix}ask-prompt", elem_classes="ask-prompt"):
            self.named["prompt"] = controls.prompt_box(first_prompt(self.card), self.prefix)
            self.prompt_error = sentence(elem_id=f"{self.prefix}prompt-error", alert=True)
            self.hints = hints.hints(self.prefix)
            self.lexicon = lexicon(self.card, self.prefix)

    def main(self) -> None:
        """Quality and number of pictures."""
        with gr.Column(elem_id=f"{self.prefix}ask-main", elem_classes="ask-main"):
            self.named |= controls.main_controls(self.card, self.prefix)

    def go(self) -> None:
        """Generate and Stop, in one place."""
        with gr.Column(elem_id=f"{self.prefix}ask-go", elem_classes="ask-go"):
            self.generate = gr.Button(
                "Generate", variant="primary", elem_id=f"{self.prefix}generate", elem_classes="go-make"
            )
            self.stop = gr.Button("Stop", variant="stop", elem_id=f"{self.prefix}stop", elem_classes="go-stop")
            self.run_error = sentence(elem_id=f"{self.prefix}run-error", alert=True)
            gr.HTML(html_template="<i></i>", js_on_load=script("keys.js"), elem_classes="keys", apply_default_css=False)

    def settings(self) -> None:
        """Everything else."""
        with gr.Accordion("Settings", open=False, elem_id=f"{self.prefix}settings", elem_classes="fold") as self.fold:
            self.settings_error = sentence(elem_id=f"{self.prefix}settings-error", alert=True)
            self.named |= controls.sampling_controls(self.card, self.prefix)
            self.left_out = sentence(controls.not_offered(self.card), elem_id=f"{self.prefix}left-out")
            self.named |= controls.size_controls(self.card, self.prefix)
            seeds, self.dice = controls.seed_controls(self.prefix, self.kept)
            self.named |= seeds
            self.lora = controls.lora_control(self.page.backend.loras(), self.prefix)
            self.named["model"] = controls.model_control(self.page.library.offered(), self.card, self.prefix)

    def desk(self, shown: gr.HTML) -> Desk:
        """The desk, once every group is there; ``shown`` is its film."""
        return Desk(
            Controls(**self.named), shown, self.generate, self.stop, self.dice, self.lora, self.fold, self.hints,
            self.lexicon, self.left_out, self.prompt_error, self.settings_error, self.run_error, self.page.made,
        )  # fmt: skip


def first_prompt(card: ModelCard) -> str:
    """The prompt that a first visit finds filled in: the recording's, else the card's first."""
    recorded = words.recording(card)
    return (recorded.request.prompt if recorded else "") or next(iter(card.prompts), "")


# -- running -------------------------------------------------------------------------------------------------------


def explain(desk: Desk, asking: Asking, problem: Exception) -> dict[Component, Any]:
    """Updates that put an error beside what caused it."""
    text = str(problem)
    clear = {**desk.errors(), **asking.clear()}
    if (found := asking.explain(text)) is not None:
        return {**clear, **found}
    if text.startswith("prompt "):
        return {**clear, desk.prompt_error: text}
    if isinstance(problem, InvalidRequest) and text.startswith(SETTINGS_FIELDS):
        return {**clear, desk.settings_error: text, desk.settings: gr.Accordion(open=True)}
    return {**clear, desk.run_error: text}


def show(desk: Desk, asking: Asking, job: Job) -> Iterator[dict[Component, Any]]:
    """Film updates until the job is over."""
    for value in stream.watch(job):
        yield {desk.film: value, **asking.shown(job.request, value)}


def run(
    page: Page, desk: Desk, asking: Asking, values: dict[Component, Any], *, new_seed: bool
) -> Iterator[dict[Component, Any]]:
    """Make what the values ask for: updates of the desk until it is there, or an error beside what caused it."""
    try:
        request = asking.request_of(values, new_seed)
        job, more = asking.submit(request) if asking.submit else (page.backend.submit(request, visitor()), {})
    except (InvalidRequest, QueueFull, KeepFailed) as problem:
        yield explain(desk, asking, problem)
        return
    more = {desk.controls.seed: str(request.sampling.seed), **more}
    yield {**desk.errors(), **asking.clear(), **asking.begun(), desk.mine: job.id, page.job: job.id, **more}
    yield from show(desk, asking, job)


def wire_running(page: Page, desk: Desk, asking: Asking, at_first: Callable[[], dict[str, Any] | None]) -> None:
    """Generate, again, stop, and finding the job after a reload.

    Args:
        at_first: the film's value where this browser has made nothing yet, or None.
    """

    def generate(values: dict[Component, Any]) -> Iterator[dict[Component, Any]]:
        yield from run(page, desk, asking, values, new_seed=False)

    def again(values: dict[Component, Any]) -> Iterator[dict[Component, Any]]:
        yield from run(page, desk, asking, values, new_seed=True)

    def attach(job_id: Any) -> Iterator[dict[Component, Any]]:
        page.backend.warm_up(page.default_model)
        if (job := find(page.backend, job_id)) is not None:
            yield from show(desk, asking, job)
        else:
            # A generator that ends without a value would empty every component.
            value = at_first()
            yield {desk.run_error: ""} if value is None else {desk.film: value}

    def stop(job_id: Any) -> None:
        if (job := find(page.backend, job_id)) is not None:
            job.cancel()

    own = [desk.film, desk.mine, page.job, desk.controls.seed, *desk.errors(), desk.settings]
    told = list(dict.fromkeys([*own, *asking.outputs]))
    # A component without children: one that shows progress is asked for its value, with all that it holds, at every
    # change of any event's state.
    run_on = {**WATCH, "show_progress_on": [desk.run_error]}
    desk.generate.click(generate, asking.inputs, told, **run_on)
    desk.film.again(again, asking.inputs, told, **run_on)
    desk.stop.click(stop, [desk.mine], None, **QUICK)
    page.blocks.load(attach, [desk.mine], told, **run_on)


def wire_onwards(page: Page, desk: Desk) -> None:
    """What is on the film goes on: into the denoising tab, or as the picture that the next one starts from."""

    def named(job_id: Any, data: gr.EventData) -> dict[str, Any]:
        run, k = carried(data, "run", None), carried(data, "picture", 0)
        name = BUNDLED if run == RECORDING else run if isinstance(run, str) else job_id
        return {"id": name, "picture": k if isinstance(k, int) and not isinstance(k, bool) and k >= 0 else 0}

    def look(job_id: Any, data: gr.EventData) -> tuple[Any, Any]:
        return gr.Tabs(selected="denoising"), named(job_id, data)

    def send(job_id: Any, data: gr.EventData) -> tuple[Any, Any]:
        # The time, so that the same picture can be sent twice.
        return gr.Tabs(selected="image-to-image"), {**named(job_id, data), "at": time.time()}

    # Queued, although quick: Gradio tells of a changed state on this way alone.
    here = {**WATCH, "show_progress_on": [desk.run_error]}
    desk.film.inside(look, [desk.mine], [page.tabs, page.opened], **here)
    desk.film.send(send, [desk.mine], [page.tabs, page.sent], **here)


def find(backend: Backend, job_id: Any) -> Job | None:
    """The job with this id, if it is one of whoever asks."""
    return backend.find(job_id, visitor()) if isinstance(job_id, str) else None


# -- settings ------------------------------------------------------------------------------------------------------


def wire_settings(page: Page, desk: Desk) -> None:
    """What one control does to another."""
    c = desk.controls

    def choose_quality(model: Any, quality: Any) -> dict[Component, Any]:
        card = page.card(model)
        if card is None or not isinstance(quality, str) or quality not in card.qualities:
            return {c.scheduler: gr.skip()}  # Gradio takes an empty dict for a value
        chosen = card.qualities[quality]
        return {
            c.num_inference_steps: chosen.num_inference_steps,
            c.scheduler: gr.Dropdown(value=chosen.scheduler, info=controls.about_scheduler(chosen.scheduler)),
        }

    def tune(model: Any, scheduler: Any, steps: Any) -> tuple[Any, Any]:
        card = page.card(model)
        quality = controls.quality_of(card, scheduler, steps) if card else None
        return quality, gr.Dropdown(info=controls.about_scheduler(scheduler))

    def guide(model: Any, guidance: Any) -> Any:
        info, on = controls.about_negative(page.card(model), guidance)
        return gr.Textbox(interactive=on, info=info)

    def keep(data: gr.EventData) -> tuple[Any, Any]:
        text = str(carried(data, "seed", ""))
        fits = text.isascii() and text.isdigit() and len(text) <= 19 and int(text) <= MAX_SEED
        return (text, True) if fits else (gr.skip(), gr.skip())

    def change_model(model: Any, prompt: Any) -> dict[Component, Any]:
        return model_defaults(page, desk, model, prompt) or {c.prompt: gr.skip()}

    def add_lora(prompt: Any, name: Any) -> tuple[str, None]:
        return controls.with_lora(prompt, name, page.backend.loras()), None

    desk.lora.input(add_lora, [c.prompt, desk.lora], [c.prompt, desk.lora], **QUICK)
    c.quality.input(choose_quality, [c.model, c.quality], [c.num_inference_steps, c.scheduler], **QUICK)
    tuned = [c.model, c.scheduler, c.num_inference_steps]
    last: dict[str, Any] = {**QUICK, "trigger_mode": "always_last"}
    # What a person changes: where a model's defaults come in, this would be asked with half of them.
    steps = c.num_inference_steps
    gr.on([c.scheduler.input, steps.input, steps.release], tune, tuned, [c.quality, c.scheduler], **last)
    gr.on([c.guidance_scale.change, c.model.change], guide, [c.model, c.guidance_scale], [c.negative_prompt], **last)
    desk.dice.click(lambda: str(controls.draw_seed()), None, [c.seed], **QUICK)
    desk.film.keep(keep, None, [c.seed, c.keep_seed], **QUICK)
    def refresh() -> tuple[Any, Any]:
        return gr.Dropdown(controls.model_choices(page.library.offered())), controls.lora_update(page.backend.loras())

    changed = [*c.all() - {c.seed, c.keep_seed, c.num_images}, desk.hints, desk.lexicon, desk.left_out]
    hints.wire(page, desk)
    c.model.input(change_model, [c.model, c.prompt], changed, **QUICK)
    # Models and LoRAs come and go while the page is open.
    gr.on([page.blocks.load, page.tab.select], refresh, None, [c.model, desk.lora], **QUICK)
    wire_picking(page, desk, changed)


def wire_picking(page: Page, desk: Desk, changed: list[Component]) -> None:
    """A model that was chosen in the Models tab, and perhaps one of its example prompts, come to this tab."""
    c, here = desk.controls, page.tab.id

    def pick(value: Any, prompt: Any) -> dict[Component, Any]:
        if not isinstance(value, dict) or value.get("tab") != here:
            return {desk.run_error: gr.skip()}
        text = value.get("prompt") or prompt
        updates = model_defaults(page, desk, value.get("model"), text)
        if not updates:
            return {desk.run_error: gr.skip()}
        chosen = page.cards[value["model"]]
        choices = controls.model_choices(page.library.offered())
        updates[c.model] = gr.Dropdown(choices, value=chosen.id, info=controls.about_model(chosen))
        return {**updates, **({c.prompt: text} if value.get("prompt") else {})}

    page.picked.change(pick, [page.picked, c.prompt], [*changed, desk.run_error], **WATCH)


def model_defaults(page: Page, desk: Desk, model: Any, prompt: Any) -> dict[Component, Any]:
    """Updates for a model that was just chosen: everything that its card decides."""
    card = page.card(model)
    if card is None:
        return {}
    c, quality = desk.controls, card.qualities[card.default_quality]
    examples = {text for other in page.cards.values() for text in other.prompts}
    own_prompt = isinstance(prompt, str) and prompt.strip() and prompt not in examples
    new_prompt = prompt if own_prompt else first_prompt(card) or prompt
    return {
        c.prompt: new_prompt,
        c.model: gr.Dropdown(info=controls.about_model(card)),
        c.quality: gr.Radio(controls.qualities(card), value=card.default_quality, info=words.cost(card)),
        c.num_inference_steps: gr.Slider(value=quality.num_inference_steps, info=controls.about_steps(card)),
        c.guidance_scale: gr.Slider(value=card.guidance_scale, info=controls.about_guidance(card)),
        c.scheduler: gr.Dropdown(
            controls.offered(card), value=quality.scheduler, info=controls.about_scheduler(quality.scheduler)
        ),
        c.width: gr.Number(card.width, step=card.size_factor, info=controls.about_size(card)),
        c.height: gr.Number(card.height, step=card.size_factor),
        desk.hints: hints.answer(card, new_prompt),
        desk.lexicon: lexicon_value(card),
        desk.left_out: controls.not_offered(card),
    }
