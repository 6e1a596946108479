"""What a comparison may change in a request, and how its values are written, read, applied and proposed.

To add a setting, write one ``AxisSetting`` and enter it in ``AXES``.
"""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from pipelines.grid import proposals
from pipelines.grid.proposals import PROPOSED, Bounds
from pipelines.request import GenerationRequest, InvalidRequest, make_request
from pipelines.sampling.schedulers import SCHEDULERS
from pipelines.system.text import shorten

MAX_VALUES = 20
MAX_TEXT = 4000
NONE = "none"
# A1111's ranges: 1-9, 1-9 (+2), 1-10 [5].
_RANGE = re.compile(r"\s*(-?[\d.]+)\s*-\s*(-?[\d.]+)(?:\s*\(\s*\+\s*([\d.]+)\s*\)|\s*\[\s*(\d+)\s*\])?\s*")
_DIGITS = re.compile(r"\d{1,19}")
# A text in quotes, or one that ends at the next separator.
_TEXT = re.compile(r'[^\S\n]*"((?:[^"]|"")*)"[^\S\n]*(?=[|\n]|\Z)|([^|\n]*)')
NO_STEP = "a range needs a step other than 0"
_SIZE = re.compile(r"\s*(\d{1,5})\s*[x\u00d7]\s*(\d{1,5})\s*", re.IGNORECASE)


@dataclass(frozen=True)
class AxisSetting:
    """A setting that a comparison may change.

    Attributes:
        label: its name on the page.
        does: what it does to a picture, in one or two sentences.
        hint: how its values are written.
        split: a text -> the texts of its values; raises ValueError.
        apply: a request and the text of a value -> the changed request; raises InvalidRequest or ValueError.
        now: a request -> the text of its present value, or None if the request has no such setting.
        propose: a request -> the texts of values around the present one.
        show: the text of a value -> what stands above its column.
        bounds: of numbers, beyond which nothing is proposed.
    """

    label: str
    does: str
    hint: str
    split: Callable[[str], list[str]]
    apply: Callable[[GenerationRequest, str], GenerationRequest]
    now: Callable[[GenerationRequest], str | None]
    propose: Callable[[GenerationRequest, Bounds], list[str]]
    show: Callable[[str], str] = str


def changed(request: GenerationRequest, **fields: Any) -> GenerationRequest:
    """The request with flat fields changed, checked like any other; raises InvalidRequest."""
    flat = {name: getattr(request, name) for name in GenerationRequest.model_fields if name != "sampling"}
    return make_request(**{**flat, **request.sampling.model_dump(), **fields})


def _apply_guidance(request: GenerationRequest, text: str) -> GenerationRequest:
    """At 0, uncond + 0 * (cond - uncond) is the answer to the negative prompt alone, which the loop leaves out."""
    scale = _number(text, "the guidance scale")
    # The present value changes nothing.
    if scale or not request.sampling.guidance_scale:
        return changed(request, guidance_scale=scale)
    alone = {"prompt": request.negative_prompt, "negative_prompt": "", "typed": None}
    return changed(request, guidance_scale=1.0, **alone)


def split_numbers(text: str) -> list[str]:
    """Numbers with commas between them, and ranges; "1, 3-9 (+3)" is 1, 3, 6, 9."""
    return _split_ranges(text, _span)


def split_wholes(text: str) -> list[str]:
    """As ``split_numbers``, exactly; a range in so many parts is rounded down: "1-10 [3]" is 1, 5, 10."""
    return _split_ranges(text, _whole_span)


def _split_ranges(text: str, span: Callable[[str, str, str | None, str | None], list[str]]) -> list[str]:
    found: list[str] = []
    for part in text.split(","):
        if part.strip():
            ends = _RANGE.fullmatch(part)
            found += span(*ends.groups()) if ends else [part.strip()]
    return found


