"""What the form holds, kept by the browser: fields survive a reload and a restart, each browser tab has its own.

Saving calls no server: the values go into the tab's own storage, and a copy into the browser's for the next new tab.
When the page opens, the values that still fit come back.
"""

from __future__ import annotations

import json
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import gradio as gr

from pipelines.prompt import A1111, COMPEL
from pipelines.request import MAX_PROMPT
from ui.components.gradio_events import UNQUEUED
from ui.form import controls
from ui.form.controls import Controls
from ui.form.prompt.examples import prompt_examples_value

if TYPE_CHECKING:
    from gradio.components import Component

    from pipelines.cards import ModelCard
    from ui.form.form import Form, Updates

KEY = "diffusion-playground-form-"
# In the order of ``fields(Controls)``.
NAMES = tuple(field.name for field in fields(Controls))
# Longer ones were not written by this page.
MAX_STORED = 20_000
# What components announce as they appear is not saved over what was kept.
_SAVE = """(...values) => {
  if (!window.playgroundKept?.['%s']) return;
  const text = JSON.stringify(values);
  for (const storage of [sessionStorage, localStorage]) {
    try { storage.setItem('%s', text); } catch { /* full, or switched off: nothing is kept */ }
  }
}"""
_LOAD = """() => {
  (window.playgroundKept ||= {})['%s'] = true;
  try { return [sessionStorage.getItem('%s') || localStorage.getItem('%s') || '']; } catch { return ['']; }
}"""


def wire(form: Form) -> None:
    """Save at every change, and restore when the page opens."""
    page, c = form.page, form.controls
    key = KEY + page.tab.id
    inputs = fields_of(form)
    outputs = set_by_restored(form)
    stored = gr.Textbox(visible=False, max_length=MAX_STORED)

    def restore(text: Any) -> Updates:
        return restored(form, text) or {c.prompt: gr.skip()}

    page.blocks.load(restore, [stored], outputs, js=_LOAD % (key, key, key), **UNQUEUED)
    changes = [component.input for component in inputs if hasattr(component, "input")]
    # What arrives from the server too: the settings of a quality, of a model, of a preset or of an earlier picture.
    changes += [component.change for component in inputs]
    gr.on(changes, None, inputs, None, js=_SAVE % (key, key))
    _wire_sections(form, f"{key}-sections")


def _wire_sections(form: Form, key: str) -> None:
    """The same for what the sections keep."""
    kept: list[Any] = [component for section in form.sections for component in section.kept]
    if not kept:
        return
    stored = gr.Textbox(visible=False, max_length=MAX_STORED)
    form.page.blocks.load(lambda text: values_of(kept, text), [stored], kept, js=_LOAD % (key, key, key), **UNQUEUED)
    gr.on([component.change for component in kept], None, kept, None, js=_SAVE % (key, key))


def values_of(kept: list[Any], text: Any) -> list[Any]:
    """What was stored for these components, each where it still fits; the others stay as they are."""
    found = _list(text)
    if len(found) != len(kept):
        return [gr.skip()] * len(kept)
    return [value if _fits(one, value) else gr.skip() for one, value in zip(kept, found, strict=True)]


def _fits(component: Component, value: Any) -> bool:
    if isinstance(component, gr.Radio):
        return value in [known for _, known in component.choices]
    if isinstance(component, gr.Slider):
        number = isinstance(value, int | float) and not isinstance(value, bool)
        return number and component.minimum <= value <= component.maximum
    if isinstance(component, gr.Textbox):
        return isinstance(value, str) and len(value) <= (component.max_length or MAX_PROMPT)
    return isinstance(component, gr.Checkbox) and isinstance(value, bool)


def fields_of(form: Form) -> list[Any]:
    """What is kept, in the order of ``NAMES``."""
    return [getattr(form.controls, name) for name in NAMES]


def set_by_restored(form: Form) -> list[Any]:
    """What ``restored`` updates."""
    return [*fields_of(form), form.vocabulary_hints, form.prompt_examples, form.excluded_schedulers]


def restored(form: Form, text: Any) -> Updates:
    """Updates for what was stored; {} if it is nothing that fits."""
    values = _read(text)
    card = form.page.card(values.get("model"))
    if card is None or card.id not in {one.id for one in form.page.library.available()}:
        return {}
    c = form.controls
    updates: dict[Component, Any] = {
        c.model: gr.Dropdown(value=card.id, info=controls.about_model(card)),
        c.quality: gr.Radio(controls.qualities(card), value=_quality(card, values)),
        c.num_inference_steps: gr.Slider(value=values["num_inference_steps"], info=controls.about_steps(card)),
        c.guidance_scale: gr.Slider(value=values["guidance_scale"], info=controls.about_guidance(card)),
        c.scheduler: gr.Dropdown(
            controls.offered(card),
            value=values["scheduler"],
            info=controls.about_scheduler(values["scheduler"]),
        ),
        c.prompt_syntax: gr.Radio(value=values["prompt_syntax"], info=controls.about_syntax(values["prompt_syntax"])),
        form.prompt_examples: prompt_examples_value(card),
        form.excluded_schedulers: controls.not_offered(card),
    }
    plain = ("prompt", "num_images", "negative_prompt", "width", "height", "seed", "keep_seed")
    return {**updates, **{getattr(c, name): values[name] for name in plain}}


def _quality(card: ModelCard, values: dict[str, Any]) -> str | None:
    return controls.quality_of(card, values["scheduler"], values["num_inference_steps"])


def _list(text: Any) -> list[Any]:
    if not isinstance(text, str) or not 0 < len(text) <= MAX_STORED:
        return []
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return []
    return found if isinstance(found, list) else []


def _read(text: Any) -> dict[str, Any]:
    """The stored values by name; {} unless each of them is of the kind that its control holds."""
    found = _list(text)
    if len(found) != len(NAMES):
        return {}
    values = dict(zip(NAMES, found, strict=True))
    texts = [values[name] or "" for name in ("prompt", "negative_prompt", "seed", "scheduler", "model")]
    numbers = [values[name] for name in ("num_images", "num_inference_steps", "guidance_scale", "width", "height")]
    fits = all(isinstance(one, str) and len(one) <= MAX_PROMPT for one in texts)
    fits &= all(isinstance(one, int | float) and not isinstance(one, bool) and 0 <= one <= 10_000 for one in numbers)
    fits &= isinstance(values["keep_seed"], bool) and values["num_images"] in (1, 2, 4)
    fits &= values["prompt_syntax"] in (COMPEL, A1111)
    return values if fits else {}
