"""SwarmUI: JSON with ``sui_image_params`` in ``parameters``, or in the EXIF user comment."""

from __future__ import annotations

from typing import Any

from history.readers.settings import A1111, ForeignSettings, SettingsBuilder, json_object
from pipelines.images.file_texts import FileTexts

_KNOWN = {
    "prompt", "negativeprompt", "model", "seed", "steps", "cfgscale", "width", "height", "sampler", "scheduler", "vae",
    "loras", "loraweights", "aspectratio", "swarm_version", "nopreviews", "imageformat", "initimagecreativity",
    "fluxguidancescale", "clipstopatlayer",
}  # fmt: skip


def read(texts: FileTexts) -> ForeignSettings | None:
    """The settings in a file's texts, or None."""
    for text in (texts.texts.get("parameters", ""), texts.user_comment, texts.texts.get("Comment", "")):
        if "sui_image_params" not in text:
            continue
        found = json_object(text[text.find("{") :])
        if found and isinstance(found.get("sui_image_params"), dict):
            return parse(found, text)
    return None


def parse(found: dict[str, Any], text: str) -> ForeignSettings | None:
    """The settings in its JSON."""
    values, builder = found["sui_image_params"], SettingsBuilder("SwarmUI", text, A1111)
    builder.prompts(values.get("prompt", ""), values.get("negativeprompt", ""))
    if "width" in values:
        builder.size(values.get("width"), values.get("height"))
    scale = values.get("fluxguidancescale") if values.get("cfgscale") in (None, 1, 1.0, "1") else values["cfgscale"]
    builder.given(
        seed=values.get("seed"), steps=values.get("steps"), strength=values.get("initimagecreativity"),
        guidance=values.get("cfgscale") if scale is None else scale,
    )  # fmt: skip
    builder.sampler(values.get("sampler", ""), values.get("scheduler", ""))
    models = [model for model in _models(found) if model.get("param") == "model"]
    builder.model(values.get("model", ""), models[-1].get("hash") if models else "")
    builder.vae(values.get("vae", ""))
    builder.clip_skip(values.get("clipstopatlayer"))
    names, weights = _listed(values.get("loras")), _listed(values.get("loraweights"))
    for k, name in enumerate(names[:50]):
        builder.lora(name, weights[k] if k < len(weights) else 1.0)
    for model in _models(found):
        if model.get("param") == "loras":
            builder.lora_hash(model.get("name"), model.get("hash"))
    extra = found.get("sui_extra_data")
    for part in (values, extra if isinstance(extra, dict) else {}):
        builder.rest(part, _KNOWN)
    return builder.build()


def _models(found: dict[str, Any]) -> list[dict[str, Any]]:
    models = found.get("sui_models")
    return [model for model in models[:50] if isinstance(model, dict)] if isinstance(models, list) else []


def _listed(value: Any) -> list[Any]:
    """A list, or a text with commas."""
    return value if isinstance(value, list) else value[:5000].split(",") if isinstance(value, str) and value else []
