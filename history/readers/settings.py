"""Settings of other programs in our terms, and what has no counterpart here."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from history.readers.samplers import match
from pipelines.prompt import A1111, COMPEL
from pipelines.request import MAX_GUIDANCE, MAX_LORAS, MAX_PROMPT, MAX_SEED, MAX_SIDE, MAX_STEPS
from pipelines.system.bounded_json import parse_json
from pipelines.system.text import shorten

# Bounds of what is shown: the whole text, one value, and how many values without a counterpart.
MAX_SHOWN, MAX_VALUE, MAX_UNUSED = 20_000, 300, 100
MAX_LORA_WEIGHT = 10.0
_NOT_TEXT = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")
_LORA = re.compile(
    r"<(?:lora|lyco|lycoris|locon):([^:<>\n]{1,200})(?::([^:<>\n]{0,40}))?(?::[^<>\n]{0,80})?>", re.IGNORECASE
)
_NUMBER = re.compile(r"\s*[+-]?(?:\d{1,25}\.?\d{0,25}|\.\d{1,25})(?:e[+-]?\d{1,3})?\s*", re.ASCII | re.IGNORECASE)
_SUFFIX = re.compile(r"\.(?:safetensors|ckpt|pt|pth|bin|gguf|sft)$", re.IGNORECASE)


@dataclass(frozen=True)
class ForeignLora:
    """A LoRA that another program applied; ``hash`` is what it wrote of the file's hash, or ""."""

    name: str
    weight: float = 1.0
    hash: str = ""


@dataclass(frozen=True)
class ForeignSettings:
    """The settings in a picture of another program; None or "" for what it does not say.

    Everything in it is untrusted text: it is shown escaped, and used only after ``GenerationRequest`` has checked it.

    Attributes:
        program: that wrote them.
        prompt, negative_prompt: without the LoRAs' tags.
        prompt_syntax: the form of their weights.
        scheduler: ours, "" if there is no counterpart; ``sampler`` and ``schedule`` are as they were written.
        num_inference_steps, guidance_scale, seed, width, height, strength: within our bounds.
        model, model_hash, vae: names and hashes of files.
        clip_skip: layers of the text encoder that were left out; there is no counterpart here.
        loras: at most ``MAX_LORAS``; the rest is in ``unused``.
        unused: what has no counterpart here or is beyond our bounds, by name.
        text: what was read, cut for showing.
    """

    program: str
    prompt: str = ""
    negative_prompt: str = ""
    prompt_syntax: str = A1111
    scheduler: str = ""
    sampler: str = ""
    schedule: str = ""
    num_inference_steps: int | None = None
    guidance_scale: float | None = None
    seed: int | None = None
    width: int | None = None
    height: int | None = None
    strength: float | None = None
    model: str = ""
    model_hash: str = ""
    vae: str = ""
    clip_skip: int | None = None
    loras: tuple[ForeignLora, ...] = ()
    unused: Mapping[str, str] = field(default_factory=dict)
    text: str = ""

    def request_values(self) -> dict[str, Any]:
        """What can be taken over, by the names of ``pipelines.request.make_request``; the user chooses the model."""
        names = ("prompt", "negative_prompt", "prompt_syntax", "scheduler", "num_inference_steps", "guidance_scale",
                 "seed", "width", "height")  # fmt: skip
        found = {name: value for name in names if (value := getattr(self, name)) not in (None, "")}
        if self.loras:
            found["loras"] = tuple({"name": lora.name, "weight": lora.weight} for lora in self.loras)
        return found

    def as_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ForeignSettings | None:
        """Settings from their JSON values; None if they are none."""
        try:
            loras = tuple(ForeignLora(**lora) for lora in values.get("loras", ()))
            return cls(**{**values, "loras": loras}) if values else None
        except TypeError:
            return None


