"""The training pictures that a result is nearest to, what training never showed, and how strongly its prompt pulls."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from pipelines.training_sample import memorisation
from pipelines.training_sample.nearest import OTHER, SAME
from pipelines.training_sample.recipe import SampleRecipe, Wanted, held_out
from ui.components.data_uri import thumbnail_uri

if TYPE_CHECKING:
    from pipelines.trace.trace import Trace
    from ui.context import PageContext

COUNT, SIDE = 5, 192


def nearest_value(page: PageContext, trace: Trace, k: int) -> dict[str, Any]:
    """The result and the renders that are nearest to it; raises SampleError or QueryFailed."""
    samples, model = page.backend.training_samples, trace.request.model
    result = _result(trace, k)
    found = samples.nearest(model, np.asarray(result), COUNT, page.queries.ask)
    return {
        "result": thumbnail_uri(result, SIDE),
        "renders": [
            {
                "name": one.thing,
                "style": f"{one.style}{', mirrored' if one.mirrored else ''}",
                "distance": f"{one.distance:.3f}",
                "picture": thumbnail_uri(one.picture, SIDE),
            }
            for one in found
        ],
        "said": likeness(found[0].distance),
    }


def likeness(distance: float) -> str:
    """What the smallest distance says."""
    if distance <= SAME:
        return "The result is nearly the same drawing as the first, at a place and size of its own."
    if distance <= OTHER:
        return "The result is drawn much like the first, and differs from it in parts."
    return "The result is near to none of the training drawings."


def _result(trace: Trace, k: int) -> Image.Image:
    """The finished picture, or the last guess of a run that was stopped."""
    data = trace.finals[k] if k < len(trace.finals) else trace.frames[-1][k]
    return Image.open(io.BytesIO(data), formats=("PNG", "JPEG")).convert("RGB")


def never_shown(wanted: Wanted, recipe: SampleRecipe) -> str:
    """What of a prompt training never showed, in one sentence; "" if nothing was held out."""
    for thing in wanted.things:
        if wanted.colour and held_out([thing], wanted.colour):
            return (
                f"This pair of thing and colour was never shown in training: {recipe.things[thing]} "
                f"{recipe.backgrounds[wanted.colour]}. One in ten such pairs was held out."
            )
    if len(wanted.things) == 2 and held_out(wanted.things):
        one, two = (recipe.things[name] for name in wanted.things)
        if held_out(wanted.things[::-1]):
            return f"These two things were never shown together in training: {one} next to {two}."
        # Each order is a pair of its own.
        return f"These two things were never shown in this order in training, only in the other: {one} next to {two}."
    return ""


def gauge_value(page: PageContext, trace: Trace, k: int) -> dict[str, Any]:
    """How strongly the prompt moves the first prediction, against prompts of the training; raises QueryFailed."""
    if why := memorisation.why_not(trace):
        return {"why": why}
    recipe = page.backend.training_samples.recipe(trace.request.model)
    pull = memorisation.pull_of(trace, k, recipe, page.queries.ask)
    top = max(pull.own, *pull.others) or 1.0
    return {"why": "", "own": pull.own / top, "others": [one / top for one in pull.others], "said": verdict(pull)}


def verdict(pull: memorisation.Pull) -> str:
    """The figure in words."""
    sign = "a sign of" if pull.unusual else "no sign of"
    return (
        f"This prompt pulls {pull.ratio:.2f} times as strongly as the median of {len(pull.others)} prompts of the "
        f"training from the same noise, and more strongly than {pull.above:.0%} of them: {sign} a memorised picture."
    )
