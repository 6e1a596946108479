"""The samplers that work with the model, one line on each; the starred ones first, the others on demand."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import gradio as gr

from pipelines.sampling.schedulers import SCHEDULERS
from ui.components.assets import asset
from ui.components.gradio_events import UNQUEUED, event_value
from ui.form import controls

if TYPE_CHECKING:
    from pipelines.cards import ModelCard
    from pipelines.sampling.schedulers import SchedulerSpec
    from ui.context import PageContext
    from ui.form.controls import Controls

# Up to so many are all shown.
FEW = 4

_TEMPLATE = """
<div class="samplers">
  <div class="rows" role="group" aria-label="Samplers" data-part="rows"></div>
  <button type="button" class="quiet" data-part="all" aria-expanded="false" hidden></button>
</div>
"""


def line(spec: SchedulerSpec) -> str:
    """What a sampler is good at, whether it draws new noise, and the steps that suffice."""
    noise = "new noise at every step" if spec.stochastic else "no new noise"
    said = (spec.advice.good_at, noise, spec.advice.steps) if spec.advice.steps else (spec.advice.good_at,)
    text = " \u00b7 ".join(said)
    return text[:1].upper() + text[1:]


def rows(card: ModelCard) -> list[dict[str, Any]]:
    """A row a sampler that works with the model; ``first``: whether it is shown before all are asked for."""
    own = {quality.scheduler for quality in card.qualities.values()}
    names = [name for _, name in controls.offered(card)]
    distilled = max(quality.num_inference_steps for quality in card.qualities.values()) <= controls.DISTILLED_STEPS
    found = []
    for name in names:
        spec = SCHEDULERS[name]
        # A distilled model needs the sampler that it was made for.
        starred = name in own if distilled else spec.advice.starred
        shown = starred or name in own or len(names) <= FEW
        found.append({
            "name": name, "label": spec.label, "line": line(spec), "starred": starred, "own": name in own,
            "first": shown,
        })  # fmt: skip
    return found


def value_of(page: PageContext, named: Mapping[str, Any]) -> dict[str, Any]:
    """The component's value for the values of the controls, by name."""
    card = page.card(named.get("model"))
    return {"rows": rows(card) if card else [], "chosen": named.get("scheduler")}


def samplers(page: PageContext, card: ModelCard, prefix: str = "") -> gr.HTML:
    """The component."""
    scheduler = card.qualities[card.default_quality].scheduler
    return gr.HTML(
        value_of(page, {"model": card.id, "scheduler": scheduler}),
        html_template=_TEMPLATE,
        js_on_load=asset("form/choosing/samplers.js"),
        elem_id=f"{prefix}samplers",
        apply_default_css=False,
    )


def wire(page: PageContext, c: Controls, component: gr.HTML) -> None:
    """Take over the sampler that is pressed."""

    def choose(model: Any, steps: Any, data: gr.EventData) -> tuple[Any, Any]:
        return chosen(page.card(model), steps, event_value(data, "name"))

    component.sampler(choose, [c.model, c.num_inference_steps], [c.scheduler, c.quality], **UNQUEUED)


def chosen(card: ModelCard | None, steps: Any, name: Any) -> tuple[Any, Any]:
    """Updates of scheduler and quality; none for a sampler that does not work with the model."""
    if card is None or not isinstance(name, str) or name not in {each for _, each in controls.offered(card)}:
        return gr.skip(), gr.skip()
    scheduler = gr.Dropdown(value=name, info=controls.about_scheduler(name))
    return scheduler, controls.quality_of(card, name, steps)