class SettingsBuilder:
    """Collects settings from untrusted values: each is taken if it is one, else listed as unused.

    Args:
        program: that wrote them.
        text: what is read, for showing.
        syntax: the form of weights in its prompts.
    """

    def __init__(self, program: str, text: str = "", syntax: str = A1111) -> None:
        self._values: dict[str, Any] = {"program": program, "text": clean(text, MAX_SHOWN), "prompt_syntax": syntax}
        self._unused: dict[str, str] = {}
        self._loras: dict[str, ForeignLora] = {}

    def prompts(self, prompt: Any, negative: Any = "") -> None:
        """The prompts; tags of LoRAs are taken out of the first."""
        text = clean(prompt, 10 * MAX_PROMPT) if isinstance(prompt, str) else ""
        for name, weight in _LORA.findall(text):
            self.lora(name, weight or 1.0)
        if _LORA.search(text):
            text = re.sub(r"[ \t]{1,99}(?=\n)", "", re.sub(r"[ \t]{2,}", " ", _LORA.sub("", text))).strip(" ,\n")
        for name, value in (("prompt", text), ("negative_prompt", clean(negative, 10 * MAX_PROMPT))):
            if len(value) > MAX_PROMPT:
                self.unused(f"{name} beyond {MAX_PROMPT} characters", value[MAX_PROMPT:])
            self._values[name] = value[:MAX_PROMPT]

    def whole(self, name: str, value: Any, low: int, high: int, label: str = "") -> None:
        """A whole number within bounds."""
        number = to_number(value)
        if number is not None and number == int(number) and low <= number <= high:
            # Seeds are larger than a float is exact.
            self._values[name] = int(value) if isinstance(value, int | str) and _is_whole(value) else int(number)
        else:
            self.unused(label or name, value)

    def number(self, name: str, value: Any, low: float, high: float, label: str = "") -> None:
        """A number within bounds."""
        found = to_number(value)
        if found is not None and low <= found <= high:
            self._values[name] = float(found)
        else:
            self.unused(label or name, value)

    def steps(self, value: Any) -> None:
        """The number of steps."""
        self.whole("num_inference_steps", value, 1, MAX_STEPS, "steps")

    def guidance(self, value: Any) -> None:
        """The guidance scale."""
        self.number("guidance_scale", value, 0, MAX_GUIDANCE, "CFG scale")

    def given(self, **values: Any) -> None:
        """Those of ``steps``, ``guidance``, ``seed`` and ``strength`` that are there."""
        for name, value in values.items():
            if value is not None:
                getattr(self, name)(value)

    def seed(self, value: Any) -> None:
        """The seed; other programs draw other noise from it."""
        self.whole("seed", value, 0, MAX_SEED)

    def strength(self, value: Any) -> None:
        """The strength of image-to-image."""
        self.number("strength", value, 0, 1, "denoising strength")

    def clip_skip(self, value: Any) -> None:
        """Layers of the text encoder that were left out."""
        number = to_number(value)
        if number is not None and abs(number) <= 24 and number == int(number) and abs(number) > 1:
            self._values["clip_skip"] = abs(int(number))
            self.unused("clip skip", value)

    def size(self, width: Any, height: Any) -> None:
        """Width and height in pixels."""
        self.whole("width", width, 8, MAX_SIDE)
        self.whole("height", height, 8, MAX_SIDE)

    def sampler(self, name: Any, schedule: Any = "") -> None:
        """Sampler and schedule by the program's names."""
        sampler, noise = clean(name, MAX_VALUE), clean(schedule, MAX_VALUE)
        key, schedule_is_ours = match(sampler, noise)
        self._values |= {"sampler": sampler, "schedule": noise, "scheduler": key}
        if sampler and not key:
            self.unused("sampler", sampler)
        if (key or noise) and not schedule_is_ours:  # it can be a part of the sampler's name, or go without saying
            self.unused("schedule", noise or sampler)

    def model(self, name: Any, digest: Any = "") -> None:
        """The model's file, without its folder and ending."""
        if found := file_name(name):
            self._values["model"] = found
        if shown := clean(digest, 100):
            self._values["model_hash"] = shown

    def vae(self, name: Any) -> None:
        """The autoencoder's file; there is no counterpart here."""
        found = file_name(name)
        if found and found.lower() not in ("automatic", "none", "default (model)", "auto"):
            self._values["vae"] = found
            self.unused("VAE", found)

    def lora(self, name: Any, weight: Any = 1.0, digest: Any = "") -> None:
        """A LoRA; said twice, the weight of the last one and the hash of either count."""
        found, number = file_name(name), to_number(weight)
        if not found or number is None or abs(number) > MAX_LORA_WEIGHT:
            self.unused(f"LoRA {shorten(clean(name, MAX_VALUE), 40)}", weight)
        elif found in self._loras or len(self._loras) < MAX_LORAS:
            known = self._loras.get(found)
            self._loras[found] = ForeignLora(found, float(number), clean(digest, 100) or (known.hash if known else ""))
        else:
            self.unused(f"LoRA {found}", number)

    def lora_hash(self, name: Any, digest: Any) -> None:
        """The hash of a LoRA that is named elsewhere, in other capitals perhaps; the first one counts.

        One that is named nowhere else has no weight: it is listed.
        """
        wanted = file_name(name).casefold()
        known = next((lora for found, lora in self._loras.items() if found.casefold() == wanted), None)
        if known is None:
            self.unused(f"LoRA {file_name(name)}", digest)
        elif not known.hash:
            self._loras[known.name] = ForeignLora(known.name, known.weight, clean(digest, 100))

    def unused(self, name: Any, value: Any) -> None:
        """A value without a counterpart here."""
        key, text = shorten(clean(name, MAX_VALUE), 60), clean(value, 10 * MAX_VALUE)
        if key and text and len(self._unused) < MAX_UNUSED:
            self._unused.setdefault(key, shorten(text, MAX_VALUE))

    def rest(self, values: Mapping[str, Any], known: Collection[str], empty: Collection[Any] = ()) -> None:
        """List what no reader's line has taken: all but the known names, and values that say nothing."""
        for name, value in values.items():
            if name not in known and value not in (None, "", [], {}, *empty):
                self.unused(name, value)

    def build(self) -> ForeignSettings | None:
        """The settings, None if nothing but the text is known."""
        known = [name for name, value in self._values.items() if value not in ("", None)]
        if set(known) <= {"program", "text", "prompt_syntax"} and not self._loras:
            return None
        return ForeignSettings(**self._values, loras=tuple(self._loras.values()), unused=dict(self._unused))


