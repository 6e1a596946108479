"""A tab's form: its sections, and the one request that their values make."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import gradio as gr
from gradio.components import Component

from pipelines.jobs.backend import KeepFailed, QueueFull
from pipelines.request import GenerationRequest, InvalidRequest, make_request
from pipelines.request_errors import TRY_AGAIN
from ui.components.message import message
from ui.components.next_steps import next_step
from ui.form import controls
from ui.form.controls import Controls
from ui.form.styles.composing import composed
from ui.server.current_user import current_user

if TYPE_CHECKING:
    from pipelines.jobs.job import Job
    from ui.context import PageContext
    from ui.form.sampling_presets import SavedPresets

Updates = dict[Component, Any]


class FormValues(dict[Component, Any]):
    """The form's values, keyed by component.

    Attributes:
        new_seed: whether a new seed is to be drawn, even if the seed is locked.
    """

    def __init__(self, values: Mapping[Component, Any], *, new_seed: bool = False) -> None:
        super().__init__(values)
        self.new_seed = new_seed


@dataclass(frozen=True)
class FormSection:
    """A part of the form; a section gives only what it needs.

    Attributes:
        inputs: the components whose values ``fields`` reads.
        fields: values -> fields of the request by their flat names (``controls.request_of``); raises InvalidRequest.
        errors: the sentences about what is wrong with this section.
        show_error: an invalid request -> updates that show it here, or None if its field is another section's.
        updates: a request and a value of the stage -> updates that go along with that value.
        outputs: the components that ``show_error``, ``updates`` and ``started`` change, besides ``errors``.
        started: updates once a run is accepted.
        reuse: a request -> the job that made it already, with updates, or None to submit it.
        below_stage: components that are rendered below the stage.
        kept: ticks, choices, sliders, numbers and texts that survive a reload (``memory``).
        offered: what a kept list offers now, where that changes while the program runs.
        brought_back: kept values that a reload brings back -> updates of them and of ``follows``: what is not built yet
            announces no change.
        follows: what ``brought_back`` updates besides ``kept``.
        fixes: by what ``NEXT_STEPS`` calls it, the form's values -> updates that mend an error of this section.
        in_use_of, in_use: components, and their values -> what of this section is in use, as (label, id of its control
            in the drawer of guides), for the line above the prompt.
        wire: attaches the section's own events once the form is complete.
    """

    inputs: frozenset[Component]
    fields: Callable[[FormValues], dict[str, Any]]
    errors: tuple[gr.HTML, ...] = ()
    show_error: Callable[[InvalidRequest], Updates | None] = lambda problem: None
    updates: Callable[[GenerationRequest, Mapping[str, Any]], Updates] = lambda request, stage_value: {}
    outputs: tuple[Component, ...] = ()
    started: Callable[[], Updates] = dict
    reuse: Callable[[GenerationRequest], tuple[Job, Updates] | None] = lambda request: None
    below_stage: tuple[gr.HTML, ...] = ()
    kept: tuple[Component, ...] = ()
    offered: Mapping[Component, Callable[[], Collection[str]]] = field(default_factory=dict)
    brought_back: Callable[[Mapping[Component, Any]], dict[Any, Any]] = lambda values: {}
    follows: tuple[Any, ...] = ()
    fixes: Mapping[str, Callable[[FormValues], Updates]] = field(default_factory=dict)
    in_use_of: tuple[Component, ...] = ()
    in_use: Callable[[Mapping[Component, Any]], list[tuple[str, str]]] = lambda values: []
    wire: Callable[[Form], None] = lambda form: None


# Fields of a request by the names of their controls, for sentences; the numbers of lists are left out.
LABELS: Mapping[str, str] = {
    "prompt": "Prompt", "negative_prompt": "Negative prompt", "num_inference_steps": "Steps",
    "guidance_scale": "Guidance scale", "scheduler": "Scheduler", "width": "Width", "height": "Height", "seed": "Seed",
    "num_images": "Pictures", "model": "Model", "strength": "Strength", "feather": "Feather", "padding": "Padding",
    "variation.strength": "Variation strength", "variation.seed": "Seed to go towards",
    "interpolation.prompt": "Other prompt", "interpolation.seed": "Other seed", "controls.net": "ControlNet",
    "controls.weight": "Weight", "controls.start": "Start", "controls.end": "End", "reference.adapter": "IP-Adapter",
    "reference.weight": "Weight", "colour": "Colour",
}  # fmt: skip


def said(problem: Exception) -> str:
    """A problem as the page says it: a field has the name of its control."""
    if not isinstance(problem, InvalidRequest):
        return str(problem)
    return problem.named(next((LABELS[key] for key in keys_of(problem.field) if key in LABELS), ""))


def shown(problem: Exception) -> str | dict[str, Any]:
    """A problem as a value of ``message``: its sentence, with a button for the next step where there is one."""
    step: dict[str, Any] = {}
    if isinstance(problem, InvalidRequest):
        step = next_step(problem.remedy)
    elif isinstance(problem, QueueFull | KeepFailed):
        step = next_step(TRY_AGAIN)
    return {"text": said(problem), **step} if step else said(problem)


def keys_of(field: str) -> tuple[str, ...]:
    """A field in tables of controls: its path without numbers, without its first part, and its first part."""
    path = [part for part in field.split(".") if not part.isdigit()]
    return ".".join(path), ".".join(path[1:]) or field, path[0] if path else ""


def error_of(control: str) -> gr.HTML:
    """Where a sentence about one control stands, right below it: ``control`` is its element's id."""
    return message(elem_id=f"{control}-error", alert=True, of=control)


