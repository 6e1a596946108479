"""What the form holds, kept by the browser: fields survive a reload and a restart, each browser tab has its own.

Saving calls no server: the values go into the tab's own storage, and a copy into the browser's for the next new tab.
When the page opens, the values that still fit come back.
"""

from __future__ import annotations

import json
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import gradio as gr

from pipelines.images import geometry
from pipelines.prompt import A1111, COMPEL
from pipelines.request import MAX_PROMPT, InvalidRequest
from ui.components.gradio_events import UNQUEUED
from ui.form import controls
from ui.form.controls import Controls
from ui.form.prompt.examples import prompt_examples_value

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from gradio.components import Component
    from gradio.events import Dependency

    from pipelines.cards import ModelCard
    from ui.form.form import Form, Updates

KEY = "diffusion-playground-form-"
# In the order of ``fields(Controls)``.
NAMES = tuple(field.name for field in fields(Controls))
# Longer ones were not written by this page.
MAX_STORED = 20_000
# What components announce as they appear is not saved over what was kept.
SAVE = """(...values) => {
  if (!window.playgroundKept?.['%s']) return;
  const text = JSON.stringify(values);
  for (const storage of [sessionStorage, localStorage]) {
    try { storage.setItem('%s', text); } catch { /* full, or switched off: nothing is kept */ }
  }
}"""
LOAD = """(stored, ...others) => {
  (window.playgroundKept ||= {})['%s'] = true;
  try { stored = sessionStorage.getItem('%s') || localStorage.getItem('%s') || ''; } catch { stored = ''; }
  return [stored, ...others];
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

    restoring = page.blocks.load(restore, [stored], outputs, js=LOAD % (key, key, key), **UNQUEUED)
    changes = [component.input for component in inputs if hasattr(component, "input")]
    # What arrives from the server too: the settings of a quality, of a model, of a preset or of an earlier picture.
    changes += [component.change for component in inputs]
    gr.on(changes, None, inputs, None, js=SAVE % (key, key))
    _wire_sections(form, f"{key}-sections", restoring)


def _wire_sections(form: Form, key: str, restoring: Dependency) -> None:
    """The same for what the sections keep, after the form: what a section allows may depend on the model."""
    kept = kept_of(form)
    if not kept:
        return
    stored = gr.Textbox(visible=False, max_length=MAX_STORED)
    outputs = list(dict.fromkeys([*kept, *(one for section in form.sections for one in section.follows)]))
    restoring.then(lambda text: brought_back(form, text), [stored], outputs, js=LOAD % (key, key, key), **UNQUEUED)
    gr.on([component.change for component in kept], None, kept, None, js=SAVE % (key, key))


def kept_of(form: Form) -> list[Any]:
    """What the sections keep, in the order in which it is stored."""
    return [component for section in form.sections for component in section.kept]


def brought_back(form: Form, text: Any) -> dict[Any, Any]:
    """Updates for what was stored for the sections, each value where it still fits; the others stay as they are."""
    kept, found = kept_of(form), stored_list(text)
    if len(found) != len(kept):
        return {kept[0]: gr.skip()}  # Gradio takes an empty dict for a value
    offered = {component: names for section in form.sections for component, names in section.offered.items()}
    stored = zip(kept, found, strict=True)
    values = {one: value for one, value in stored if _fits(one, value, offered.get(one))}
    updates: dict[Any, Any] = dict(values)
    for section in form.sections:
        updates |= section.brought_back({one: values[one] for one in section.kept if one in values})
    return updates or {kept[0]: gr.skip()}


def _fits(component: Component, value: Any, offered: Callable[[], Collection[str]] | None = None) -> bool:
    if isinstance(component, gr.Radio | gr.Dropdown):
        return value in (offered() if offered else [known for _, known in component.choices])
    if isinstance(component, gr.Slider | gr.Number):
        number = isinstance(value, int | float) and not isinstance(value, bool)
        return number and (component.minimum or 0) <= value <= (component.maximum or 0)
    if isinstance(component, gr.ColorPicker):
        return _is_colour(value)
    if isinstance(component, gr.Textbox):
        return isinstance(value, str) and len(value) <= (component.max_length or MAX_PROMPT)
    return isinstance(component, gr.Checkbox) and isinstance(value, bool)


def _is_colour(value: Any) -> bool:
    try:
        return bool(geometry.parse_colour(value))
    except InvalidRequest:
        return False


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


def stored_list(text: Any) -> list[Any]:
    """What was stored as a list; [] if it is none."""
    if not isinstance(text, str) or not 0 < len(text) <= MAX_STORED:
        return []
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return []
    return found if isinstance(found, list) else []


def _read(text: Any) -> dict[str, Any]:
    """The stored values by name; {} unless each of them is of the kind that its control holds."""
    found = stored_list(text)
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
