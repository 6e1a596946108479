"""Which layers of a model a LoRA file's names mean: diffusers' own names and those of the models' first makers.

All names are compared with underscores for dots, as kohya's trainer writes them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

DENOISER = "denoiser"
# How files begin the names of a part's layers; the first that fits counts.
_PREFIXES = (
    ("text_encoder", ("lora_te_", "lora_te1_", "text_encoder.", "text_encoders.clip_l.transformer.", "clip_l.")),
    ("text_encoder_2", ("lora_te2_", "text_encoder_2.", "text_encoders.clip_g.transformer.", "clip_g.")),
    ("text_encoder_3", ("lora_te3_", "text_encoder_3.", "text_encoders.t5xxl.transformer.", "t5xxl.")),
    (
        DENOISER,
        (
            *("lora_unet_", "lora_transformer_", "lycoris_unet_", "lycoris_", "unet.", "transformer."),
            *("model.diffusion_model.", "diffusion_model.", ""),
        ),
    ),
)
_PEFT_PREFIX = "base_model.model."
# Names of diffusers' first LoRA files, which named attention processors: the layer itself.
_OLD_ATTENTION = (
    (re.compile(r"_processor_(to_[qkv]|to_out|add_[kqv]_proj|to_add_out)$"), r"_\1"),
    (re.compile(r"(attn\w*_to_out)$"), r"\1_0"),
)
_OLD_TEXT_ATTENTION = (
    (re.compile(r"self_attn_to_([qkv])$"), r"self_attn_\1_proj"),
    (re.compile(r"self_attn_to_out(_0)?$"), "self_attn_out_proj"),
)
# UNets: the first makers' names of the parts of a block, and of what lies outside of blocks.
_RESNET = {
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
_UNET_ENDS = {
    "conv_in": "input_blocks.0.0", "conv_out": "out.2", "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2", "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
}  # fmt: skip
# Transformers: the first makers' names, with the layers of diffusers that are rows of one matrix there, in order.
_FLUX = {
    "double_blocks.{}.img_attn.qkv": ("transformer_blocks.{}.attn.to_q", "attn.to_k", "attn.to_v"),
    "double_blocks.{}.img_attn.proj": ("transformer_blocks.{}.attn.to_out.0",),
    "double_blocks.{}.img_mlp.0": ("transformer_blocks.{}.ff.net.0.proj",),
    "double_blocks.{}.img_mlp.2": ("transformer_blocks.{}.ff.net.2",),
    "double_blocks.{}.img_mod.lin": ("transformer_blocks.{}.norm1.linear",),
    "double_blocks.{}.txt_attn.qkv": ("transformer_blocks.{}.attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj"),
    "double_blocks.{}.txt_attn.proj": ("transformer_blocks.{}.attn.to_add_out",),
    "double_blocks.{}.txt_mlp.0": ("transformer_blocks.{}.ff_context.net.0.proj",),
    "double_blocks.{}.txt_mlp.2": ("transformer_blocks.{}.ff_context.net.2",),
    "double_blocks.{}.txt_mod.lin": ("transformer_blocks.{}.norm1_context.linear",),
    "single_blocks.{}.linear1": ("single_transformer_blocks.{}.attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp"),
    "single_blocks.{}.linear2": ("single_transformer_blocks.{}.proj_out",),
    "single_blocks.{}.modulation.lin": ("single_transformer_blocks.{}.norm.linear",),
    "final_layer.linear": ("proj_out",),
    "final_layer.adaLN_modulation.1": ("norm_out.linear",),
    "img_in": ("x_embedder",),
    "txt_in": ("context_embedder",),
    "time_in.in_layer": ("time_text_embed.timestep_embedder.linear_1",),
    "time_in.out_layer": ("time_text_embed.timestep_embedder.linear_2",),
    "vector_in.in_layer": ("time_text_embed.text_embedder.linear_1",),
    "vector_in.out_layer": ("time_text_embed.text_embedder.linear_2",),
    "guidance_in.in_layer": ("time_text_embed.guidance_embedder.linear_1",),
    "guidance_in.out_layer": ("time_text_embed.guidance_embedder.linear_2",),
}
_SD3 = {
    "joint_blocks.{}.x_block.attn.qkv": ("transformer_blocks.{}.attn.to_q", "attn.to_k", "attn.to_v"),
    "joint_blocks.{}.x_block.attn.proj": ("transformer_blocks.{}.attn.to_out.0",),
    "joint_blocks.{}.x_block.attn2.qkv": ("transformer_blocks.{}.attn2.to_q", "attn2.to_k", "attn2.to_v"),
    "joint_blocks.{}.x_block.attn2.proj": ("transformer_blocks.{}.attn2.to_out.0",),
    "joint_blocks.{}.x_block.mlp.fc1": ("transformer_blocks.{}.ff.net.0.proj",),
    "joint_blocks.{}.x_block.mlp.fc2": ("transformer_blocks.{}.ff.net.2",),
    "joint_blocks.{}.x_block.adaLN_modulation.1": ("transformer_blocks.{}.norm1.linear",),
    "joint_blocks.{}.context_block.attn.qkv": (
        "transformer_blocks.{}.attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj",
    ),
    "joint_blocks.{}.context_block.attn.proj": ("transformer_blocks.{}.attn.to_add_out",),
    "joint_blocks.{}.context_block.mlp.fc1": ("transformer_blocks.{}.ff_context.net.0.proj",),
    "joint_blocks.{}.context_block.mlp.fc2": ("transformer_blocks.{}.ff_context.net.2",),
    "joint_blocks.{}.context_block.adaLN_modulation.1": ("transformer_blocks.{}.norm1_context.linear",),
    "context_embedder": ("context_embedder",),
    "x_embedder.proj": ("pos_embed.proj",),
    "t_embedder.mlp.0": ("time_text_embed.timestep_embedder.linear_1",),
    "t_embedder.mlp.2": ("time_text_embed.timestep_embedder.linear_2",),
    "y_embedder.mlp.0": ("time_text_embed.text_embedder.linear_1",),
    "y_embedder.mlp.2": ("time_text_embed.text_embedder.linear_2",),
    "final_layer.linear": ("proj_out",),
    "final_layer.adaLN_modulation.1": ("norm_out.linear",),
}  # fmt: skip
# Layers whose makers have shift before scale, where diffusers' ``AdaLayerNormContinuous`` has scale before shift.
_CONTINUOUS = "AdaLayerNormContinuous"


class LayerNames:
    """Finds the layers that a LoRA file names.

    Args:
        parts: of a model, by their names in diffusers' format.
    """

    def __init__(self, parts: Mapping[str, Any]) -> None:
        self._has_third = parts.get("text_encoder_3") is not None
        denoiser = parts["unet"] if parts.get("unet") is not None else parts.get("transformer")
        self._parts = {DENOISER: denoiser} if denoiser is not None else {}
        names = ("text_encoder", "text_encoder_2", "text_encoder_3")
        self._parts |= {name: parts[name] for name in names if parts.get(name) is not None}
        self._known = {name: dict(_aliases(name, part)) for name, part in self._parts.items()}
        self._swapped = {DENOISER: set(_swapped(denoiser))} if denoiser is not None else {}

    def find(self, name: str) -> tuple[Any, ...]:
        """The layers that a file's name of a layer means, in the order of the rows of its matrix; empty for none."""
        part, plain = self._place(name)
        return self._known.get(part, {}).get(plain, ())

    def has_swapped_halves(self, name: str) -> bool:
        """Whether the halves of the matrix's rows (shift and scale) are the other way round in the layer."""
        part, plain = self._place(name)
        return plain in self._swapped.get(part, ())

    def _place(self, name: str) -> tuple[str, str]:
        """The part of the model that a file's name of a layer means, and the layer's name as in ``_known``."""
        name = name.removeprefix(_PEFT_PREFIX)
        for part, prefixes in _PREFIXES:
            prefix = next((prefix for prefix in prefixes if name.startswith(prefix)), None)
            if prefix is not None:
                # FLUX has CLIP and T5, which kohya's trainer numbers 1 and 3.
                if part == "text_encoder_3" and not self._has_third:
                    part = "text_encoder_2"
                return part, _plain(name.removeprefix(prefix), part)
        return "", name


