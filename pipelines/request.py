"""GenerationRequest: one immutable, validated record of what the user asked for, with a JSON round trip.

Every bound of the project is checked here, once, for the page, the API and every other caller.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_serializer, model_validator

from pipelines.prompt import A1111, COMPEL, PromptError, PromptSyntax, a1111, editing, tags
from pipelines.request_errors import SMALLER, VALUE, Remedy
from pipelines.request_errors import FieldError as _FieldError
from pipelines.request_errors import InvalidRequest as InvalidRequest
from pipelines.request_errors import first_error as first_error
from pipelines.request_tags import MAX_PROMPT as MAX_PROMPT
from pipelines.request_tags import read_all_tags
from pipelines.system.text import refuse_control_characters

if TYPE_CHECKING:
    from pydantic import SerializerFunctionWrapHandler

MAX_STEPS = 150
MAX_GUIDANCE = 30.0
MAX_SEED = 2**63 - 1
MAX_SIDE = 2048
MAX_IMAGES = 8
# Width x height x images x steps: four 1024 px images at 150 steps pass; a run of many hours does not.
MAX_PIXEL_STEPS = 4 * 1024 * 1024 * 150
TOO_MUCH_WORK = "That is too much for one run; choose a smaller size, fewer pictures or fewer steps."
MAX_FEATHER = 64
MAX_PADDING = 256
MAX_LORAS = 5
MAX_CONTROLS = 3
MAX_STYLES = 16
MAX_DRAWN = 200
MAX_FORKS = 8
# What a fork cannot change.
_ENTIRE = ("model", "width", "height", "num_images", "init", "variation", "interpolation", "controls", "reference")
KEPT_BY_FORKS = (*_ENTIRE, "num_inference_steps", "seed")
# Id of an uploaded image: a hash of its pixels.
_UPLOAD_ID = r"^[0-9a-f]{32}$"


Text = Annotated[str, Field(max_length=MAX_PROMPT), AfterValidator(refuse_control_characters)]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, strict=True)


class Sampling(_Frozen):
    """How noise becomes an image.

    Attributes:
        scheduler: key of ``pipelines.sampling.schedulers.SCHEDULERS``.
        num_inference_steps: requested steps, 1 to 150 (some schedulers call the model more often).
        guidance_scale: classifier-free guidance, 0 to 30; at or below 1 the unconditional half is not run.
        seed: seed of the CPU generator that draws the noise, 0 to 2**63 - 1.
    """

    scheduler: str = Field(min_length=1, max_length=64)
    num_inference_steps: int = Field(ge=1, le=MAX_STEPS)
    guidance_scale: float = Field(ge=0, le=MAX_GUIDANCE)
    seed: int = Field(ge=0, le=MAX_SEED)


class InitImage(_Frozen):
    """The image that image-to-image starts from (SDEdit, Meng et al. 2022, arXiv:2108.01073).

    Attributes:
        image: id of an uploaded image (``images.uploads.UploadStore``), of the request's width and height; with
            ``only_masked`` of any size, which the result then has too.
        strength: share of the steps that is run, 0 to 1 (``steps_run``); at 0 the image comes back unchanged.
        noise_only: start from the same noise without the image, to see what the image adds; needs strength 1.
        mask: id of an uploaded mask of the image's size: white is repainted, black is kept.  None repaints all.
        feather: pixels inside the mask over which the old image fades into the new one.
        only_masked: work on a crop around the mask, scaled to width x height.
        padding: pixels around that crop.
    """

    image: str = Field(pattern=_UPLOAD_ID)
    strength: float = Field(ge=0, le=1)
    noise_only: bool = False
    mask: str | None = Field(default=None, pattern=_UPLOAD_ID)
    feather: int = Field(default=0, ge=0, le=MAX_FEATHER)
    only_masked: bool = False
    padding: int = Field(default=32, ge=0, le=MAX_PADDING)

    @model_validator(mode="after")
    def _fits_together(self) -> InitImage:
        if self.noise_only and (self.strength != 1 or self.mask):
            raise _FieldError("noise_only", "noise_only leaves the picture out, so it needs strength 1 and no mask")
        if self.mask is None and (self.feather or self.only_masked):
            raise _FieldError("mask", "feather and only_masked need a mask")
        return self


class Variation(_Frozen):
    """Images similar to one image: image k starts from a noise between those of two seeds.

    Attributes:
        seed: image k goes towards the noise of seed + k.
        strength: how far, 0 (the image of the request's own seed) to 1 (that of the other seed).
    """

    seed: int = Field(ge=0, le=MAX_SEED - MAX_IMAGES)
    strength: float = Field(ge=0, le=1)


class Interpolation(_Frozen):
    """Images between two prompts, two seeds, or both: image k of n is k / (n - 1) of the way.

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
    """A LoRA that is applied to the model in this run (Hu et al. 2021, arXiv:2106.09685).

    Attributes:
        name: name of a LoRA file on this machine, without the suffix.
        weight: scale, -10 to 10; 0 has no effect.
    """

    name: str = Field(min_length=1, max_length=128, pattern=r"^[^/\\:<>\x00-\x1f]+$")
    weight: float = Field(default=1.0, ge=-tags.MAX_LORA_WEIGHT, le=tags.MAX_LORA_WEIGHT)


class ImagePrompt(_Frozen):
    """An image as a second prompt (IP-Adapter, Ye et al. 2023, arXiv:2308.06721).

    Attributes:
        adapter: name of an IP-Adapter file on this machine, without the suffix.
        image: id of an uploaded image (``images.uploads.UploadStore``), of any size; its middle square is used.
        weight: scale, 0 to 1.5; 0 has no effect, 1 is as trained.
    """

    adapter: str = Field(min_length=1, max_length=128, pattern=r"^[^/\\:<>\x00-\x1f]+$")
    image: str = Field(pattern=_UPLOAD_ID)
    weight: float = Field(default=0.6, ge=0, le=1.5)


class Control(_Frozen):
    """A control map that fixes the composition (ControlNet, Zhang et al. 2023, arXiv:2302.05543).

    Attributes:
        net: name of a ControlNet on this machine.
        image: id of an uploaded image (``images.uploads.UploadStore``); its middle is cut to the request's shape.
        kind: map if the image is a control map; canny, depth or pose if that preprocessor makes the map from it.
        weight: conditioning scale, 0 to 2; 1 is as trained.
        start, end: share of the steps in which it is active, 0 to 1.
    """

    net: str = Field(min_length=1, max_length=128, pattern=r"^[^/\\:<>\x00-\x1f]+$")
    image: str = Field(pattern=_UPLOAD_ID)
    kind: Literal["map", "canny", "depth", "pose"] = "map"
    weight: float = Field(default=1.0, ge=0, le=2)
    start: float = Field(default=0.0, ge=0, le=1)
    end: float = Field(default=1.0, ge=0, le=1)

    @model_validator(mode="after")
    def _lasts(self) -> Control:
        if self.end <= self.start:
            raise _FieldError("end", "its end must lie after its start", "must lie after its start.")
        return self


class TypedPrompt(_Frozen):
    """What the user typed, where the prompts were made from that; a record that changes no picture.

    Attributes:
        prompt, negative_prompt: as typed.
        styles: names of the styles that were added, in their order.
        drawn: for each picture, the words that were drawn for the wildcards of its prompt, in their order.
        negative_drawn: the same of the negative prompt, which all pictures share.
    """

    prompt: Text
    negative_prompt: Text = ""
    styles: tuple[Annotated[str, Field(max_length=200)], ...] = Field(default=(), max_length=MAX_STYLES)
    drawn: tuple[Annotated[tuple[Text, ...], Field(max_length=MAX_DRAWN)], ...] = Field(
        default=(), max_length=MAX_IMAGES
    )
    negative_drawn: tuple[Text, ...] = Field(default=(), max_length=MAX_DRAWN)

    @model_serializer(mode="wrap")
    def _without_unused_fields(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        written: dict[str, Any] = write(self)
        return {name: value for name, value in written.items() if value or name != "negative_drawn"}


class Fork(_Frozen):
    """Where a run leaves another one: its first steps are the other run's, bit for bit.

    Attributes:
        run: id of the other run's trace, "" if it is not known; without the trace its first steps are computed again.
        step: how many of its steps are kept, from 0; image-to-image counts the steps that are run.
        original: the other run's request.
        seed: image k draws new noise with seed + k from here on (stochastic samplers alone), None for the same noise.
    """

    run: str = Field(default="", max_length=64, pattern=r"^[A-Za-z0-9_-]*$")
    step: int = Field(ge=0, lt=2 * MAX_STEPS)
    original: GenerationRequest
    seed: int | None = Field(default=None, ge=0, le=MAX_SEED - MAX_IMAGES)

    @property
    def depth(self) -> int:
        """1 for a fork of a run from noise, 2 for a fork of such a fork."""
        return 1 + (self.original.fork.depth if self.original.fork else 0)


class GenerationRequest(_Frozen):
    """One generation, complete: nothing about it is decided later.

    Attributes:
        model: id of a ModelCard.
        prompt, negative_prompt: at most 2,000 characters; an empty prompt is unconditional.
        prompt_syntax: the form in which weights are written: compel, ``(word)1.3``, or a1111, ``(word:1.3)``.
        width, height: pixels; multiples of the model's factor (checked by ``check_size``).
        sampling: how noise becomes an image.
        num_images: image k (from 0) uses seed + k; with a variation or an interpolation all use the seed.
        init: the image to start from, or None for pure noise.
        variation, interpolation: how the images of one run differ, at most one of them, or None.
        loras: at most five.
        controls: at most three ControlNets.
        reference: an image prompt, or None.
        prompts: the prompt of each picture where they differ; the first is ``prompt``.
        typed: what the prompts were made from, or None if they were typed like this.
        fork: the run that this one leaves at a step, or None; then both are of one model, size, seed and start.
    """

    model: str = Field(min_length=1, max_length=512)
    prompt: Text
    negative_prompt: Text = ""
    width: int = Field(ge=8, le=MAX_SIDE)
    height: int = Field(ge=8, le=MAX_SIDE)
    sampling: Sampling
    num_images: int = Field(default=1, ge=1, le=MAX_IMAGES)
    init: InitImage | None = None
    variation: Variation | None = None
    interpolation: Interpolation | None = None
    loras: tuple[Lora, ...] = Field(default=(), max_length=MAX_LORAS)
    controls: tuple[Control, ...] = Field(default=(), max_length=MAX_CONTROLS)
    reference: ImagePrompt | None = None
    prompt_syntax: PromptSyntax = COMPEL
    prompts: tuple[Text, ...] = Field(default=(), max_length=MAX_IMAGES)
    typed: TypedPrompt | None = None
    fork: Fork | None = None

    @model_serializer(mode="wrap")
    def _without_unused_fields(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # Fields of later versions stand in a record only if they say something: earlier versions refuse unknown ones.
        written: dict[str, Any] = write(self)
        return {name: value for name, value in written.items() if value or name not in ("prompts", "typed", "fork")}

    @model_validator(mode="after")
    def _prompts_can_be_read(self) -> GenerationRequest:
        # Compel's form is checked where a request is submitted: its parser needs the library.
        for field, text in _fields_as_given(self):
            if self.prompt_syntax == A1111:
                try:
                    for plain in dict.fromkeys(editing.at_steps(text, self.steps_run)):
                        a1111.parse(plain)
                except PromptError as problem:
                    raise _FieldError(field, f"{field} {problem}", f"{problem}.") from None
        return self

    @model_validator(mode="after")
    def _fits_together(self) -> GenerationRequest:
        if self.variation and self.interpolation:
            raise _FieldError("variation", "variation and interpolation exclude each other; leave one of them out")
        if self.interpolation and self.num_images < 2:
            raise _FieldError(
                "num_images", "an interpolation has at least 2 pictures; set num_images", "", Remedy(VALUE, 2)
            )
        if self.prompts and (len(self.prompts) != self.num_images or self.prompts[0] != self.prompt):
            raise _FieldError("prompts", "prompts needs one prompt a picture, of which the first is prompt")
        if self.prompts and self.interpolation:
            raise _FieldError("prompts", "prompts and interpolation exclude each other; leave one of them out")
        return self

    @model_validator(mode="after")
    def _leaves_its_original(self) -> GenerationRequest:
        original = self.fork.original if self.fork else self
        mine, theirs = ({**vars(one.sampling), **vars(one)} for one in (self, original))
        for name in KEPT_BY_FORKS:
            if mine[name] != theirs[name]:
                raise _FieldError(f"fork.{name}", f"a fork keeps {name}, but the original has another one")
        if self.fork and self.fork.depth > MAX_FORKS:
            raise _FieldError("fork", f"a fork can be {MAX_FORKS} deep at most; fork an earlier run")
        return self

    @model_validator(mode="after")
    def _bounded_work(self) -> GenerationRequest:
        work = self.width * self.height * self.num_images * self.sampling.num_inference_steps
        if work > MAX_PIXEL_STEPS:
            words = f"width x height x num_images x num_inference_steps is {work}; at most {MAX_PIXEL_STEPS} is allowed"
            raise _FieldError("", words, TOO_MUCH_WORK, Remedy(SMALLER))
        if self.sampling.seed + self.num_images - 1 > MAX_SEED:
            most = MAX_SEED - self.num_images + 1
            rest = f"must be at most {most} for {self.num_images} pictures."
            words = f"seed + num_images - 1 is beyond {MAX_SEED}, the largest seed"
            # As text: browsers' numbers do not reach it.
            raise _FieldError("seed", words, rest, Remedy(VALUE, str(most)))
        return self

    def check_size(self, multiple: int) -> None:
        """Raise InvalidRequest unless width and height are multiples of the model's factor."""
        for name in ("width", "height"):
            value = getattr(self, name)
            if value % multiple:
                words = f"{name} is {value}; for {self.model} it must be a multiple of {multiple}."
                below = value // multiple * multiple
                near = f"{below} or {below + multiple}" if below and below + multiple <= MAX_SIDE else below or multiple
                nearest = round(value / multiple) * multiple or multiple
                nearest = nearest if nearest <= MAX_SIDE else below
                rest = f"must be a multiple of {multiple}, such as {near}."
                raise InvalidRequest(name, words, rest, Remedy(VALUE, nearest))

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seed of each image."""
        each = 0 if self.variation or self.interpolation else 1
        return tuple(self.sampling.seed + each * k for k in range(self.num_images))

    def prompt_of(self, k: int) -> str:
        """The prompt of image k."""
        return self.prompts[k] if self.prompts else self.prompt

    def drawn_for(self, k: int) -> tuple[str, ...]:
        """The words that were drawn for image k."""
        return self.typed.drawn[k] if self.typed and k < len(self.typed.drawn) else ()

    def at_step(self, index: int) -> GenerationRequest:
        """What step ``index`` (from 0) follows: this request, or the one that it forked from."""
        return self.fork.original.at_step(index) if self.fork and index < self.fork.step else self

    @property
    def steps_run(self) -> int:
        """Steps that are run: fewer than requested in image-to-image."""
        steps = self.sampling.num_inference_steps
        return steps_run(steps, self.init.strength) if self.init else steps


def steps_run(num_inference_steps: int, strength: float) -> int:
    """floor(steps * strength): the number of steps, the last ones of the schedule, that image-to-image runs.

    The rule of diffusers' pipelines.
    """
    return min(int(num_inference_steps * strength), num_inference_steps)


def prompt_fields(request: GenerationRequest) -> list[tuple[str, str]]:
    """The texts of a request that a model reads at any step, each with the name of its field."""
    found, steps = _fields_as_given(request), request.steps_run
    if request.prompt_syntax != A1111:
        return found
    return [(field, text) for field, given in found for text in dict.fromkeys(editing.at_steps(given, steps))]


def _fields_as_given(request: GenerationRequest) -> list[tuple[str, str]]:
    end = request.interpolation.prompt if request.interpolation else None
    ends = [("interpolation.prompt", end)] if end is not None else []
    prompts = [("prompt", text) for text in dict.fromkeys((request.prompt, *request.prompts))]
    return [*prompts, ("negative_prompt", request.negative_prompt), *ends]


def fields_of_picture(request: GenerationRequest, k: int) -> dict[str, Any]:
    """The fields that differ in a request for image k alone, but for its seed."""
    typed = request.typed and request.typed.model_copy(update={"drawn": (request.drawn_for(k),)})
    return {"num_images": 1, "prompt": request.prompt_of(k), "prompts": (), "typed": typed}


def make_request(**values: Any) -> GenerationRequest:
    """Build a request from flat keyword names (those of the API) or raise InvalidRequest with one sentence.

    Sampling fields are given flat; whole floats are accepted for whole-number fields; ``<lora:name:weight>`` in the
    prompt adds a LoRA, and embeddings are named in one way; what is nearly such a tag is refused.
    """
    flat = dict(values)
    for name in ("width", "height", "num_images", "num_inference_steps", "seed"):
        if isinstance(flat.get(name), float) and math.isfinite(flat[name]) and flat[name].is_integer():
            flat[name] = int(flat[name])
    if isinstance(flat.get("guidance_scale"), int) and not isinstance(flat["guidance_scale"], bool):
        flat["guidance_scale"] = float(flat["guidance_scale"]) if abs(flat["guidance_scale"]) < 1e6 else math.inf
    sampling = {name: flat.pop(name) for name in Sampling.model_fields if name in flat}
    named = read_all_tags(flat)
    try:
        loras = tuple(Lora(name=name, weight=weight) for name, weight in named)
        given = flat.get("loras", ())
        flat |= {"loras": (*given, *loras)} if loras and isinstance(given, tuple | list) else {}
        return GenerationRequest(sampling=Sampling(**sampling), **flat)
    except ValidationError as error:
        raise InvalidRequest(*first_error(error)) from None


def replaced(request: GenerationRequest, **values: Any) -> GenerationRequest:
    """A request with some of its fields changed, or InvalidRequest with one sentence."""
    fields = {name: getattr(request, name) for name in GenerationRequest.model_fields}
    try:
        return GenerationRequest(**{**fields, **values})
    except ValidationError as error:
        raise InvalidRequest(*first_error(error)) from None
