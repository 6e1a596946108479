"""What a person asks for: one immutable, validated record with a JSON round trip.

Every bound of the project is checked here, once, for the page, the API and every other way in.
"""

from __future__ import annotations

import math
import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

MAX_PROMPT = 2000
MAX_STEPS = 150
MAX_GUIDANCE = 30.0
MAX_SEED = 2**63 - 1
MAX_SIDE = 2048
MAX_PICTURES = 8
# Width x height x pictures x steps: four 1024 px pictures at 150 steps pass, a whole night's work does not.
MAX_WORK = 4 * 1024 * 1024 * 150
MAX_FEATHER = 64
MAX_PADDING = 256
MAX_LORAS = 5
MAX_CONTROLS = 3
# Name of a stored picture: a hash of its pixels.
_ID = r"^[0-9a-f]{32}$"
# How a prompt names a LoRA, in the form that other tools write too: <lora:name:0.8>.
_LORA = re.compile(r"<lora:([^:<>]{1,128})(?::(-?\d*\.?\d+))?>")
_EMBEDDING = re.compile(r"<embedding:([^:<>/\\]{1,128})>")
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")


class InvalidRequest(ValueError):
    """A request that cannot be run; the message is one plain sentence for the person who asked."""


def _clean_text(value: str) -> str:
    if _CONTROL.search(value):
        raise ValueError("contains control characters; only printable text and line breaks are allowed")
    if any(0xD800 <= ord(c) <= 0xDFFF for c in value):
        raise ValueError("is not valid Unicode text")
    return value


Text = Annotated[str, Field(max_length=MAX_PROMPT), AfterValidator(_clean_text)]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, strict=True)


class Sampling(_Frozen):
    """How noise becomes a picture.

    Attributes:
        scheduler: name of an entry in ``pipelines.schedulers.SCHEDULERS``.
        num_inference_steps: requested steps, 1 to 150 (some schedulers call the model more often).
        guidance_scale: classifier-free guidance, 0 to 30; at or below 1 the unconditional half is not run.
        seed: seed of the CPU generator that draws the noise, 0 to 2**63 - 1.
    """

    scheduler: str = Field(min_length=1, max_length=64)
    num_inference_steps: int = Field(ge=1, le=MAX_STEPS)
    guidance_scale: float = Field(ge=0, le=MAX_GUIDANCE)
    seed: int = Field(ge=0, le=MAX_SEED)


class InitImage(_Frozen):
    """The picture that image-to-image starts from (SDEdit, Meng et al. 2022, arXiv:2108.01073).

    Attributes:
        image: id of a stored picture (``pipelines.uploads.Inputs``), of the request's width and height; with
            ``only_masked`` of any size, which the result then has too.
        strength: share of the steps that is run, 0 to 1 (``steps_run``); with no step the picture comes back as it is.
        noise_only: start from the same noise without the picture, to see what the picture adds; needs strength 1.
        mask: id of a stored mask of the picture's size: white is repainted, black stays as it is.  None repaints all.
        feather: pixels inside the mask over which the old picture fades into the new one.
        only_masked: work on a crop around the mask, scaled to width x height.
        padding: pixels around that crop.
    """

    image: str = Field(pattern=_ID)
    strength: float = Field(ge=0, le=1)
    noise_only: bool = False
    mask: str | None = Field(default=None, pattern=_ID)
    feather: int = Field(default=0, ge=0, le=MAX_FEATHER)
    only_masked: bool = False
    padding: int = Field(default=32, ge=0, le=MAX_PADDING)

    @model_validator(mode="after")
    def _fits_together(self) -> InitImage:
        if self.noise_only and (self.strength != 1 or self.mask):
            raise ValueError("noise_only leaves the picture out, so it needs strength 1 and no mask")
        if self.mask is None and (self.feather or self.only_masked):
            raise ValueError("feather and only_masked need a mask")
        return self


class Variation(_Frozen):
    """Pictures near one picture: picture k's noise lies between those of two seeds.

    Attributes:
        seed: picture k goes towards the noise of seed + k.
        strength: how far, 0 (the picture of the request's own seed) to 1 (that of the other seed).
    """

    seed: int = Field(ge=0, le=MAX_SEED - MAX_PICTURES)
    strength: float = Field(ge=0, le=1)


