"""What a model is, without loading it."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from pipelines.prompt import COMPEL, PromptSyntax
from pipelines.system.paths import PROJECT


class Quality(BaseModel):
    """A named scheduler and number of steps: draft, balanced or fine."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    scheduler: str
    num_inference_steps: int = Field(ge=1, le=150)


def qualities(scheduler: str, draft: int, balanced: int, fine: int) -> dict[str, Quality]:
    """The three choices of a model, with one sampler."""
    steps = {"draft": draft, "balanced": balanced, "fine": fine}
    return {name: Quality(scheduler=scheduler, num_inference_steps=n) for name, n in steps.items()}


class BuiltInLora(BaseModel):
    """A LoRA that is part of a model, such as the one that makes SDXL-Lightning of SDXL.

    Attributes:
        source: a hub id, or a folder (absolute).
        file: the safetensors file in it.
        weight: its scale.
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
        family: name of an entry in ``pipelines.models.families.FAMILIES``.
        size_factor: width and height are multiples of this many pixels.
        prediction_type: epsilon, v_prediction or sample; None means: read it from the model when it loads.
        terminal_snr_zero: whether the model's schedule ends in pure noise (rescaled betas).
        qualities: draft, balanced, fine.
        vocabulary: a JSON file with the words that the model knows, empty for models without a limit.
        neighbours: a JSON file with the nearest words of the vocabulary for other words, or empty.
        prompt_guide: a JSON file with what its prompts are made of (``ui.form.prompt.guide.PromptGuide``), or empty.
        training_sample: a file with what its training pictures were made of (``pipelines.training_sample``), or empty.
        recording: folder and name of a recorded run (``pipelines.trace.trace.Trace``) for the first visit, or empty.
        config: for a single file, the folder with the configuration of its family (absolute).
        guidance_embedded: whether guidance is an input of the network, or absent; then there is no negative prompt.
        tasks: text-to-image, image-to-image; a refiner only does image-to-image.
        scheduler_options: entries that override the model's saved scheduler configuration.
        additions: LoRAs that are always added.
        variant: of the files to download, such as fp16, or "" for none.
        half: dtype on a GPU with 16-bit arithmetic: float16, or bfloat16 for models that overflow.
        download_bytes: size of the download, 0 if unknown.
        memory_bytes: least GPU memory for one image of its own size, without offloading; 0 if unknown.
        gated: whether the user must accept its terms on the hub, and give a token, before it can be downloaded.
        preview: a small autoencoder of the same latent space, as a hub id or folder, or "" for none.
        words: trigger words to put into the prompt, or empty.
        rest: a diffusers folder with the parts that the source's folder lacks because both models share them, or "".
        live: whether it is fast enough for drafts while the user types.
        strength: of image-to-image, where none is given.
        prompt_syntax: the form of weights in prompts that the page and the API begin with: compel or a1111.
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
    vocabulary: str = ""
    neighbours: str = ""
    prompt_guide: str = ""
    training_sample: str = ""
    recording: str = ""
    default_quality: str = "balanced"
    qualities: dict[str, Quality]
    prompts: tuple[str, ...] = ()
    config: str = ""
    guidance_embedded: bool = False
    tasks: tuple[str, ...] = ("text-to-image", "image-to-image")
    scheduler_options: dict[str, str | float | bool | None] = {}
    additions: tuple[BuiltInLora, ...] = ()
    variant: str = ""
    half: str = "float16"
    download_bytes: int = 0
    memory_bytes: int = 0
    gated: bool = False
    preview: str = ""
    words: tuple[str, ...] = ()
    rest: str = ""
    live: bool = False
    strength: float = Field(0.6, ge=0, le=1)
    prompt_syntax: PromptSyntax = COMPEL

    @property
    def is_single_file(self) -> bool:
        """Whether the source is one safetensors file, in capitals or not, and neither a folder nor a hub id."""
        return self.source.lower().endswith(".safetensors") and not (PROJECT / self.source).is_dir()
