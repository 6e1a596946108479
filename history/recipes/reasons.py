"""What cannot be written as a script for diffusers: one sentence each, in place of a script for another picture."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from history.recipes import loras
from history.recipes.plan import FLUX, OWN, SD, SD3, XL, NoScript, Plan
from history.recipes.prompts import PLAIN, form_of
from pipelines.prompt import A1111
from pipelines.prompt.editing import is_edited
from pipelines.system.safetensors_header import try_read_header

# Where single files of Stable Diffusion 1.x keep the text encoder.
_CLIP = "cond_stage_model.transformer."


def refuse(plan: Plan) -> None:
    """Raise NoScript for a plan that no script can follow."""
    for find in _REASONS:
        if reason := find(plan):
            raise NoScript(reason)


def _no_steps(plan: Plan) -> str:
    return "" if plan.request.steps_run else "This picture was given back unchanged, so there is nothing to compute."


def _model(plan: Plan) -> str:
    if plan.family not in (SD, XL, SD3, FLUX, OWN):
        return f"{plan.card.name} is of a kind that is not written as a script."
    if plan.facts.get("quantize"):
        return "This picture was made with compressed weights, which a script would compress differently."
    return ""


def _single_file(plan: Plan) -> str:
    """Single files that diffusers does not read by itself."""
    header = try_read_header(Path(plan.card.source)) if plan.is_single_file else None
    if header is None:
        gone = plan.is_single_file and not Path(plan.card.source).is_file()
        return f"The file of {plan.card.name} is not on this computer any more; put it back." if gone else ""
    old = any(name.startswith(_CLIP) for name in header.tensors) and not any(
        name.startswith(f"{_CLIP}text_model.") for name in header.tensors
    )
    eight = any(str(entry.get("dtype", "")).startswith("F8") for entry in header.tensors.values() if entry)
    if old or eight or plan.family not in (SD, XL):
        return f"{plan.card.name} is a single file of a form that this program converts in its own way."
    return ""


def _withheld(plan: Plan) -> str:
    noted = any("safety checker" in note and "withheld" in note for note in plan.detail.notes)
    return "The model's safety checker withheld a picture of this run; a script would not." if noted else ""


def _fork(plan: Plan) -> str:
    if plan.request.fork is None:
        return ""
    return (
        f"This picture left another run after step {plan.request.fork.step}; a script makes one run from its start. "
        "The JSON holds both parts, and this program makes it again from them."
    )


def _editing(plan: Plan) -> str:
    request, end = plan.request, plan.request.interpolation
    given = [request.prompt, *request.prompts, request.negative_prompt, (end.prompt if end else None) or ""]
    if request.prompt_syntax != A1111 or not any(map(is_edited, given)):
        return ""
    return "This prompt changes over the steps, which is not written as a script; the JSON holds it as it was typed."


def _loras(plan: Plan) -> str:
    return next(filter(None, (loras.problem(lora.name, lora.path) for lora in plan.loras)), "")


def _words(plan: Plan) -> str:
    if not plan.embeddings:
        return ""
    if plan.family != SD:
        return "Learnt words (textual inversion) are written into scripts for Stable Diffusion 1.x and 2.x alone."
    if form_of(plan) != PLAIN:
        return "Learnt words (textual inversion) together with weights in brackets are not written as a script."
    return ""


_REASONS: tuple[Callable[[Plan], str], ...] = (
    _no_steps, _fork, _editing, _model, _single_file, _withheld, _loras, _words,
)  # fmt: skip