def _span(start: str, end: str, step: str | None, count: str | None) -> list[str]:
    first, last = _number(start, "a range"), _number(end, "a range")
    if count is not None:
        number = _parts(count)
        gap = (last - first) / max(number - 1, 1)
    else:
        gap = _number(step or "1", "a range") * (1 if last >= first else -1)
        if not gap:
            raise ValueError(NO_STEP)
        number = min(int(abs((last - first) / gap) + 1e-9) + 1, MAX_VALUES + 1)
    return [f"{first + k * gap:.12g}" for k in range(number)]


def _whole_span(start: str, end: str, step: str | None, count: str | None) -> list[str]:
    if not all(_DIGITS.fullmatch(each) for each in (start, end, step or "1")):
        return _span(start, end, step, count)
    first, last = int(start), int(end)
    if count is not None:
        number = _parts(count)
        return [str(first + k * (last - first) // max(number - 1, 1)) for k in range(number)]
    gap = int(step or "1")
    if not gap:
        raise ValueError(NO_STEP)
    number = min(abs(last - first) // gap + 1, MAX_VALUES + 1)
    return [str(first + k * (gap if last >= first else -gap)) for k in range(number)]


def _parts(count: str) -> int:
    """How many values a range is divided into."""
    return int(min(max(float(count), 1), MAX_VALUES + 1))


def split_words(text: str) -> list[str]:
    """Words with commas between them; one that holds a comma stands in quotes."""
    row = next(csv.reader([" ".join(text.split())], skipinitialspace=True), [])
    return [part.strip() for part in row if part.strip()]


def split_texts(text: str) -> list[str]:
    """Texts with ``|`` or line breaks between them; an empty one counts, and one that holds these stands in quotes."""
    found: list[str] = []
    at = 0
    while at <= len(text):
        part = _TEXT.match(text, at)
        assert part is not None  # it may be empty
        quoted, plain = part.groups()
        found.append(plain.strip() if quoted is None else quoted.replace('""', '"'))
        at = part.end() + 1
    return found


def split_sizes(text: str) -> list[str]:
    """Sizes such as 128x192, with commas between them; a single number is a square."""
    parts = [part.strip() for part in text.split(",") if part.strip()]
    return [f"{part}x{part}" if part.isascii() and part.isdigit() else part for part in parts]


def _number(text: str, what: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"{shorten(repr(text))} is not a number; give numbers for {what}, with commas between them")
    return value


def _whole(text: str, what: str) -> int:
    if re.fullmatch(r"\+?\d{1,19}", text):
        return int(text)
    value = _number(text, what)
    if not abs(value) < 2**53 or value != int(value):
        raise ValueError(f"{shorten(repr(text))} is not a whole number; give whole numbers for {what}")
    return int(value)


def _scheduler(text: str) -> str:
    plain = _plain(text)
    found = [key for key, spec in SCHEDULERS.items() if plain in (_plain(key), _plain(spec.label))]
    if not found:
        raise ValueError(
            f"{shorten(repr(text))} is not a sampler; choose among {', '.join(s.label for s in SCHEDULERS.values())}"
        )
    return found[0]


def _plain(text: str) -> str:
    return re.sub(r"[\s_]+", "", text.casefold())


def _apply_size(request: GenerationRequest, text: str) -> GenerationRequest:
    found = _SIZE.fullmatch(text)
    if not found:
        raise ValueError(f"{shorten(repr(text))} is not a size; write width x height, such as 128x192")
    return changed(request, width=int(found[1]), height=int(found[2]))


def _replace_words(request: GenerationRequest, text: str) -> GenerationRequest:
    """``text`` is "searched\\0with": every occurrence of the first is replaced by the second."""
    searched, _, replacement = text.partition("\0")
    if not searched:
        raise ValueError("the first value is the word that the others replace; it cannot be empty")
    if searched not in request.prompt and searched not in request.negative_prompt:
        raise ValueError(
            f"{shorten(repr(searched))} does not stand in the prompt; the first value is what the others replace"
        )
    prompts = [each.replace(searched, replacement) for each in (request.prompt, request.negative_prompt)]
    return changed(request, prompt=prompts[0], negative_prompt=prompts[1], typed=None)


def _split_replacements(text: str) -> list[str]:
    words = split_words(text)
    return [f"{words[0]}\0{word}" for word in words]


def _weight(name: str) -> AxisSetting:
    """The weight of one LoRA of the request."""

    def apply(request: GenerationRequest, text: str) -> GenerationRequest:
        weight = _number(text, "weights")
        loras = tuple(
            lora.model_copy(update={"weight": weight}) if lora.name == name else lora for lora in request.loras
        )
        # Through a dump, so that bounds are checked again.
        return changed(request, loras=tuple(lora.model_dump() for lora in loras))

    def now(request: GenerationRequest) -> str | None:
        return next((f"{lora.weight:g}" for lora in request.loras if lora.name == name), None)

    def propose(request: GenerationRequest, bounds: Bounds) -> list[str]:
        return proposals.around(float(now(request) or 1), (0, 0.4, 0.8, 1.2), -10, 10)

    does = "How strongly the LoRA changes the model: 0 is off, 1 is as it was trained, below 0 turns it around."
    return AxisSetting(f"Weight of {name}", does, "numbers: 0, 0.5, 1", split_numbers, apply, now, propose)


AXES: Mapping[str, AxisSetting] = MappingProxyType(
    {
        "guidance_scale": AxisSetting(
            "Guidance scale",
            "How strongly the picture follows the prompt: 1 takes the model's guess as it is, more pushes away from "
            "the guess without the prompt, which is what 0 takes. Too much makes shapes crude and colours harsh.",
            "numbers: 1, 4, 7.5 or 1-9 (+2)",
            split_numbers,
            _apply_guidance,
            lambda request: f"{request.sampling.guidance_scale:g}",
            proposals.guidance,
            lambda text: "0 (no prompt)" if text == "0" else text,
        ),
        "num_inference_steps": AxisSetting(
            "Denoising steps",
            "In how many steps noise becomes the picture. Few are quick and rough, more are slower and finer; from "
            "some number on hardly anything changes.",
            "whole numbers: 5, 10, 25",
            split_wholes,
            lambda request, text: changed(request, num_inference_steps=_whole(text, "steps")),
            lambda request: str(request.sampling.num_inference_steps),
            proposals.steps,
        ),
        "scheduler": AxisSetting(
            "Sampler",
            "The method of each step from noise to picture. From the same noise most samplers end at nearly the same "
            "picture, some in fewer steps; those that add new noise on the way (DDPM, Euler a, SDE, LCM) end at "
            "others.",
            "names: DDIM, Euler, DPM++ 2M",
            split_words,
            lambda request, text: changed(request, scheduler=_scheduler(text)),
            lambda request: (
                SCHEDULERS[request.sampling.scheduler].label if request.sampling.scheduler in SCHEDULERS else None
            ),
            proposals.samplers,
        ),
        "seed": AxisSetting(
            "Seed",
            "The number that the noise at the start is drawn from. Another seed gives another picture of the same "
            "prompt, the same seed the same picture again.",
            "whole numbers: 1, 2, 3 or 1-5",
            split_wholes,
            lambda request, text: changed(request, seed=_whole(text, "seeds")),
            lambda request: str(request.sampling.seed),
            proposals.seeds,
        ),
        "strength": AxisSetting(
            "Strength",
            "How far the result goes from your image: how much noise it is given before it is denoised. Little keeps "
            "it, 1 keeps nothing of it.",
            "numbers from 0 to 1: 0.2, 0.4, 0.6",
            split_numbers,
            lambda request, text: changed(
                request, init={**(request.init.model_dump() if request.init else {}), "strength": _number(text, "it")}
            ),
            lambda request: f"{request.init.strength:g}" if request.init else None,
            proposals.strengths,
        ),
        "negative_prompt": AxisSetting(
            "Negative prompt",
            "What to avoid: guidance pushes the picture away from these words. At guidance 1 it does nothing.",
            'texts with | between them, one that holds | in quotes: blurry | "[dark|grey]"; an empty one is none',
            split_texts,
            lambda request, text: changed(request, negative_prompt=text, typed=None),
            lambda request: request.negative_prompt,
            proposals.negative_prompts,
            lambda text: text or NONE,
        ),
        "size": AxisSetting(
            "Size",
            "Width and height. Another size is other noise, so another picture; a model draws best at the size that "
            "it was trained with.",
            "width x height: 128x128, 192x128",
            split_sizes,
            _apply_size,
            lambda request: f"{request.width}x{request.height}",
            proposals.sizes,
            lambda text: text.replace("x", " \u00d7 "),
        ),
        "words": AxisSetting(
            "Words of the prompt",
            "One word is replaced by others, and everything else stays: what it is there for.",
            "the word to replace, then what replaces it: fox, cat, owl",
            _split_replacements,
            _replace_words,
            lambda request: request.prompt or None,
            proposals.words,
            lambda text: text.partition("\0")[2] or NONE,
        ),
        "prompt": AxisSetting(
            "Prompt",
            "What the picture shows. From the same noise, similar prompts often give similar layouts.",
            'whole prompts with | between them, one that holds | in quotes: a fox | "a [red|blue] fox"',
            split_texts,
            lambda request, text: changed(request, prompt=text, typed=None),
            lambda request: request.prompt,
            lambda request, bounds: [request.prompt],
            lambda text: text or NONE,
        ),
        "model": AxisSetting(
            "Model",
            "Which network takes the noise away. Models differ in what they were trained on.",
            "ids of models, with commas between them",
            split_words,
            lambda request, text: changed(request, model=text),
            lambda request: request.model,
            lambda request, bounds: list(dict.fromkeys((request.model, *bounds.models)))[:PROPOSED],
        ),
    }
)
# A run that left another one shares these with it.
FIXED_IN_FORKS = ("seed", "num_inference_steps", "size", "model", "strength")
# What a whole prompt is put in quotes for: separators, a quote at its beginning, blanks around it.
_IN_TEXTS = r'[|\n]|\A["\s]|\s\Z'
_LORA = "lora:"


def axis_setting(name: str) -> AxisSetting:
    """The setting with this name; ``lora:NAME`` is the weight of a LoRA.

    Raises:
        KeyError: if there is none.
    """
    return _weight(name.removeprefix(_LORA)) if name.startswith(_LORA) else AXES[name]


def settings_of(request: GenerationRequest) -> dict[str, AxisSetting]:
    """The settings that can be changed in this request, by name."""
    known = {**AXES, **{f"{_LORA}{lora.name}": _weight(lora.name) for lora in request.loras}}
    fixed = FIXED_IN_FORKS if request.fork else ()
    return {name: setting for name, setting in known.items() if name not in fixed and setting.now(request) is not None}


def joined(name: str, values: Sequence[str]) -> str:
    """Values as a text that ``split`` reads again."""
    if name in ("negative_prompt", "prompt"):
        return " | ".join(_quoted(value, _IN_TEXTS) for value in values)
    if name == "words":
        return ", ".join(_quoted(value.partition("\0")[2]) for value in values)
    return ", ".join(_quoted(value) for value in values)


def listed(name: str, values: Sequence[object]) -> list[str]:
    """Values that were given one by one, as an axis holds them; raises ValueError unless they are texts or numbers."""
    texts: dict[str, None] = {}
    for value in values:
        if len(texts) > MAX_VALUES:
            break
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise ValueError(f"{shorten(repr(value))} is no value of a setting; give texts and numbers")
        texts[f"{value:.12g}" if isinstance(value, float) else str(value).strip()] = None
    found = list(texts)
    return [f"{found[0]}\0{text}" for text in found] if name == "words" else found


def _quoted(text: str, needs: str = r'[,"]') -> str:
    return '"' + text.replace('"', '""') + '"' if re.search(needs, text) else text


def refuse(field: str, problem: Exception) -> InvalidRequest:
    """The problem of one value as an error of its axis."""
    text = str(problem)
    return InvalidRequest(field, text[:1].upper() + text[1:] + ("" if text.endswith(".") else "."))