class Interpolation(_Frozen):
    """Pictures on the way to another prompt, another seed, or both: of n pictures, number k is k / (n - 1) there.

    Attributes:
        prompt: the prompt at the end, or None for the same one.
        seed: the seed at the end, or None for the same one.
    """

    prompt: Text | None = None
    seed: int | None = Field(default=None, ge=0, le=MAX_SEED)

    @model_validator(mode="after")
    def _goes_somewhere(self) -> Interpolation:
        if self.prompt is None and self.seed is None:
            raise ValueError("needs another prompt, another seed, or both to go to")
        return self


class Lora(_Frozen):
    """A LoRA that the model wears during this run (Hu et al. 2021, arXiv:2106.09685).

    Attributes:
        name: of a LoRA file on this machine, without its ending.
        weight: how strongly, -2 to 2; 0 is not at all.
    """

    name: str = Field(min_length=1, max_length=128, pattern=r"^[^/\\:<>\x00-\x1f]+$")
    weight: float = Field(default=1.0, ge=-2, le=2)


class Reference(_Frozen):
    """A picture that the model follows beside the prompt (IP-Adapter, Ye et al. 2023, arXiv:2308.06721).

    Attributes:
        adapter: name of an IP-Adapter file on this machine, without its ending.
        image: id of a stored picture (``pipelines.uploads.Inputs``), of any size; its middle square is looked at.
        weight: how strongly, 0 to 1.5; 0 is not at all, 1 is as it was trained.
    """

    adapter: str = Field(min_length=1, max_length=128, pattern=r"^[^/\\:<>\x00-\x1f]+$")
    image: str = Field(pattern=_ID)
    weight: float = Field(default=0.6, ge=0, le=1.5)


class Control(_Frozen):
    """A map that says where things are (ControlNet, Zhang et al. 2023, arXiv:2302.05543).

    Attributes:
        net: name of a ControlNet on this machine.
        image: id of a stored picture (``pipelines.uploads.Inputs``); its middle is cut to the request's shape.
        kind: map if the picture is one already; canny, depth or pose if that is to be found in it first.
        weight: how strongly, 0 to 2; 1 is as it was trained.
        start, end: the share of the steps in which it has a say, 0 to 1.
    """

    net: str = Field(min_length=1, max_length=128, pattern=r"^[^/\\:<>\x00-\x1f]+$")
    image: str = Field(pattern=_ID)
    kind: Literal["map", "canny", "depth", "pose"] = "map"
    weight: float = Field(default=1.0, ge=0, le=2)
    start: float = Field(default=0.0, ge=0, le=1)
    end: float = Field(default=1.0, ge=0, le=1)

    @model_validator(mode="after")
    def _lasts(self) -> Control:
        if self.end <= self.start:
            raise ValueError("its end must lie after its start")
        return self