def _plain(name: str, part: str) -> str:
    """A layer's name with underscores, and as the library names it now."""
    found = name.replace(".", "_")
    if part != DENOISER:
        found = found.removeprefix("text_model_")
    for pattern, new in _OLD_ATTENTION if part == DENOISER else _OLD_TEXT_ATTENTION:
        found = pattern.sub(new, found)
    return found


def _aliases(part: str, network: Any) -> Iterator[tuple[str, tuple[Any, ...]]]:
    """Every name of every layer of a network."""
    import torch

    layers = {
        name: module
        for name, module in network.named_modules()
        if isinstance(module, torch.nn.Linear | torch.nn.Conv2d)
    }
    for name, layer in layers.items():
        yield _plain(name, part), (layer,)
    if part != DENOISER:
        return
    if hasattr(network.config, "layers_per_block"):
        for name, layer in layers.items():
            if old := _old_unet_name(name, network.config):
                yield old.replace(".", "_"), (layer,)
    for table in (_FLUX, _SD3):
        yield from _fused(table, layers)


def _fused(table: Mapping[str, tuple[str, ...]], layers: Mapping[str, Any]) -> Iterator[tuple[str, tuple[Any, ...]]]:
    """The names of matrices that were one where diffusers has several."""
    for old, (first, *rest) in table.items():
        block = first[: first.index("{}") + 3] if "{}" in first else ""
        for k in range(1000 if block else 1):
            names = [first.format(k), *((block + name).format(k) for name in rest)]
            if not all(name in layers for name in names):
                break
            yield old.format(k).replace(".", "_"), tuple(layers[name] for name in names)


