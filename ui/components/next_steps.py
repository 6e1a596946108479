"""What to do next about an error: the kind of error -> the button next to its sentence.

The button stands in ``message`` or on the stage; ``next_steps.js``, which every form has, does what it says.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pipelines.request_errors import AGAIN, LEAVE_OUT, OTHER_MODEL, OWN_SETTINGS, SHORTEN, SMALLER, VALUE
from pipelines.system.text import shorten

if TYPE_CHECKING:
    from pipelines.request_errors import Remedy

# A run whose timeline is gone.
RUN = "run"
# Kind of a remedy, or field of the request -> what the button says, and what it does: an address of the page
# ("#/models"), something of the form (``DOES`` in next_steps.js), or "fix", a change that the server makes (``FIXES``).
NEXT_STEPS: Mapping[str, tuple[str, str]] = {
    VALUE: ("Use {}", "set"),
    SHORTEN: ("Cut to {} characters", "cut"),
    LEAVE_OUT: ("Leave out {}", "remove"),
    SMALLER: ("Make it smaller", "fix"),
    OWN_SETTINGS: ("Use the model's settings", "fix"),
    OTHER_MODEL: ("Use another model", "fix"),
    AGAIN: ("Try again", "generate"),
    RUN: ("Open History", "#/history"),
    "model": ("Open Models", "#/models"),
    "scheduler": ("Use the model's scheduler", "fix"),
    "num_inference_steps": ("Use the model's steps", "fix"),
    "guidance_scale": ("Use the model's guidance", "fix"),
    "width": ("Use the model's size", "fix"),
    "height": ("Use the model's size", "fix"),
    "seed": ("Draw a random seed", "seed"),
    "variation.seed": ("Draw a random seed", "seed"),
    "interpolation.seed": ("Draw a random seed", "seed"),
    "init.image": ("Choose an image", "source"),
    "image": ("Choose an image", "source"),
    "mask": ("Change the whole image", "whole"),
    "init.mask": ("Change the whole image", "whole"),
    "edges": ("Change the whole image", "whole"),
    "controls": ("Remove the map", "fix"),
    "controls.image": ("Remove the map", "fix"),
    "controls.net": ("Remove the map", "fix"),
    "reference": ("Remove its image", "fix"),
    "reference.image": ("Remove its image", "fix"),
    "reference.adapter": ("Remove its image", "fix"),
    "variation": ("Switch it off", "fix"),
    "interpolation": ("Switch it off", "fix"),
    "interpolation.prompt": ("Switch it off", "fix"),
}
# A text of the user on a button is shown no longer than this.
SHOWN = 24


def next_step(remedy: Remedy) -> dict[str, Any]:
    """The button of a remedy as ``{"label", "to"}``, ``value`` or ``fix``; {} where no press mends it."""
    kind = ".".join(part for part in remedy.kind.split(".") if not part.isdigit())
    if kind not in NEXT_STEPS:
        return {}
    label, to = NEXT_STEPS[kind]
    shown = shorten(remedy.value, SHOWN) if isinstance(remedy.value, str) else f"{remedy.value:g}"
    step = {"label": label.format(shown), "to": to}
    return {**step, **({"fix": kind} if to == "fix" else {"value": remedy.value} if "{}" in label else {})}
