"""Draw Things: XMP whose EXIF user comment is JSON; c and uc are the prompts, v2 the whole configuration."""

from __future__ import annotations

import html
import re
from typing import Any

from history.readers.settings import A1111, ForeignSettings, SettingsBuilder, json_object
from pipelines.images.file_texts import FileTexts

_SIZE = re.compile(r"(\d{1,6})x(\d{1,6})", re.ASCII)
_KNOWN = {
    "c", "uc", "model", "sampler", "scale", "seed", "steps", "strength", "size", "lora", "v2",
}  # fmt: skip
# Of the whole configuration, what stands outside of it, too.
_KNOWN_V2 = {
    "model", "sampler", "guidanceScale", "seed", "steps", "strength", "width", "height", "loras", "clipSkip",
}  # fmt: skip


def read(texts: FileTexts) -> ForeignSettings | None:
    """The settings in a file's texts, or None."""
    candidates = [texts.user_comment] if '"uc"' in texts.user_comment else []
    if "Draw Things" in texts.xmp:
        candidates.insert(0, _user_comment(texts.xmp))
    for text in candidates:
        if (values := json_object(text)) and "c" in values and "sampler" in values:
            return parse(values, text)
    return None


def _user_comment(xmp: str) -> str:
    """The JSON in an XMP packet, which is not given to an XML parser: entities in it could be bombs."""
    start = xmp.find("exif:UserComment")
    begin = xmp.find("{", start) if start >= 0 else -1
    if not 0 <= begin - start < 400:
        return ""
    ends = (xmp.find(end, begin) for end in ("</rdf:li>", "</exif:UserComment>", '"'))
    text = xmp[begin : min((end for end in ends if end > 0), default=len(xmp))]
    # Quotes are written as they are in an element, and escaped in an attribute.
    return html.unescape(text if "&quot;" in text else xmp[begin : _end(xmp, begin)])


def _end(xmp: str, begin: int) -> int:
    ends = (xmp.find(end, begin) for end in ("</rdf:li>", "</exif:UserComment>"))
    return min((end for end in ends if end > 0), default=len(xmp))


def _telling(values: dict[str, Any]) -> dict[str, Any]:
    """Values without those that are as they are in most pictures: no, 0 and 1."""
    return {name: value for name, value in values.items() if value is True or value not in (0, 1)}


def parse(found: dict[str, Any], text: str) -> ForeignSettings | None:
    """The settings in its JSON."""
    builder = SettingsBuilder("Draw Things", text, A1111)
    builder.prompts(found.get("c", ""), found.get("uc", ""))
    builder.given(steps=found.get("steps"), guidance=found.get("scale"), seed=found.get("seed"))
    if isinstance(size := found.get("size"), str) and (sides := _SIZE.fullmatch(size)):
        builder.size(sides[1], sides[2])
    if found.get("strength") not in (None, 1, 1.0):
        builder.strength(found["strength"])
    builder.sampler(found.get("sampler", ""))
    builder.model(found.get("model", ""))
    config = found.get("v2")
    loras = found.get("lora") or (config.get("loras") if isinstance(config, dict) else None)
    for entry in loras[:50] if isinstance(loras, list) else ():
        if isinstance(entry, dict):
            builder.lora(entry.get("model", entry.get("file", "")), entry.get("weight", 1.0))
    builder.rest(_telling(found), _KNOWN)
    if isinstance(config, dict):
        builder.clip_skip(config.get("clipSkip"))
        builder.rest(_telling(config), _KNOWN_V2)
    return builder.build()
