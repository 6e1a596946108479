"""Number formats of networks: which of their parts are too fine for 16 bits or fewer."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def wide_parts(module: torch.nn.Module) -> frozenset[str]:
    """Names of the parts that a network's class keeps in float32 where the rest is in float16, such as T5's ``wo``.

    Transformers and diffusers keep them so while they load a network (``_keep_in_fp32_modules``).
    """
    found: set[str] = set()
    for name in ("_keep_in_fp32_modules", "_keep_in_fp32_modules_strict"):
        value = getattr(module, name, None) or ()
        found |= {value} if isinstance(value, str) else set(value)
    return frozenset(found)


def convert(module: torch.nn.Module, dtype: torch.dtype) -> None:
    """Convert a network in place; in float16 what its class keeps wide becomes float32."""
    import torch

    wide = wide_parts(module) if dtype == torch.float16 else frozenset()
    if not wide:
        module.to(dtype=dtype)
        return
    for name, one in module.named_modules():
        to = torch.float32 if wide & {*name.split(".")} else dtype
        one._apply(lambda tensor, to=to: tensor.to(to) if tensor.is_floating_point() else tensor, recurse=False)
