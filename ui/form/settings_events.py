"""What one control of the form does to another."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import gradio as gr
from gradio.components import Component

from pipelines.request import MAX_SEED, InvalidRequest
from pipelines.request_errors import OTHER_MODEL, OWN_SETTINGS, SMALLER
from ui.components.gradio_events import CONCURRENT, UNQUEUED, event_value
from ui.form import controls, memory, sampling_presets, summary, taken_settings
from ui.form.choosing import lora_cards, samplers, sizes
from ui.form.form import Form, FormValues, Updates
from ui.form.layout import first_prompt
from ui.form.prompt import builder, hints
from ui.form.prompt.examples import prompt_examples_value

# How often pictures are made fewer or smaller until a request is possible.
MOST_HALVINGS = 8
# The form's own Generate, once what an error asked for is there.
_GENERATE = "() => document.getElementById('{}')?.click()"


def wire(form: Form) -> None:
    """Attach the events of the shared controls."""
    hints.wire(form.page, form.vocabulary_hints, form.controls)
    builder.wire(form.page, form.prompt_builder, form.controls)
    summary.wire(form)
    sizes.wire(form.page, form.controls, form.sizes)
    samplers.wire(form.page, form.controls, form.samplers)
    lora_cards.wire(form.page, form.lora_cards)
    memory.wire(form)
    taken_settings.wire(form)
    sampling_presets.wire(form.page, form.controls, form.sampling_presets)
    _wire_sampling(form)
    _wire_seed(form)
    _wire_model(form)
    _wire_picked_model(form)
    _wire_next_steps(form)


def _wire_sampling(form: Form) -> None:
    """Quality sets steps and scheduler, these name the quality, and the guidance switches the negative prompt."""
    page, c = form.page, form.controls

    def choose_quality(model: Any, quality: Any) -> Updates:
        card = page.card(model)
        if card is None or not isinstance(quality, str) or quality not in card.qualities:
            return {c.scheduler: gr.skip()}  # Gradio takes an empty dict for a value
        chosen = card.qualities[quality]
        return {
            c.num_inference_steps: chosen.num_inference_steps,
            c.scheduler: gr.Dropdown(value=chosen.scheduler, info=controls.about_scheduler(chosen.scheduler)),
        }

    def name_quality(model: Any, scheduler: Any, steps: Any) -> tuple[Any, Any]:
        card = page.card(model)
        quality = controls.quality_of(card, scheduler, steps) if card else None
        return quality, gr.Dropdown(info=controls.about_scheduler(scheduler))

    def switch_negative_prompt(model: Any, guidance: Any) -> Any:
        info, on = controls.about_negative(page.card(model), guidance)
        return gr.Textbox(interactive=on, info=info)

    def explain_syntax(syntax: Any) -> Any:
        return gr.Radio(info=controls.about_syntax(syntax))

    c.prompt_syntax.input(explain_syntax, [c.prompt_syntax], [c.prompt_syntax], **UNQUEUED)
    c.quality.input(choose_quality, [c.model, c.quality], [c.num_inference_steps, c.scheduler], **UNQUEUED)
    last: dict[str, Any] = {**UNQUEUED, "trigger_mode": "always_last"}
    # What a user changes: when a model's defaults arrive, a change event would come with half of them.
    steps = c.num_inference_steps
    changes = [c.scheduler.input, steps.input, steps.release]
    gr.on(changes, name_quality, [c.model, c.scheduler, steps], [c.quality, c.scheduler], **last)
    changes = [c.guidance_scale.change, c.model.change]
    gr.on(changes, switch_negative_prompt, [c.model, c.guidance_scale], [c.negative_prompt], **last)


def _wire_seed(form: Form) -> None:
    """Draw a seed, or keep that of the picture on the stage."""
    c = form.controls

    def keep(data: gr.EventData) -> tuple[Any, Any]:
        text = str(event_value(data, "seed", ""))
        fits = text.isascii() and text.isdigit() and len(text) <= 19 and int(text) <= MAX_SEED
        return (text, True) if fits else (gr.skip(), gr.skip())

    form.dice.click(lambda: str(controls.draw_seed()), None, [c.seed], **UNQUEUED)
    form.stage.keep(keep, None, [c.seed, c.keep_seed], **UNQUEUED)


def _wire_model(form: Form) -> None:
    """A model brings its defaults; a LoRA goes into the prompt; both lists follow the files that are there."""
    page, c = form.page, form.controls

    def change_model(model: Any, prompt: Any, negative: Any) -> Updates:
        return model_defaults(form, model, prompt, negative) or {c.prompt: gr.skip()}

    def add_lora(prompt: Any, name: Any) -> tuple[str, None]:
        return controls.with_lora(prompt, name, page.backend.adapters.loras()), None

    def refresh() -> tuple[Any, Any]:
        return gr.Dropdown(controls.model_choices(page.library.available())), controls.lora_update(
            page.backend.adapters.loras()
        )

    form.lora.input(add_lora, [c.prompt, form.lora], [c.prompt, form.lora], **UNQUEUED)
    c.model.input(change_model, [c.model, c.prompt, c.negative_prompt], _set_by_model(form), **UNQUEUED)
    gr.on([page.blocks.load, page.tab.select], refresh, None, [c.model, form.lora], **UNQUEUED)


def _wire_picked_model(form: Form) -> None:
    """Take over a model that was chosen in the Models tab, perhaps with one of its example prompts."""
    page, c = form.page, form.controls

    def pick(value: Any, prompt: Any, negative: Any) -> Updates:
        if not isinstance(value, dict) or value.get("tab") != page.tab.id:
            return {form.run_error: gr.skip()}
        text = value.get("prompt") or prompt
        updates = model_defaults(form, value.get("model"), text, negative)
        if not updates:
            return {form.run_error: gr.skip()}
        chosen = page.cards[value["model"]]
        choices = controls.model_choices(page.library.available())
        updates[c.model] = gr.Dropdown(choices, value=chosen.id, info=controls.about_model(chosen))
        return {**updates, **({c.prompt: text} if value.get("prompt") else {})}

    outputs = [*_set_by_model(form), form.run_error]
    page.picked_model.change(pick, [page.picked_model, c.prompt, c.negative_prompt], outputs, **CONCURRENT)


def _wire_next_steps(form: Form) -> None:
    """Mend what an error is about, as the button next to it says, and send the form again."""
    fixes = fixes_of(form)

    def fix(values: dict[Component, Any], data: gr.EventData) -> Updates:
        change = fixes.get(str(event_value(data, "fix", "")))
        return {**form.clear_errors(), **(change(FormValues(values)) if change else {})}

    more = [component for section in form.sections for component in (*section.kept, *section.follows)]
    outputs = list(dict.fromkeys([*form.inputs, *form.clear_errors(), *_set_by_model(form), *more]))
    fixed = form.next_steps.fix(fix, form.inputs, outputs, **CONCURRENT)
    fixed.success(None, None, None, js=_GENERATE.format(form.generate.elem_id), **UNQUEUED)


def fixes_of(form: Form) -> Mapping[str, Callable[[FormValues], Updates]]:
    """By what ``NEXT_STEPS`` calls it, the form's values -> updates that mend an error."""
    c = form.controls

    def own(*names: str) -> Callable[[FormValues], Updates]:
        """The model's own values of some controls."""

        def change(values: FormValues) -> Updates:
            found = model_defaults(form, values[c.model], values[c.prompt], values[c.negative_prompt])
            return {getattr(c, name): found[getattr(c, name)] for name in names if found}

        return change

    return {
        SMALLER: lambda values: smaller(form, values),
        OTHER_MODEL: lambda values: another_model(form, values),
        OWN_SETTINGS: own("quality", "num_inference_steps", "guidance_scale", "scheduler"),
        "scheduler": own("quality", "num_inference_steps", "scheduler"),
        "num_inference_steps": own("quality", "num_inference_steps", "scheduler"),
        "guidance_scale": own("guidance_scale"),
        "width": own("width", "height"),
        "height": own("width", "height"),
        **{name: change for section in form.sections for name, change in section.fixes.items()},
    }


