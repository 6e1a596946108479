"""The controls that all forms share, their help texts, and the request of a form's fields.

Event handlers take the controls as a *set* and get a dict keyed by component; ``Controls.named`` turns it into names.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import gradio as gr
from gradio.components import Component

from pipelines.cards import ModelCard
from pipelines.models.adapters.lora import LoraFile
from pipelines.prompt import A1111, COMPEL
from pipelines.request import MAX_GUIDANCE, MAX_SEED, MAX_STEPS, GenerationRequest, InvalidRequest, make_request
from pipelines.sampling.schedulers import DIFFUSION_SCHEDULERS, PREDICTION_TYPES, SCHEDULERS, incompatibility

# Seeds that the page draws are short enough to read aloud and retype.
DRAWN_SEEDS = 2**32
# Models whose presets need at most this many steps are distilled.
DISTILLED_STEPS = 10
NO_NEGATIVE = "Off: a guidance of 1 or below ignores it. Raise the guidance to use it."
NOT_READ = "Off: this model does not read a negative prompt. Say what you want in the prompt instead."
SYNTAXES = (("(word)1.3\ncompel", COMPEL), ("(word:1.3)\nA1111", A1111))
ABOUT_SYNTAX = {
    COMPEL: "A number behind brackets: 1 is plain, 1.3 is stronger, 0.5 weaker. Words beyond the text window are cut.",
    A1111: "As in A1111's web UI, with ((word)), [word] and BREAK; long prompts are read in chunks.",
}
NEGATIVE = "Words for what should not be in the picture. Works best short."


@dataclass(frozen=True)
class Controls:
    """The components, by the name of the request's field (``quality`` and ``keep_seed`` are the page's own)."""

    prompt: gr.Textbox
    quality: gr.Radio
    num_images: gr.Radio
    negative_prompt: gr.Textbox
    prompt_syntax: gr.Radio
    num_inference_steps: gr.Slider
    guidance_scale: gr.Slider
    scheduler: gr.Dropdown
    width: gr.Number
    height: gr.Number
    seed: gr.Textbox
    keep_seed: gr.Checkbox
    model: gr.Dropdown

    def all(self) -> set[Component]:
        """Every component, for an event's ``inputs``."""
        return {getattr(self, f.name) for f in fields(self)}

    def named(self, values: Mapping[Component, Any]) -> dict[str, Any]:
        """Values keyed by component -> values keyed by name."""
        return {f.name: values[getattr(self, f.name)] for f in fields(self)}


def draw_seed() -> int:
    """A new random seed."""
    return random.SystemRandom().randrange(DRAWN_SEEDS)


def parse_seed(text: Any, field: str, name: str = "Seed", largest: int = MAX_SEED) -> int | None:
    """The seed in a text box, or None if the box is empty.

    Args:
        text: what was typed.
        field: the request's field, for the error.
        name: what the sentence calls the seed.
        largest: the largest seed that is allowed.

    Raises:
        InvalidRequest: if it is not a whole number from 0 to ``largest``.
    """
    text = str("" if text is None else text).strip()
    if not text:
        return None
    if not (text.isascii() and text.isdigit()):
        raise InvalidRequest(field, f"{name} must be a whole number.")
    if len(text) > 19 or int(text) > largest:
        raise InvalidRequest(field, f"{name} must be at most {largest}.")
    return int(text)


def read_seed(text: Any, keep: Any) -> int:
    """The seed to use: the one in the field if it is locked, else a new one; raises InvalidRequest."""
    seed = parse_seed(text, "seed") if keep else None
    return draw_seed() if seed is None else seed


def int_if_whole(value: Any) -> Any:
    """A whole number that came as a float, as JSON of other languages holds it, as an int."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def request_of(fields: Mapping[str, Any]) -> GenerationRequest:
    """The request of fields that are sent as they are; see ``request_fields``."""
    return make_request(**request_fields(fields))


def request_fields(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The request's fields, by their flat names, of the merged fields of all sections.

    Args:
        fields: of the request by flat names, and the page's own ``quality``, ``keep_seed`` and ``seed`` as typed.

    Raises:
        InvalidRequest: with the field at fault and one sentence.
    """
    values = {name: value for name, value in fields.items() if name not in ("quality", "keep_seed", "seed")}
    for name in ("width", "height", "num_inference_steps", "guidance_scale"):
        if values[name] is None:
            raise InvalidRequest(name, f"{name} is empty; give a number.", "is empty; give a number.")
    values["seed"] = read_seed(fields["seed"], fields["keep_seed"])
    # An untouched text box holds None; a negative prompt that is switched off does not count.
    values["prompt"] = "" if values["prompt"] is None else values["prompt"]
    guidance = values["guidance_scale"]
    if values["negative_prompt"] is None or (isinstance(guidance, int | float) and guidance <= 1):
        values["negative_prompt"] = ""
    return values


