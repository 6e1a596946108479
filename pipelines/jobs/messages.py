"""Errors and notes as sentences: what happened, and what the user can do."""

from __future__ import annotations

import errno
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from pipelines.model import CannotLoad
from pipelines.models import oom_fallback
from pipelines.models.oom_fallback import out_of_memory
from pipelines.models.placement import NoSuchDevice
from pipelines.prompt import A1111
from pipelines.prompt.compel import has_weights
from pipelines.prompt.reading import read
from pipelines.request import GenerationRequest, InvalidRequest, prompt_fields
from pipelines.request_errors import AGAIN, OWN_SETTINGS, SMALLER, Remedy
from pipelines.system.text import first_line, hide_paths

if TYPE_CHECKING:
    from pipelines.model import Model

CLOSING = "The playground is shutting down; start it again to make pictures."
NOT_LOADED = "No model is loaded yet."
UNLOADED = "No model is loaded just now; the next picture loads one."
UNCHANGED = "At this strength no step is run, so your image is returned unchanged."
UNFINISHED_DRAFT = "This draft was stopped before it was done; press Generate to make it."
TOO_MANY_QUERIES = "Too many requests at once; try again in a moment."
# What helps against an error of the system, where it is not more room.
_REMEDIES = {
    **dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), "let this program write into the folder"),
    errno.ENOENT: "bring the folder back",
}


class OutOfFallbacks(MemoryError):
    """Memory ran out with every fallback active; the message lists them."""


def explain_error(error: Exception, model_id: str, request: GenerationRequest | None = None) -> str:
    """An exception as one sentence, without paths of this computer: what happened and what to do next."""
    return hide_paths(_explanation(error, model_id, request))


def _explanation(error: Exception, model_id: str, request: GenerationRequest | None) -> str:
    if isinstance(error, InvalidRequest | NoSuchDevice | CannotLoad):
        return str(error)
    if out_of_memory(error):
        return _out_of_memory(error, model_id, request)
    if isinstance(error, FloatingPointError):
        return "The numbers of this picture overflowed; try another scheduler, more steps or a lower guidance scale."
    if isinstance(error, OSError):
        reason = (error.strerror or first_line(error)).rstrip(".")
        return f"Reading or writing a file failed ({reason}); check the folder and the disk's space."
    return f"Something went wrong with {model_id} ({type(error).__name__}); try again, the log holds the details."


def remedy_for(error: Exception, request: GenerationRequest | None = None) -> Remedy:
    """What mends an exception with one press, for the button next to its sentence."""
    if isinstance(error, InvalidRequest):
        return error.remedy
    if isinstance(error, CannotLoad | NoSuchDevice):
        return Remedy("model")
    if out_of_memory(error):
        return Remedy("model" if request is None else SMALLER)
    return Remedy(OWN_SETTINGS if isinstance(error, FloatingPointError) else AGAIN)


def not_saved(error: OSError, saved: int = 0) -> str:
    """That pictures are on the page but not on the disk, why, and what to do.

    Args:
        error: what the system says.
        saved: how many pictures of the run were saved before.
    """
    reason = hide_paths((error.strerror or first_line(error)).rstrip("."))
    what = "Nothing could be saved" if not saved else "Only the first picture could be saved"
    what = f"Only the first {saved} pictures could be saved" if saved > 1 else what
    remedy = _REMEDIES.get(error.errno or 0, "make room on the disk")
    return f"{what} in the data folder ({reason}): save from the page now, and {remedy}."


def _out_of_memory(error: Exception, model_id: str, request: GenerationRequest | None) -> str:
    if request is None:
        return f"There is not enough memory to load {model_id}; close other programs or choose a smaller model."
    size = f"{request.num_images} x {request.width} x {request.height} pixels"
    tried = f" (tried: {error})" if isinstance(error, OutOfFallbacks) and str(error) else ""
    return f"There was not enough memory for {size}{tried}; ask for fewer or smaller pictures."


def notes(
    model: Model, request: GenerationRequest, withheld: Sequence[bool], fallbacks: Sequence[str]
) -> tuple[str, ...]:
    """What the user should know about a finished run, one sentence each.

    Args:
        model: that ran.
        request: what was asked for.
        withheld: which pictures the safety checker withheld.
        fallbacks: names of those that this run activated.
    """
    return (
        *withheld_notes(model, withheld),
        *truncation_notes(model, request),
        *ignored_settings(model, request),
        *((model.placement.note,) if model.placement.note else ()),
        *fallback_notes(model, fallbacks),
    )


def withheld_notes(model: Model, withheld: Sequence[bool]) -> tuple[str, ...]:
    """What the model's safety checker did, if anything."""
    numbers = [str(k) for k, hidden in enumerate(withheld, 1) if hidden]
    if not numbers:
        return ()
    which = "the picture" if len(withheld) == 1 else f"picture {' and '.join(numbers)} of {len(withheld)}"
    return (
        f"The safety checker of {model.card.name} withheld {which}: a black one takes its place and its steps are not "
        "saved; change the prompt or the seed.",
    )


def truncation_notes(model: Model, request: GenerationRequest) -> Iterator[str]:
    """The part of each prompt that does not fit into the text encoder; in A1111's form everything does."""
    if request.prompt_syntax == A1111 and model.supports_prompt_weights:
        return
    for prompt in (text for field, text in prompt_fields(request) if field != "negative_prompt"):
        if text := model.truncated_text(prompt):
            yield f'The prompt is longer than the model reads; it did not see: "{text}".'


def ignored_settings(model: Model, request: GenerationRequest) -> Iterator[str]:
    """What the request asks for and a model of this kind does not read."""
    name, texts = model.card.name, (request.prompt, *request.prompts, request.negative_prompt)
    if not model.supports_prompt_weights and any(has_weights(text) for text in texts):
        yield f"{name} does not read weights such as (word)1.3; it took them for part of the text."
    for prompt in dict.fromkeys((request.prompt, *request.prompts)):
        reading = read(prompt, request.negative_prompt, request.prompt_syntax, model.supports_prompt_weights)
        if reading.warning:
            yield reading.warning
    if model.guidance_embedded and request.negative_prompt and model.own_loop is None:
        yield f"{name} does not read a negative prompt, so that field changed nothing."


def fallback_notes(model: Model, active: Sequence[str]) -> tuple[str, ...]:
    """The out-of-memory fallbacks of a run: those known from before, and those that it activated."""
    now = oom_fallback.words(active)
    before = oom_fallback.words([name for name in model.placement.fallbacks if name not in active])
    return (
        *((f"To fit into memory, as learnt before: {', '.join(before)}.",) if before else ()),
        *((f"Memory ran out, so this was changed: {', '.join(now)}; next time it begins like that.",) if now else ()),
    )


def listed(names: Iterable[str]) -> str:
    """Names in alphabetical order, with commas."""
    return ", ".join(sorted(names))
