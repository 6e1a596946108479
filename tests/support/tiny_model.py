"""A Stable Diffusion model with random weights that loads and denoises in milliseconds, for tests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.support.made_once import made_once

# Zero-terminal-SNR models and others differ in their scheduler configuration alone; this one is pocket's.
SCHEDULER: dict[str, Any] = {
    "num_train_timesteps": 1000,
    "beta_start": 1e-4,
    "beta_end": 0.02,
    "beta_schedule": "linear",
    "clip_sample": False,
    "steps_offset": 1,
    "timestep_spacing": "trailing",
}


def make_tiny_model(
    folder: Path | str,
    *,
    prediction_type: str = "epsilon",
    vae: str = "kl",
    latent_channels: int = 4,
    inpaint: bool = False,
    max_tokens: int = 77,
    scheduler: dict[str, Any] | None = None,
    seed: int = 0,
) -> Path:
    """Save a diffusers folder (tokenizer, text_encoder, unet, vae, scheduler) that StableDiffusionPipeline loads.

    Args:
        folder: where to; made if it is not there.
        prediction_type: epsilon, v_prediction or sample.
        vae: kl (AutoencoderKL) or tiny (AutoencoderTiny); both shrink pictures by 8.
        latent_channels: channels of the latents.
        inpaint: whether the UNet also takes a mask and the picture around it.
        max_tokens: the text window; the tokenizer knows single letters only, so a letter is a token.
        scheduler: entries that override ``SCHEDULER``.
        seed: of the random weights.

    Returns:
        The folder. Pictures of 32 to 64 px (multiples of 8) are quick.
    """
    options: dict[str, Any] = {
        "prediction_type": prediction_type, "vae": vae, "latent_channels": latent_channels, "inpaint": inpaint,
        "max_tokens": max_tokens, "scheduler": scheduler or {}, "seed": seed,
    }  # fmt: skip
    return made_once(("tiny model", repr(options)), folder, lambda made: _save(made, **options))


def _save(
    folder: Path,
    prediction_type: str,
    vae: str,
    latent_channels: int,
    inpaint: bool,
    max_tokens: int,
    scheduler: dict[str, Any],
    seed: int,
) -> None:
    import torch
    from diffusers import DDIMScheduler

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        parts = {
            "tokenizer": _tokenizer(max_tokens),
            "text_encoder": _text_encoder(max_tokens),
            "unet": _unet(latent_channels, 2 * latent_channels + 1 if inpaint else latent_channels),
            "vae": _vae(vae, latent_channels),
            "scheduler": DDIMScheduler(**{**SCHEDULER, **scheduler, "prediction_type": prediction_type}),
        }
    for name, part in parts.items():
        part.save_pretrained(folder / name)
    index: dict[str, Any] = {
        name: ["transformers" if name in ("tokenizer", "text_encoder") else "diffusers", type(part).__name__]
        for name, part in parts.items()
    }
    index |= {"safety_checker": [None, None], "feature_extractor": [None, None], "image_encoder": [None, None]}
    index |= {"_class_name": "StableDiffusionPipeline", "requires_safety_checker": False}
    (folder / "model_index.json").write_text(json.dumps(index, indent=2))


def tiny_card(folder: Path | str, **changes: Any) -> Any:
    """A ModelCard for a folder that ``make_tiny_model`` made."""
    from pipelines.cards import ModelCard, Quality

    fields: dict[str, Any] = {
        "id": "tiny",
        "name": "Tiny",
        "source": str(folder),
        "licence": "none",
        "about": "Random weights for tests.",
        "width": 32,
        "height": 32,
        "guidance_scale": 4.0,
        "qualities": {
            "draft": Quality(scheduler="dpmpp_2m", num_inference_steps=2),
            "balanced": Quality(scheduler="dpmpp_2m", num_inference_steps=6),
            "fine": Quality(scheduler="dpmpp_2m", num_inference_steps=12),
        },
        "prompts": ("a fox", "a red apple on a yellow background"),
    }
    return ModelCard(**{**fields, **changes})


def _tokenizer(max_tokens: int) -> Any:
    from transformers import CLIPTokenizer

    letters = [chr(c) for c in range(33, 127)]
    words = [*letters, *(letter + "</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer(vocab={word: k for k, word in enumerate(words)}, merges=[], model_max_length=max_tokens)


def _text_encoder(max_tokens: int) -> Any:
    from transformers import CLIPTextConfig, CLIPTextModel

    size = 2 * 94 + 2
    config = CLIPTextConfig(
        vocab_size=size,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=max_tokens,
        bos_token_id=size - 2,
        eos_token_id=size - 1,
        pad_token_id=size - 1,
    )
    return CLIPTextModel(config)


def _unet(channels: int, in_channels: int) -> Any:
    from diffusers import UNet2DConditionModel

    unet = UNet2DConditionModel(
        sample_size=4,
        in_channels=in_channels,
        out_channels=channels,
        block_out_channels=(8, 16),
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=16,
        attention_head_dim=4,
        norm_num_groups=4,
    )
    return louder(unet)


def louder(unet: Any) -> Any:
    """Fresh weights hardly hear the text; louder, so that guidance and prompts show in the result."""
    import torch

    with torch.no_grad():
        for name, weight in unet.named_parameters():
            if ".attn2.to_out" in name or ".attn2.to_v" in name or ".attn2.to_q" in name:
                weight.mul_(8)
    return unet


def _vae(kind: str, channels: int, **more: Any) -> Any:
    from diffusers import AutoencoderKL, AutoencoderTiny

    if kind == "tiny":
        return AutoencoderTiny(
            encoder_block_out_channels=(8, 8, 8, 8),
            decoder_block_out_channels=(8, 8, 8, 8),
            num_encoder_blocks=(1, 1, 1, 1),
            num_decoder_blocks=(1, 1, 1, 1),
            latent_channels=channels,
        )
    return AutoencoderKL(
        block_out_channels=(8, 8, 8, 8),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=1,
        latent_channels=channels,
        norm_num_groups=4,
        sample_size=32,
        **more,
    )
