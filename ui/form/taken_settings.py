"""Take over settings of an entry of the history or of a picture's file: all of them, or those that are chosen."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import gradio as gr

from ui.components.gradio_events import CONCURRENT
from ui.form import controls
from ui.form.prompt.examples import prompt_examples_value

if TYPE_CHECKING:
    from gradio.components import Component

    from pipelines.cards import ModelCard
    from ui.form.form import Form, Updates

NO_MODEL = "The model {name} is not on this computer, so the chosen one stays; the Models tab can bring it."
NO_SAMPLER = "The chosen model does not work with that scheduler, so its own stays."
FORKED = (
    "That picture left another run after step {step}; from here the whole run is made with these settings. To leave a "
    "run at a step, look inside it in Denoising."
)
LEFT_OUT = "Not taken over: {parts}. Its Recipe in History makes it again with everything."
# Fields whose control takes the value as it is.
PLAIN = ("prompt", "negative_prompt", "width", "height", "num_inference_steps", "guidance_scale", "seed")
SAMPLER = ("scheduler", "num_inference_steps", "guidance_scale")


def lora_tags(loras: Iterable[tuple[str, float]]) -> str:
    """LoRAs as a prompt names them, from their names and weights."""
    return " ".join(f"<lora:{name}:{weight:g}>" for name, weight in loras)


def wire(form: Form) -> None:
    """Follow ``PageContext.taken_settings``."""
    page, c = form.page, form.controls

    def take(value: Any, model: Any, prompt: Any) -> Updates:
        fields = value.get("fields") if isinstance(value, dict) and value.get("tab") == page.tab.id else None
        if not isinstance(fields, dict):
            return {form.run_error: gr.skip()}
        return updates_of(form, with_loras(fields, prompt), model)

    own = [getattr(c, name) for name in (*PLAIN, "model", "quality", "scheduler", "prompt_syntax", "keep_seed")]
    outputs = [*own, form.chosen_styles, form.prompt_examples, form.excluded_schedulers, form.run_error]
    page.taken_settings.change(take, [page.taken_settings, c.model, c.prompt], outputs, **CONCURRENT)


def with_loras(fields: Mapping[str, Any], prompt: Any) -> dict[str, Any]:
    """Fields whose LoRAs are tags in the prompt that is taken over, or else in the one that stands in the form."""
    tags, known = fields.get("loras", ""), fields.get("prompt", prompt if isinstance(prompt, str) else "")
    return {**fields, "prompt": f"{known} {tags}".strip()} if tags else dict(fields)


def updates_of(form: Form, fields: Mapping[str, Any], model: Any) -> Updates:
    """Updates that take over these fields of a request; what cannot be is said below Generate."""
    page, c = form.page, form.controls
    problem = FORKED.format(step=fields["fork_step"]) if "fork_step" in fields else ""
    if fields.get("left_out"):
        problem = f"{problem} {LEFT_OUT.format(parts=', '.join(fields['left_out']))}".strip()
    card = page.card(model)
    updates: dict[Component, Any] = {getattr(c, name): fields[name] for name in PLAIN if name in fields}
    if "seed" in fields:
        updates[c.keep_seed] = True
    if "styles" in fields:
        updates[form.chosen_styles] = json.dumps(list(fields["styles"]))
    if "prompt_syntax" in fields:
        syntax = fields["prompt_syntax"]
        updates[c.prompt_syntax] = gr.Radio(value=syntax, info=controls.about_syntax(syntax))
    if "model" in fields:
        wanted = page.card(fields["model"])
        if wanted is None or wanted.id not in {each.id for each in page.library.available()}:
            problem = NO_MODEL.format(name=wanted.name if wanted else fields["model"])
        else:
            card = wanted
            updates |= model_updates(form, wanted)
    if "scheduler" in fields and card is not None:
        found = sampler_updates(form, card, fields)
        problem = problem or ("" if found else NO_SAMPLER)
        updates |= found
    return {**updates, form.run_error: problem}


def model_updates(form: Form, card: ModelCard) -> Updates:
    """Updates for a model without its own settings, which follow."""
    c = form.controls
    choices = controls.model_choices(form.page.library.available())
    return {
        c.model: gr.Dropdown(choices, value=card.id, info=controls.about_model(card)),
        form.prompt_examples: prompt_examples_value(card),
        form.excluded_schedulers: controls.not_offered(card),
    }


def sampler_updates(form: Form, card: ModelCard, fields: Mapping[str, Any]) -> Updates:
    """Updates for scheduler and quality; {} for a scheduler that the model does not work with."""
    c, scheduler, choices = form.controls, fields["scheduler"], controls.offered(card)
    if scheduler not in {name for _, name in choices}:
        return {}
    quality = controls.quality_of(card, scheduler, fields.get("num_inference_steps"))
    return {
        c.scheduler: gr.Dropdown(choices, value=scheduler, info=controls.about_scheduler(scheduler)),
        c.quality: gr.Radio(controls.qualities(card), value=quality),
    }
