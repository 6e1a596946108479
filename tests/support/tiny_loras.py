"""LoRA files of random weights for the tiny models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

PIPES = {
    "stable_diffusion": "StableDiffusionPipeline",
    "stable_diffusion_xl": "StableDiffusionXLPipeline",
    "stable_diffusion_3": "StableDiffusion3Pipeline",
    "flux": "FluxPipeline",
}
TARGETS = ["to_q", "to_k", "to_v", "to_out.0"]
TEXT_TARGETS = ["q_proj", "v_proj"]


def make_lora(model: Path, family: str, target: Path, seed: int, about: dict[str, str] | None = None) -> Path:
    """A LoRA file of random weights for a tiny model, as diffusers saves one; SD's text encoder has a part in it."""
    import diffusers
    import torch
    from peft import LoraConfig
    from peft.utils import get_peft_model_state_dict
    from safetensors.torch import load_file, save_file

    cls = getattr(diffusers, PIPES[family])
    pipe = cls.from_pretrained(model)
    denoiser = pipe.unet if hasattr(pipe, "unet") else pipe.transformer
    layers: dict[str, Any] = {}
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        denoiser.add_adapter(LoraConfig(r=2, lora_alpha=16, target_modules=TARGETS, init_lora_weights=False))
        layers["unet_lora_layers" if hasattr(pipe, "unet") else "transformer_lora_layers"] = get_peft_model_state_dict(
            denoiser
        )
        if family == "stable_diffusion":
            pipe.text_encoder.add_adapter(LoraConfig(r=2, target_modules=TEXT_TARGETS, init_lora_weights=False))
            layers["text_encoder_lora_layers"] = get_peft_model_state_dict(pipe.text_encoder)
    target.parent.mkdir(parents=True, exist_ok=True)
    cls.save_lora_weights(target.parent, weight_name=target.name, **layers)
    save_file(load_file(target), target, metadata={"format": "pt", **(about or {})})
    return target
