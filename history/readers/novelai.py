"""NovelAI: JSON in a PNG's ``Comment``, or the same texts hidden in the lowest bits of the alpha channel.

The alpha form (``pipelines.images.hidden_texts``) is also written by extensions of other programs, with AUTOMATIC1111's
text.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from history.readers import a1111
from history.readers.settings import A1111, ForeignSettings, SettingsBuilder, json_object
from pipelines.images.file_texts import FileTexts
from pipelines.images.hidden_texts import hidden_text

if TYPE_CHECKING:
    from PIL import Image

_KNOWN = {
    "prompt", "uc", "steps", "scale", "seed", "width", "height", "sampler", "noise_schedule", "strength", "signed_hash",
    "v4_prompt", "v4_negative_prompt", "request_type",
}  # fmt: skip


def read(texts: FileTexts) -> ForeignSettings | None:
    """The settings in a file's texts, or None."""
    software, comment = texts.texts.get("Software", ""), texts.texts.get("Comment", "")
    source = texts.texts.get("Source", "")
    if "NovelAI" not in software + source or not comment.lstrip().startswith("{"):
        return None
    return parse(comment, texts.texts.get("Description", ""), source)


def parse(comment: str, description: str = "", source: str = "") -> ForeignSettings | None:
    """The settings in the JSON of its comment; older versions have the prompt in the description alone."""
    found = json_object(comment)
    if found is None:
        return None
    builder = SettingsBuilder("NovelAI", comment, A1111)
    builder.prompts(found.get("prompt") or description, found.get("uc", ""))
    builder.given(
        steps=found.get("steps"), guidance=found.get("scale"), seed=found.get("seed"), strength=found.get("strength")
    )
    if "width" in found:
        builder.size(found.get("width"), found.get("height"))
    builder.sampler(found.get("sampler", ""), found.get("noise_schedule", ""))
    builder.model(source)
    for name, which in (("v4_prompt", "character"), ("v4_negative_prompt", "negative of character")):
        for k, text in enumerate(_characters(found.get(name)), 1):
            builder.unused(f"{which} {k}", text)
    builder.rest(found, _KNOWN, empty=(0, 0.0, False))
    return builder.build()


def _characters(prompt: Any) -> list[Any]:
    """The prompts of single characters, which version 4 has besides that of the picture."""
    caption = prompt.get("caption") if isinstance(prompt, dict) else None
    listed = caption.get("char_captions") if isinstance(caption, dict) else None
    return (
        [each.get("char_caption") for each in listed[:20] if isinstance(each, dict)] if isinstance(listed, list) else []
    )


def read_alpha(image: Image.Image) -> ForeignSettings | None:
    """The settings in the alpha channel of a decoded picture, or None."""
    text = hidden_text(image)
    if not text:
        return None
    if not text.lstrip().startswith("{"):
        return a1111.parse(text)
    found = json_object(text) or {}
    comment = found.get("Comment")
    return parse(comment, _text(found, "Description"), _text(found, "Source")) if isinstance(comment, str) else None


def add_hidden(texts: FileTexts, image: Image.Image) -> None:
    """Add the texts in the alpha channel of a decoded picture to those of its file, by their keywords in a PNG."""
    text = hidden_text(image)
    if not text.lstrip().startswith("{"):
        if text:
            texts.add("parameters", text)
        return
    found = json_object(text) or {}
    for name in ("Comment", "Description", "Source"):
        if _text(found, name):
            texts.add(name, _text(found, name))
    texts.add("Software", "NovelAI")


def _text(found: dict[str, Any], name: str) -> str:
    value = found.get(name, "")
    return value if isinstance(value, str) else ""
