"""FLUX.1: a transformer on a straight flow, with the guidance scale as an input instead of a second call."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from pipelines.cards import ModelCard
from pipelines.model import Placement, Report
from pipelines.models.components import load_components, load_preview_vae, use_attention
from pipelines.models.families.base import Base
from pipelines.models.families.stable_diffusion_3 import schedule_shift
from pipelines.models.text_encoder import TextEncoder
from pipelines.sampling.conditioning import Conditioning
from pipelines.system.gpu.device_copies import upload

KIND = "FLUX.1"
# Tokens that T5 reads for FLUX.1-dev and for -schnell, as each was trained.
T5_TOKENS, SCHNELL_TOKENS = 512, 256
PATCH = 2
CLASSES = {
    "tokenizer": "transformers.CLIPTokenizer",
    "text_encoder": "transformers.CLIPTextModel",
    "tokenizer_2": "transformers.T5TokenizerFast",
    "text_encoder_2": "transformers.T5EncoderModel",
    "transformer": "diffusers.FluxTransformer2DModel",
    "vae": "diffusers.AutoencoderKL",
    "scheduler": "",
}


class Flux(Base):
    """A loaded model; see ``pipelines.model.Model``.

    The guidance scale is an input of FLUX.1-dev and does nothing in -schnell; neither knows a negative prompt.
    """

    pipeline_class = "FluxPipeline"
    guidance_embedded = True

    def __init__(self, card: ModelCard, placement: Placement, parts: dict[str, Any], small: Any = None) -> None:
        super().__init__(card, placement, parts, small)
        self.transformer = parts["transformer"]
        self.size_factor = PATCH * self.latents.factor

    def text_encoders(self) -> list[TextEncoder]:
        """T5, which the picture's tokens attend to, and CLIP, whose pooled vector sets the tone."""
        parts = self.parts
        longest = T5_TOKENS if parts["transformer"].config.guidance_embeds else SCHNELL_TOKENS
        return [
            TextEncoder(parts["tokenizer_2"], parts["text_encoder_2"], longest),
            TextEncoder(parts["tokenizer"], parts["text_encoder"], parts["tokenizer"].model_max_length),
        ]

    def encode(self, prompt: str, negative: bool) -> Conditioning:
        t5, clip = self.texts
        return Conditioning(t5(prompt)[0], clip(prompt).pooler_output)

    @torch.inference_mode()
    def predict(
        self, x: torch.Tensor, t: torch.Tensor, conditioning: Conditioning, guidance: float = 0.0
    ) -> torch.Tensor:
        """The flow eps - x0, (n, c, h, w) in float32; the transformer sees patches of 2 x 2 cells as tokens."""
        like = {"device": x.device, "dtype": self.transformer.dtype}
        scale = torch.full((len(x),), guidance, device=x.device) if self.transformer.config.guidance_embeds else None
        flow = self.transformer(
            hidden_states=pack_latents(x).to(**like),
            timestep=t.reshape(-1).expand(len(x)).to(**like) / 1000,
            guidance=scale,
            pooled_projections=conditioning.pooled_prompt_embeds,
            encoder_hidden_states=conditioning.prompt_embeds,
            txt_ids=torch.zeros(conditioning.prompt_embeds.shape[1], 3, **like),
            img_ids=upload(image_ids(x.shape[-2] // PATCH, x.shape[-1] // PATCH), **like),
            return_dict=False,
        )[0]
        return unpack_latents(flow, x.shape).float()

    def timestep_options(self, num_inference_steps: int, width: int, height: int) -> dict[str, Any]:
        """Even sigmas from 1 to 1/N, shifted by the picture's number of tokens where the model wants that."""
        sigmas = np.linspace(1.0, 1 / num_inference_steps, num_inference_steps)
        tokens = (width // self.size_factor) * (height // self.size_factor)
        return {"sigmas": sigmas, "mu": schedule_shift(self.scheduler_config, tokens, 1.15)}


def pack_latents(x: torch.Tensor) -> torch.Tensor:
    """Latents (n, c, h, w) to tokens (n, h/2 * w/2, 4 c), one for each patch of 2 x 2 cells."""
    n, c, h, w = x.shape
    patches = x.reshape(n, c, h // PATCH, PATCH, w // PATCH, PATCH).permute(0, 2, 4, 1, 3, 5)
    return patches.reshape(n, (h // PATCH) * (w // PATCH), c * PATCH * PATCH)


def unpack_latents(tokens: torch.Tensor, shape: torch.Size) -> torch.Tensor:
    """Tokens back to latents of a shape (n, c, h, w): the inverse of ``pack``."""
    n, c, h, w = shape
    patches = tokens.reshape(n, h // PATCH, w // PATCH, c, PATCH, PATCH).permute(0, 3, 1, 4, 2, 5)
    return patches.reshape(n, c, h, w)


def image_ids(h: int, w: int) -> torch.Tensor:
    """Where each token stands, (h * w, 3): nothing, row, column."""
    rows, columns = torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij")
    return torch.stack([torch.zeros_like(rows), rows, columns], dim=-1).reshape(-1, 3)


def load(card: ModelCard, placement: Placement, report: Report) -> Flux:
    """Load a model part by part; arguments and errors as in ``stable_diffusion.load``."""
    parts = load_components(card, placement, report, CLASSES, KIND)
    use_attention(parts["transformer"], placement)
    return Flux(card, placement, parts, load_preview_vae(card, placement))
