"""Small models with random weights of every family, saved as diffusers folders: real classes, few numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from tests.support.made_once import made_once
from tests.support.tiny_model import SCHEDULER, _text_encoder, _tokenizer, _vae, louder

WIDTH = 16
FLOW = {"num_train_timesteps": 1000, "shift": 3.0}


def make(family: str, folder: Path | str, seed: int = 0, **changes: Any) -> Path:
    """Save the tiny model of a family; a key of ``MAKERS``.  Pictures of 32 px, multiples of 16, are quick."""

    def save(made: Path) -> None:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            MAKERS[family](**changes).save_pretrained(made)

    return made_once((family, seed, repr(changes)), folder, save)


def _lcm() -> Any:
    from diffusers import LatentConsistencyModelPipeline, LCMScheduler

    return LatentConsistencyModelPipeline(
        vae=_vae("kl", 4),
        text_encoder=_text_encoder(77),
        tokenizer=_tokenizer(77),
        unet=_unet(time_cond_proj_dim=12),
        scheduler=LCMScheduler(**{**SCHEDULER, "timestep_spacing": "leading"}),
        safety_checker=None,
        feature_extractor=None,
        image_encoder=None,
        requires_safety_checker=False,
    )


def _xl(zeros: bool = True) -> Any:
    from diffusers import EulerDiscreteScheduler, StableDiffusionXLPipeline

    return StableDiffusionXLPipeline(
        vae=_vae("kl", 4),
        text_encoder=_text_encoder(77),
        text_encoder_2=_projecting(),
        tokenizer=_tokenizer(77),
        tokenizer_2=_tokenizer(77),
        unet=_xl_unet(2 * WIDTH, 6),
        scheduler=EulerDiscreteScheduler(**_known(EulerDiscreteScheduler)),
        force_zeros_for_empty_prompt=zeros,
        add_watermarker=False,
    )


def _refiner() -> Any:
    from diffusers import EulerDiscreteScheduler, StableDiffusionXLImg2ImgPipeline

    return StableDiffusionXLImg2ImgPipeline(
        vae=_vae("kl", 4),
        text_encoder=None,
        text_encoder_2=_projecting(),
        tokenizer=None,
        tokenizer_2=_tokenizer(77),
        unet=_xl_unet(WIDTH, 5),
        scheduler=EulerDiscreteScheduler(**_known(EulerDiscreteScheduler)),
        requires_aesthetics_score=True,
        force_zeros_for_empty_prompt=False,
        add_watermarker=False,
    )


def _sd3(t5: bool = True, dynamic: bool = False) -> Any:
    from diffusers import FlowMatchEulerDiscreteScheduler, SD3Transformer2DModel, StableDiffusion3Pipeline

    transformer = SD3Transformer2DModel(
        sample_size=32,
        patch_size=2,
        in_channels=4,
        num_layers=2,
        attention_head_dim=8,
        num_attention_heads=4,
        caption_projection_dim=32,
        joint_attention_dim=2 * WIDTH,
        pooled_projection_dim=2 * WIDTH,
        out_channels=4,
    )
    return StableDiffusion3Pipeline(
        transformer=transformer,
        scheduler=FlowMatchEulerDiscreteScheduler(**FLOW, use_dynamic_shifting=dynamic),
        vae=_vae("kl", 4),
        text_encoder=_projecting(),
        tokenizer=_tokenizer(77),
        text_encoder_2=_projecting(),
        tokenizer_2=_tokenizer(77),
        text_encoder_3=_t5(2 * WIDTH) if t5 else None,
        tokenizer_3=_t5_tokenizer() if t5 else None,
    )


def _flux(guided: bool = True) -> Any:
    from diffusers import FlowMatchEulerDiscreteScheduler, FluxPipeline, FluxTransformer2DModel

    transformer = FluxTransformer2DModel(
        patch_size=1,
        in_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=WIDTH,
        pooled_projection_dim=WIDTH,
        axes_dims_rope=(4, 4, 8),
        guidance_embeds=guided,
    )
    return FluxPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(**FLOW, use_dynamic_shifting=guided),
        vae=_vae("kl", 4, shift_factor=0.3),
        text_encoder=_text_encoder(77),
        tokenizer=_tokenizer(77),
        text_encoder_2=_t5(WIDTH),
        tokenizer_2=_t5_tokenizer(),
        transformer=transformer,
    )


def _pixart() -> Any:
    from diffusers import DPMSolverMultistepScheduler, PixArtSigmaPipeline, PixArtTransformer2DModel

    transformer = PixArtTransformer2DModel(
        sample_size=8,
        num_layers=2,
        patch_size=2,
        attention_head_dim=8,
        num_attention_heads=3,
        caption_channels=WIDTH,
        in_channels=4,
        cross_attention_dim=24,
        out_channels=8,
        attention_bias=True,
        activation_fn="gelu-approximate",
        num_embeds_ada_norm=1000,
        norm_type="ada_norm_single",
        norm_elementwise_affine=False,
        norm_eps=1e-6,
        use_additional_conditions=False,
    )
    return PixArtSigmaPipeline(
        tokenizer=_t5_tokenizer(),
        text_encoder=_t5(WIDTH),
        vae=_vae("kl", 4),
        transformer=transformer,
        scheduler=DPMSolverMultistepScheduler(**_known(DPMSolverMultistepScheduler)),
    )


MAKERS: Mapping[str, Callable[..., Any]] = {
    "lcm": _lcm,
    "stable_diffusion_xl": _xl,
    "refiner": _refiner,
    "stable_diffusion_3": _sd3,
    "flux": _flux,
    "pixart": _pixart,
}


def _known(cls: Any) -> dict[str, Any]:
    import inspect

    names = inspect.signature(cls).parameters
    return {name: value for name, value in SCHEDULER.items() if name in names}


def _unet(**more: Any) -> Any:
    from diffusers import UNet2DConditionModel

    options: dict[str, Any] = {
        "sample_size": 4,
        "in_channels": 4,
        "out_channels": 4,
        "block_out_channels": (8, 16),
        "layers_per_block": 1,
        "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
        "cross_attention_dim": WIDTH,
        "attention_head_dim": 4,
        "norm_num_groups": 4,
    }
    return louder(UNet2DConditionModel(**{**options, **more}))


def _xl_unet(text_width: int, numbers: int) -> Any:
    return _unet(
        cross_attention_dim=text_width,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        transformer_layers_per_block=(1, 2),
        projection_class_embeddings_input_dim=8 * numbers + WIDTH,
        use_linear_projection=True,
    )


def _projecting() -> Any:
    from transformers import CLIPTextModelWithProjection

    config = _text_encoder(77).config
    config.projection_dim = WIDTH
    config.hidden_act = "gelu"
    return CLIPTextModelWithProjection(config)


def _t5(width: int) -> Any:
    from transformers import T5Config, T5EncoderModel

    config = T5Config(vocab_size=len(_t5_tokenizer()), d_model=width, d_kv=8, d_ff=2 * width, num_layers=1, num_heads=2)
    return T5EncoderModel(config)


def _t5_tokenizer() -> Any:
    from transformers import T5Tokenizer

    letters = [chr(c) for c in range(33, 127)]
    special = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("\u2581", -2.0)]
    words = [(letter, -3.0) for letter in letters] + [("\u2581" + letter, -2.5) for letter in letters]
    return T5Tokenizer(vocab=special + words, extra_ids=0, model_max_length=77)
