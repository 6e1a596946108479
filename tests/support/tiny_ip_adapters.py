"""IP-Adapters of random weights for the tiny models, in the form that their makers publish them."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def make_adapter(unet: Any, target: Path, seed: int = 0, fine: bool = False) -> Path:
    """An IP-Adapter file for a UNet, with its image encoder in the folder ``image_encoder`` next to it."""
    import torch
    from safetensors.torch import save_file
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    config = CLIPVisionConfig(
        hidden_size=24, intermediate_size=32, projection_dim=20, num_hidden_layers=3, num_attention_heads=2,
        image_size=32, patch_size=8,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        CLIPVisionModelWithProjection(config).save_pretrained(target.parent / "image_encoder")
        state = {**_projection(unet.config.cross_attention_dim, fine), **_attention(unet)}
    target.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, target)
    return target


def _projection(width: int, fine: bool) -> dict[str, Any]:
    import torch

    if not fine:
        return {
            "image_proj.proj.weight": torch.randn(4 * width, 20) / 5, "image_proj.proj.bias": torch.zeros(4 * width),
            "image_proj.norm.weight": torch.ones(width), "image_proj.norm.bias": torch.zeros(width),
        }  # fmt: skip
    return {
        "image_proj.proj.0.weight": torch.randn(24, 24) / 5, "image_proj.proj.0.bias": torch.zeros(24),
        "image_proj.proj.2.weight": torch.randn(width, 24) / 5, "image_proj.proj.2.bias": torch.zeros(width),
        "image_proj.proj.3.weight": torch.ones(width), "image_proj.proj.3.bias": torch.zeros(width),
    }  # fmt: skip


def _attention(unet: Any) -> dict[str, Any]:
    import torch

    state, number = {}, 1
    for name in unet.attn_processors:
        if name.endswith("attn2.processor"):
            keys = unet.get_submodule(name.removesuffix(".processor")).to_k
            for part in ("to_k_ip", "to_v_ip"):
                weight = torch.randn(keys.out_features, keys.in_features) * 2 / keys.in_features**0.5
                state[f"ip_adapter.{number}.{part}.weight"] = weight
            number += 2
    return state
