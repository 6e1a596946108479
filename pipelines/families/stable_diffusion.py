"""Stable Diffusion 1.x and 2.x: CLIP text encoder, UNet, VAE (pocket is one of them)."""

from __future__ import annotations

import copy
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from pipelines.cards import ModelCard
from pipelines.device import Placement
from pipelines.families import CannotLoad, Report
from pipelines.latents import latent_format

PARTS = ("tokenizer", "text_encoder", "unet", "vae", "scheduler")
PROJECT = Path(__file__).resolve().parents[2]
# Prompts whose embeddings are kept: a run has two, and people go back and forth between a few.
REMEMBERED_PROMPTS = 32


class StableDiffusion:
    """A loaded model; see ``pipelines.families.Model``."""

    def __init__(self, card: ModelCard, placement: Placement, parts: dict[str, Any]) -> None:
        self.card = card
        self.placement = placement
        self.tokenizer, self.text_encoder, self.unet = (parts[name] for name in PARTS[:3])
        self.latents = latent_format(parts["vae"])
        self.scheduler_config: dict[str, Any] = parts["scheduler"]
        self.size_factor = self.latents.factor
        self.inpaints: bool = self.unet.config.in_channels == 2 * self.latents.channels + 1
        self.size_bytes = sum(module_bytes(parts[name]) for name in ("text_encoder", "unet", "vae"))
        self._embed = lru_cache(maxsize=REMEMBERED_PROMPTS)(self._embed_one)

    @property
    def window(self) -> int:
        """Length of the text window in tokens, start and end included."""
        return min(self.tokenizer.model_max_length, self.text_encoder.config.max_position_embeddings)

    def encode_prompt(self, prompts: list[str]) -> torch.Tensor:
        """n texts to embeddings (n, tokens, dim); words beyond the window are dropped."""
        return torch.cat([self._embed(prompt) for prompt in prompts])

    @torch.inference_mode()
    def _embed_one(self, prompt: str) -> torch.Tensor:
        tokens = self.tokenizer(
            [prompt], padding="max_length", max_length=self.window, truncation=True, return_tensors="pt"
        )
        masked = getattr(self.text_encoder.config, "use_attention_mask", False)
        mask = tokens.attention_mask.to(self.placement.device) if masked else None
        return self.text_encoder(tokens.input_ids.to(self.placement.device), attention_mask=mask)[0]

    @torch.inference_mode()
    def predict(self, x: torch.Tensor, t: torch.Tensor, embeddings: torch.Tensor) -> torch.Tensor:
        """The UNet's prediction (n, c, h, w) in float32, so that the sampler's arithmetic is exact in fp16 too."""
        return self.unet(x.to(self.unet.dtype), t, encoder_hidden_states=embeddings, return_dict=False)[0].float()

    def unread(self, prompt: str) -> str:
        """The words of a prompt beyond the text window; a word that is read in part counts as unread."""
        spans = self.tokenizer(prompt, return_offsets_mapping=True, verbose=False)["offset_mapping"]
        if len(spans) <= self.window:
            return ""
        start = spans[self.window - 1][0]
        while start > 0 and not prompt[start - 1].isspace():
            start -= 1
        return prompt[start:].strip()

    def for_card(self, card: ModelCard) -> StableDiffusion:
        """The same weights under another card."""
        other = copy.copy(self)
        other.card = card
        return other


def load(card: ModelCard, placement: Placement, report: Report) -> StableDiffusion:
    """Load a model part by part.

    Args:
        card: its source is a diffusers folder (absolute, or relative to the project) or a hub id.
        placement: device, dtype and attention.
        report: told before each part, and once at the end.

    Raises:
        CannotLoad: if a part is missing, broken, or not of this family.
    """
    parts: dict[str, Any] = {}
    for done, name in enumerate(PARTS):
        report(name, done, len(PARTS))
        try:
            parts[name] = _load_part(name, resolve_source(card.source), placement)
        except (torch.OutOfMemoryError, MemoryError):
            raise
        except Exception as error:
            raise CannotLoad(
                f"The {name} of {card.name} cannot be loaded from {card.source} ({_first_line(error)}); it must be a "
                "Stable Diffusion 1.x or 2.x model in diffusers format with safetensors files."
            ) from error
    _refuse_others(card, parts)
    if placement.attention == "xformers":
        parts["unet"].enable_xformers_memory_efficient_attention()
    report("", len(PARTS), len(PARTS))
    return StableDiffusion(card, placement, parts)


