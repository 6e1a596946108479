"""Weights of 8 bits that are stored with the scale by which they must be multiplied."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

# What the scale of a tensor is called, in place of the last part of its name, "weight".
SCALES = (".scale_weight", ".weight_scale")
# Numbers for activations and notes, which go with such weights and change none.
NOTES = (".scale_input", ".input_scale", ".comfy_quant", "scaled_fp8")


def unscaled(weight: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """weight * scale in float32.

    Args:
        weight: of any number format, (outputs, ...).
        scale: one number, or one for each output.
    """
    factor = scale.float()
    if factor.numel() > 1:
        factor = factor.reshape(-1, *[1] * (weight.ndim - 1))
    return weight.float() * factor.reshape(()) if factor.numel() == 1 else weight.float() * factor


def unscale_all(weights: Mapping[str, torch.Tensor], dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """The weights of a file, with every scaled one multiplied and the scales left out.

    Args:
        weights: by name.
        dtype: of the weights that were scaled.

    Raises:
        ValueError: if a scale has no weight, or the result is not finite.
    """
    import torch

    found = {name: weight for name, weight in weights.items() if not name.endswith((*SCALES, *NOTES))}
    for name, scale in weights.items():
        ending = next((ending for ending in SCALES if name.endswith(ending)), None)
        if ending is None:
            continue
        target = name.removesuffix(ending) + ".weight"
        if target not in weights:
            raise ValueError(f"the scale {name} has no weight")
        found[target] = unscaled(weights[target], scale).to(dtype)
        if not torch.isfinite(found[target]).all():
            raise ValueError(f"{target} is not finite")
    return found
