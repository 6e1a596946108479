"""The settings that endpoints take by name, and the request that they make."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pipelines.cards import ModelCard
from pipelines.request import GenerationRequest, InvalidRequest, make_request
from pipelines.system.text import shorten
from ui.form import controls
from ui.form.styles.composing import with_embeddings

if TYPE_CHECKING:
    from pipelines.models.adapters.resolver import AdapterResolver

# A call's values by name.
CallValues = Mapping[str, Any]
# What every endpoint takes besides a prompt and its own arguments.
SETTINGS: Mapping[str, type] = {
    "negative_prompt": str, "model": str, "scheduler": str, "num_inference_steps": int, "guidance_scale": float,
    "seed": int, "width": int, "height": int, "num_images": int,
}  # fmt: skip
IMAGE_SETTINGS: Mapping[str, type] = {"strength": float, **SETTINGS, "fit": str, "colour": str}
INPAINT_SETTINGS: Mapping[str, type] = {**IMAGE_SETTINGS, "feather": int, "only_masked": bool, "padding": int}
FORK_SETTINGS: Mapping[str, type] = {
    "prompt": str, "negative_prompt": str, "scheduler": str, "guidance_scale": float, "noise_seed": int,
}  # fmt: skip
# Comes last everywhere: over plain HTTP values go by their place.
SYNTAX: Mapping[str, type] = {"prompt_syntax": str}


def resolve(
    cards: Mapping[str, ModelCard], default_model: str, prompt: Any, model: Any, given: Mapping[str, Any],
    adapters: AdapterResolver | None = None,
) -> GenerationRequest:  # fmt: skip
    """A request from the given values; those left out (None) come from the model's card.

    Embeddings of ``adapters`` that a prompt in A1111's form names without a mark get one.

    Raises:
        InvalidRequest: with one sentence. Only an id of the catalogue names a model, never a path.
    """
    model = default_model if model is None else model
    card = cards.get(model) if isinstance(model, str) else None
    if card is None:
        shown = shorten(repr(model))
        raise InvalidRequest("model", f"model is {shown}; allowed: {', '.join(sorted(cards))}.")
    quality = card.qualities[card.default_quality]
    values: dict[str, Any] = {
        "width": card.width,
        "height": card.height,
        "scheduler": quality.scheduler,
        "num_inference_steps": quality.num_inference_steps,
        "guidance_scale": card.guidance_scale,
        "prompt_syntax": card.prompt_syntax,
        "seed": controls.draw_seed(),
    }
    values.update({name: value for name, value in given.items() if value is not None})
    fields = {"model": card.id, "prompt": prompt, **values}
    return make_request(**(fields if adapters is None else with_embeddings(adapters, fields)))