def json_object(text: str) -> dict[str, Any] | None:
    """A text of a file as a JSON object, None if it is none."""
    try:
        found = parse_json(text, max_depth=32, finite=False)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def clean(value: Any, limit: int) -> str:
    """A value as text without control characters and lone surrogates, cut at a limit."""
    if value is None or (isinstance(value, bool) and not value):
        return ""
    if isinstance(value, int) and value.bit_length() > 4000:  # Python refuses to write longer ones
        return "a very large number"
    text = value if isinstance(value, str) else repr(value) if isinstance(value, list | dict) else str(value)
    return _NOT_TEXT.sub("", text[: 2 * limit].replace("\r\n", "\n").replace("\r", "\n"))[:limit]


def to_number(value: Any) -> float | int | None:
    """A finite number, or a text that is one; None for anything else."""
    if isinstance(value, bool):
        return None
    if isinstance(value, str) and _NUMBER.fullmatch(value):
        value = int(value) if _is_whole(value) else float(value)
    if isinstance(value, int) and value.bit_length() <= 256:
        return value
    return value if isinstance(value, float) and math.isfinite(value) else None


def file_name(value: Any) -> str:
    """The name of a file without folder and ending, as requests name files; "" if there is none."""
    text = value.get("name", value.get("model_name", "")) if isinstance(value, dict) else value
    name = clean(text, MAX_VALUE).replace("\\", "/").rpartition("/")[2].strip() if isinstance(text, str) else ""
    return re.sub(r"[:<>]", "_", _SUFFIX.sub("", name))[:128]


def in_square_brackets(prompt: str) -> tuple[str, str]:
    """A prompt of InvokeAI 2, whose negative part stands in square brackets, as prompt and negative prompt."""
    negative = re.findall(r"\[([^\[\]]{0,2000})\]", prompt[: 10 * MAX_PROMPT])
    return re.sub(r"\[[^\[\]]{0,2000}\]", "", prompt).strip(), " ".join(part.strip() for part in negative)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) or re.fullmatch(r"\s*[+-]?\d{1,25}\s*", value, re.ASCII) is not None


__all__ = ["A1111", "COMPEL", "ForeignLora", "ForeignSettings", "SettingsBuilder", "clean", "file_name", "json_object"]
