"""Model: what the denoising loop and the worker need of a loaded model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from pipelines.system.text import printable

if TYPE_CHECKING:
    import torch
    from PIL import Image

    from pipelines.cards import ModelCard
    from pipelines.events import Step
    from pipelines.request import GenerationRequest
    from pipelines.sampling.conditioning import Conditioning, ControlNetInput, IPAdapterInput
    from pipelines.sampling.latents import LatentFormat

# report(part, done, total): ``done`` of ``total`` parts are loaded, ``part`` is the next one ("" at the end).
Report = Callable[[str, int, int], None]
# own_loop(request, cancelled): the steps of a pipeline that brings its own denoising loop.
OwnLoop = Callable[["GenerationRequest", Callable[[], bool]], Iterator["Step"]]


class CannotLoad(RuntimeError):
    """A model that cannot be loaded; the message is one plain sentence for the user, with printable file names."""

    def __init__(self, message: str) -> None:
        super().__init__(printable(message))


class LoadStopped(Exception):
    """A download or load that was cancelled."""


@dataclass(frozen=True)
class Placement:
    """Device, dtype and attention by name, so that the page can show them without importing torch.

    Attributes:
        device: its name in torch: cpu, cuda, cuda:1 or mps.
        dtype: float32, float16 or bfloat16.
        attention: sdpa or xformers.
        note: one sentence for each setting that could not be met, else empty.
        compile: whether the denoiser is compiled by torch.compile.
        quantize: int8 or int4 for the denoiser's matrices, or "".
        fallbacks: names of the fallbacks of ``pipelines.models.oom_fallback`` that are active.
        checks: whether the model's own safety checker is used.
        engine: torch, or openvino for networks that ``pipelines.models.openvino.engine`` compiles.
        kind: cpu, cuda (a card with its own memory) or mps; by default what the device's name says.
        half: the 16-bit format to fall back to, "" where the device has none that is right.
        gpu: the maker of the card, where the kind does not say it (AMD).
    """

    device: str
    dtype: str
    attention: str
    note: str = ""
    compile: bool = False
    quantize: str = ""
    fallbacks: tuple[str, ...] = ()
    checks: bool = True
    engine: str = "torch"
    kind: str = ""
    half: str = "float16"
    gpu: str = ""

    def __post_init__(self) -> None:
        if not self.kind:
            object.__setattr__(self, "kind", self.device.partition(":")[0])

    @property
    def has_own_memory(self) -> bool:
        """Whether it computes in a memory of its own, so that weights can wait in the main memory."""
        return self.kind == "cuda"

    def __str__(self) -> str:
        return self.gpu or {"cpu": "CPU", "cuda": "NVIDIA GPU", "mps": "Apple GPU"}[self.kind]


class Networks(Protocol):
    """The networks of a loaded model."""

    @property
    def modules(self) -> dict[str, torch.nn.Module]:
        """Every network by the name of its part."""
        ...

    @property
    def denoiser(self) -> torch.nn.Module:
        """The network that is called at every step: the UNet or transformer."""
        ...

    @property
    def training_copy(self) -> Callable[[], TrainingCopy] | None:
        """The same model with a denoiser that can be given layers to train; None where it cannot be fine-tuned.

        The copy shares its weights and costs no memory; the model's own denoiser, compiled or not, stays as it is.
        """
        ...


class Model(Networks, Protocol):
    """A loaded model: what ``denoise`` and the worker need of it.

    Attributes:
        card: what it is.
        placement: where and how it runs; replaced when a fallback is applied.
        latents: its latent space.
        scheduler_config: the saved scheduler configuration.
        safety: state of its own safety checker (``pipelines.models.safety_checker``).
        texts: its text encoders (``pipelines.models.text_encoder.TextEncoder``); empty where it runs its own loop.
    """

    card: ModelCard
    placement: Placement
    latents: LatentFormat
    scheduler_config: dict[str, Any]
    safety: str
    texts: list[Any]

    @property
    def size_bytes(self) -> int:
        """Memory that its weights take."""
        ...

    @property
    def size_factor(self) -> int:
        """Width and height are multiples of this many pixels."""
        ...

    @property
    def is_inpainting(self) -> bool:
        """Whether its UNet also takes a mask and the masked image (9 input channels)."""
        ...

    @property
    def guidance_embedded(self) -> bool:
        """Whether guidance is an input of the network (or absent), so that one call a step is enough."""
        ...

    @property
    def supports_prompt_weights(self) -> bool:
        """Whether it reads weights of words, such as (word)1.3 or, in A1111's form, (word:1.3)."""
        ...

    @property
    def quick(self) -> bool:
        """Whether its steps are too fast for previews between them to be seen."""
        ...

    @property
    def own_loop(self) -> OwnLoop | None:
        """The steps of a pipeline that can only run its own denoising loop; None for models that ``denoise`` runs.

        Where it is not None, ``encode_prompt`` and ``predict`` raise NotImplementedError.
        """
        ...

    @property
    def use_engine(self) -> Callable[[Any], None] | None:
        """Run its networks through a ``pipelines.models.openvino.engine.Engine``; None where it cannot."""
        ...

    def encode_prompt(self, prompts: list[str], negative: bool = False, chunks: int = 0) -> Conditioning:
        """Encode n prompts; see ``pipelines.sampling.conditioning.PromptEncoder``, here and below."""
        ...

    def count_chunks(self, prompt: str) -> int:
        """Text windows that a prompt in A1111's form takes; 0 for models that do not read that form."""
        ...

    def predict(
        self, x: torch.Tensor, t: torch.Tensor, conditioning: Conditioning, guidance: float = 0.0
    ) -> torch.Tensor:
        """Scaled latents (n, c, h, w), timestep, prompts and guidance scale to a prediction (n, c, h, w), float32."""
        ...

    def timestep_options(self, num_inference_steps: int, width: int, height: int) -> dict[str, Any]:
        """Further arguments of the scheduler's ``set_timesteps`` besides the number of steps."""
        ...

    def set_loras(self, loras: Sequence[tuple[str, str, float]]) -> None:
        """Apply exactly these LoRAs (folder, file, weight) and remove all others; raises InvalidRequest."""
        ...

    def load_embeddings(self, words: Mapping[str, Path]) -> None:
        """Add textual inversion embeddings to the text encoders, name -> file; raises InvalidRequest."""
        ...

    def set_ip_adapter(self, picture: IPAdapterInput | None) -> None:
        """Apply an IP-Adapter with its image prompt, or remove it; raises InvalidRequest if it cannot."""
        ...

    def set_controlnets(self, controls: Sequence[ControlNetInput]) -> None:
        """Apply exactly these ControlNets with their maps in the next run; raises InvalidRequest if it cannot."""
        ...

    def clear_prompt_cache(self) -> None:
        """Encode every prompt again: the text encoders have changed or moved."""
        ...

    def withheld_by_checker(self, images: Sequence[Image.Image]) -> tuple[bool, ...]:
        """Whether the model's own safety checker would withhold each of these finished pictures."""
        ...

    def truncated_text(self, prompt: str) -> str:
        """The words of a prompt beyond the text window, "" if none."""
        ...

    def for_card(self, card: ModelCard) -> Model:
        """The same weights under another card."""
        ...


class TrainingCopy(Model, Protocol):
    """A model that is fine-tuned: ``training_copy`` of another one, whose weights it shares."""

    def predict_with_gradients(
        self, x: torch.Tensor, t: torch.Tensor, conditioning: Conditioning, guidance: float = 0.0
    ) -> torch.Tensor:
        """As ``predict``, but gradients flow through it."""
        ...

    def encode(self, prompt: str, negative: bool) -> Conditioning:
        """One prompt as the text encoders in ``texts`` read it, without weights."""
        ...
