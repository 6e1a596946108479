"""The controls that tabs share, and the way from their values to a request.

Handlers take the controls as a *set* and get a dict keyed by component; ``Controls.named`` turns it into names.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import gradio as gr
from gradio.components import Component

from pipelines.cards import ModelCard
from pipelines.loras import LoraFile
from pipelines.request import MAX_GUIDANCE, MAX_SEED, MAX_STEPS, GenerationRequest, InvalidRequest, make_request
from pipelines.schedulers import DIFFUSION, PREDICTION_TYPES, SCHEDULERS, why_not
from ui import words

# Seeds that the page draws stay short enough to read out and retype.
DRAWN_SEEDS = 2**32
# A model that is never asked for more steps was distilled to a few.
FEW = 10
NO_NEGATIVE = "Off: at a guidance of 1 or below the model is not asked what to avoid. Raise the guidance to use it."
NOT_READ = "Off: this model does not read a negative prompt. Say what you want in the prompt instead."
NEGATIVE = "What to keep out of the picture, in words. Works best short."


@dataclass(frozen=True)
class Controls:
    """The components, by the name of the request's field (``quality`` and ``keep_seed`` are the page's own)."""

    prompt: gr.Textbox
    quality: gr.Radio
    num_images: gr.Radio
    negative_prompt: gr.Textbox
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


def read_seed(text: Any, keep: Any) -> int:
    """The seed to use: the one in the field if it is kept, else a new one.

    Raises:
        InvalidRequest: if a kept seed is no whole number in range.
    """
    text = str(text or "").strip()
    if not keep or not text:
        return draw_seed()
    if not (text.isascii() and text.isdigit()) or len(text) > 19 or int(text) > MAX_SEED:
        shown = text if len(text) <= 30 else text[:27] + "..."
        raise InvalidRequest(f"seed is {shown!r}; allowed: a whole number from 0 to {MAX_SEED}.")
    return int(text)


def whole(value: Any) -> Any:
    """A whole number that came as a float, which is what JSON of other languages holds, as an int."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def request_of(named: Mapping[str, Any], *, new_seed: bool = False) -> GenerationRequest:
    """The controls' values as a request; raises InvalidRequest with one sentence."""
    asked = {name: value for name, value in named.items() if name not in ("quality", "keep_seed", "seed")}
    for name in ("width", "height", "num_inference_steps", "guidance_scale"):
        if asked[name] is None:
            raise InvalidRequest(f"{name} is empty; give a number.")
    asked["seed"] = draw_seed() if new_seed else read_seed(named["seed"], named["keep_seed"])
    # A text box that nobody touched holds None; one that is switched off does not count.
    asked["prompt"] = "" if asked["prompt"] is None else asked["prompt"]
    guidance = asked["guidance_scale"]
    if asked["negative_prompt"] is None or (isinstance(guidance, int | float) and guidance <= 1):
        asked["negative_prompt"] = ""
    return make_request(**asked)


def qualities(card: ModelCard) -> list[tuple[str, str]]:
    """Choices of the quality control: "Draft · 8 steps"."""
    return [(f"{name.capitalize()}\n{_steps(q.num_inference_steps)}", name) for name, q in card.qualities.items()]


def _steps(count: int) -> str:
    return f"{count} step" if count == 1 else f"{count} steps"


def quality_of(card: ModelCard, scheduler: Any, steps: Any) -> str | None:
    """The quality that these settings are, or None when they are someone's own."""
    for name, quality in card.qualities.items():
        if (quality.scheduler, quality.num_inference_steps) == (scheduler, steps):
            return name
    return None


def offered(card: ModelCard) -> list[tuple[str, str]]:
    """The schedulers that work with this model, as (label, name)."""
    return [
        (spec.label, name)
        for name, spec in SCHEDULERS.items()
        if not why_not(name, card.prediction_type, card.terminal_snr_zero)
    ]


def not_offered(card: ModelCard) -> str:
    """Which schedulers are left out for this model, and why; not those that are for another kind of model."""
    if card.prediction_type not in (None, *PREDICTION_TYPES):
        return ""
    reasons = {name: why_not(name, card.prediction_type, card.terminal_snr_zero) for name in DIFFUSION}
    said = [f"{SCHEDULERS[name].label}: {reason}" for name, reason in reasons.items() if reason]
    return f"Left out for {card.name}. " + " ".join(said) if said else ""


def about_scheduler(name: Any) -> str:
    """The help line of the scheduler that is chosen."""
    spec = SCHEDULERS.get(name) if isinstance(name, str) else None
    return f"How the noise is taken away. {spec.about}" if spec else "How the noise is taken away."


