"""The original layout of single files: names of weights as the first Stable Diffusion code had them, for tests.

The inverse of what diffusers does when it reads such a file, so that a model made here can be written as one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

UNET = "model.diffusion_model."
VAE = "first_stage_model."
CLIP = "cond_stage_model.transformer."
OPEN_CLIP = "cond_stage_model.model."
XL_CLIP, XL_OPEN_CLIP = "conditioner.embedders.0.transformer.", "conditioner.embedders.1.model."
REFINER_OPEN_CLIP = "conditioner.embedders.0.model."

_ENDS = {
    "conv_in.": "input_blocks.0.0.",
    "conv_norm_out.": "out.0.",
    "conv_out.": "out.2.",
    "time_embedding.linear_1.": "time_embed.0.",
    "time_embedding.linear_2.": "time_embed.2.",
    "add_embedding.linear_1.": "label_emb.0.0.",
    "add_embedding.linear_2.": "label_emb.0.2.",
}
_RESNET = {
    "norm1.": "in_layers.0.",
    "conv1.": "in_layers.2.",
    "norm2.": "out_layers.0.",
    "conv2.": "out_layers.3.",
    "time_emb_proj.": "emb_layers.1.",
    "conv_shortcut.": "skip_connection.",
}


def write_header(path: Path, shapes: Mapping[str, Iterable[int]], notes: Mapping[str, str] | None = None) -> Path:
    """A safetensors file that says it holds these tensors and holds no byte of them."""
    header: dict[str, Any] = {
        name: {"dtype": "F16", "shape": list(shape), "data_offsets": [0, 0]} for name, shape in shapes.items()
    }
    if notes:
        header["__metadata__"] = dict(notes)
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text)
    return path


def unet(weights: Mapping[str, Any], layers: int) -> dict[str, Any]:
    """A UNet's weights under their original names; ``layers`` is its layers_per_block."""
    with_attention = {m[0] for name in weights if (m := re.match(r"up_blocks\.\d+\.(?=attentions)", name))}
    return {UNET + _unet_name(name, layers, with_attention): weight for name, weight in weights.items()}


def _unet_name(name: str, layers: int, with_attention: set[str]) -> str:
    for new, old in _ENDS.items():
        if name.startswith(new):
            return old + name.removeprefix(new)
    rest = name.split(".", 4)[-1] if name.startswith(("down", "up")) else name.split(".", 3)[-1]
    if ".resnets." in name:
        for new, old in _RESNET.items():
            rest = old + rest.removeprefix(new) if rest.startswith(new) else rest
    if name.startswith("mid_block"):
        kind, number = name.split(".")[1:3]
        return f"middle_block.{2 * int(number) if kind == 'resnets' else 1}.{rest}"
    side, block, kind, number = name.split(".")[:4]
    first = int(block) * (layers + 1)
    if kind == "downsamplers":
        return f"input_blocks.{first + layers + 1}.0.op.{rest.removeprefix('conv.')}"
    if kind == "upsamplers":
        return f"output_blocks.{first + layers}.{2 if f'up_blocks.{block}.' in with_attention else 1}.{rest}"
    place = first + int(number)
    place = f"input_blocks.{1 + place}" if side == "down_blocks" else f"output_blocks.{place}"
    return f"{place}.{0 if kind == 'resnets' else 1}.{rest}"


def vae(weights: Mapping[str, Any]) -> dict[str, Any]:
    """An AutoencoderKL's weights under their original names."""
    blocks = 1 + max(int(m[1]) for name in weights if (m := re.match(r"decoder\.up_blocks\.(\d+)", name)))
    found = {}
    for name, weight in weights.items():
        old = re.sub(r"down_blocks\.(\d+)\.resnets", r"down.\1.block", name)
        old = re.sub(r"up_blocks\.(\d+)\.resnets", lambda m: f"up.{blocks - 1 - int(m[1])}.block", old)
        old = re.sub(r"down_blocks\.(\d+)\.downsamplers\.0", r"down.\1.downsample", old)
        old = re.sub(r"up_blocks\.(\d+)\.upsamplers\.0", lambda m: f"up.{blocks - 1 - int(m[1])}.upsample", old)
        old = re.sub(r"mid_block\.resnets\.(\d)", lambda m: f"mid.block_{int(m[1]) + 1}", old)
        old = old.replace("mid_block.attentions.0.group_norm", "mid.attn_1.norm").replace("to_out.0", "proj_out")
        old = re.sub(r"mid_block\.attentions\.0\.(to_)?", "mid.attn_1.", old)
        old = old.replace("conv_shortcut", "nin_shortcut").replace("conv_norm_out", "norm_out")
        found[VAE + old] = weight
    return found


def clip(weights: Mapping[str, Any], prefix: str = CLIP) -> dict[str, Any]:
    """A CLIP text encoder's weights under their original names: almost those of transformers."""
    return {prefix + "text_model." + name.removeprefix("text_model."): weight for name, weight in weights.items()}


def open_clip(weights: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    """A text encoder's weights as OpenCLIP has them: one matrix for queries, keys and values."""
    import torch

    found: dict[str, Any] = {}
    for name, weight in weights.items():
        old = name.removeprefix("text_model.").replace("encoder.layers.", "transformer.resblocks.")
        old = old.replace("layer_norm1", "ln_1").replace("layer_norm2", "ln_2").replace("self_attn.", "attn.")
        old = old.replace("fc1", "c_fc").replace("fc2", "c_proj").replace("final_layer_norm", "ln_final")
        old = old.replace("embeddings.token_embedding", "token_embedding")
        old = old.replace("embeddings.position_embedding.weight", "positional_embedding")
        if old == "text_projection.weight":
            found[prefix + "text_projection"] = weight.T.contiguous()
        elif "q_proj" in old:
            three = [weights[name.replace("q_proj", f"{letter}_proj")] for letter in "qkv"]
            found[prefix + re.sub(r"q_proj\.(weight|bias)", r"in_proj_\1", old)] = torch.cat(three)
        elif "k_proj" not in old and "v_proj" not in old:
            found[prefix + old] = weight
    return found
