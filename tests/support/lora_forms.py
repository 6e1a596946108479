"""LoRA files of random numbers in every form that trainers write, each with the same change merged by hand.

What is merged here follows the papers' equations and knows nothing of how the program reads files.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import prod, sqrt
from pathlib import Path
from typing import Any

import torch

from tests.support import ldm_checkpoint

Tensors = dict[str, torch.Tensor]


@dataclass
class Form:
    """A LoRA file, and what it adds to the weights of a model.

    Attributes:
        file: tensors by name.
        weights: part of the model -> name of a weight or bias -> what is added to it.
        notes: of the file's header.
        config: what PEFT saves next to the file.
    """

    file: Tensors = field(default_factory=dict)
    weights: dict[str, Tensors] = field(default_factory=lambda: {"unet": {}, "text_encoder": {}, "text_encoder_2": {}})
    notes: dict[str, str] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)

    def save(self, path: Path) -> Path:
        from safetensors.torch import save_file

        path.parent.mkdir(parents=True, exist_ok=True)
        if self.config:
            path = path.with_name("adapter_model.safetensors")
            path.with_name("adapter_config.json").write_text(json.dumps(self.config))
        save_file({name: tensor.contiguous() for name, tensor in self.file.items()}, path, metadata=self.notes or None)
        return path

    def merge(self, parts: Mapping[str, Any], weight: float = 1.0) -> None:
        """Add it to the weights of a model's parts, in place."""
        for part, changes in self.weights.items():
            for name, change in changes.items():
                parts[part].get_parameter(name).data += weight * change


class Maker:
    """Draws the numbers of LoRAs for the layers of a model.

    Args:
        parts: unet, text_encoder and perhaps text_encoder_2.
    """

    def __init__(self, parts: Mapping[str, Any], seed: int = 0) -> None:
        self.parts = parts
        self.random = torch.Generator().manual_seed(seed)

    def draw(self, *shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=self.random) / sqrt(max(shape[-1], 1))

    def layers(self, part: str, pattern: str) -> dict[str, torch.Tensor]:
        """Names of layers, without ``.weight``, and their weights."""
        found = {
            name.removesuffix(".weight"): weight.detach()
            for name, weight in self.parts[part].named_parameters()
            if re.search(pattern, name) and name.endswith(".weight")
        }
        assert found, pattern
        return found

    def pair(self, weight: torch.Tensor, rank: int) -> tuple[torch.Tensor, torch.Tensor]:
        """down and up for a linear layer or a convolution."""
        outputs, inputs, *kernel = weight.shape
        return self.draw(rank, inputs, *kernel), self.draw(outputs, rank, *[1] * len(kernel))