def about_steps(card: ModelCard) -> str:
    """The help line of the steps."""
    counts = [quality.num_inference_steps for quality in card.qualities.values()]
    if max(counts) > FEW:
        usual = card.qualities[card.default_quality].num_inference_steps
        return f"How often the model looks at the picture: 1 is a blur, {usual} is usual, beyond 50 little changes."
    return f"How often the model looks at the picture: made for {min(counts)} to {max(counts)}, more do not help."


def about_guidance(card: ModelCard) -> str:
    """The help line of the guidance scale."""
    if card.guidance_scale <= 1:
        return "1 is what this model was made for: it follows the prompt unaided. Higher exaggerates."
    return f"1 lets the model wander, {card.guidance_scale:g} follows the prompt, 15 shouts."


def about_negative(card: ModelCard | None, guidance: Any) -> tuple[str, bool]:
    """The help line of the negative prompt, and whether it is read."""
    if card is not None and card.guides_itself:
        return NOT_READ, False
    off = isinstance(guidance, int | float) and guidance <= 1
    return (NO_NEGATIVE, False) if off else (NEGATIVE, True)


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
        label="Prompt",
        info="What you want to see. Ctrl or Cmd with Enter makes the picture.",
        lines=2,
        max_lines=6,
        max_length=2000,
        elem_id=f"{prefix}prompt",
        elem_classes="prompt",
    )


def main_controls(card: ModelCard, prefix: str = "") -> dict[str, Component]:
    """Quality and number of pictures."""
    quality = gr.Radio(
        qualities(card),
        value=card.default_quality,
        label="Quality",
        info=words.cost(card),
        elem_id=f"{prefix}quality",
        elem_classes="segments",
    )
    count = gr.Radio(
        [1, 2, 4],
        value=1,
        label="Pictures",
        info="How many at once, each from its own seed. Four take up to four times as long.",
        elem_id=f"{prefix}count",
        elem_classes="segments",
    )
    return {"quality": quality, "num_images": count}


def sampling_controls(card: ModelCard, prefix: str = "") -> dict[str, Component]:
    """Negative prompt, steps, guidance and scheduler."""
    quality = card.qualities[card.default_quality]
    return {
        "negative_prompt": gr.Textbox(
            label="Leave out (negative prompt)",
            info=about_negative(card, card.guidance_scale)[0],
            interactive=about_negative(card, card.guidance_scale)[1],
            lines=1,
            max_length=2000,
            elem_id=f"{prefix}negative",
        ),
        "num_inference_steps": gr.Slider(
            1,
            MAX_STEPS,
            value=quality.num_inference_steps,
            step=1,
            label="Steps",
            info=about_steps(card),
            elem_id=f"{prefix}steps",
        ),
        "guidance_scale": gr.Slider(
            0,
            MAX_GUIDANCE,
            value=card.guidance_scale,
            step=0.5,
            label="How strongly to follow the prompt (guidance scale, CFG)",
            info=about_guidance(card),
            elem_id=f"{prefix}guidance",
        ),
        "scheduler": gr.Dropdown(
            offered(card),
            value=quality.scheduler,
            label="Scheduler (sampler)",
            info=about_scheduler(quality.scheduler),
            elem_id=f"{prefix}scheduler",
        ),
    }


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


def seed_controls(prefix: str = "", kept: bool = False) -> tuple[dict[str, Component], gr.Button]:
    """Seed, its lock (``kept`` at first?), and the dice."""
    seed = gr.Textbox(
        str(draw_seed()),
        label="Seed",
        info="The number the noise starts from: the same seed and settings make the same picture.",
        max_length=24,
        elem_id=f"{prefix}seed",
    )
    with gr.Row(elem_classes="pair"):
        keep = gr.Checkbox(
            kept,
            label="Keep this seed",
            info="Off: new each time.",
            min_width=120,
            elem_id=f"{prefix}keep",
        )
        dice = gr.Button("Draw another", size="sm", min_width=120, elem_id=f"{prefix}dice")
    return {"seed": seed, "keep_seed": keep}, dice


def lora_control(files: Sequence[LoraFile], prefix: str = "") -> gr.Dropdown:
    """The LoRAs that are on this machine; choosing one writes it into the prompt, where its weight can be changed."""
    return gr.Dropdown(
        lora_choices(files),
        value=None,
        label="Add a style or subject (LoRA)",
        info="Goes into the prompt as <lora:name:1>; change the 1 to weigh it: 0 is nothing, 1 is as it was trained.",
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
    """A LoRA's name, and the words that wake it up."""
    return f"{file.name} (say: {', '.join(file.words[:4])})" if file.words else file.name


def with_lora(prompt: Any, name: Any, files: Sequence[LoraFile]) -> str:
    """The prompt with a LoRA's mark behind it, and the first of its words unless they are there."""
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