def qualities(card: ModelCard) -> list[tuple[str, str]]:
    """Choices of the quality control, with their steps: "Draft 8"."""
    return [(f"{name.capitalize()} {q.num_inference_steps}", name) for name, q in card.qualities.items()]


def quality_of(card: ModelCard, scheduler: Any, steps: Any) -> str | None:
    """The quality preset with these settings, or None."""
    for name, quality in card.qualities.items():
        if (quality.scheduler, quality.num_inference_steps) == (scheduler, steps):
            return name
    return None


def offered(card: ModelCard) -> list[tuple[str, str]]:
    """The schedulers that work with this model, as (label, name)."""
    return [
        (spec.label, name)
        for name, spec in SCHEDULERS.items()
        if not incompatibility(name, card.prediction_type, card.terminal_snr_zero)
    ]


def not_offered(card: ModelCard) -> str:
    """Which schedulers are left out for this model, and why; not those that are for another kind of model."""
    if card.prediction_type not in (None, *PREDICTION_TYPES):
        return ""
    reasons = {
        name: incompatibility(name, card.prediction_type, card.terminal_snr_zero) for name in DIFFUSION_SCHEDULERS
    }
    said = [f"{SCHEDULERS[name].label}: {reason}" for name, reason in reasons.items() if reason]
    return f"Left out for {card.name}. " + " ".join(said) if said else ""


def about_scheduler(name: Any) -> str:
    """The help line of the scheduler that is chosen."""
    spec = SCHEDULERS.get(name) if isinstance(name, str) else None
    return f"How the noise is removed. {spec.about}" if spec else "How the noise is removed."


def about_steps(card: ModelCard) -> str:
    """The help line of the steps."""
    counts = [quality.num_inference_steps for quality in card.qualities.values()]
    if max(counts) > DISTILLED_STEPS:
        usual = card.qualities[card.default_quality].num_inference_steps
        return f"Denoising steps: {usual} is typical, 1 is a blur, beyond 50 little changes."
    return f"Denoising steps: made for {min(counts)} to {max(counts)}, more do not help."


def about_guidance(card: ModelCard) -> str:
    """The help line of the guidance scale."""
    if card.guidance_scale <= 1:
        return "1 is what this model was made for: it follows the prompt without guidance. Higher exaggerates."
    return f"1 lets the model wander, {card.guidance_scale:g} follows the prompt, 15 shouts."


def about_negative(card: ModelCard | None, guidance: Any) -> tuple[str, bool]:
    """The help line of the negative prompt, and whether it is read."""
    if card is not None and card.guidance_embedded:
        return NOT_READ, False
    off = isinstance(guidance, int | float) and guidance <= 1
    return (NO_NEGATIVE, False) if off else (NEGATIVE, True)


def about_syntax(syntax: Any) -> str:
    """The help line of the form in which weights are written."""
    return ABOUT_SYNTAX.get(syntax, "") if isinstance(syntax, str) else ""


def about_size(card: ModelCard) -> str:
    """The help line of the size."""
    return f"In pixels, multiples of {card.size_factor}. Drawn best at {card.width} x {card.height}."


def about_model(card: ModelCard) -> str:
    """The help line of the model."""
    return f"{card.about.rstrip('.')}. Licence: {card.licence}."


def prompt_box(text: str, prefix: str = "") -> gr.Textbox:
    """The prompt; ``prefix`` is that of the tab's element ids, here and below."""
    return gr.Textbox(
        text,
        label="What should come out of the noise?",
        lines=2,
        max_lines=6,
        max_length=2000,
        elem_id=f"{prefix}prompt",
        elem_classes="prompt",
    )


def quality_control(card: ModelCard, prefix: str = "") -> gr.Radio:
    """The quality: steps and scheduler in one choice."""
    return gr.Radio(
        qualities(card),
        value=card.default_quality,
        label="Quality",
        show_label=False,
        elem_id=f"{prefix}quality",
        elem_classes="segments",
    )


def count_control(prefix: str = "") -> gr.Radio:
    """The number of pictures."""
    return gr.Radio(
        [1, 2, 4],
        value=1,
        label="Pictures",
        info="How many at once, each from its own seed. Four take up to four times as long.",
        elem_id=f"{prefix}count",
        elem_classes="segments",
    )


def negative_control(card: ModelCard, prefix: str = "") -> gr.Textbox:
    """The negative prompt."""
    info, on = about_negative(card, card.guidance_scale)
    return gr.Textbox(
        label="Negative prompt: what to avoid",
        info=info,
        interactive=on,
        lines=1,
        max_length=2000,
        elem_id=f"{prefix}negative",
    )


