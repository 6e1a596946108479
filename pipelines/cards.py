"""What a model is, without loading it."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class Quality(BaseModel):
    """A named choice of scheduler and steps: draft, balanced or fine."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    scheduler: str
    num_inference_steps: int = Field(ge=1, le=150)


class ModelCard(BaseModel):
    """A model of the catalogue: where it is, its licence, its defaults.

    Attributes:
        id: the name that requests use.
        source: a diffusers folder (absolute, or relative to the project) or a hub id.
        family: name of an entry in ``pipelines.families.FAMILIES``.
        size_factor: width and height are multiples of this many pixels.
        prediction_type: epsilon, v_prediction or sample; None means: read it from the model when it loads.
        terminal_snr_zero: whether the model's schedule ends in pure noise (rescaled betas).
        qualities: draft, balanced, fine.
        vocabulary: a JSON file with the words that the model can draw, empty for models without a limit.
        recording: folder and name of a recorded run (``pipelines.trace.Trace``) for the first visit, or empty.
        max_tokens: length of the text encoder's window, start and end tokens included.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str = Field(min_length=1, max_length=512)
    name: str
    source: str
    family: str = "stable_diffusion"
    licence: str
    about: str
    link: str = ""
    width: int = 512
    height: int = 512
    size_factor: int = 8
    guidance_scale: float = 7.5
    prediction_type: str | None = None
    terminal_snr_zero: bool = False
    max_tokens: int = 77
    vocabulary: str = ""
    recording: str = ""
    default_quality: str = "balanced"
    qualities: dict[str, Quality]
    prompts: tuple[str, ...] = ()
