"""What a person asks for: one immutable, validated record with a JSON round trip.

Every bound of the project is checked here, once, for the page, the API and every other way in.
"""

from __future__ import annotations

import math
import re
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

MAX_PROMPT = 2000
MAX_STEPS = 150
MAX_GUIDANCE = 30.0
MAX_SEED = 2**63 - 1
MAX_SIDE = 2048
MAX_PICTURES = 8
# Width x height x pictures x steps: four 1024 px pictures at 150 steps pass, a whole night's work does not.
MAX_WORK = 4 * 1024 * 1024 * 150
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
    """The picture that image-to-image starts from.

    Attributes:
        path: the stored picture.
        strength: share of the noise schedule that is run, above 0 up to 1.
    """

    path: str = Field(min_length=1, max_length=4096)
    strength: float = Field(gt=0, le=1)


class GenerationRequest(_Frozen):
    """One generation, complete: nothing about it is decided later.

    Attributes:
        model: id of a ModelCard.
        prompt, negative_prompt: at most 2,000 characters; an empty prompt is unconditional.
        width, height: pixels; multiples of the model's factor (checked by ``check_size``).
        sampling: how noise becomes a picture.
        num_images: picture k (from 0) uses seed + k.
        init: the picture to start from, or None for pure noise.
    """

    model: str = Field(min_length=1, max_length=512)
    prompt: Text
    negative_prompt: Text = ""
    width: int = Field(ge=8, le=MAX_SIDE)
    height: int = Field(ge=8, le=MAX_SIDE)
    sampling: Sampling
    num_images: int = Field(default=1, ge=1, le=MAX_PICTURES)
    init: InitImage | None = None

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
        return tuple(self.sampling.seed + k for k in range(self.num_images))


def make_request(**values: Any) -> GenerationRequest:
    """Build a request from flat keyword names (those of the API) or raise InvalidRequest with one sentence.

    Sampling fields may be given flat; whole floats are accepted for whole-number fields.
    """
    flat = dict(values)
    for name in ("width", "height", "num_images", "num_inference_steps", "seed"):
        if isinstance(flat.get(name), float) and math.isfinite(flat[name]) and flat[name].is_integer():
            flat[name] = int(flat[name])
    if isinstance(flat.get("guidance_scale"), int) and not isinstance(flat["guidance_scale"], bool):
        flat["guidance_scale"] = float(flat["guidance_scale"]) if abs(flat["guidance_scale"]) < 1e6 else math.inf
    sampling = {name: flat.pop(name) for name in Sampling.model_fields if name in flat}
    try:
        return GenerationRequest(sampling=Sampling(**sampling), **flat)
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
        return f"This request is too large: {allowed}."
    if first["type"] == "string_too_long":
        size = len(first["input"])
        return f"{name} has {size} characters; at most {first['ctx']['max_length']} are allowed."
    if first["type"] == "value_error":
        return f"{name} {allowed}."
    return f"{name} is {shown}; allowed: {allowed}."