def product(down: torch.Tensor, up: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    return (up.flatten(1) @ down.flatten(1)).reshape(weight.shape)


ATTENTION = r"attn[12]\.(to_q|to_k|to_v|to_out\.0)\."
FEED_FORWARD = r"ff\.net\.(0\.proj|2)\."
CONVOLUTIONS = r"(resnets\.\d\.conv\d|samplers\.0\.conv|proj_in|conv_in|conv_shortcut)\."
TEXT = r"self_attn\.(q_proj|v_proj|out_proj)\.|mlp\.fc1\."


def kohya(make: Maker, alphas: Callable[[int], float], ranks: Callable[[int], int], pattern: str = ATTENTION) -> Form:
    """lora_unet_..., with an alpha for each layer."""
    form = Form()
    for k, (name, weight) in enumerate(make.layers("unet", pattern).items()):
        _kohya_layer(make, form, "unet", name, weight, f"lora_unet_{name.replace('.', '_')}", ranks(k), alphas(k))
    return form


def _kohya_layer(
    make: Maker, form: Form, part: str, name: str, weight: torch.Tensor, key: str, rank: int, alpha: float | None
) -> None:
    down, up = make.pair(weight, rank)
    form.file |= {f"{key}.lora_down.weight": down, f"{key}.lora_up.weight": up}
    if alpha is not None:
        form.file[f"{key}.alpha"] = torch.tensor(alpha)
    form.weights[part][f"{name}.weight"] = product(down, up, weight) * (1 if alpha is None else alpha / rank)


def kohya_text(make: Maker) -> Form:
    form = kohya(make, lambda k: 2.0, lambda k: 4)
    encoders = [part for part in ("text_encoder", "text_encoder_2") if part in make.parts]
    for number, part in enumerate(encoders, 1):
        prefix = f"lora_te{number}_" if len(encoders) > 1 else "lora_te_"
        for name, weight in make.layers(part, TEXT).items():
            key = prefix + "text_model_" + name.removeprefix("text_model.").replace(".", "_")
            _kohya_layer(make, form, part, name, weight, key, 2, 1.0)
    return form


def kohya_original_names(make: Maker, layers: int) -> Form:
    """The names of the first makers, as kohya's trainer has them for Stable Diffusion XL."""
    form = Form()
    pattern = (
        rf"{ATTENTION}|{FEED_FORWARD}|{CONVOLUTIONS}|proj_out\.|time_emb_proj\.|time_embedding|add_embedding|conv_out"
    )
    for k, (name, weight) in enumerate(make.layers("unet", pattern).items()):
        old = _old_name(make, f"{name}.weight", layers)
        key = "lora_unet_" + old.removeprefix(ldm_checkpoint.UNET).removesuffix(".weight").replace(".", "_")
        _kohya_layer(make, form, "unet", name, weight, key, 1 + k % 3, 1.0 + k % 2)
    return form


def _old_name(make: Maker, name: str, layers: int) -> str:
    # All at once: whether a block has attention shows in the names of its other layers.
    every = {key: key for key, _ in make.parts["unet"].named_parameters()}
    return next(old for old, key in ldm_checkpoint.unet(every, layers).items() if key == name)


def peft(make: Maker, adapter: str = "", prefix: str = "base_model.model.", rank: int = 3) -> Form:
    form = Form()
    middle = f".{adapter}" if adapter else ""
    for name, weight in make.layers("unet", f"{ATTENTION}|{CONVOLUTIONS}").items():
        down, up = make.pair(weight, rank)
        form.file |= {f"{prefix}{name}.lora_A{middle}.weight": down, f"{prefix}{name}.lora_B{middle}.weight": up}
        form.weights["unet"][f"{name}.weight"] = product(down, up, weight)
    return form


def diffusers_new(make: Maker) -> Form:
    """unet. and text_encoder., with the alphas in the header as diffusers writes them."""
    form = peft(make, prefix="unet.")
    for name in form.weights["unet"]:
        form.weights["unet"][name] *= (5.0 if name.endswith("to_k.weight") else 2.0) / 3
    for name, weight in make.layers("text_encoder", TEXT).items():
        down, up = make.pair(weight, 4)
        key = "text_encoder.text_model." + name
        form.file |= {f"{key}.lora_A.weight": down, f"{key}.lora_B.weight": up}
        form.weights["text_encoder"][f"{name}.weight"] = product(down, up, weight) * 8 / sqrt(4)
    config = {
        "unet.r": 3, "unet.lora_alpha": 2, "unet.alpha_pattern": {"to_k": 5}, "text_encoder.r": 4,
        "text_encoder.lora_alpha": 8, "text_encoder.use_rslora": True,
    }  # fmt: skip
    form.notes = {"lora_adapter_metadata": json.dumps(config)}
    return form


def diffusers_old(make: Maker) -> Form:
    """Attention processors, and lora_linear_layer in the text encoder."""
    form = Form()
    for name, weight in make.layers("unet", ATTENTION).items():
        down, up = make.pair(weight, 4)
        key = "unet." + re.sub(r"\.(to_q|to_k|to_v|to_out)(\.0)?$", r".processor.\1_lora", name)
        form.file |= {f"{key}.down.weight": down, f"{key}.up.weight": up}
        form.weights["unet"][f"{name}.weight"] = product(down, up, weight)
    for name, weight in make.layers("text_encoder", r"self_attn\.(q|out)_proj\.").items():
        down, up = make.pair(weight, 4)
        key = f"text_encoder.text_model.{name}.lora_linear_layer"
        form.file |= {f"{key}.down.weight": down, f"{key}.up.weight": up}
        form.weights["text_encoder"][f"{name}.weight"] = product(down, up, weight)
    return form


def diffusers_middle(make: Maker) -> Form:
    """unet.<layer>.lora.down, as diffusers saved them for a while, without prefix in the first releases."""
    form = Form()
    for k, (name, weight) in enumerate(make.layers("unet", ATTENTION).items()):
        down, up = make.pair(weight, 4)
        key = f"unet.{name}.lora"
        form.file |= {f"{key}.down.weight": down, f"{key}.up.weight": up}
        if k % 2:
            form.file[f"{key}.alpha"] = torch.tensor(6.0)
        form.weights["unet"][f"{name}.weight"] = product(down, up, weight) * (6 / 4 if k % 2 else 1)
    return form


def tucker(make: Maker) -> Form:
    """LoCon with a middle matrix for its convolutions."""
    form = Form()
    for name, weight in make.layers("unet", r"resnets\.\d\.conv1\.").items():
        outputs, inputs, height, width = weight.shape
        down, mid, up = make.draw(3, inputs, 1, 1), make.draw(3, 3, height, width), make.draw(outputs, 3, 1, 1)
        key = f"lora_unet_{name.replace('.', '_')}"
        form.file |= {f"{key}.lora_down.weight": down, f"{key}.lora_mid.weight": mid, f"{key}.lora_up.weight": up}
        form.file[f"{key}.alpha"] = torch.tensor(1.5)
        change = torch.einsum("or,rskl,si->oikl", up[:, :, 0, 0], mid, down[:, :, 0, 0])
        form.weights["unet"][f"{name}.weight"] = change * 1.5 / 3
    return form


def dora(make: Maker, style: str) -> Form:
    """m (W + D) / |W + D|, with PEFT's magnitudes, or LyCORIS' for outputs or inputs."""
    form = Form()
    for name, weight in make.layers("unet", rf"{ATTENTION}|resnets\.\d\.conv1\.").items():
        down, up = make.pair(weight, 2)
        summed = weight + product(down, up, weight)
        axis = 1 if style == "inputs" else 0
        dims = [k for k in range(weight.ndim) if k != axis]
        norm = summed.pow(2).sum(dim=dims, keepdim=True).sqrt()
        magnitude = norm * (1 + make.draw(*norm.shape))
        form.weights["unet"][f"{name}.weight"] = magnitude * summed / norm - weight
        if style == "peft":
            key = f"base_model.model.{name}"
            kept = magnitude.flatten() if weight.ndim == 2 else magnitude.transpose(0, 1)
            form.file |= {f"{key}.lora_A.weight": down, f"{key}.lora_B.weight": up}
            form.file[f"{key}.lora_magnitude_vector.weight" if weight.ndim == 2 else f"{key}.lora_magnitude_vector"] = (
                kept
            )
        else:
            key = f"lora_unet_{name.replace('.', '_')}"
            form.file |= {f"{key}.lora_down.weight": down, f"{key}.lora_up.weight": up}
            form.file |= {f"{key}.dora_scale": magnitude, f"{key}.alpha": torch.tensor(2.0)}
    return form


def loha(make: Maker, core: bool = False) -> Form:
    form = Form()
    pattern = r"resnets\.\d\.conv1\." if core else rf"{ATTENTION}|resnets\.\d\.conv2\."
    for name, weight in make.layers("unet", pattern).items():
        outputs, inputs, *kernel = weight.shape
        key = f"lora_unet_{name.replace('.', '_')}"
        matrices = []
        for n in (1, 2):
            if core:
                a, b, t = make.draw(3, outputs), make.draw(3, inputs), make.draw(3, 3, *kernel)
                form.file[f"{key}.hada_t{n}"] = t
                matrices.append(torch.einsum("pqkl,po,qi->oikl", t, a, b))
            else:
                a, b = make.draw(outputs, 3), make.draw(3, inputs * prod(kernel))
                matrices.append((a @ b).reshape(weight.shape))
            form.file |= {f"{key}.hada_w{n}_a": a, f"{key}.hada_w{n}_b": b}
        form.file[f"{key}.alpha"] = torch.tensor(6.0)
        form.weights["unet"][f"{name}.weight"] = matrices[0] * matrices[1] * 6 / 3
    return form


def lokr(make: Maker, style: str) -> Form:
    """A Kronecker product of a whole small matrix and a whole, split or cored larger one."""
    form = Form()
    pattern = r"resnets\.\d\.conv1\." if style == "core" else rf"{ATTENTION}|resnets\.\d\.conv2\."
    for name, weight in make.layers("unet", pattern).items():
        outputs, inputs, *kernel = weight.shape
        key = f"lora_unet_{name.replace('.', '_')}"
        first = make.draw(2, 2)
        form.file[f"{key}.lokr_w1"] = first
        shape, scale = (outputs // 2, inputs // 2, *kernel), 1.0
        if style == "whole":
            second = make.draw(*shape)
            form.file[f"{key}.lokr_w2"] = second
        elif style == "split":
            a, b = make.draw(shape[0], 2), make.draw(2, shape[1] * prod(kernel))
            second, scale = (a @ b).reshape(shape), 3 / 2
            form.file |= {f"{key}.lokr_w2_a": a, f"{key}.lokr_w2_b": b}
        else:
            a, b, t = make.draw(2, shape[0]), make.draw(2, shape[1]), make.draw(2, 2, *kernel)
            second, scale = torch.einsum("pqkl,po,qi->oikl", t, a, b), 3 / 2
            form.file |= {f"{key}.lokr_w2_a": a, f"{key}.lokr_w2_b": b, f"{key}.lokr_t2": t}
        # Stored also where there is no rank to divide it by; then it means nothing.
        form.file[f"{key}.alpha"] = torch.tensor(3.0)
        change = torch.zeros_like(weight)
        for i in range(2):
            for j in range(2):
                rows, columns = slice(i * shape[0], (i + 1) * shape[0]), slice(j * shape[1], (j + 1) * shape[1])
                change[rows, columns] = first[i, j] * second
        form.weights["unet"][f"{name}.weight"] = change * scale
    return form


def peft_product(form: Form, kind: str, made_with: float, default: int = 3) -> Form:
    """LoHa and LoKr as PEFT saves them: alpha and rank are in its configuration, and count for whole matrices, too.

    Args:
        made_with: the scale of ``form``, which the alphas of its file say.
    """
    names = sorted(form.weights["unet"])
    keys = {name: f"lora_unet_{name.removesuffix('.weight').replace('.', '_')}" for name in names}
    given = {name: (5.0 if name.endswith("to_k.weight") else 6.0) for name in names}
    layers = {key: name.removesuffix(".weight") for name, key in keys.items()}
    found = Form(config={"peft_type": kind, "r": default, "alpha": 6.0, "alpha_pattern": {"to_k": 5.0}})
    for key, tensor in form.file.items():
        layer, _, part = key.partition(".")
        if part != "alpha":
            found.file[f"base_model.model.{layers[layer]}.{part}"] = tensor
    found.weights["unet"] = {name: form.weights["unet"][name] / made_with * given[name] / default for name in names}
    return found


def differences(make: Maker) -> Form:
    """LyCORIS' "full" files: whole differences of weights and biases."""
    form = Form()
    for name, weight in make.layers("unet", r"to_out\.0\.|resnets\.\d\.conv1\.").items():
        key = f"lora_unet_{name.replace('.', '_')}"
        change, bias = make.draw(*weight.shape), make.draw(weight.shape[0])
        form.file |= {f"{key}.diff": change, f"{key}.diff_b": bias}
        form.weights["unet"] |= {f"{name}.weight": change, f"{name}.bias": bias}
    return form


def scaled_fp8(make: Maker) -> Form:
    """Matrices of 8 bits with the number by which they must be multiplied."""
    plain = kohya(make, lambda k: 1.0 + k % 3, lambda k: 2)
    form = Form(file={"scaled_fp8": torch.zeros(0, dtype=torch.float8_e4m3fn)})
    for key in sorted(name.removesuffix(".lora_down.weight") for name in plain.file if name.endswith("down.weight")):
        both = []
        for part in ("lora_down", "lora_up"):
            matrix = plain.file[f"{key}.{part}.weight"]
            scale = matrix.abs().max() / 448
            small = (matrix / scale).to(torch.float8_e4m3fn)
            form.file |= {f"{key}.{part}.weight": small, f"{key}.{part}.scale_weight": scale}
            both.append(small.float() * scale)
        alpha = plain.file[f"{key}.alpha"]
        form.file[f"{key}.alpha"] = alpha
        name = next(
            n for n in plain.weights["unet"] if f"lora_unet_{n.removesuffix('.weight').replace('.', '_')}" == key
        )
        form.weights["unet"][name] = product(*both, plain.weights["unet"][name]) * alpha / 2
    return form


FUSED = {
    "flux": {
        "double_blocks_0_img_attn_qkv": [f"transformer_blocks.0.attn.to_{x}" for x in "qkv"],
        "double_blocks_0_txt_attn_qkv": [f"transformer_blocks.0.attn.add_{x}_proj" for x in "qkv"],
        "double_blocks_0_txt_mlp_2": ["transformer_blocks.0.ff_context.net.2"],
        "single_blocks_0_linear1": [
            *(f"single_transformer_blocks.0.attn.to_{x}" for x in "qkv"), "single_transformer_blocks.0.proj_mlp",
        ],
        "single_blocks_0_linear2": ["single_transformer_blocks.0.proj_out"],
        "final_layer_linear": ["proj_out"],
        "final_layer_adaLN_modulation_1": ["norm_out.linear"],
    },
    "stable_diffusion_3": {
        "joint_blocks_0_x_block_attn_qkv": [f"transformer_blocks.0.attn.to_{x}" for x in "qkv"],
        "joint_blocks_1_context_block_attn_qkv": [f"transformer_blocks.1.attn.add_{x}_proj" for x in "qkv"],
        "joint_blocks_0_context_block_mlp_fc1": ["transformer_blocks.0.ff_context.net.0.proj"],
        "joint_blocks_1_x_block_adaLN_modulation_1": ["transformer_blocks.1.norm1.linear"],
        "joint_blocks_0_context_block_adaLN_modulation_1": ["transformer_blocks.0.norm1_context.linear"],
        "joint_blocks_1_context_block_adaLN_modulation_1": ["transformer_blocks.1.norm1_context.linear"],
        "x_embedder_proj": ["pos_embed.proj"],
        "t_embedder_mlp_0": ["time_text_embed.timestep_embedder.linear_1"],
        "t_embedder_mlp_2": ["time_text_embed.timestep_embedder.linear_2"],
        "y_embedder_mlp_0": ["time_text_embed.text_embedder.linear_1"],
        "y_embedder_mlp_2": ["time_text_embed.text_embedder.linear_2"],
        "final_layer_linear": ["proj_out"],
        "final_layer_adaLN_modulation_1": ["norm_out.linear"],
    },
}  # fmt: skip
# Of these, diffusers has scale and shift the other way round (its ``swap_scale_shift``); a context block only where it
# is the last one.
SWAPPED = {
    "flux": {"final_layer_adaLN_modulation_1"},
    "stable_diffusion_3": {"final_layer_adaLN_modulation_1", "joint_blocks_1_context_block_adaLN_modulation_1"},
}


def fused(make: Maker, family: str) -> Form:
    """Transformers: several of diffusers' layers are rows of one matrix in their makers' files."""
    form = Form(weights={"transformer": {}})
    for k, (key, layers) in enumerate(FUSED[family].items()):
        weights = [make.parts["transformer"].get_parameter(f"{layer}.weight").detach() for layer in layers]
        down, up = make.pair(torch.cat(weights), 3)
        form.file |= {f"lora_unet_{key}.lora_down.weight": down, f"lora_unet_{key}.lora_up.weight": up}
        form.file[f"lora_unet_{key}.alpha"] = torch.tensor(1.0 + k)
        change = product(down, up, torch.cat(weights)) * (1.0 + k) / 3
        if key in SWAPPED[family]:
            change = torch.cat(change.chunk(2)[::-1])
        for layer, rows in zip(layers, change.split([len(weight) for weight in weights]), strict=True):
            form.weights["transformer"][f"{layer}.weight"] = rows
    return form


FORMS: Mapping[str, Callable[[Maker], Form]] = {
    "kohya": lambda make: kohya(make, lambda k: 2.0, lambda k: 4),
    "kohya, mixed alphas": lambda make: kohya(make, lambda k: 1.0 + k % 4, lambda k: 4),
    "kohya, mixed ranks and alphas": lambda make: kohya(make, lambda k: 1.0 + k % 3, lambda k: 1 + k % 5),
    "kohya, convolutions": lambda make: kohya(make, lambda k: 1.0, lambda k: 1 + k % 2, CONVOLUTIONS),
    "kohya, text encoder": kohya_text,
    "kohya, original names": lambda make: kohya_original_names(make, 1),
    "PEFT": peft,
    "PEFT, with the adapter's name": lambda make: peft(make, "default"),
    "PEFT, with a name of dots and digits": lambda make: peft(make, "style_2", ""),
    "ComfyUI": lambda make: peft(make, prefix="diffusion_model."),
    "diffusers, with alphas in its header": diffusers_new,
    "diffusers, attention processors": diffusers_old,
    "diffusers, lora.down": diffusers_middle,
    "LoCon, Tucker": tucker,
    "DoRA, PEFT": lambda make: dora(make, "peft"),
    "DoRA, outputs": lambda make: dora(make, "outputs"),
    "DoRA, inputs": lambda make: dora(make, "inputs"),
    "LoHa": loha,
    "LoHa, Tucker": lambda make: loha(make, core=True),
    "LoKr, whole": lambda make: lokr(make, "whole"),
    "LoKr, split": lambda make: lokr(make, "split"),
    "LoKr, Tucker": lambda make: lokr(make, "core"),
    "LoHa, PEFT": lambda make: peft_product(loha(make), "LOHA", 6 / 3),
    "LoKr, PEFT": lambda make: peft_product(lokr(make, "split"), "LOKR", 3 / 2, 2),
    "LoKr, PEFT, whole": lambda make: peft_product(lokr(make, "whole"), "LOKR", 1.0),
    "full differences": differences,
    "scaled fp8": scaled_fp8,
}
