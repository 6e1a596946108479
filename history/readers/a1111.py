"""AUTOMATIC1111's text form, which Forge, reForge, SD.Next, Fooocus and many others write, too.

Lines of the prompt, then ``Negative prompt: ...`` (perhaps several lines), then one line of ``Name: value`` pairs.
Values with a comma, a colon or a line break are quoted as in JSON.
"""

from __future__ import annotations

import json
import re

from history.readers.settings import ForeignSettings, SettingsBuilder, clean, json_object
from pipelines.images.file_texts import FileTexts

# The text is longer only where a workflow stands in it.
MAX_TEXT = 200_000
# A line is one of settings with so many pairs.
MIN_PAIRS = 3
# Possessive, and the name is bounded: its time is linear.
_PAIR = re.compile(r'\s{0,20}+(\w[\w \-/.]{0,60}?):\s{0,20}+("(?:\\.|[^\\"])*+"|[^,]*+)(?:,|$)')
_SIZE = re.compile(r"(\d{1,6})x(\d{1,6})", re.ASCII)
_NEGATIVE = "Negative prompt:"
# Civitai's generator appends lists in JSON to the last line.
_APPENDICES = ("Civitai resources", "Civitai metadata")
# Civitai's extension writes the hashes of all files there, as JSON that is not quoted.
_HASHES = re.compile(r"\{[^{}\n]{0,20000}\}(?=,|$)")
# A LoRA as older versions of Fooocus write it: name, hash and weight.
_WEIGHTED_HASH = re.compile(r"([^:]{1,200}):\s{0,9}([0-9a-fA-F]{8,64}):\s{0,9}([+-]?[\d.]{1,20})")


def read(texts: FileTexts) -> ForeignSettings | None:
    """The settings in a file's texts, or None."""
    for text in (texts.texts.get("parameters"), texts.user_comment, texts.texts.get("Parameters"), texts.description):
        if text and not text.lstrip().startswith("{") and (found := parse(text)) is not None:
            return found
    return None


def parse(text: str) -> ForeignSettings | None:
    """The settings in a text of this form, or None if it is no such text."""
    shown, text = text, text[:MAX_TEXT].strip()
    *lines, last = text.split("\n")
    pairs, appendix = _pairs(last)
    if len(pairs) < MIN_PAIRS:
        return None
    prompt, negative = _split(lines)
    values = {name.strip(): _unquoted(value) for name, value in reversed(pairs)}
    values = dict(reversed(values.items()))
    builder = SettingsBuilder(_program(values), shown)
    builder.prompts(values.pop("Raw prompt", "") or prompt, values.pop("Raw negative prompt", "") or negative)
    _take(builder, values, _named_hashes(values.pop("Hashes", "")))
    builder.unused(*appendix)
    return builder.build()


def _pairs(line: str) -> tuple[list[tuple[str, str]], tuple[str, str]]:
    """The pairs of the last line, and the name and text of what Civitai has appended ("" for nothing)."""
    found, at = list[tuple[str, str]](), 0
    while pair := _PAIR.search(line, at):
        name, value, at = pair[1].strip(), pair[2], pair.end()
        if name in _APPENDICES and value[:1] in ("[", "{"):
            return found, (name, line[pair.start(2) :])
        if name == "Hashes" and (block := _HASHES.match(line, pair.start(2))):
            value, at = block[0], block.end()
        found.append((name, value))
    return found, ("", "")


def _split(lines: list[str]) -> tuple[str, str]:
    """Prompt and negative prompt."""
    parts: tuple[list[str], list[str]] = ([], [])
    negative = False
    for line in lines:
        line = line.strip()
        if line.startswith(_NEGATIVE):
            negative, line = True, line.removeprefix(_NEGATIVE).strip()
        parts[negative].append(line)
    return "\n".join(parts[0]).strip(), "\n".join(parts[1]).strip()


def _unquoted(value: str) -> str:
    value = value.strip()
    if len(value) >= 2 and value[0] == value[-1] == '"':
        try:
            return clean(json.loads(value), MAX_TEXT)
        except ValueError:
            return value[1:-1]
    return value


def _program(values: dict[str, str]) -> str:
    version, app = values.get("Version", ""), values.get("App", "")
    if app.startswith("SD.Next") or "Operations" in values:
        return "SD.Next"
    if version.startswith("Fooocus"):
        return "Fooocus"
    if "reForge" in version or version.startswith("f1."):
        return "reForge"
    if re.match(r"f\d|neo|classic|forge", version):
        return "Forge"
    return version if version in ("ComfyUI",) else "AUTOMATIC1111"


def _named_hashes(text: str) -> dict[str, str]:
    """Civitai's hashes by what they are of: "model", "vae", "lora:name" in small letters."""
    hashes = json_object(text) or {}
    return {str(name).strip().lower(): digest for name, digest in hashes.items() if isinstance(digest, str)}


def _take(builder: SettingsBuilder, values: dict[str, str], hashes: dict[str, str]) -> None:
    """Give each pair to the builder; what it does not know is listed."""
    size = _SIZE.fullmatch(values.get("Size", ""))
    builder.sampler(values.pop("Sampler", ""), values.pop("Schedule type", "") or values.pop("Scheduler", ""))
    weights = _pairs_in(values.pop("Lora weights", ""))
    for name, weight in weights:
        builder.lora(name, weight)
    listed = values.pop("Lora hashes", "")
    if not weights and (threes := [_WEIGHTED_HASH.fullmatch(part.strip()) for part in listed[:5000].split(",")]):
        for three in filter(None, threes):
            builder.lora(three[1], three[3], three[2])
        listed = "" if all(threes) else listed
    for name, digest in _pairs_in(listed):
        builder.lora_hash(name, digest)
    for name, digest in hashes.items():
        kind, _, file = name.partition(":")
        if kind in ("lora", "lyco", "lycoris", "locon"):
            builder.lora_hash(file, digest)
    known = {
        "Steps": builder.steps, "Seed": builder.seed, "CFG scale": builder.guidance, "Clip skip": builder.clip_skip,
        "Denoising strength": builder.strength, "VAE": builder.vae,
    }  # fmt: skip
    builder.model(values.pop("Model", ""), values.pop("Model hash", "") or hashes.get("model", ""))
    for name, value in values.items():
        if name in known:
            known[name](value)
        elif name == "Size" and size:
            builder.size(size[1], size[2])
        elif name not in ("Version", "App"):
            builder.unused(name, value)


def _pairs_in(text: str) -> list[tuple[str, str]]:
    """``name: value, name: value`` as pairs."""
    parts = (part.rpartition(":") for part in text[:5000].split(","))
    return [(name.strip(), value.strip()) for name, colon, value in parts if colon and name.strip()]
