"""Fooocus: its own JSON (scheme "fooocus"); its other scheme is AUTOMATIC1111's text (``history.readers.a1111``)."""

from __future__ import annotations

import re
from typing import Any

from history.readers.settings import A1111, ForeignSettings, SettingsBuilder, json_object
from pipelines.images.file_texts import FileTexts

_RESOLUTION = re.compile(r"\D{0,3}(\d{1,6})\D{1,4}(\d{1,6})\D{0,3}", re.ASCII)
_KNOWN = {
    "prompt", "negative_prompt", "steps", "resolution", "guidance_scale", "base_model", "base_model_hash", "vae",
    "sampler", "scheduler", "seed", "loras", "full_prompt", "full_negative_prompt", "metadata_scheme", "version",
    "clip_skip",
}  # fmt: skip


def read(texts: FileTexts) -> ForeignSettings | None:
    """The settings in a file's texts, or None."""
    for text in (texts.texts.get("parameters", ""), texts.user_comment):
        if text.lstrip().startswith("{") and (found := json_object(text)) and {"base_model", "prompt"} <= found.keys():
            return parse(found, text)
    return None


def parse(found: dict[str, Any], text: str) -> ForeignSettings | None:
    """The settings in the JSON of its own scheme."""
    builder = SettingsBuilder("Fooocus", text, A1111)
    builder.prompts(found.get("prompt", ""), found.get("negative_prompt", ""))
    if isinstance(size := found.get("resolution"), str) and (sides := _RESOLUTION.fullmatch(size)):
        builder.size(sides[1], sides[2])
    builder.steps(found.get("steps"))
    builder.guidance(found.get("guidance_scale"))
    builder.seed(found.get("seed"))
    builder.sampler(found.get("sampler", ""), found.get("scheduler", ""))
    builder.model(found.get("base_model", ""), found.get("base_model_hash", ""))
    builder.vae(found.get("vae", ""))
    builder.clip_skip(found.get("clip_skip"))
    for entry in found["loras"][:50] if isinstance(found.get("loras"), list) else ():
        if isinstance(entry, list) and len(entry) >= 2:
            builder.lora(entry[0], entry[1], entry[2] if len(entry) > 2 else "")
    for name, value in found.items():
        if name.startswith("lora_combined_") and isinstance(value, str) and not found.get("loras"):
            builder.lora(*value.rsplit(" : ", 1)) if " : " in value else builder.unused(name, value)
    combined = {name for name in found if name.startswith("lora_combined_")}
    builder.rest(found, _KNOWN | combined, empty=("None",))
    if found.get("full_prompt") not in (None, "", [], [found.get("prompt")]):
        builder.unused("prompt with styles", found["full_prompt"])
    return builder.build()
