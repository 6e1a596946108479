"""InvokeAI: ``invokeai_metadata`` (since 3.0) and ``sd-metadata`` (2.x), each JSON in a PNG's text."""

from __future__ import annotations

from typing import Any

from history.readers.settings import COMPEL, ForeignSettings, SettingsBuilder, in_square_brackets, json_object
from pipelines.images.file_texts import FileTexts

_KNOWN = {
    "positive_prompt", "negative_prompt", "positive_style_prompt", "negative_style_prompt", "width", "height", "seed",
    "cfg_scale", "guidance", "steps", "scheduler", "model", "vae", "strength", "loras", "clip_skip", "app_version",
    "generation_mode", "rand_device",
}  # fmt: skip


def read(texts: FileTexts) -> ForeignSettings | None:
    """The settings in a file's texts, or None."""
    for name, parse in (("invokeai_metadata", _parse_new), ("sd-metadata", _parse_old)):
        text = texts.texts.get(name)
        found = json_object(text) if text else None
        if text and found and (settings := parse(found, text)) is not None:
            return settings
    return None


def _parse_new(found: dict[str, Any], text: str) -> ForeignSettings | None:
    builder = SettingsBuilder("InvokeAI", text, COMPEL)
    builder.prompts(found.get("positive_prompt", ""), found.get("negative_prompt", ""))
    for name in ("positive_style_prompt", "negative_style_prompt"):
        if found.get(name) != found.get(name.replace("_style", "")):
            builder.unused(name.replace("_", " "), found.get(name))
    if "width" in found:
        builder.size(found.get("width"), found.get("height"))
    scale = found.get("guidance") if found.get("cfg_scale") in (None, 1, 1.0) else found["cfg_scale"]
    builder.given(seed=found.get("seed"), steps=found.get("steps"), guidance=scale, strength=found.get("strength"))
    builder.sampler(found.get("scheduler", ""))
    model = found.get("model")
    builder.model(model, model.get("hash", "") if isinstance(model, dict) else "")
    builder.vae(found.get("vae"))
    clip_skip = found.get("clip_skip")
    if isinstance(clip_skip, int) and clip_skip > 0:
        builder.clip_skip(clip_skip + 1)  # it counts the layers that are left out, others count from the last
    for entry in found["loras"][:50] if isinstance(found.get("loras"), list) else ():
        if isinstance(entry, dict):
            lora = entry.get("model", entry.get("lora"))
            builder.lora(lora, entry.get("weight", 1.0), lora.get("hash", "") if isinstance(lora, dict) else "")
    builder.rest(found, _KNOWN)
    return builder.build()


def _parse_old(found: dict[str, Any], text: str) -> ForeignSettings | None:
    image = found.get("image")
    if not isinstance(image, dict):
        return None
    builder = SettingsBuilder("InvokeAI", text, COMPEL)
    prompt = image.get("prompt", "")
    if isinstance(prompt, list):
        prompt = " ".join(str(part.get("prompt", "")) for part in prompt[:50] if isinstance(part, dict))
    builder.prompts(*in_square_brackets(prompt if isinstance(prompt, str) else ""))
    builder.size(image.get("width"), image.get("height"))
    builder.steps(image.get("steps"))
    builder.guidance(image.get("cfg_scale"))
    builder.seed(image.get("seed"))
    builder.sampler(image.get("sampler", ""))
    builder.model(found.get("model_weights", ""), found.get("model_hash", ""))
    if image.get("strength") is not None:
        builder.strength(image["strength"])
    for name in ("type", "threshold", "perlin", "hires_fix", "seamless", "facetool", "upscale", "postprocessing"):
        builder.unused(name, image.get(name))
    return builder.build()
