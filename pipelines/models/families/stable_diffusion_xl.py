"""Stable Diffusion XL: two text encoders, and a UNet conditioned on the size (Podell et al. 2023, arXiv:2307.01952)."""

from __future__ import annotations

from typing import Any

import torch

from pipelines.cards import ModelCard
from pipelines.model import CannotLoad, Placement, Report
from pipelines.models.components import load_components, load_preview_vae, use_attention
from pipelines.models.families.stable_diffusion import StableDiffusion, check_channels
from pipelines.models.prompt_weighting import ChunkEncoder, CompelEncoder
from pipelines.models.text_encoder import TextEncoder
from pipelines.sampling.conditioning import Conditioning
from pipelines.system.gpu.device_copies import upload

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
# The refiner's aesthetic scores for the prompt and for the negative prompt: diffusers' defaults.
AESTHETIC, NOT_AESTHETIC = 6.0, 2.5


class StableDiffusionXL(StableDiffusion):
    """Base, Turbo and Lightning models, and the refiner, which has the second text encoder alone."""

    pipeline_class = "StableDiffusionXLPipeline"

    def __init__(self, card: ModelCard, placement: Placement, parts: dict[str, Any], small: Any = None) -> None:
        super().__init__(card, placement, parts, small)
        # The UNet's own width tells whether it wants five numbers (with a score) or six with the pooled text.
        spare = self.unet.add_embedding.linear_1.in_features - self.texts[-1].encoder.config.projection_dim
        self.takes_aesthetic_score = spare // self.unet.config.addition_time_embed_dim == 5
        # Base models were trained with nothing at all where others have an empty text.
        self.zero_empty_prompt = bool(parts["options"].get("force_zeros_for_empty_prompt", True))

    def text_encoders(self) -> list[TextEncoder]:
        """One or two, in the order of their features."""
        pairs = [("tokenizer", "text_encoder"), ("tokenizer_2", "text_encoder_2")]
        return [
            TextEncoder(self.parts[a], self.parts[b], self.parts[a].model_max_length)
            for a, b in pairs
            if self.parts.get(b) is not None
        ]

    def encode(self, prompt: str, negative: bool) -> Conditioning:
        answers = [text(prompt, output_hidden_states=True) for text in self.texts]
        # The layer before the last, of both, side by side; the pooled vector is the second encoder's.
        tokens = torch.cat([answer.hidden_states[-2] for answer in answers], dim=-1)
        pooled = answers[-1][0]
        if negative and not prompt and self.zero_empty_prompt:
            tokens, pooled = torch.zeros_like(tokens), torch.zeros_like(pooled)
        return self._conditioning(tokens, pooled, negative)

    def encode_weighted(self, prompt: str, negative: bool, chunks: int) -> Conditioning:
        if chunks:
            return self._encode_chunks(prompt, negative, chunks)
        *others, main = self.texts
        device = self.placement.device
        tokens, pooled = CompelEncoder(main, penultimate=True, pooled=True, device=device)(prompt)
        before = [CompelEncoder(text, penultimate=True, device=device)(prompt) for text in others]
        tokens = torch.cat([*before, tokens], dim=-1)
        return self._conditioning(tokens, pooled, negative)

    def _encode_chunks(self, prompt: str, negative: bool, chunks: int) -> Conditioning:
        answers = [self._chunk_encoder(text)(prompt, chunks, output_hidden_states=True) for text in self.texts]
        # The pooled vector is that of the first chunk, without weights.
        tokens, pooled = torch.cat([vectors for vectors, _ in answers], dim=-1), answers[-1][1][0][:1]
        if negative and not prompt and self.zero_empty_prompt:
            tokens, pooled = torch.zeros_like(tokens), torch.zeros_like(pooled)
        return self._conditioning(tokens, pooled, negative)

    def _chunk_encoder(self, text: TextEncoder) -> ChunkEncoder:
        return ChunkEncoder(text, lambda answer: answer.hidden_states[-2])

    def _conditioning(self, tokens: torch.Tensor, pooled: torch.Tensor, negative: bool) -> Conditioning:
        score = torch.tensor([[NOT_AESTHETIC if negative else AESTHETIC]], device=tokens.device, dtype=tokens.dtype)
        return Conditioning(tokens, pooled, score if self.takes_aesthetic_score else None)

    def text_cond_kwargs(self, x: torch.Tensor, conditioning: Conditioning) -> dict[str, torch.Tensor]:
        """The pooled text (n, dim), and sizes (n, 5 or 6): original size, crop at (0, 0), then target size or score."""
        height, width = (side * self.latents.factor for side in x.shape[-2:])
        sizes = [height, width, 0, 0] if self.takes_aesthetic_score else [height, width, 0, 0, height, width]
        rows = upload(torch.tensor(sizes), x.device, conditioning.prompt_embeds.dtype).expand(len(x), -1)
        if conditioning.aesthetic_score is not None:
            rows = torch.cat([rows, conditioning.aesthetic_score], dim=1)
        assert conditioning.pooled_prompt_embeds is not None
        return {"text_embeds": conditioning.pooled_prompt_embeds, "time_ids": rows}


def load(card: ModelCard, placement: Placement, report: Report) -> StableDiffusionXL:
    """Load a model part by part; arguments and errors as in ``stable_diffusion.load``."""
    parts = load_components(card, placement, report, CLASSES, KIND)
    check_channels(card, parts)
    if parts["unet"].config.addition_embed_type != "text_time":
        raise CannotLoad(f"{card.name} is not a Stable Diffusion XL model: its UNet asks for no sizes; choose another.")
    use_attention(parts["unet"], placement)
    return StableDiffusionXL(card, placement, parts, load_preview_vae(card, placement))
