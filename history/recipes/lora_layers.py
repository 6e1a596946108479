"""LoRAs in forms that diffusers does not add as the program does (DoRA, LoHa, LoKr, LyCORIS' others): layer by layer.

Beside the script lies a JSON file for each: which layers of the model each layer of the file changes, and under which
names its matrices are stored.  The names come from the model's configuration; no weight is read.
"""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from history.recipes.plan import AdapterFile, NoScript, Plan
from pipelines.models.adapters.lora_format import split
from pipelines.system.safetensors_header import try_read_header

if TYPE_CHECKING:
    from pipelines.models.adapters.lora_targets import LayerPaths

CODE = '''
def factor(parts, name, core):
    """One matrix of a product: whole, or of two small ones, around a core of four dimensions for convolutions."""
    if name in parts:
        return parts[name]
    a, b = parts[name + "_a"], parts[name + "_b"]
    if core in parts:
        return torch.einsum("ijkl,jr,ip->prkl", parts[core], b, a)
    return (a @ b.flatten(1)).reshape(a.shape[0], *b.shape[1:])


def difference(parts, shape):
    """The difference of the weights that the small matrices stand for."""
    if "diff" in parts:
        found = parts["diff"]
    elif "mid" in parts:  # LoCon's Tucker form
        found = torch.einsum("or,rsij,sc->ocij", parts["up"].flatten(1), parts["mid"], parts["down"].flatten(1))
    elif "down" in parts:  # LoRA
        found = parts["up"].flatten(1) @ parts["down"].flatten(1)
    elif "hada_w1_a" in parts:  # LoHa
        found = factor(parts, "hada_w1", "hada_t1") * factor(parts, "hada_w2", "hada_t2")
    else:  # LoKr
        first, second = factor(parts, "lokr_w1", ""), factor(parts, "lokr_w2", "lokr_t2")
        while first.ndim < second.ndim:
            first = first.unsqueeze(-1)
        found = torch.kron(first, second.contiguous())
    return found.reshape(shape)


def decomposed(weight, change, parts):
    """DoRA as a difference: m (W + D) / |W + D| - W, with a norm for each output, in some files for each input."""
    summed = weight + change
    dora = parts.get("dora", parts.get("magnitude"))
    axis = 1 if "dora" in parts and dora.ndim > 1 and dora.shape[0] == 1 else 0
    dims = tuple(k for k in range(summed.ndim) if k != axis)
    norm = summed.pow(2).sum(dim=dims, keepdim=True).sqrt().clamp_min(torch.finfo(torch.float32).tiny)
    return summed * (dora.flatten().reshape(norm.shape) / norm) - weight


def moved(base, x, matrix, moves):
    """A matrix in the place of a layer's weights; of a convolution only one moves as the layer itself does."""
    matrix = matrix.to(x.device, x.dtype)
    if isinstance(base, torch.nn.Linear):
        return torch.nn.functional.linear(x, matrix.flatten(1))
    matrix = matrix[:, :, None, None] if matrix.ndim == 2 else matrix
    how = {"stride": base.stride, "padding": base.padding, "dilation": base.dilation} if moves else {}
    return torch.nn.functional.conv2d(x, matrix, **how)


def chain(base, matrices, moving):
    """What matrices one after the other add to what a layer computes."""
    matrices = [matrix.contiguous().to(DEVICE, DTYPE) for matrix in matrices]

    def add(x):
        for k, matrix in enumerate(matrices):
            x = moved(base, x, matrix, k == moving)
        return x

    return add


def shifted(base, bias):
    """A difference of biases."""
    bias = bias.to(DEVICE, DTYPE)
    return lambda x: bias if isinstance(base, torch.nn.Linear) else bias[:, None, None]


def halves_swapped(rows):
    """Rows in diffusers' order, where the model's makers have scale and shift the other way round."""
    return torch.cat(rows.chunk(2)[::-1])


def additions(bases, parts, scale, order):
    """What a layer of the file adds to each of the layers of the model that it changes; ``order`` is of the rows."""
    sizes, shape = [base.weight.shape[0] for base in bases], bases[0].weight.shape[1:]
    plain = "down" in parts and "dora" not in parts and "magnitude" not in parts
    if plain:
        before = [parts["down"]] + ([parts["mid"]] if "mid" in parts else [])
        for base, up in zip(bases, order(parts["up"] * scale).split(sizes)):
            yield base, chain(base, [*before, up], len(before) - 1)
    elif set(parts) - {"up_bias", "diff_bias", "dora", "magnitude"}:
        matrix = difference(parts, (sum(sizes), *shape))
        matrix = matrix if "diff" in parts else matrix * scale
        if "dora" in parts or "magnitude" in parts:
            own = torch.cat([base.weight.detach().float().cpu() for base in bases])
            matrix = decomposed(order(own), matrix, parts)
        for base, rows in zip(bases, order(matrix).split(sizes)):
            yield base, chain(base, [rows], 0)
    for name, times in (("up_bias", scale), ("diff_bias", 1.0)):
        if name in parts:
            for base, bias in zip(bases, order(parts[name].flatten() * times).split(sizes)):
                yield base, shifted(base, bias)


ADDED = {}  # layer of the model -> what is added to its output, each with its weight


def add_lora(path, layers, weight):
    """Read a LoRA; ``layers`` says which layers of the model each of its layers changes, and what its matrices are."""
    tensors = load_file(path)
    for layer in json.loads(layers.read_text(encoding="utf-8")):
        bases = [getattr(pipe, part).get_submodule(name) for part, name in layer["to"]]
        parts = {}
        for part, (name, scale) in layer["parts"].items():
            parts[part] = tensors[name].float()
            if scale:  # of 8 bits
                factors = tensors[scale].float().flatten()
                one = factors.numel() == 1
                parts[part] *= factors[0] if one else factors.reshape(-1, *[1] * (parts[part].ndim - 1))
        alpha = parts.pop("alpha", None)
        rank = next((len(parts[p]) for p in ("down", "hada_w1_b", "lokr_w2_b", "lokr_w1_b") if p in parts), 0)
        scale = layer["scale"] if alpha is None else float(alpha) / rank if rank else 1.0
        order = halves_swapped if layer.get("swapped") else lambda rows: rows
        for base, add in additions(bases, parts, float(torch.tensor(scale)), order):
            ADDED.setdefault(base, []).append((add, weight))


def with_additions(base, inputs, output):
    """Run after a layer of the model."""
    for add, weight in ADDED[base]:
        output = output + weight * add(inputs[0])
    return output

'''


