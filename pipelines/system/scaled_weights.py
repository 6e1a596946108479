"""Weights of 8 bits that are stored with the scale by which they must be multiplied."""

from __future__ import annotations

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


def scale_of(name: str) -> str:
    """The name of the weight whose scale is called so, "" for other names."""
    ending = next((ending for ending in SCALES if name.endswith(ending)), "")
    return name.removesuffix(ending) + ".weight" if ending else ""


def is_note(name: str) -> bool:
    """Whether a tensor goes with weights of 8 bits and changes none of them."""
    return name.endswith(NOTES)
