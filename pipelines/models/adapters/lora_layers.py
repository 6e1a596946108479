"""The layers of a LoRA: what each adds to the output of a layer of the model, computed exactly.

Low-rank forms stay two small layers; the others become the difference of the weights that they stand for.  Nothing of
the model itself is changed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F


class WrongShape(ValueError):
    """A LoRA's matrices do not fit the layer that they are for."""


class CannotMerge(ValueError):
    """A form that needs the layer's own weights, which are compressed; the text says so in words for the user."""


class LoraLayer(nn.Module):
    """What one LoRA adds to the output of one layer, without the LoRA's weight.

    Args:
        base: the layer: ``nn.Linear`` or ``nn.Conv2d``.
    """

    def __init__(self, base: nn.Module) -> None:
        super().__init__()
        # How a convolution moves over its input; None for a linear layer.
        self._conv: dict[str, Any] | None = None
        if isinstance(base, nn.Conv2d):
            _check(base.groups == 1 and base.padding_mode == "zeros")
            self._conv = {"stride": base.stride, "padding": base.padding, "dilation": base.dilation}

    def _apply_matrix(self, x: torch.Tensor, matrix: torch.Tensor) -> torch.Tensor:
        """A matrix in the place of the layer's own weights."""
        matrix = _like(matrix, x)
        return F.linear(x, matrix) if self._conv is None else F.conv2d(x, matrix, **self._conv)


class LowRank(LoraLayer):
    """up(mid(down(x))): LoRA, and LoCon's Tucker form with a middle.

    Args:
        base: see ``LoraLayer``.
        down, up, mid: matrices as in the file; the scale alpha / rank is in ``up``.
    """

    def __init__(self, base: nn.Module, down: torch.Tensor, up: torch.Tensor, mid: torch.Tensor | None) -> None:
        super().__init__(base)
        shape = weight_shape(base)
        if self._conv is None:
            _check(mid is None)
            down, up = down.flatten(1), up.flatten(1)
            _check(down.shape[1:] == shape[1:] and up.shape == (shape[0], down.shape[0]))
        else:
            down, up = _with_kernel(down), _with_kernel(up)
            middle = down if mid is None else mid
            _check(down.shape[1] == shape[1] and middle.shape[2:] == shape[2:])
            _check(up.shape == (shape[0], middle.shape[0], 1, 1))
            _check(mid is None or (down.shape[2:] == (1, 1) and mid.shape[1] == down.shape[0]))
        self.down, self.up = _kept(down), _kept(up)
        self.mid = None if mid is None else _kept(mid)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """What is added to the layer's output."""
        if self._conv is None:
            return F.linear(F.linear(x, _like(self.down, x)), _like(self.up, x))
        if self.mid is None:
            return F.conv2d(self._apply_matrix(x, self.down), _like(self.up, x))
        return F.conv2d(self._apply_matrix(F.conv2d(x, _like(self.down, x)), self.mid), _like(self.up, x))


class Difference(LoraLayer):
    """A difference of weights, as large as the layer's own.

    Args:
        base: see ``LoraLayer``.
        matrix: of the shape of the layer's weights.
    """

    def __init__(self, base: nn.Module, matrix: torch.Tensor) -> None:
        super().__init__(base)
        self.matrix = _kept(matrix)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """What is added to the layer's output."""
        return self._apply_matrix(x, self.matrix)