class GenerationRequest(_Frozen):
    """One generation, complete: nothing about it is decided later.

    Attributes:
        model: id of a ModelCard.
        prompt, negative_prompt: at most 2,000 characters; an empty prompt is unconditional.
        width, height: pixels; multiples of the model's factor (checked by ``check_size``).
        sampling: how noise becomes a picture.
        num_images: picture k (from 0) uses seed + k; with a variation or an interpolation all use the seed.
        init: the picture to start from, or None for pure noise.
        variation, interpolation: how the pictures of one run differ, at most one of them, or None.
        loras: at most five.
        controls: at most three.
        reference: a picture to follow beside the prompt, or None.
    """

    model: str = Field(min_length=1, max_length=512)
    prompt: Text
    negative_prompt: Text = ""
    width: int = Field(ge=8, le=MAX_SIDE)
    height: int = Field(ge=8, le=MAX_SIDE)
    sampling: Sampling
    num_images: int = Field(default=1, ge=1, le=MAX_PICTURES)
    init: InitImage | None = None
    variation: Variation | None = None
    interpolation: Interpolation | None = None
    loras: tuple[Lora, ...] = Field(default=(), max_length=MAX_LORAS)
    controls: tuple[Control, ...] = Field(default=(), max_length=MAX_CONTROLS)
    reference: Reference | None = None

    @model_validator(mode="after")
    def _fits_together(self) -> GenerationRequest:
        if self.variation and self.interpolation:
            raise ValueError("variation and interpolation exclude each other; leave one of them out")
        if self.interpolation and self.num_images < 2:
            raise ValueError("an interpolation has at least 2 pictures; set num_images")
        return self

    @model_validator(mode="after")
    def _bounded_work(self) -> GenerationRequest:
        work = self.width * self.height * self.num_images * self.sampling.num_inference_steps
        if work > MAX_WORK:
            raise ValueError(
                f"width x height x num_images x num_inference_steps is {work}; at most {MAX_WORK} is allowed"
            )
        if self.sampling.seed + self.num_images - 1 > MAX_SEED:
            raise ValueError(f"seed + num_images - 1 is beyond {MAX_SEED}, the largest seed")
        return self

    def check_size(self, multiple: int) -> None:
        """Raise InvalidRequest unless width and height are multiples of the model's factor."""
        for name in ("width", "height"):
            value = getattr(self, name)
            if value % multiple:
                raise InvalidRequest(f"{name} is {value}; for {self.model} it must be a multiple of {multiple}.")

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seed of each picture."""
        each = 0 if self.variation or self.interpolation else 1
        return tuple(self.sampling.seed + each * k for k in range(self.num_images))

    @property
    def steps_run(self) -> int:
        """Requested steps that are really run: fewer than asked where a picture is started from."""
        steps = self.sampling.num_inference_steps
        return steps_run(steps, self.init.strength) if self.init else steps


def steps_run(num_inference_steps: int, strength: float) -> int:
    """How many of the steps image-to-image runs: diffusers' rule, the whole part of steps x strength.

    The last ones of the schedule are run; with 0 nothing is.
    """
    return min(int(num_inference_steps * strength), num_inference_steps)


def named_loras(prompt: str) -> tuple[str, tuple[tuple[str, float], ...]]:
    """A prompt without its ``<lora:name:weight>`` marks, and what they name; a mark without a weight means 1."""
    found = tuple((name.strip(), float(weight or 1)) for name, weight in _LORA.findall(prompt))
    return (re.sub(r"\s{2,}", " ", _LORA.sub("", prompt)).strip() if found else prompt), found


def named_embeddings(*texts: str) -> tuple[str, ...]:
    """The words of textual inversion that texts name, each once: ``<embedding:name>``."""
    return tuple(dict.fromkeys(name for text in texts for name in _EMBEDDING.findall(text)))


def make_request(**values: Any) -> GenerationRequest:
    """Build a request from flat keyword names (those of the API) or raise InvalidRequest with one sentence.

    Sampling fields may be given flat; whole floats are accepted for whole-number fields; ``<lora:name:weight>`` in the
    prompt puts a LoRA on.
    """
    flat = dict(values)
    for name in ("width", "height", "num_images", "num_inference_steps", "seed"):
        if isinstance(flat.get(name), float) and math.isfinite(flat[name]) and flat[name].is_integer():
            flat[name] = int(flat[name])
    if isinstance(flat.get("guidance_scale"), int) and not isinstance(flat["guidance_scale"], bool):
        flat["guidance_scale"] = float(flat["guidance_scale"]) if abs(flat["guidance_scale"]) < 1e6 else math.inf
    sampling = {name: flat.pop(name) for name in Sampling.model_fields if name in flat}
    named: tuple[tuple[str, float], ...] = ()
    if isinstance(flat.get("prompt"), str) and "loras" not in flat:
        flat["prompt"], named = named_loras(flat["prompt"])
    try:
        flat |= {"loras": tuple(Lora(name=name, weight=weight) for name, weight in named)} if named else {}
        return GenerationRequest(sampling=Sampling(**sampling), **flat)
    except ValidationError as error:
        raise InvalidRequest(describe(error)) from None


def amended(request: GenerationRequest, **values: Any) -> GenerationRequest:
    """A request with some of its fields changed, or InvalidRequest with one sentence."""
    fields = {name: getattr(request, name) for name in GenerationRequest.model_fields}
    try:
        return GenerationRequest(**{**fields, **values})
    except ValidationError as error:
        raise InvalidRequest(describe(error)) from None


def describe(error: ValidationError) -> str:
    """The first violation as one sentence: field, value and what is allowed."""
    first = error.errors()[0]
    name = ".".join(str(part) for part in first["loc"]) or "request"
    shown = repr(first.get("input"))
    shown = shown if len(shown) <= 60 else shown[:57] + "..."
    allowed = first["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
    if not first["loc"]:
        return f"This request cannot be run: {allowed}."
    if first["type"] == "string_too_long":
        size = len(first["input"])
        return f"{name} has {size} characters; at most {first['ctx']['max_length']} are allowed."
    if first["type"] == "value_error":
        return f"{name} {allowed}."
    return f"{name} is {shown}; allowed: {allowed}."