def _swapped(denoiser: Any) -> Iterator[str]:
    """The makers' names of the layers whose halves diffusers has the other way round."""
    layers = dict(denoiser.named_modules())
    for old, (first, *_) in (*_FLUX.items(), *_SD3.items()):
        if "adaLN_modulation" not in old:
            continue
        for k in range(1000 if "{}" in first else 1):
            norm = layers.get(first.format(k).removesuffix(".linear"))
            if norm is None:
                break
            if type(norm).__name__ == _CONTINUOUS:
                yield old.format(k).replace(".", "_")


def _old_unet_name(name: str, config: Any) -> str:
    """A layer of a UNet as the first makers of Stable Diffusion named it, or "" for one that they do not have."""
    if name in _UNET_ENDS:
        return _UNET_ENDS[name]
    match = re.match(
        r"(?:(down|up)_blocks\.(\d+)|mid_block)\.(resnets|attentions|downsamplers|upsamplers)\.(\d+)\.(.+)", name
    )
    if match is None:
        return ""
    side, block, kind, number, rest = match[1], int(match[2] or 0), match[3], int(match[4]), match[5]
    if kind == "resnets":
        rest = _RESNET.get(rest, rest)
    if side is None:
        return f"middle_block.{2 * number if kind == 'resnets' else 1}.{rest}"
    each = config.layers_per_block
    if not isinstance(each, int):
        return ""
    first = block * (each + 1)
    if kind == "downsamplers":
        return f"input_blocks.{first + each + 1}.0.op"
    if kind == "upsamplers":
        return f"output_blocks.{first + each}.{2 if 'CrossAttn' in config.up_block_types[block] else 1}.conv"
    place = f"input_blocks.{first + number + 1}" if side == "down" else f"output_blocks.{first + number}"
    return f"{place}.{0 if kind == 'resnets' else 1}.{rest}"
