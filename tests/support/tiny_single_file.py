"""Small random models in one file, in the original layout, with their configuration; for tests."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from presets import configs
from tests.support import ldm_checkpoint
from tests.support.published_models import meta_networks

TINY_UNET = {
    "block_out_channels": [32, 64],
    "layers_per_block": 1,
    "down_block_types": ["CrossAttnDownBlock2D", "DownBlock2D"],
    "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D"],
    "attention_head_dim": 4,
    "sample_size": 8,
}
TINY_TEXT = {"hidden_size": 32, "intermediate_size": 37, "num_attention_heads": 4, "num_hidden_layers": 2}
TINY = {
    "sd15": {"unet/config.json": TINY_UNET | {"cross_attention_dim": 32}, "text_encoder/config.json": TINY_TEXT},
    "sdxl": {
        "unet/config.json": TINY_UNET
        | {
            "cross_attention_dim": 32 + 48,
            "transformer_layers_per_block": [1, 1],
            "addition_time_embed_dim": 8,
            "projection_class_embeddings_input_dim": 6 * 8 + 48,
        },
        "text_encoder/config.json": TINY_TEXT,
        "text_encoder_2/config.json": TINY_TEXT | {"hidden_size": 48, "projection_dim": 48},
    },
}


def tiny_config(variant: str, cache: Path, target: Path) -> Path:
    """A shipped configuration with small networks."""
    folder = Path(shutil.copytree(configs.write_folder(variant, cache), target / "tiny"))
    small_vae = {"block_out_channels": [32, 32, 32, 32], "layers_per_block": 1}
    for name, changes in ({"vae/config.json": small_vae} | TINY[variant]).items():
        path = folder / name
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    return folder


def write(networks: dict[str, Any], variant: str, path: Path) -> Path:
    """Networks as one file in the original layout."""
    from safetensors.torch import save_file

    weights = {name: dict(network.state_dict()) for name, network in networks.items()}
    found = ldm_checkpoint.unet(weights["unet"], TINY_UNET["layers_per_block"]) | ldm_checkpoint.vae(weights["vae"])
    if variant == "sd15":
        found |= ldm_checkpoint.clip(weights["text_encoder"])
    else:
        found |= ldm_checkpoint.clip(weights["text_encoder"], ldm_checkpoint.XL_CLIP)
        found |= ldm_checkpoint.open_clip(weights["text_encoder_2"], ldm_checkpoint.XL_OPEN_CLIP)
    save_file({name: weight.clone() for name, weight in found.items()}, path)
    return path


def random_networks(folder: Path) -> dict[str, Any]:
    """The networks of a configuration with random weights."""
    import torch

    torch.manual_seed(0)
    networks = {name: network.to_empty(device="cpu") for name, network in meta_networks(folder).items()}
    for network in networks.values():
        for name, weight in network.named_parameters():
            torch.nn.init.ones_(weight) if "norm" in name else torch.nn.init.normal_(weight, std=0.05)
        for name, buffer in network.named_buffers():
            if name.endswith("position_ids"):
                buffer.copy_(torch.arange(buffer.shape[-1]).expand_as(buffer))
    return networks
