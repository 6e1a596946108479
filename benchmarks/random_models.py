"""Models of real architectures with random weights: speed does not depend on them; and the same ones made tiny."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

# Model, with a shipped configuration of this name -> its pipeline in diffusers.
MODELS = {"sd15": "StableDiffusionPipeline", "sdxl": "StableDiffusionXLPipeline"}
# Bytes that the files of each take.
FILES = {"sd15": 2_200_000_000, "sdxl": 7_000_000_000}
_TEXT = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
# What makes each part tiny: the same blocks with few channels.
_TINY: dict[str, dict[str, dict[str, Any]]] = {
    "sd15": {
        "text_encoder": {**_TEXT, "projection_dim": 16},
        "unet": {
            "block_out_channels": (8,) * 4, "norm_num_groups": 4, "cross_attention_dim": 16, "attention_head_dim": 2,
            "layers_per_block": 1,
        },
        "vae": {"block_out_channels": (8,) * 4, "norm_num_groups": 4, "layers_per_block": 1},
    },
    "sdxl": {
        "text_encoder": {**_TEXT, "projection_dim": 16},
        "text_encoder_2": {**_TEXT, "projection_dim": 16},
        "unet": {
            "block_out_channels": (8,) * 3, "norm_num_groups": 4, "cross_attention_dim": 32, "attention_head_dim": 2,
            "layers_per_block": 1, "transformer_layers_per_block": 1, "addition_time_embed_dim": 8,
            "projection_class_embeddings_input_dim": 64,
        },
        "vae": {"block_out_channels": (8,) * 4, "norm_num_groups": 4, "layers_per_block": 1},
    },
}  # fmt: skip


def random_model(name: str, folder: Path, tiny: bool = False) -> Path:
    """A diffusers folder of this architecture, its weights random in half precision.

    Args:
        name: sd15 or sdxl.
        folder: where to.
        tiny: whether each part has a few channels only.
    """
    from presets import configs

    source = configs.write_folder(name, folder / "configuration")
    index = json.loads((source / "model_index.json").read_text(encoding="utf-8"))
    target = folder / name
    target.mkdir(parents=True)
    for part, (library, cls) in ((k, v) for k, v in index.items() if isinstance(v, list) and v[0]):
        if "Model" in cls or cls == "AutoencoderKL":
            changes = _TINY[name][part] if tiny else {}
            _network(library, cls, source / part, changes).save_pretrained(target / part)
        elif (source / part).is_dir():
            shutil.copytree(source / part, target / part)
    networks = {k: v for k, v in index.items() if not isinstance(v, list) or (target / k).exists()}
    (target / "model_index.json").write_text(json.dumps(networks), encoding="utf-8")
    return target


def _network(library: str, cls: str, folder: Path, changes: dict[str, Any]) -> Any:
    import diffusers
    import torch
    import transformers

    made = getattr({"diffusers": diffusers, "transformers": transformers}[library], cls)
    with torch.device("meta"):  # to draw three billion numbers as libraries do takes a minute
        if library == "transformers":
            config = made.config_class.from_pretrained(folder)
            config.update(changes)
            net = made(config)
        else:
            net = made.from_config({**made.load_config(folder), **changes})
    net = net.to(torch.float16).to_empty(device="cpu")
    _fill(net)
    return net


def _fill(net: Any) -> None:
    """Small random weights, one block of numbers over and over; those of norms are 1, so that nothing fades away."""
    import torch

    block = (torch.randn(1 << 20, generator=torch.Generator().manual_seed(0)) * 0.02).half()
    with torch.no_grad():
        for name, weight in net.named_parameters():
            if weight.ndim == 1:
                weight.fill_(float("norm" in name and name.endswith("weight")))
                continue
            flat = weight.view(-1)
            for start in range(0, len(flat), len(block)):
                flat[start : start + len(block)] = block[: len(flat) - start]
