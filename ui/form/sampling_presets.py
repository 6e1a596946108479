"""The user's own presets of scheduler, steps and guidance, next to the model's draft, balanced and fine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import gradio as gr

from presets.sampling_presets import PresetError
from ui.components.gradio_events import UNQUEUED
from ui.components.message import message
from ui.form import controls
from ui.server.current_user import current_user

if TYPE_CHECKING:
    from pipelines.cards import ModelCard
    from ui.context import PageContext
    from ui.form.controls import Controls

OWNER_ONLY = "Only the owner of this computer can change presets."
NOT_FOR_MODEL = "{name} uses a scheduler that this model does not work with."


@dataclass(frozen=True)
class SavedPresets:
    """The components.

    Attributes:
        chosen: the preset whose settings are taken; invisible while there are none.
        name, save, remove: of the preset that is saved or removed; for the owner.
        owner_row: holds these three.
        said: what happened.
    """

    chosen: gr.Dropdown
    name: gr.Textbox
    save: gr.Button
    remove: gr.Button
    owner_row: gr.Row
    said: gr.HTML


def lay_out(page: PageContext, prefix: str = "") -> SavedPresets:
    """The components; what is the owner's is invisible until the page knows its user."""
    choices = names(page)
    chosen = gr.Dropdown(
        choices,
        value=None,
        label="Your presets",
        info="Scheduler, steps and guidance, as you saved them.",
        visible=bool(choices),
        elem_id=f"{prefix}own-preset",
    )
    with gr.Row(elem_classes="pair", visible=False) as owner_row:
        name = gr.Textbox(
            label="Save these three as a preset",
            placeholder="Name",
            max_length=40,
            min_width=120,
            elem_id=f"{prefix}preset-name",
        )
        with gr.Column(min_width=100):
            save = gr.Button("Save preset", size="sm", elem_id=f"{prefix}save-preset")
            remove = gr.Button("Remove preset", size="sm", visible=False, elem_id=f"{prefix}remove-preset")
    said = message(elem_id=f"{prefix}preset-said", status=True)
    return SavedPresets(chosen, name, save, remove, owner_row, said)


def names(page: PageContext) -> list[str]:
    """The names of the presets."""
    return [preset.name for preset in page.presets.sampling.all()] if page.presets else []


def wire(page: PageContext, c: Controls, saved: SavedPresets) -> None:
    """Take a preset over, save one, and remove it."""

    def take(model: Any, name: Any) -> tuple[Any, ...]:
        preset = page.presets.sampling.find(name) if page.presets else None
        card = page.card(model)
        if preset is None or card is None:
            return (gr.skip(),) * 4 + (gr.Button(visible=False), "")
        if preset.scheduler not in {each for _, each in controls.offered(card)}:
            return (gr.skip(),) * 4 + (gr.Button(visible=current_user().owner), NOT_FOR_MODEL.format(name=preset.name))
        quality = _quality(card, preset.scheduler, preset.num_inference_steps)
        scheduler = gr.Dropdown(value=preset.scheduler, info=controls.about_scheduler(preset.scheduler))
        steps, guidance = preset.num_inference_steps, preset.guidance_scale
        return quality, scheduler, steps, guidance, gr.Button(visible=current_user().owner), ""

    def save(name: Any, scheduler: Any, steps: Any, guidance: Any) -> tuple[Any, ...]:
        if page.presets is None or not current_user().owner:
            return gr.skip(), gr.skip(), gr.skip(), OWNER_ONLY
        try:
            preset = page.presets.sampling.save(name, scheduler, controls.int_if_whole(steps), guidance)
        except PresetError as problem:
            return gr.skip(), gr.skip(), gr.skip(), str(problem)
        chosen = gr.Dropdown(names(page), value=preset.name, visible=True)
        return chosen, "", gr.Button(visible=True), f"Saved as {preset.name}."

    def remove(name: Any) -> tuple[Any, ...]:
        if page.presets is None or not current_user().owner:
            return gr.skip(), gr.skip(), OWNER_ONLY
        try:
            page.presets.sampling.remove(str(name))
        except PresetError as problem:
            return gr.skip(), gr.skip(), str(problem)
        left = names(page)
        return gr.Dropdown(left, value=None, visible=bool(left)), gr.Button(visible=False), "The preset is removed."

    def refresh() -> tuple[Any, Any]:
        there = names(page)
        return gr.Dropdown(there, visible=bool(there)), gr.Row(visible=current_user().owner)

    taken = [c.quality, c.scheduler, c.num_inference_steps, c.guidance_scale, saved.remove, saved.said]
    saved.chosen.input(take, [c.model, saved.chosen], taken, **UNQUEUED)
    inputs = [saved.name, c.scheduler, c.num_inference_steps, c.guidance_scale]
    changed = [saved.chosen, saved.name, saved.remove, saved.said]
    gr.on([saved.save.click, saved.name.submit], save, inputs, changed, **UNQUEUED)
    saved.remove.click(remove, [saved.chosen], [saved.chosen, saved.remove, saved.said], **UNQUEUED)
    gr.on([page.blocks.load, page.tab.select], refresh, None, [saved.chosen, saved.owner_row], **UNQUEUED)


def _quality(card: ModelCard, scheduler: str, steps: int) -> str | None:
    return controls.quality_of(card, scheduler, steps)
