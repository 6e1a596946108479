"""What a model is, without loading it."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class Quality(BaseModel):
    """A named choice of scheduler and steps: draft, balanced or fine."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    scheduler: str
    num_inference_steps: int = Field(ge=1, le=150)


class Addition(BaseModel):
    """A LoRA that belongs to a model: what makes, say, SDXL into SDXL-Lightning.

    Attributes:
        source: a hub id, or a folder (absolute).
        file: the safetensors file in it.
        weight: how strongly it is added.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: str
    file: str
    weight: float = 1.0


class ModelCard(BaseModel):
    """A model of the catalogue: where it is, its licence, its defaults.

    Attributes:
        id: the name that requests use.
        source: a diffusers folder or a single safetensors file (absolute, or relative to the project), or a hub id.
        family: name of an entry in ``pipelines.families.FAMILIES``.
        size_factor: width and height are multiples of this many pixels.
        prediction_type: epsilon, v_prediction or sample; None means: read it from the model when it loads.
        terminal_snr_zero: whether the model's schedule ends in pure noise (rescaled betas).
        qualities: draft, balanced, fine.
        vocabulary: a JSON file with the words that the model can draw, empty for models without a limit.
        neighbours: a JSON file with the nearest words of the vocabulary for others that people may type, or empty.
        recording: folder and name of a recorded run (``pipelines.trace.Trace``) for the first visit, or empty.
        max_tokens: length of the text encoder's window, start and end tokens included.
        config: for a single file, the folder with the configuration of its family (absolute).
        guides_itself: whether the guidance scale is an input of the network, or nothing: no negative prompt is read.
        tasks: what it can do; a refiner only finishes pictures (image-to-image).
        scheduler_options: entries that override the model's saved scheduler configuration.
        additions: LoRAs that are always added.
        variant: of the files to download, such as fp16, or "" for the plain ones.
        half: the number format on a card with 16-bit arithmetic: float16, or bfloat16 for models that overflow.
        download_bytes: what a first use fetches, 0 if unknown.
        memory_bytes: least graphics memory for one picture of its own size, with nothing moved away; 0 if unknown.
        gated: whether its page must be agreed to, and a token given, before it can be fetched.
        preview: a small autoencoder of the same latent space, as a hub id or folder, or "" for none.
        words: trigger words to put into the prompt, or empty.
        rest: a diffusers folder with the parts that the source's folder lacks, since both models have them, or "".
        live: whether it is quick enough to draw while somebody types.
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
    neighbours: str = ""
    recording: str = ""
    default_quality: str = "balanced"
    qualities: dict[str, Quality]
    prompts: tuple[str, ...] = ()
    config: str = ""
    guides_itself: bool = False
    tasks: tuple[str, ...] = ("text-to-image", "image-to-image")
    scheduler_options: dict[str, str | float | bool | None] = {}
    additions: tuple[Addition, ...] = ()
    variant: str = ""
    half: str = "float16"
    download_bytes: int = 0
    memory_bytes: int = 0
    gated: bool = False
    preview: str = ""
    words: tuple[str, ...] = ()
    rest: str = ""
    live: bool = False