class Bias(LoraLayer):
    """A difference of biases.

    Args:
        base: see ``LoraLayer``.
        bias: one number for each output.
    """

    def __init__(self, base: nn.Module, bias: torch.Tensor) -> None:
        super().__init__(base)
        self.bias = _kept(bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """What is added to the layer's output."""
        bias = _like(self.bias, x)
        return bias if self._conv is None else bias[:, None, None]


def make(
    bases: Sequence[nn.Module], parts: Mapping[str, torch.Tensor], swapped: bool = False
) -> list[tuple[nn.Module, LoraLayer]]:
    """What one layer of a LoRA adds, with the layer of the model to which it is added.

    Args:
        bases: the layer of the model, or several whose outputs are one matrix in the file, in their order there.
        parts: float32 tensors by their names in ``lora_format``; ``scale`` is alpha / rank.
        swapped: whether the rows of the layer are the file's with their halves swapped.

    Raises:
        WrongShape: if a matrix does not fit.
        CannotMerge: if the layer's own weights are needed and are compressed.
    """
    order = _swap_halves if swapped else _as_they_are
    sizes, scale = [weight_shape(base)[0] for base in bases], float(parts["scale"])
    found: list[tuple[nn.Module, LoraLayer]] = []
    decomposed = "dora" in parts or "magnitude" in parts
    if "down" in parts and not decomposed:
        for base, up in zip(bases, _split(order(parts["up"] * scale), sizes), strict=True):
            found.append((base, LowRank(base, parts["down"], up, parts.get("mid"))))
    elif set(parts) - {"scale", "up_bias", "diff_bias", "dora", "magnitude"}:
        matrix = _difference(parts, torch.Size((sum(sizes), *weight_shape(bases[0])[1:])))
        matrix = matrix if "diff" in parts else matrix * scale
        if decomposed:
            matrix = _decomposed(order(torch.cat([_own_weight(base) for base in bases])), matrix, parts)
        divided = _split(order(matrix), sizes)
        found += [(base, Difference(base, rows)) for base, rows in zip(bases, divided, strict=True)]
    for name, factor in (("up_bias", scale), ("diff_bias", 1.0)):
        if name in parts:
            rows = _split(order(parts[name].flatten() * factor), sizes)
            found += [(base, Bias(base, bias)) for base, bias in zip(bases, rows, strict=True)]
    return found


def rank_of(parts: Mapping[str, Any]) -> int:
    """The rank of a layer, by which its alpha is divided; 0 where a form has none."""
    if "down" in parts:
        return int(parts["down"].shape[0])
    for name in ("hada_w1_b", "lokr_w2_b", "lokr_w1_b"):
        if name in parts:
            return int(parts[name].shape[0])
    return 0


def _difference(parts: Mapping[str, torch.Tensor], shape: torch.Size) -> torch.Tensor:
    """The difference of the weights without the scale, of the layer's shape."""
    try:
        if "diff" in parts:
            found = parts["diff"]
        elif "down" in parts:
            found = _product(parts["down"], parts["up"], parts.get("mid"))
        elif "hada_w1_a" in parts:
            found = _factor(parts, "hada_w1", "hada_t1") * _factor(parts, "hada_w2", "hada_t2")
        else:
            found = _kronecker(_factor(parts, "lokr_w1", ""), _factor(parts, "lokr_w2", "lokr_t2"))
        _check(found.ndim > 0 and found.shape[0] == shape[0])
        return found.reshape(shape)
    except RuntimeError:  # of torch, for matrices that cannot be multiplied
        raise WrongShape from None


def _product(down: torch.Tensor, up: torch.Tensor, mid: torch.Tensor | None) -> torch.Tensor:
    """up @ mid @ down as one matrix; a convolution's kernel is that of its middle, else that of ``down``."""
    if mid is None:
        return up.flatten(1) @ down.flatten(1)
    return torch.einsum("or,rsij,sc->ocij", up.flatten(1), mid, down.flatten(1))


def _factor(parts: Mapping[str, torch.Tensor], name: str, core: str) -> torch.Tensor:
    """One matrix of a product: whole, or of two small ones, around a core of four dimensions for convolutions."""
    if name in parts:
        return parts[name]
    a, b = parts[f"{name}_a"], parts[f"{name}_b"]
    if core and core in parts:
        return torch.einsum("ijkl,jr,ip->prkl", parts[core], b, a)
    if a.ndim == 2 and b.ndim > 2:
        return (a @ b.flatten(1)).reshape(a.shape[0], *b.shape[1:])
    return a @ b


def _kronecker(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    while first.ndim < second.ndim:
        first = first.unsqueeze(-1)
    return torch.kron(first, second.contiguous())


def _decomposed(weight: torch.Tensor, change: torch.Tensor, parts: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """DoRA as a difference: m (W + D) / |W + D| - W, with a norm for each output, in some LyCORIS files each input."""
    summed = weight + change
    by_input = "dora" in parts and parts["dora"].ndim > 1 and parts["dora"].shape[0] == 1
    magnitude = parts["dora" if "dora" in parts else "magnitude"].flatten()
    if len(magnitude) != summed.shape[1 if by_input else 0]:
        raise WrongShape
    dims = tuple(k for k in range(summed.ndim) if k != (1 if by_input else 0))
    norm = summed.pow(2).sum(dim=dims, keepdim=True).sqrt().clamp_min(torch.finfo(torch.float32).tiny)
    return summed * (magnitude.reshape(norm.shape) / norm) - weight


def weight_shape(base: nn.Module) -> torch.Size:
    """The shape of a layer's weights, also where these are compressed."""
    if isinstance(base, nn.Conv2d):
        return torch.Size((base.out_channels, base.in_channels, *base.kernel_size))
    assert isinstance(base, nn.Linear)
    return torch.Size((base.out_features, base.in_features))


def _own_weight(base: nn.Module) -> torch.Tensor:
    weight: Any = base.weight
    if type(weight) not in (nn.Parameter, torch.Tensor) or weight.is_meta or not weight.is_floating_point():
        raise CannotMerge
    found: torch.Tensor = weight.detach().float().cpu()
    return found


def _as_they_are(rows: torch.Tensor) -> torch.Tensor:
    return rows


def _swap_halves(rows: torch.Tensor) -> torch.Tensor:
    _check(rows.shape[0] % 2 == 0)
    return torch.cat(rows.chunk(2)[::-1])


def _split(matrix: torch.Tensor, sizes: Sequence[int]) -> Sequence[torch.Tensor]:
    """The rows of each of several layers."""
    _check(matrix.shape[0] == sum(sizes))
    return matrix.split(list(sizes))


def _with_kernel(matrix: torch.Tensor) -> torch.Tensor:
    return matrix[:, :, None, None] if matrix.ndim == 2 else matrix


def _kept(matrix: torch.Tensor) -> nn.Parameter:
    return nn.Parameter(matrix.contiguous(), requires_grad=False)


def _like(matrix: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    return matrix.to(x.device, x.dtype)


def _check(fits: bool) -> None:
    if not fits:
        raise WrongShape