def smaller(form: Form, values: FormValues) -> Updates:
    """One picture instead of several, else half the width and the height, until the request is possible."""
    c = form.controls
    card = form.page.card(values[c.model])
    least = card.size_factor if card else 8
    asked = {each: values[each] for each in (c.num_images, c.width, c.height)}
    for _ in range(MOST_HALVINGS):
        if asked[c.num_images] > 1:
            asked[c.num_images] = 1
        else:
            for side in (c.width, c.height):
                asked[side] = max(int((asked[side] or 0) / 2) // least, 1) * least
        try:
            form.request(FormValues({**values, **asked}))
        except InvalidRequest as problem:
            if problem.remedy.kind == SMALLER:
                continue
        break
    return dict(asked)


def another_model(form: Form, values: FormValues) -> Updates:
    """The first model that is here, the program's own before others; nothing where there is no other one."""
    c = form.controls
    here = sorted(form.page.library.available(), key=lambda card: card.id != form.page.default_model)
    other = next((card for card in here if card.id != values[c.model] and form.page.tab.id in card.tasks), None)
    if other is None:
        return {}
    choices = controls.model_choices(form.page.library.available())
    chosen = gr.Dropdown(choices, value=other.id, info=controls.about_model(other))
    return {**model_defaults(form, other.id, values[c.prompt], values[c.negative_prompt]), c.model: chosen}


def _set_by_model(form: Form) -> list[Component]:
    """What ``model_defaults`` updates."""
    c = form.controls
    own = c.all() - {c.seed, c.keep_seed, c.num_images}
    return [*own, form.vocabulary_hints, form.prompt_examples, form.excluded_schedulers]


def model_defaults(form: Form, model: Any, prompt: Any, negative: Any) -> dict[Component, Any]:
    """Updates for a model that was just chosen: everything that its card decides; {} for an unknown one."""
    page = form.page
    card = page.card(model)
    if card is None:
        return {}
    c, quality = form.controls, card.qualities[card.default_quality]
    examples = {text for other in page.cards.values() for text in other.prompts}
    own_prompt = isinstance(prompt, str) and prompt.strip() and prompt not in examples
    new_prompt = prompt if own_prompt else first_prompt(card) or prompt
    return {
        c.prompt: new_prompt,
        c.model: gr.Dropdown(info=controls.about_model(card)),
        c.quality: gr.Radio(controls.qualities(card), value=card.default_quality),
        c.num_inference_steps: gr.Slider(value=quality.num_inference_steps, info=controls.about_steps(card)),
        c.prompt_syntax: gr.Radio(value=card.prompt_syntax, info=controls.about_syntax(card.prompt_syntax)),
        c.guidance_scale: gr.Slider(value=card.guidance_scale, info=controls.about_guidance(card)),
        c.scheduler: gr.Dropdown(
            controls.offered(card), value=quality.scheduler, info=controls.about_scheduler(quality.scheduler)
        ),
        c.width: gr.Number(card.width, step=card.size_factor, info=controls.about_size(card)),
        c.height: gr.Number(card.height, step=card.size_factor),
        form.vocabulary_hints: hints.answer(
            card,
            new_prompt,
            negative,
            card.prompt_syntax,
            hints.wildcards_of(page),
            hints.embeddings_of(page, card.prompt_syntax),
        ),
        form.prompt_examples: prompt_examples_value(card),
        form.excluded_schedulers: controls.not_offered(card),
    }
