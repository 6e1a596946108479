"""The networks of published models by their shipped configurations, without weights."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

from presets import configs
from tests.support import ldm_checkpoint


def meta_networks(folder: Path) -> dict[str, Any]:
    """Every network of a configuration, on the meta device: without memory for its weights."""
    import torch
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    with torch.device("meta"):
        found: dict[str, Any] = {
            "unet": UNet2DConditionModel.from_config(UNet2DConditionModel.load_config(folder, subfolder="unet")),
            "vae": AutoencoderKL.from_config(AutoencoderKL.load_config(folder, subfolder="vae")),
        }
        for name, cls in (("text_encoder", CLIPTextModel), ("text_encoder_2", CLIPTextModelWithProjection)):
            if (folder / name).is_dir():
                found[name] = cls(CLIPTextConfig.from_pretrained(folder, subfolder=name))
    return found


@lru_cache(maxsize=8)
def checkpoint_shapes(variant: str) -> tuple[tuple[str, tuple[int, ...]], ...]:
    """Names and shapes of every tensor of a published model, in the layout of single files."""
    import tempfile

    import torch

    with tempfile.TemporaryDirectory() as cache, torch.device("meta"):
        networks = meta_networks(configs.write_folder(variant, Path(cache)))
        weights = {name: dict(network.state_dict()) for name, network in networks.items()}
        found = ldm_checkpoint.unet(weights["unet"], 2) | ldm_checkpoint.vae(weights["vae"])
        if variant.startswith("sd15"):
            found |= ldm_checkpoint.clip(weights["text_encoder"])
        elif variant.startswith("sd21"):
            found |= ldm_checkpoint.open_clip(weights["text_encoder"], ldm_checkpoint.OPEN_CLIP)
        elif variant.startswith("sdxl-refiner"):
            found |= ldm_checkpoint.open_clip(weights["text_encoder_2"], ldm_checkpoint.REFINER_OPEN_CLIP)
        else:
            found |= ldm_checkpoint.clip(weights["text_encoder"], ldm_checkpoint.XL_CLIP)
            found |= ldm_checkpoint.open_clip(weights["text_encoder_2"], ldm_checkpoint.XL_OPEN_CLIP)
    return tuple((name, tuple(weight.shape)) for name, weight in found.items())
