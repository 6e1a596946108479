"""What is set, below Generate: the number of pictures, the seed with its lock, guidance and negative prompt.

With the line above the prompt and the choosers in Settings it follows the controls, by one event for all of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import gradio as gr
from gradio.components import Component  # not for types alone: Gradio reads the annotations of event handlers

from ui.components.assets import asset
from ui.components.gradio_events import UNQUEUED
from ui.form.choosing import samplers, sizes
from ui.form.choosing.in_sight import in_sight_value
from ui.form.form import Form, Updates

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pipelines.cards import ModelCard
    from ui.context import PageContext

# What is followed, of the controls.
NAMES = (
    "model", "width", "height", "num_images", "seed", "keep_seed", "guidance_scale", "scheduler", "negative_prompt"
)  # fmt: skip

_LOCK = (
    '<svg viewBox="0 0 16 16" aria-hidden="true"><path class="shackle open" d="M5 7.5V4.4a3 3 0 0 1 5.9-.8"></path>'
    '<path class="shackle closed" d="M5 7.5V5a3 3 0 0 1 6 0v2.5"></path>'
    '<rect x="2.8" y="7" width="10.4" height="7.6" rx="1.8"></rect>'
    '<circle class="keyhole" cx="8" cy="10.8" r="1.3"></circle></svg>'
)
_SHOWN = "() => { setTimeout(() => document.dispatchEvent(new CustomEvent('playground:shown'))); }"
_TEMPLATE = f"""
<div class="summary">
  <div class="pills" role="group" aria-label="Pictures and seed">
    <button type="button" class="pill" data-pill="count" title="How many at once; click to change it"></button>
    <button type="button" class="pill" data-pill="seed" aria-pressed="false">{_LOCK}<span></span></button>
  </div>
  <p class="more" data-part="more"></p>
</div>
"""


def summary(value: dict[str, Any], prefix: str = "") -> gr.HTML:
    """The component; its event ``lock`` switches the lock of the seed."""
    return gr.HTML(
        value,
        html_template=_TEMPLATE,
        js_on_load=asset("form/drawers.js", "form/summary.js"),
        elem_id=f"{prefix}summary",
        apply_default_css=False,
    )


def summary_value(page: PageContext, named: Mapping[str, Any]) -> dict[str, Any]:
    """The component's value for the values of the controls, by name."""
    card, count, seed = page.card(named.get("model")), named.get("num_images"), named.get("seed")
    guidance, negative = named.get("guidance_scale"), named.get("negative_prompt")
    without = "negative prompt" if isinstance(negative, str) and negative.strip() else "no negative prompt"
    more = [f"Guidance {guidance:g}" if isinstance(guidance, int | float) else "", without]
    return {
        "id": card.id if card else "",
        "count": "1 picture" if count == 1 else f"{count} pictures",
        "seed": str(seed or ""),
        "locked": bool(named.get("keep_seed")),
        "more": " \u00b7 ".join(part for part in more if part),
    }


def first_value(page: PageContext, card: ModelCard, locked: bool) -> dict[str, Any]:
    """The value of a form before its first change."""
    named = {"model": card.id, "num_images": 1, "keep_seed": locked, "guidance_scale": card.guidance_scale}
    return summary_value(page, named)


def wire(form: Form) -> None:
    """Follow the controls, and switch the lock."""
    page, c = form.page, form.controls
    followed = [getattr(c, name) for name in NAMES]
    guides = [component for section in form.sections for component in section.in_use_of]

    def follow(values: dict[Component, Any]) -> Updates:
        named = {name: values[getattr(c, name)] for name in NAMES}
        used = [guide for section in form.sections for guide in section.in_use(values)]
        return {
            form.summary: summary_value(page, named),
            form.in_sight: in_sight_value(page, named, used),
            form.sizes: sizes.value_of(page, named),
            form.samplers: samplers.value_of(page, named),
        }

    changes = [*(control.change for control in (*followed, *guides)), page.blocks.load]
    outputs = [form.summary, form.in_sight, form.sizes, form.samplers]
    gr.on(changes, follow, {*followed, *guides}, outputs, **{**UNQUEUED, "trigger_mode": "always_last"})
    # The LoRAs of a prompt that the server brings; the browser takes it in first.
    c.prompt.change(None, None, None, js=_SHOWN)
    # In the browser alone, so that the lock answers at once.
    form.summary.lock(None, [c.keep_seed], [c.keep_seed], js="(locked) => !locked")