def files(plan: Plan) -> dict[str, bytes]:
    """The JSON files of a plan's LoRAs, by their names.

    Raises:
        NoScript: if the model's configuration is not known, or a LoRA names its layers by patterns.
    """
    from pipelines.models.adapters.lora_targets import NETWORKS, LayerPaths

    configs = {part: plan.config(part) for part in NETWORKS[plan.family]}
    if not (configs.get("unet") or configs.get("transformer")):
        raise NoScript(f"The configuration of {plan.card.name} is not on this computer; fetch the model.")
    names = LayerPaths(plan.family, configs)
    return {file_name(k): _listing(names, lora) for k, lora in enumerate(plan.loras)}


def file_name(k: int) -> str:
    """The name of a LoRA's file of layers."""
    return f"lora-{k + 1}.json"


def _listing(names: LayerPaths, lora: AdapterFile) -> bytes:
    from pipelines.models.adapters.lora_file import Refused, scale_of
    from pipelines.models.adapters.lora_layers import rank_of

    header = try_read_header(lora.path)
    layout = split(header.tensors if header else ())
    try:
        scale = scale_of(lora.path, header.metadata if header else {}, layout)
    except Refused as problem:
        raise NoScript(f"The LoRA {lora.name} {problem}.") from None
    found = []
    for layer, places in layout.layers.items():
        if bases := names.find(layer):
            shapes = {part: SimpleNamespace(shape=_shape(header, name)) for part, name in places.items()}
            parts = {part: [name, layout.scales.get(name, "")] for part, name in places.items()}
            swapped = {"swapped": True} if names.has_swapped_halves(layer) else {}
            found.append({"to": bases, "scale": scale(layer, rank_of(shapes)), "parts": parts, **swapped})
    return json.dumps(found, indent=0).encode()


def _shape(header: Any, name: str) -> list[int]:
    entry = header.tensors[name]
    shape = entry.get("shape") if isinstance(entry, dict) else None
    return shape if isinstance(shape, list) and shape else [0]


def calls(plan: Plan, names: list[str]) -> list[str]:
    """The lines that add a plan's LoRAs.

    Args:
        plan: of the entry.
        names: of the constants with their paths.
    """
    added = [
        f'add_lora({name}, HERE / "{file_name(k)}", {lora.weight!r})'
        for k, (name, lora) in enumerate(zip(names, plan.loras, strict=True))
    ]
    return [*added, "for base in ADDED:", "    base.register_forward_hook(with_additions)"]
