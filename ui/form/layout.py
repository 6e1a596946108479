"""Laying out a form, group by group."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import gradio as gr
from gradio.components import Component

from pipelines.cards import ModelCard
from ui.components import phrases
from ui.components.assets import asset
from ui.components.message import message
from ui.form import controls, sampling_presets, summary
from ui.form.choosing import in_sight, lora_cards, samplers, sizes
from ui.form.controls import Controls
from ui.form.form import Form, FormSection, FormValues, error_of, shows_errors_beside, shows_errors_of
from ui.form.prompt.builder import prompt_builder
from ui.form.prompt.examples import prompt_examples
from ui.form.prompt.hints import vocabulary_hints
from ui.form.prompt.shared import shared_prompt
from ui.form.styles import section as styles

if TYPE_CHECKING:
    from ui.context import PageContext

# The fields whose errors are shown in Settings; "" is the request as a whole, such as too much work.
SETTINGS_FIELDS = frozenset(
    {"negative_prompt", "prompt_syntax", "sampling", "num_inference_steps", "guidance_scale", "scheduler", "width",
     "height", "seed", "model", "num_images", ""}
)  # fmt: skip


@dataclass
class FormLayout:
    """The components of a form while it is laid out; page.css orders the groups on narrow screens.

    Attributes:
        page: what every tab is given.
        prefix: of the tab's element ids.
        keep_seed: whether the seed is kept at first.
        named: the shared controls by name.
        errors: what is wrong with one of them, by field of the request.
        sections: those that were laid out, in the order in which they are merged.
    """

    page: PageContext
    prefix: str = ""
    keep_seed: bool = False
    named: dict[str, Any] = field(default_factory=dict)
    errors: dict[str, gr.HTML] = field(default_factory=dict)
    sections: list[FormSection] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.card = self.page.cards[self.page.default_model]

    def prompt(self) -> None:
        """What is in use, the prompt, and the words that the model knows."""
        with gr.Column(elem_id=f"{self.prefix}prompt-group", elem_classes="prompt-group"):
            self.in_sight = in_sight.in_sight(in_sight.first_in_sight(self.page, self.card), self.prefix)
            self.named["prompt"] = controls.prompt_box(first_prompt(self.card), self.prefix)
            self.prompt_error = error_of(f"{self.prefix}prompt")
            shared_prompt(first_prompt(self.card))
            # Suggestions take the place of the examples, so that nothing below moves when they open.
            with gr.Column(elem_classes="prompt-help"):
                self.vocabulary_hints = vocabulary_hints(self.prefix)
                self.prompt_examples = prompt_examples(self.card, self.prefix)
            self.prompt_builder = prompt_builder(self.prefix)
            self.styles = styles.lay_out(self.prefix)
            self.sections.append(self.styles.section(self.page))

    def main(self) -> None:
        """The quality."""
        with gr.Column(elem_id=f"{self.prefix}quality-group", elem_classes="quality-group"):
            self.named["quality"] = controls.quality_control(self.card, self.prefix)

    def generate_and_stop(self) -> None:
        """Generate and Stop, in one place."""
        with gr.Column(elem_id=f"{self.prefix}generate-group", elem_classes="generate-group"):
            self.generate = gr.Button(
                "Generate", variant="primary", elem_id=f"{self.prefix}generate", elem_classes="generate-button"
            )
            self.stop = gr.Button("Stop", variant="stop", elem_id=f"{self.prefix}stop", elem_classes="stop-button")
            self.run_error = message(elem_id=f"{self.prefix}run-error", alert=True)
            self.summary = summary.summary(summary.first_value(self.page, self.card, self.keep_seed), self.prefix)
            self.next_steps = gr.HTML(
                html_template="<i></i>",
                js_on_load=asset("form/shortcuts.js", "form/next_steps.js"),
                elem_classes="keys",
                apply_default_css=False,
            )

    def settings(self) -> None:
        """The other shared controls, in an accordion; each has its errors right below it."""
        card, prefix = self.card, self.prefix
        classes = ["drawer", "settings"]
        with gr.Accordion("All settings", open=False, elem_id=f"{prefix}settings", elem_classes=classes) as accordion:
            self.accordion = accordion
            self.settings_error = message(elem_id=f"{prefix}settings-error", alert=True)
            self._add("model", controls.model_control(self.page.library.available(), card, prefix))
            self._group("What to draw")
            self._add("negative_prompt", controls.negative_control(card, prefix))
            self._add("prompt_syntax", controls.syntax_control(card, prefix))
            self.lora = controls.lora_control(self.page.backend.adapters.loras(), prefix)
            self.lora_cards = lora_cards.lora_cards(prefix)
            self._group("How the noise is removed")
            self._add("num_inference_steps", controls.steps_control(card, prefix))
            self._add("guidance_scale", controls.guidance_control(card, prefix))
            self._add("scheduler", controls.scheduler_control(card, prefix))
            self.samplers = samplers.samplers(self.page, card, prefix)
            self.sampling_presets = sampling_presets.lay_out(self.page, prefix)
            self.excluded_schedulers = message(controls.not_offered(card), elem_id=f"{prefix}excluded-schedulers")
            self._group("Size and number")
            self.sizes = sizes.sizes(self.page, card, prefix)
            self.named |= controls.size_controls(card, prefix)
            self.errors |= {name: error_of(prefix + name) for name in ("width", "height")}
            self._add("num_images", controls.count_control(prefix))
            self._group("The noise it starts from")
            seeds, self.dice = controls.seed_controls(prefix, self.keep_seed)
            self.named |= seeds
            self.errors["seed"] = error_of(f"{prefix}seed")

    def _add(self, name: str, control: Component) -> None:
        """A control that was just laid out, and below it the sentence about what is wrong with it."""
        self.named[name] = control
        self.errors[name] = error_of(control.elem_id or "")

    def _group(self, title: str) -> None:
        gr.HTML(html_template=f"<h3>{title}</h3>", js_on_load=None, elem_classes="group-head", apply_default_css=False)

    def below_stage(self) -> list[gr.HTML]:
        """The sections' components that belong below the stage."""
        return [component for section in self.sections for component in section.below_stage]

    def form(self, stage: gr.HTML, recent: gr.HTML) -> Form:
        """The form, once every group is there."""
        shared = Controls(**self.named)
        own = (prompt_section(shared, self.prompt_error), self._settings_section(shared))
        return Form(
            self.page, shared, stage, self.generate, self.stop, self.dice, self.lora, self.accordion,
            self.vocabulary_hints, self.prompt_examples, self.prompt_builder, self.excluded_schedulers, self.run_error,
            self.next_steps, self.in_sight, self.summary, self.sizes, self.samplers, self.lora_cards, recent,
            (*own, *self.sections), self.styles.chosen,
            self.sampling_presets, self.errors,
        )  # fmt: skip

    def _settings_section(self, shared: Controls) -> FormSection:
        show_error = shows_errors_beside(self.errors, self.settings_error, SETTINGS_FIELDS, self.accordion)
        inputs, outputs = frozenset(shared.all()), (self.accordion,)
        errors = tuple(dict.fromkeys([self.settings_error, *self.errors.values()]))
        return FormSection(inputs, partial(shared_fields, shared), errors, show_error, outputs=outputs)


def shared_fields(shared: Controls, values: FormValues) -> dict[str, Any]:
    """What the shared controls give; a new seed overrules the lock."""
    named = shared.named(values)
    return {**named, "keep_seed": named["keep_seed"] and not values.new_seed}


def prompt_section(shared: Controls, error: gr.HTML) -> FormSection:
    """The prompt, whose errors are shown right below it."""
    return FormSection(
        frozenset({shared.prompt}),
        lambda values: {"prompt": values[shared.prompt]},
        (error,),
        shows_errors_of(frozenset({"prompt"}), error),
    )


def first_prompt(card: ModelCard) -> str:
    """The prompt that is filled in at a first visit: the recording's, else the card's first."""
    recorded = phrases.recording(card)
    return (recorded.request.prompt if recorded else "") or next(iter(card.prompts), "")
