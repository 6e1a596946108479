"""ControlNets of random weights for the tiny models."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def make_controlnet(unet: Any, folder: Path, seed: int = 0, **changes: Any) -> Path:
    """A ControlNet for a UNet, as diffusers saves one; new ones add nothing, so its last layers are random too.

    Its maps are 8 times as large as its latents.
    """
    import torch
    from diffusers import ControlNetModel

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        channels = (4, 4, 8, 8)
        net = ControlNetModel.from_unet(
            unet, conditioning_embedding_out_channels=channels, load_weights_from_unet=False
        )
        if changes:
            net = ControlNetModel.from_config({**net.config, "_use_default_values": [], **changes})
        for name, weight in net.named_parameters():
            if name.startswith(("controlnet_down", "controlnet_mid", "controlnet_cond_embedding.conv_out")):
                torch.nn.init.normal_(weight, std=0.2)
    net.save_pretrained(folder)
    return folder