def resolve_source(source: str) -> str:
    """The folder that a card names, else the hub id as it stands."""
    folder = PROJECT / source  # an absolute source stays what it is
    return str(folder) if folder.is_dir() else source


def module_bytes(module: torch.nn.Module) -> int:
    """Bytes of a module's weights."""
    return sum(x.numel() * x.element_size() for x in (*module.parameters(), *module.buffers()))


def _load_part(name: str, source: str, placement: Placement) -> Any:
    import diffusers
    import transformers

    if name == "tokenizer":
        tokenizer = transformers.CLIPTokenizer.from_pretrained(source, subfolder=name)
        # transformers 5 makes an empty tokenizer where the files are missing: every word would be unknown.
        if len(tokenizer) <= len(set(tokenizer.all_special_tokens)):
            raise OSError("no vocabulary found")
        return tokenizer
    if name == "scheduler":
        config = diffusers.DDIMScheduler.load_config(source, subfolder=name)
        # StableDiffusionPipeline sets these two whatever the file says: old files carry pixel-space defaults.
        return {**config, "clip_sample": False, "steps_offset": 1}
    if name == "text_encoder":
        part = _from_pretrained(transformers.CLIPTextModel, source, name, placement.dtype)
    elif name == "unet":
        part = _from_pretrained(diffusers.UNet2DConditionModel, source, name, placement.dtype)
    else:
        kind = diffusers.AutoencoderKL.load_config(source, subfolder=name).get("_class_name")
        cls = diffusers.AutoencoderTiny if kind == "AutoencoderTiny" else diffusers.AutoencoderKL
        part = _from_pretrained(cls, source, name, placement.dtype)
    return part.to(placement.device).eval().requires_grad_(False)


def _from_pretrained(cls: Any, source: str, name: str, dtype: str) -> Any:
    """Half precision prefers files saved as such (half the download); either kind serves where one is missing."""
    variants = ("fp16", None) if dtype == "float16" else (None, "fp16")
    options = {"subfolder": name, "use_safetensors": True, "dtype": getattr(torch, dtype)}
    try:
        return cls.from_pretrained(source, variant=variants[0], **options)
    except (OSError, ValueError) as first:
        try:
            return cls.from_pretrained(source, variant=variants[1], **options)
        except (OSError, ValueError):
            raise first from None


def _refuse_others(card: ModelCard, parts: dict[str, Any]) -> None:
    """Models that share the folder format but not the method."""
    unet, channels = parts["unet"].config, parts["vae"].config.latent_channels
    # Inpainting UNets see the noisy latents, the mask and the latents of what is left of the picture.
    if unet.in_channels not in (channels, 2 * channels + 1):
        raise CannotLoad(
            f"{card.name} takes {unet.in_channels} channels where text-to-image needs {channels} and inpainting "
            f"{2 * channels + 1}; it is made for another task, so choose another model."
        )
    if unet.time_cond_proj_dim is not None or unet.addition_embed_type is not None:
        raise CannotLoad(f"{card.name} wants more inputs than Stable Diffusion 1.x and 2.x have; choose another model.")
    if unet.cross_attention_dim != parts["text_encoder"].config.hidden_size:
        raise CannotLoad(f"The text encoder and the UNet of {card.name} do not fit together; choose another model.")


def _first_line(error: Exception) -> str:
    line = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
    return line if len(line) <= 160 else line[:157] + "..."