def syntax_control(card: ModelCard, prefix: str = "") -> gr.Radio:
    """The form in which weights of words are written."""
    return gr.Radio(
        SYNTAXES,
        value=card.prompt_syntax,
        label="Prompt weights",
        info=about_syntax(card.prompt_syntax),
        elem_id=f"{prefix}syntax",
        elem_classes="segments",
    )


def steps_control(card: ModelCard, prefix: str = "") -> gr.Slider:
    """The number of steps."""
    return gr.Slider(
        1,
        MAX_STEPS,
        value=card.qualities[card.default_quality].num_inference_steps,
        step=1,
        label="Steps",
        info=about_steps(card),
        elem_id=f"{prefix}steps",
    )


def guidance_control(card: ModelCard, prefix: str = "") -> gr.Slider:
    """The guidance scale."""
    return gr.Slider(
        0,
        MAX_GUIDANCE,
        value=card.guidance_scale,
        step=0.5,
        label="Guidance scale (CFG)",
        info=about_guidance(card),
        elem_id=f"{prefix}guidance",
    )


def scheduler_control(card: ModelCard, prefix: str = "") -> gr.Dropdown:
    """The scheduler."""
    chosen = card.qualities[card.default_quality].scheduler
    return gr.Dropdown(
        offered(card),
        value=chosen,
        label="Scheduler (sampler)",
        info=about_scheduler(chosen),
        elem_id=f"{prefix}scheduler",
    )


def size_controls(card: ModelCard, prefix: str = "") -> dict[str, Component]:
    """Width and height, side by side."""
    with gr.Row(elem_classes="pair"):
        sides = {
            name: gr.Number(
                getattr(card, name),
                label=name.capitalize(),
                info=info,
                precision=0,
                step=card.size_factor,
                min_width=80,
                elem_id=prefix + name,
            )
            for name, info in (("width", about_size(card)), ("height", "Wider than high makes a landscape."))
        }
    return sides


def seed_controls(prefix: str = "", locked: bool = False) -> tuple[dict[str, Component], gr.Button]:
    """Seed, its lock, and the button that draws one; ``locked``: whether it is locked at first."""
    seed = gr.Textbox(
        str(draw_seed()),
        label="Seed",
        info="The number the noise starts from: the same seed and settings make the same picture.",
        max_length=24,
        elem_id=f"{prefix}seed",
    )
    with gr.Row(elem_classes="pair"):
        keep = gr.Checkbox(
            locked,
            label="Lock the seed",
            info="Off: a new one each time.",
            min_width=120,
            elem_id=f"{prefix}seed-lock",
        )
        dice = gr.Button("Random seed", size="sm", min_width=120, elem_id=f"{prefix}random-seed")
    return {"seed": seed, "keep_seed": keep}, dice


def lora_control(files: Sequence[LoraFile], prefix: str = "") -> gr.Dropdown:
    """The LoRAs on this machine; choosing one writes it into the prompt, where its weight can be changed."""
    return gr.Dropdown(
        lora_choices(files),
        value=None,
        label="Add a style or subject (LoRA)",
        info="Goes into the prompt as <lora:name:1>; the 1 is its weight: 0 is off, 1 is as it was trained.",
        visible=bool(files),
        elem_id=f"{prefix}lora",
    )


def lora_choices(files: Sequence[LoraFile]) -> list[tuple[str, str]]:
    """Choices of the LoRA, as (label, name)."""
    return [(lora_label(file), file.name) for file in files]


def lora_update(files: Sequence[LoraFile]) -> dict[str, Any]:
    """The update for the LoRAs that are there now."""
    return gr.Dropdown(lora_choices(files), visible=bool(files))


def lora_label(file: LoraFile) -> str:
    """A LoRA's name and its trigger words."""
    return f"{file.name} (say: {', '.join(file.words[:4])})" if file.words else file.name


def with_lora(prompt: Any, name: Any, files: Sequence[LoraFile]) -> str:
    """The prompt with the LoRA's tag, and its first trigger word unless the prompt has it."""
    text = prompt if isinstance(prompt, str) else ""
    file = next((file for file in files if file.name == name), None)
    if file is None or f"<lora:{file.name}:" in text:
        return text
    word = next((f", {word}" for word in file.words[:1] if word.lower() not in text.lower()), "")
    return f"{text.rstrip()}{word} <lora:{file.name}:1>".strip(", ")


def model_control(cards: Sequence[ModelCard], chosen: ModelCard, prefix: str = "") -> gr.Dropdown:
    """The model, of those that can be used now."""
    return gr.Dropdown(
        model_choices([chosen, *(card for card in cards if card.id != chosen.id)]),
        value=chosen.id,
        label="Model",
        info=about_model(chosen),
        elem_id=f"{prefix}model",
    )


def model_choices(cards: Sequence[ModelCard]) -> list[tuple[str, str]]:
    """Choices of the model, as (name, id)."""
    return [(card.name, card.id) for card in cards]
