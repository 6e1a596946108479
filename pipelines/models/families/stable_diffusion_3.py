"""Stable Diffusion 3 and 3.5: a transformer that follows a straight flow (Esser et al. 2024, arXiv:2403.03206)."""

from __future__ import annotations

from typing import Any

import torch

from pipelines.cards import ModelCard
from pipelines.model import Placement, Report
from pipelines.models.components import load_components, load_preview_vae, use_attention
from pipelines.models.families.base import Base
from pipelines.models.text_encoder import TextEncoder
from pipelines.sampling.conditioning import Conditioning

KIND = "Stable Diffusion 3"
T5_TOKENS = 256
CLASSES = {
    "tokenizer": "transformers.CLIPTokenizer",
    "text_encoder": "transformers.CLIPTextModelWithProjection",
    "tokenizer_2": "transformers.CLIPTokenizer",
    "text_encoder_2": "transformers.CLIPTextModelWithProjection",
    "tokenizer_3?": "transformers.T5TokenizerFast",
    "text_encoder_3?": "transformers.T5EncoderModel",
    "transformer": "diffusers.SD3Transformer2DModel",
    "vae": "diffusers.AutoencoderKL",
    "scheduler": "",
}


class StableDiffusion3(Base):
    """A loaded model; see ``pipelines.model.Model``.  It may do without its largest text encoder (T5)."""

    pipeline_class = "StableDiffusion3Pipeline"

    def __init__(self, card: ModelCard, placement: Placement, parts: dict[str, Any], small: Any = None) -> None:
        super().__init__(card, placement, parts, small)
        self.transformer = parts["transformer"]
        self.size_factor = self.latents.factor * self.transformer.config.patch_size

    def text_encoders(self) -> list[TextEncoder]:
        """Two CLIP encoders, and T5 where it is there."""
        parts = self.parts
        found = [
            TextEncoder(parts[f"tokenizer{k}"], parts[f"text_encoder{k}"], _clip_window(parts)) for k in ("", "_2")
        ]
        if parts.get("text_encoder_3") is not None:
            found.append(TextEncoder(parts["tokenizer_3"], parts["text_encoder_3"], T5_TOKENS))
        return found

    def encode(self, prompt: str, negative: bool) -> Conditioning:
        """CLIP's features side by side and padded to T5's width, then T5's tokens behind CLIP's."""
        clips = [text(prompt, output_hidden_states=True) for text in self.texts[:2]]
        wide = torch.cat([answer.hidden_states[-2] for answer in clips], dim=-1)
        if len(self.texts) > 2:
            t5 = self.texts[2](prompt)[0].to(wide.dtype)
        else:
            t5 = wide.new_zeros(1, T5_TOKENS, self.parts["transformer"].config.joint_attention_dim)
        padded = torch.nn.functional.pad(wide, (0, t5.shape[-1] - wide.shape[-1]))
        return Conditioning(torch.cat([padded, t5], dim=-2), torch.cat([answer[0] for answer in clips], dim=-1))

    @torch.inference_mode()
    def predict(
        self, x: torch.Tensor, t: torch.Tensor, conditioning: Conditioning, guidance: float = 0.0
    ) -> torch.Tensor:
        """The flow eps - x0, (n, c, h, w) in float32."""
        return self.transformer(
            hidden_states=x.to(self.transformer.dtype),
            timestep=t.reshape(-1).expand(len(x)),
            encoder_hidden_states=conditioning.prompt_embeds,
            pooled_projections=conditioning.pooled_prompt_embeds,
            return_dict=False,
        )[0].float()

    def timestep_options(self, num_inference_steps: int, width: int, height: int) -> dict[str, Any]:
        """How far larger pictures shift the schedule towards noise, where the model wants that."""
        config = self.scheduler_config
        if not config.get("use_dynamic_shifting"):
            return {}
        return {"mu": schedule_shift(config, (width // self.size_factor) * (height // self.size_factor), 1.16)}


def _clip_window(parts: dict[str, Any]) -> int:
    return parts["tokenizer"].model_max_length


def schedule_shift(config: dict[str, Any], tokens: int, max_shift: float) -> float:
    """mu for a picture of so many tokens: a straight line between two sizes (Esser et al. 2024, section 5.3.2)."""
    low, high = config.get("base_image_seq_len", 256), config.get("max_image_seq_len", 4096)
    base, most = config.get("base_shift", 0.5), config.get("max_shift", max_shift)
    return base + (tokens - low) * (most - base) / (high - low)


def load(card: ModelCard, placement: Placement, report: Report) -> StableDiffusion3:
    """Load a model part by part; arguments and errors as in ``stable_diffusion.load``."""
    parts = load_components(card, placement, report, CLASSES, KIND)
    use_attention(parts["transformer"], placement)
    return StableDiffusion3(card, placement, parts, load_preview_vae(card, placement))
