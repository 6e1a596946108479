"""Stable Diffusion XL: two text encoders, and a UNet that is told the size (Podell et al. 2023, arXiv:2307.01952)."""

from __future__ import annotations

from typing import Any

import torch

from pipelines.cards import ModelCard
from pipelines.conditioning import Conditioning
from pipelines.device import Placement
from pipelines.families import CannotLoad, Report
from pipelines.families.loading import load_parts, load_small, use_attention
from pipelines.families.stable_diffusion import StableDiffusion, refuse_channels
from pipelines.families.text import TextEncoder
from pipelines.families.weighting import Weighing

KIND = "Stable Diffusion XL"
CLASSES = {
    "tokenizer?": "transformers.CLIPTokenizer",
    "text_encoder?": "transformers.CLIPTextModel",
    "tokenizer_2": "transformers.CLIPTokenizer",
    "text_encoder_2": "transformers.CLIPTextModelWithProjection",
    "unet": "diffusers.UNet2DConditionModel",
    "vae": "diffusers.AutoencoderKL",
    "scheduler": "",
}
# What the refiner is told of how good the picture is, and of what to keep away from: diffusers' own figures.
AESTHETIC, NOT_AESTHETIC = 6.0, 2.5


class StableDiffusionXL(StableDiffusion):
    """Base, Turbo and Lightning models, and the refiner, which has the second text encoder alone."""

    pipeline_class = "StableDiffusionXLPipeline"

    def __init__(self, card: ModelCard, placement: Placement, parts: dict[str, Any], small: Any = None) -> None:
        super().__init__(card, placement, parts, small)
        # The UNet's own width tells whether it wants five numbers (with a score) or six beside the pooled text.
        spare = self.unet.add_embedding.linear_1.in_features - self.texts[-1].encoder.config.projection_dim
        self.scored = spare // self.unet.config.addition_time_embed_dim == 5
        # Base models were trained with nothing at all where others have an empty text.
        self.zeros = bool(parts["options"].get("force_zeros_for_empty_prompt", True))

    def text_encoders(self) -> list[TextEncoder]:
        """One or two, in the order of their features."""
        pairs = [("tokenizer", "text_encoder"), ("tokenizer_2", "text_encoder_2")]
        return [
            TextEncoder(self.parts[a], self.parts[b], self.parts[a].model_max_length)
            for a, b in pairs
            if self.parts.get(b) is not None
        ]

    def read(self, prompt: str, negative: bool) -> Conditioning:
        answers = [text(prompt, output_hidden_states=True) for text in self.texts]
        # The layer before the last, of both, side by side; the pooled vector is the second encoder's.
        tokens = torch.cat([answer.hidden_states[-2] for answer in answers], dim=-1)
        pooled = answers[-1][0]
        if negative and not prompt and self.zeros:
            tokens, pooled = torch.zeros_like(tokens), torch.zeros_like(pooled)
        return self._with_score(tokens, pooled, negative)

    def read_weighted(self, prompt: str, negative: bool) -> Conditioning:
        *others, main = self.texts
        tokens, pooled = Weighing(main, penultimate=True, pooled=True)(prompt)
        tokens = torch.cat([*(Weighing(text, penultimate=True)(prompt) for text in others), tokens], dim=-1)
        return self._with_score(tokens, pooled, negative)

    def _with_score(self, tokens: torch.Tensor, pooled: torch.Tensor, negative: bool) -> Conditioning:
        score = torch.tensor([[NOT_AESTHETIC if negative else AESTHETIC]], device=tokens.device, dtype=tokens.dtype)
        return Conditioning(tokens, pooled, score if self.scored else None)

    def beside_text(self, x: torch.Tensor, told: Conditioning) -> dict[str, torch.Tensor]:
        """The pooled text (n, dim), and sizes (n, 5 or 6): original size, crop at (0, 0), then target size or score."""
        height, width = (side * self.latents.factor for side in x.shape[-2:])
        sizes = [height, width, 0, 0] if self.scored else [height, width, 0, 0, height, width]
        rows = torch.tensor(sizes, device=x.device, dtype=told.tokens.dtype).expand(len(x), -1)
        if told.numbers is not None:
            rows = torch.cat([rows, told.numbers], dim=1)
        assert told.pooled is not None
        return {"text_embeds": told.pooled, "time_ids": rows}


def load(card: ModelCard, placement: Placement, report: Report) -> StableDiffusionXL:
    """Load a model part by part; arguments and errors as in ``stable_diffusion.load``."""
    parts = load_parts(card, placement, report, CLASSES, KIND)
    refuse_channels(card, parts)
    if parts["unet"].config.addition_embed_type != "text_time":
        raise CannotLoad(f"{card.name} is not a Stable Diffusion XL model: its UNet asks for no sizes; choose another.")
    use_attention(parts["unet"], placement)
    return StableDiffusionXL(card, placement, parts, load_small(card, placement))
