"""What is set, on one line below Generate: model, size, number of pictures, and the seed with its lock."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import gradio as gr

from pipelines.sampling.schedulers import SCHEDULERS
from ui.components.assets import asset
from ui.components.gradio_events import UNQUEUED

if TYPE_CHECKING:
    from pipelines.cards import ModelCard
    from ui.context import PageContext
    from ui.form.controls import Controls
    from ui.form.form import Form

_LOCK = (
    '<svg viewBox="0 0 16 16" aria-hidden="true"><path class="shackle open" d="M5 7.5V4.4a3 3 0 0 1 5.9-.8"></path>'
    '<path class="shackle closed" d="M5 7.5V5a3 3 0 0 1 6 0v2.5"></path>'
    '<rect x="2.8" y="7" width="10.4" height="7.6" rx="1.8"></rect>'
    '<circle class="keyhole" cx="8" cy="10.8" r="1.3"></circle></svg>'
)
_TEMPLATE = f"""
<div class="summary">
  <div class="pills" role="group" aria-label="What is set">
    <button type="button" class="pill" data-pill="model" title="The model; click to choose another"></button>
    <button type="button" class="pill" data-pill="size" title="The size; click to change it"></button>
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
        js_on_load=asset("form/summary.js"),
        elem_id=f"{prefix}summary",
        apply_default_css=False,
    )


def summary_value(
    page: PageContext,
    model: Any,
    width: Any,
    height: Any,
    count: Any,
    seed: Any,
    locked: Any,
    guidance: Any,
    scheduler: Any,
    negative: Any,
) -> dict[str, Any]:
    """The component's value for the values of the controls."""
    card = page.card(model)
    spec = SCHEDULERS.get(scheduler) if isinstance(scheduler, str) else None
    without = "negative prompt" if isinstance(negative, str) and negative.strip() else "no negative prompt"
    more = [f"Guidance {guidance:g}" if isinstance(guidance, int | float) else "", spec.label if spec else "", without]
    return {
        "model": card.name if card else "Choose a model",
        "id": card.id if card else "",
        "size": f"{_side(width)} \u00d7 {_side(height)}",
        "count": "1 picture" if count == 1 else f"{count} pictures",
        "seed": str(seed or ""),
        "locked": bool(locked),
        "more": " \u00b7 ".join(part for part in more if part),
    }


def first_value(page: PageContext, card: ModelCard, locked: bool) -> dict[str, Any]:
    """The value of a form before its first change."""
    scheduler = card.qualities[card.default_quality].scheduler
    return summary_value(page, card.id, card.width, card.height, 1, "", locked, card.guidance_scale, scheduler, "")


def _side(value: Any) -> str:
    return f"{value:g}" if isinstance(value, int | float) else "?"


def wire(form: Form, component: gr.HTML) -> None:
    """Follow the controls, and switch the lock."""
    page, c = form.page, form.controls
    inputs = _inputs(c)

    def follow(*values: Any) -> dict[str, Any]:
        return summary_value(page, *values)

    changes = [*(control.change for control in inputs), page.blocks.load]
    gr.on(changes, follow, inputs, [component], **{**UNQUEUED, "trigger_mode": "always_last"})
    # In the browser alone, so that the lock answers at once.
    component.lock(None, [c.keep_seed], [c.keep_seed], js="(locked) => !locked")


def _inputs(c: Controls) -> list[Any]:
    return [
        c.model, c.width, c.height, c.num_images, c.seed, c.keep_seed, c.guidance_scale, c.scheduler, c.negative_prompt,
    ]  # fmt: skip