def shows_errors_of(
    fields: frozenset[str], error: gr.HTML, accordion: gr.Accordion | None = None
) -> Callable[[InvalidRequest], Updates | None]:
    """A ``show_error`` for some fields of the request; nested fields go with their first part.

    Args:
        fields: names of fields, such as "controls"; "" is the request as a whole.
        error: where the sentence is shown.
        accordion: what is opened, so that the sentence is visible.
    """

    def show_error(problem: InvalidRequest) -> Updates | None:
        if problem.field.partition(".")[0] not in fields:
            return None
        return {error: shown(problem), **({} if accordion is None else {accordion: gr.Accordion(open=True)})}

    return show_error


def shows_errors_beside(
    errors: Mapping[str, gr.HTML], otherwise: gr.HTML, fields: frozenset[str], accordion: gr.Accordion
) -> Callable[[InvalidRequest], Updates | None]:
    """A ``show_error`` for controls that each have a sentence of their own.

    Args:
        errors: by field of the request, nested ones by their path without numbers ("controls.weight").
        otherwise: for the other ``fields``.
        fields: names of fields; "" is the request as a whole.
        accordion: what is opened, so that the sentence is visible.
    """

    def show_error(problem: InvalidRequest) -> Updates | None:
        whole, rest, first = keys_of(problem.field)
        if first not in fields and first not in errors:
            return None
        error = next((errors[key] for key in (whole, rest, first) if key in errors), otherwise)
        return {error: shown(problem), accordion: gr.Accordion(open=True)}

    return show_error


@dataclass(frozen=True)
class Form:
    """A tab's form.

    Attributes:
        page: what every tab is given.
        controls: the controls that all forms have.
        stage: where the picture forms.
        settings: the accordion with the less used controls.
        excluded_schedulers: says which schedulers the model rules out.
        in_sight: what is in use, on one line above the prompt.
        summary: pictures, seed and guidance, below Generate.
        sizes, samplers, lora_cards: choosers in Settings.
        recent: the last pictures of this browser.
        run_error: the sentence below Generate, for errors that belong to no section.
        next_steps: does what the buttons next to errors say.
        sections: where the request comes from; on equal fields a later one overrides an earlier one.
        chosen_styles: names of the chosen styles, as JSON.
        sampling_presets: the user's presets of scheduler, steps and guidance.
        errors: the sentences about shared controls, by field of the request.
    """

    page: PageContext
    controls: Controls
    stage: gr.HTML
    generate: gr.Button
    stop: gr.Button
    dice: gr.Button
    lora: gr.Dropdown
    settings: gr.Accordion
    vocabulary_hints: gr.HTML
    prompt_examples: gr.HTML
    prompt_builder: gr.HTML
    excluded_schedulers: gr.HTML
    run_error: gr.HTML
    next_steps: gr.HTML
    in_sight: gr.HTML
    summary: gr.HTML
    sizes: gr.HTML
    samplers: gr.HTML
    lora_cards: gr.HTML
    recent: gr.HTML
    sections: tuple[FormSection, ...]
    chosen_styles: gr.Textbox
    sampling_presets: SavedPresets
    errors: Mapping[str, gr.HTML]

    @property
    def inputs(self) -> set[Component]:
        """Every component that a request is made of, for an event's ``inputs``."""
        return {component for section in self.sections for component in section.inputs}

    @property
    def outputs(self) -> list[Component]:
        """Every component that a run updates, for an event's ``outputs``."""
        own = [self.stage, self.page.tab_job, self.page.latest_job, self.controls.seed]
        return list(dict.fromkeys([*own, *self.clear_errors(), *(o for s in self.sections for o in s.outputs)]))

    def request(self, values: FormValues) -> GenerationRequest:
        """The request that the sections make together; raises InvalidRequest, which names the field."""
        fields: dict[str, Any] = {}
        for section in self.sections:
            fields |= section.fields(values)
        return make_request(**composed(self.page, controls.request_fields(fields)))

    def submit(self, request: GenerationRequest) -> tuple[Job, Updates]:
        """The job of a request, one that a section has already or a new one, and updates.

        Raises:
            InvalidRequest, QueueFull, KeepFailed: with one sentence.
        """
        reused = next((found for section in self.sections if (found := section.reuse(request))), None)
        return reused or (self.page.backend.submit(request, current_user()), {})

    def show_error(self, problem: Exception) -> Updates:
        """Updates that show an error next to the control of its field, else below Generate."""
        placed: Updates | None = None
        if isinstance(problem, InvalidRequest):
            found = (section.show_error(problem) for section in reversed(self.sections))
            placed = next((updates for updates in found if updates is not None), None)
        return {**self.clear_errors(), **({self.run_error: shown(problem)} if placed is None else placed)}

    def clear_errors(self) -> Updates:
        """Updates that clear every error."""
        return {self.run_error: "", **{error: "" for section in self.sections for error in section.errors}}

    def started(self) -> Updates:
        """Updates once a run is accepted."""
        return {key: value for section in self.sections for key, value in section.started().items()}

    def stage_updates(self, request: GenerationRequest, stage_value: Mapping[str, Any]) -> Updates:
        """A value of the stage, and what the sections show along with it."""
        updates: Updates = {self.stage: stage_value}
        for section in self.sections:
            updates |= section.updates(request, stage_value)
        return updates
