"""Stable Diffusion 1.x and 2.x: CLIP text encoder, UNet, VAE (pocket is one of them), and what LCM made of it."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import torch

from pipelines.cards import ModelCard
from pipelines.conditioning import Conditioning
from pipelines.device import Placement
from pipelines.families import CannotLoad, Report
from pipelines.families.base import Base
from pipelines.families.control import controlled
from pipelines.families.loading import load_parts, load_small, use_attention
from pipelines.families.weighting import Weighing

if TYPE_CHECKING:
    from pipelines.compiled import Engine

KIND = "Stable Diffusion 1.x or 2.x"
CLASSES = {
    "tokenizer": "transformers.CLIPTokenizer",
    "text_encoder": "transformers.CLIPTextModel",
    "unet": "diffusers.UNet2DConditionModel",
    "vae": "diffusers.AutoencoderKL",
    "scheduler": "",
}


class StableDiffusion(Base):
    """A loaded model; see ``pipelines.families.Model``."""

    pipeline_class = "StableDiffusionPipeline"
    weighs = True

    def __init__(self, card: ModelCard, placement: Placement, parts: dict[str, Any], small: Any = None) -> None:
        super().__init__(card, placement, parts, small)
        self.unet = parts["unet"]
        self._ask = partial(_asked, self.unet)
        self.engine: Engine | None = None
        self.inpaints = self.unet.config.in_channels == 2 * self.latents.channels + 1
        self.guides_itself = self.unet.config.time_cond_proj_dim is not None

    def read(self, prompt: str, negative: bool) -> Conditioning:
        return Conditioning(self.texts[0](prompt)[0])

    def read_weighted(self, prompt: str, negative: bool) -> Conditioning:
        return Conditioning(Weighing(self.texts[0])(prompt))

    @torch.inference_mode()
    def predict(self, x: torch.Tensor, t: torch.Tensor, told: Conditioning, guidance: float = 0.0) -> torch.Tensor:
        """The UNet's prediction (n, c, h, w) in float32, so that the sampler's arithmetic is exact in fp16 too."""
        return self._ask(
            sample=x.to(self._dtype),
            timestep=t,
            encoder_hidden_states=told.tokens,
            timestep_cond=self.guidance_embedding(guidance, len(x)),
            added_cond_kwargs=self.beside(x, told),
            **self.beside_maps(x, t, told),
        ).float()

    @property
    def quick(self) -> bool:
        """Whether its steps are over before anybody could look at them."""
        return self.engine is not None and self.engine.ready

    def use_engine(self, engine: Engine) -> None:
        """Be asked through an engine that compiles networks, at first for one picture as the card wants it."""
        self.engine = engine
        unet = engine.network("unet", self.unet, self._ask)
        decoder = engine.network("decoder", self.latents.vae, self.latents.ask_decoder)
        self._ask, self.latents.ask_decoder = unet, decoder
        one = self.latents.shape(1, self.card.width, self.card.height)
        rows = 1 if self.guides_itself or self.card.guidance_scale <= 1 else 2
        told = {"encoder_hidden_states": (rows, self.window, self.unet.config.cross_attention_dim)}
        if self.unet.config.time_cond_proj_dim:
            told["timestep_cond"] = (rows, self.unet.config.time_cond_proj_dim)
        unet.want(sample=(rows, self.unet.config.in_channels, *one[2:]), timestep=(rows,), **told)
        decoder.want(latents=one)

    def beside_maps(self, x: torch.Tensor, t: torch.Tensor, told: Conditioning) -> dict[str, Any]:
        """What ControlNets add to the UNet's own features."""
        if not told.hints:
            return {}
        return controlled(x[:, : self.latents.channels].to(self._dtype), t, told, self.beside_text(x, told))

    @property
    def _dtype(self) -> torch.dtype:
        # ``unet.dtype`` looks through all of its weights, which takes a third of the time that a compiled one needs.
        return self.unet.conv_in.weight.dtype

    def beside(self, x: torch.Tensor, told: Conditioning) -> dict[str, Any] | None:
        """What the UNet is told besides the text: sizes and the like, and a picture that is followed."""
        added: dict[str, Any] | None = self.beside_text(x, told)
        return added if told.picture is None else {**(added or {}), "image_embeds": [told.picture]}

    def beside_text(self, x: torch.Tensor, told: Conditioning) -> dict[str, torch.Tensor] | None:
        """What the UNet is told besides the text; this family has nothing to add."""
        return None

    def guidance_embedding(self, scale: float, n: int) -> torch.Tensor | None:
        """The guidance scale as an input, (n, dim), for models that were distilled with it (LCM), else None.

        w = scale - 1 in sines and cosines (Luo et al. 2023, arXiv:2310.04378; Meng et al. 2022, arXiv:2210.03142).
        """
        dim = self.unet.config.time_cond_proj_dim
        if dim is None:
            return None
        rates = torch.exp(torch.arange(dim // 2) * -(torch.log(torch.tensor(10000.0)) / (dim // 2 - 1)))
        angles = 1000.0 * (scale - 1) * rates
        row = torch.nn.functional.pad(torch.cat([angles.sin(), angles.cos()]), (0, dim % 2))
        return row.expand(n, dim).to(self.unet.device, self._dtype)


def _asked(unet: Any, **inputs: Any) -> torch.Tensor:
    return unet(**inputs, return_dict=False)[0]


def load(card: ModelCard, placement: Placement, report: Report) -> StableDiffusion:
    """Load a model part by part.

    Args:
        card: its source is a diffusers folder (absolute, or relative to the project), a single file or a hub id.
        placement: device, dtype and attention.
        report: told before each part, and once at the end.

    Raises:
        CannotLoad: if a part is missing, broken, or not of this family.
    """
    parts = load_parts(card, placement, report, CLASSES, KIND)
    # StableDiffusionPipeline sets these two whatever the file says: old files carry pixel-space defaults.
    parts["scheduler"] = {**parts["scheduler"], "clip_sample": False, "steps_offset": 1}
    _refuse_others(card, parts)
    use_attention(parts["unet"], placement)
    return StableDiffusion(card, placement, parts, load_small(card, placement))


def refuse_channels(card: ModelCard, parts: dict[str, Any]) -> None:
    """Raise CannotLoad for UNets that see something else than latents, with or without a mask."""
    unet, channels = parts["unet"].config, parts["vae"].config.latent_channels
    # Inpainting UNets see the noisy latents, the mask and the latents of what is left of the picture.
    if unet.in_channels not in (channels, 2 * channels + 1):
        raise CannotLoad(
            f"{card.name} takes {unet.in_channels} channels where text-to-image needs {channels} and inpainting "
            f"{2 * channels + 1}; it is made for another task, so choose another model."
        )


def _refuse_others(card: ModelCard, parts: dict[str, Any]) -> None:
    """Models that share the folder format but not the method."""
    refuse_channels(card, parts)
    unet = parts["unet"].config
    if unet.addition_embed_type is not None:
        raise CannotLoad(f"{card.name} wants more inputs than Stable Diffusion 1.x and 2.x have; choose another model.")
    if unet.cross_attention_dim != parts["text_encoder"].config.hidden_size:
        raise CannotLoad(f"The text encoder and the UNet of {card.name} do not fit together; choose another model.")
