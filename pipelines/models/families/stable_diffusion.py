"""Stable Diffusion 1.x and 2.x: CLIP text encoder, UNet, VAE (pocket is one of them), and what LCM made of it."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

import torch

from pipelines.cards import ModelCard
from pipelines.model import CannotLoad, Placement, Report
from pipelines.models.adapters.controlnet import controlnet_residuals
from pipelines.models.components import load_components, load_preview_vae, use_attention
from pipelines.models.families.base import REMEMBERED_PROMPTS, Base
from pipelines.models.families.shared_copy import shared_copy
from pipelines.models.prompt_weighting import ChunkEncoder, CompelEncoder
from pipelines.sampling.conditioning import Conditioning
from pipelines.system.gpu.device_copies import upload

if TYPE_CHECKING:
    from pipelines.models.openvino.engine import Engine, Network
    from pipelines.models.text_encoder import TextEncoder

KIND = "Stable Diffusion 1.x or 2.x"
CLASSES = {
    "tokenizer": "transformers.CLIPTokenizer",
    "text_encoder": "transformers.CLIPTextModel",
    "unet": "diffusers.UNet2DConditionModel",
    "vae": "diffusers.AutoencoderKL",
    "scheduler": "",
}


class StableDiffusion(Base):
    """A loaded model; see ``pipelines.model.Model``."""

    pipeline_class = "StableDiffusionPipeline"
    supports_prompt_weights = True

    def __init__(self, card: ModelCard, placement: Placement, parts: dict[str, Any], small: Any = None) -> None:
        super().__init__(card, placement, parts, small)
        self.unet = parts["unet"]
        self._call: Callable[..., torch.Tensor] = partial(_call_unet, self.unet)
        self.engine: Engine | None = None
        self.is_inpainting = self.unet.config.in_channels == 2 * self.latents.channels + 1
        self.guidance_embedded = self.unet.config.time_cond_proj_dim is not None

    def encode(self, prompt: str, negative: bool) -> Conditioning:
        return Conditioning(self.texts[0](prompt)[0])

    def encode_weighted(self, prompt: str, negative: bool, chunks: int) -> Conditioning:
        if chunks:
            return Conditioning(self._chunk_encoder(self.texts[0])(prompt, chunks)[0])
        return Conditioning(CompelEncoder(self.texts[0], device=self.placement.device)(prompt))

    def count_chunks(self, prompt: str) -> int:
        """Text windows that a prompt in A1111's form takes, by the text encoder that needs most."""
        return max(len(self._chunk_encoder(text).chunks(prompt)) for text in self.texts)

    def _chunk_encoder(self, text: TextEncoder) -> ChunkEncoder:
        return ChunkEncoder(text, lambda answer: answer[0])

    @torch.inference_mode()
    def predict(
        self, x: torch.Tensor, t: torch.Tensor, conditioning: Conditioning, guidance: float = 0.0
    ) -> torch.Tensor:
        """The UNet's prediction (n, c, h, w) in float32, so that the sampler's arithmetic is exact in fp16 too."""
        return self.predict_with_gradients(x, t, conditioning, guidance)

    def predict_with_gradients(
        self, x: torch.Tensor, t: torch.Tensor, conditioning: Conditioning, guidance: float = 0.0
    ) -> torch.Tensor:
        """As ``predict``, outside of inference mode: what a training copy learns from."""
        return self._call(
            sample=x.to(self._dtype),
            timestep=t,
            encoder_hidden_states=conditioning.prompt_embeds,
            timestep_cond=self.guidance_embedding(guidance, len(x), x.device),
            added_cond_kwargs=self.added_cond_kwargs(x, conditioning),
            **self.controlnet_kwargs(x, t, conditioning),
        ).float()

    @property
    def training_copy(self) -> Callable[[], StableDiffusion]:  # type: ignore[override]
        """The same model with a denoiser that can be given layers to train."""
        return self._training_copy

    def _training_copy(self) -> StableDiffusion:
        other = copy.copy(self)
        other.unet = shared_copy(self.unet)
        other.parts = {**self.parts, "unet": other.unet}
        # In PyTorch: the compiled denoiser has no such layers.
        other._call, other.engine = partial(_call_unet, other.unet), None
        other.texts = list(self.texts)
        other._encode_cached = lru_cache(maxsize=REMEMBERED_PROMPTS)(other._encode)
        return other

    @property
    def quick(self) -> bool:
        """Whether its steps are too fast for previews between them to be seen."""
        return self.engine is not None and self.engine.ready

    @property
    def use_engine(self) -> Callable[[Any], None]:
        """Run its networks through an engine that compiles them."""
        return self._use_engine

    def _use_engine(self, engine: Engine) -> None:
        """Compile first for one picture of the card's size."""
        self.engine = engine
        unet = engine.network("unet", self.unet, self._call)
        decoder = engine.network("decoder", self.latents.vae, self.latents.decoder)
        self._call, self.latents.decoder = unet, decoder
        preview = self._preview_network(engine)
        one = self.latents.shape(1, self.card.width, self.card.height)
        rows = 1 if self.guidance_embedded or self.card.guidance_scale <= 1 else 2
        conditioning: dict[str, tuple[int, ...]] = {
            "encoder_hidden_states": (rows, self.window, self.unet.config.cross_attention_dim)
        }
        if self.unet.config.time_cond_proj_dim:
            conditioning["timestep_cond"] = (rows, self.unet.config.time_cond_proj_dim)
        unet.request(sample=(rows, self.unet.config.in_channels, *one[2:]), timestep=(rows,), **conditioning)
        decoder.request(latents=one)
        if preview is not None:
            preview.request(latents=one)

    def _preview_network(self, engine: Engine) -> Network | None:
        """The small autoencoder for previews, compiled too; None without one, or where it is too large."""
        from pipelines.models.openvino.engine import is_supported

        small = self.latents.preview_vae
        if small is None or not is_supported(small):
            return None
        self.latents.preview_decoder = network = engine.network("preview", small, self.latents.preview_decoder)
        return network

    def controlnet_kwargs(self, x: torch.Tensor, t: torch.Tensor, conditioning: Conditioning) -> dict[str, Any]:
        """What ControlNets add to the UNet's own features."""
        if not conditioning.controls:
            return {}
        return controlnet_residuals(
            x[:, : self.latents.channels].to(self._dtype), t, conditioning, self.text_cond_kwargs(x, conditioning)
        )

    @property
    def _dtype(self) -> torch.dtype:
        # ``unet.dtype`` looks through all of its weights, which takes a third of the time that a compiled one needs.
        return self.unet.conv_in.weight.dtype

    def added_cond_kwargs(self, x: torch.Tensor, conditioning: Conditioning) -> dict[str, Any] | None:
        """The UNet's conditioning besides the prompt: sizes (SDXL) and the image prompt of an IP-Adapter."""
        added: dict[str, Any] | None = self.text_cond_kwargs(x, conditioning)
        return (
            added
            if conditioning.image_embeds is None
            else {**(added or {}), "image_embeds": [conditioning.image_embeds]}
        )

    def text_cond_kwargs(self, x: torch.Tensor, conditioning: Conditioning) -> dict[str, torch.Tensor] | None:
        """The UNet's conditioning besides the prompt and image prompt; none in this family."""
        return None

    def guidance_embedding(self, scale: float, n: int, device: torch.device) -> torch.Tensor | None:
        """The guidance scale as an input, (n, dim), for models that were distilled with it (LCM), else None.

        w = scale - 1 in sines and cosines (Luo et al. 2023, arXiv:2310.04378; Meng et al. 2022, arXiv:2210.03142).
        """
        dim = self.unet.config.time_cond_proj_dim
        if dim is None:
            return None
        rates = torch.exp(torch.arange(dim // 2) * -(torch.log(torch.tensor(10000.0)) / (dim // 2 - 1)))
        angles = 1000.0 * (scale - 1) * rates
        row = torch.nn.functional.pad(torch.cat([angles.sin(), angles.cos()]), (0, dim % 2))
        return upload(row, device, self._dtype).expand(n, dim)


def _call_unet(unet: Any, **inputs: Any) -> torch.Tensor:
    return unet(**inputs, return_dict=False)[0]


def load(card: ModelCard, placement: Placement, report: Report) -> StableDiffusion:
    """Load a model part by part.

    Args:
        card: its source is a diffusers folder (absolute, or relative to the project), a single file or a hub id.
        placement: device, dtype and attention.
        report: called before each part, and once at the end.

    Raises:
        CannotLoad: if a part is missing, broken, or not of this family.
    """
    parts = load_components(card, placement, report, CLASSES, KIND)
    # StableDiffusionPipeline overrides these two: old files carry pixel-space defaults.
    parts["scheduler"] = {**parts["scheduler"], "clip_sample": False, "steps_offset": 1}
    _check_architecture(card, parts)
    use_attention(parts["unet"], placement)
    return StableDiffusion(card, placement, parts, load_preview_vae(card, placement))


def check_channels(card: ModelCard, parts: dict[str, Any]) -> None:
    """Raise CannotLoad for UNets that see something else than latents, with or without a mask."""
    unet, channels = parts["unet"].config, parts["vae"].config.latent_channels
    # Inpainting UNets see the noisy latents, the mask and the latents of what is left of the picture.
    if unet.in_channels not in (channels, 2 * channels + 1):
        raise CannotLoad(
            f"{card.name} takes {unet.in_channels} channels where text-to-image needs {channels} and inpainting "
            f"{2 * channels + 1}; it is made for another task, so choose another model."
        )


def _check_architecture(card: ModelCard, parts: dict[str, Any]) -> None:
    """Models that share the folder format but not the method."""
    check_channels(card, parts)
    unet = parts["unet"].config
    if unet.addition_embed_type is not None:
        raise CannotLoad(f"{card.name} wants more inputs than Stable Diffusion 1.x and 2.x have; choose another model.")
    if unet.cross_attention_dim != parts["text_encoder"].config.hidden_size:
        raise CannotLoad(f"The text encoder and the UNet of {card.name} do not fit together; choose another model.")
