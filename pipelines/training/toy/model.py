"""Dots as a ``Model``: a picture of two channels whose every pixel is a dot, so that ``denoise`` samples them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from pipelines.cards import ModelCard, Quality
from pipelines.model import OwnLoop, Placement
from pipelines.sampling.conditioning import Conditioning, ControlNetInput, IPAdapterInput
from pipelines.training.toy.denoisers import SCHEDULER_CONFIG, Denoiser

CARD = ModelCard(
    id="dots",
    name="Dots in the plane",
    source="",
    licence="",
    about="A tiny model that is trained in the page.",
    prediction_type="epsilon",
    size_factor=1,
    strength=1.0,
    qualities={"balanced": Quality(scheduler="ddim", num_inference_steps=12)},
)


class PlaneOfDots:
    """The latent space of dots: x and y are its two channels, and a pixel is a dot."""

    channels = 2
    factor = 1

    def shape(self, n: int, width: int, height: int) -> tuple[int, int, int, int]:
        """(n, 2, height, width): width x height dots."""
        return n, self.channels, height, width


class DotsModel:
    """The ``Model`` of a denoiser of dots; its prompt is the number of a class, "" for none.

    What loads files or encodes pictures is not there: nothing asks it of this model.

    Args:
        denoiser: predicts the noise of dots.
    """

    card: ModelCard = CARD
    placement = Placement("cpu", "float32", "sdpa")
    latents: Any = PlaneOfDots()
    safety = "none"
    size_bytes = 0
    size_factor = 1
    is_inpainting = guidance_embedded = supports_prompt_weights = False
    quick = True
    own_loop: OwnLoop | None = None
    use_engine: Callable[[Any], None] | None = None
    training_copy: Callable[[], Any] | None = None

    def __init__(self, denoiser: Denoiser) -> None:
        self._denoiser = denoiser
        self.texts: list[Any] = []
        self.scheduler_config: dict[str, Any] = dict(SCHEDULER_CONFIG)

    @property
    def modules(self) -> dict[str, torch.nn.Module]:
        """The network, if it is one."""
        return {"denoiser": self._denoiser} if isinstance(self._denoiser, torch.nn.Module) else {}

    @property
    def denoiser(self) -> torch.nn.Module:
        """The network that is called at every step."""
        return self.modules["denoiser"]

    def encode_prompt(self, prompts: list[str], negative: bool = False, chunks: int = 0) -> Conditioning:
        """The class of each prompt as its one token of one number."""
        return Conditioning(torch.tensor([[[float(prompt or 0)]] for prompt in prompts]))

    def count_chunks(self, prompt: str) -> int:
        """No text windows."""
        return 0

    def predict(
        self, x: torch.Tensor, t: torch.Tensor, conditioning: Conditioning, guidance: float = 0.0
    ) -> torch.Tensor:
        """Dots (n, 2, h, w), timestep, classes and guidance scale to eps (n, 2, h, w)."""
        n, _, h, w = x.shape
        dots = x.permute(0, 2, 3, 1).reshape(-1, 2)
        labels = conditioning.prompt_embeds[:, 0, 0].long().repeat_interleave(h * w)
        found = self._denoiser.noise(dots, t.float().expand(len(dots)), labels)
        return found.reshape(n, h, w, 2).permute(0, 3, 1, 2)

    def timestep_options(self, num_inference_steps: int, width: int, height: int) -> dict[str, Any]:
        """The schedule is not shifted."""
        return {}

    def set_loras(self, loras: Sequence[tuple[str, str, float]]) -> None:
        """There are none."""

    def load_embeddings(self, words: Mapping[str, Path]) -> None:
        """There are none."""

    def set_ip_adapter(self, picture: IPAdapterInput | None) -> None:
        """There are none."""

    def set_controlnets(self, controls: Sequence[ControlNetInput]) -> None:
        """There are none."""

    def clear_prompt_cache(self) -> None:
        """Nothing is kept."""

    def withheld_by_checker(self, images: Sequence[Image.Image]) -> tuple[bool, ...]:
        """Dots are never withheld."""
        return (False,) * len(images)

    def truncated_text(self, prompt: str) -> str:
        """Nothing is cut off."""
        return ""

    def for_card(self, card: ModelCard) -> DotsModel:
        """There is one card."""
        return self
