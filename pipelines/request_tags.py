"""The tags in the texts of a request: LoRAs and embeddings that a prompt names."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pydantic import BaseModel

from pipelines.prompt import PromptError, tags
from pipelines.prompt.reading import read_tags
from pipelines.request_errors import InvalidRequest

MAX_PROMPT = 2000


def read_all_tags(flat: dict[str, Any]) -> tuple[tuple[str, float], ...]:
    """Read the tags in the texts of flat values, in place; the LoRAs that the prompt names, with their weights.

    Raises:
        InvalidRequest: for a tag that is not understood.
    """
    named: tuple[tuple[str, float], ...] = ()
    # Longer texts are refused as they are; no time is spent on them.
    if _is_text(flat.get("prompt")):
        flat["prompt"], named = _or_refuse("prompt", tags.take_lora_tags, flat["prompt"])
        flat["prompt"] = _or_refuse("prompt", read_tags, flat["prompt"])
    if flat.get("prompts"):
        flat["prompts"] = tuple(_read_prompt(text, named) for text in flat["prompts"])
    if _is_text(flat.get("negative_prompt")):
        flat["negative_prompt"] = _or_refuse("negative_prompt", _read_other_tags, flat["negative_prompt"])
    end = flat.get("interpolation")
    if isinstance(end, BaseModel):
        end = end.model_dump()
    if isinstance(end, dict) and _is_text(end.get("prompt")):
        known = _or_refuse("interpolation.prompt", _read_other_tags, end["prompt"])
        flat["interpolation"] = {**end, "prompt": known}
    return named


def _read_prompt(text: Any, named: tuple[tuple[str, float], ...]) -> Any:
    """The prompt of one of several pictures without its LoRA tags, which must be those of the first."""
    if not _is_text(text):
        return text
    plain, own = _or_refuse("prompt", tags.take_lora_tags, text)
    if own != named:
        message = "The pictures of one run have the same LoRAs, but wildcards drew different ones; make one at a time."
        raise InvalidRequest("prompt", message)
    return _or_refuse("prompt", read_tags, plain)


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and len(value) <= MAX_PROMPT


def _read_other_tags(text: str) -> str:
    return read_tags(text, negative=True)


def _or_refuse(field: str, read: Callable[[str], Any], text: str) -> Any:
    try:
        return read(text)
    except PromptError as problem:
        raise InvalidRequest(field, f"{field} {problem}.") from None
