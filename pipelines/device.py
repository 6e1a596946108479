"""Where a model runs: device, number format, attention."""

from __future__ import annotations

from dataclasses import dataclass


class NoSuchDevice(ValueError):
    """The device that was asked for is not on this machine; the message says what to do."""


@dataclass(frozen=True)
class Placement:
    """Device, dtype and attention by name, so that the page can speak of them without importing torch.

    Attributes:
        device: cpu, cuda or mps.
        dtype: float32 or float16.
        attention: sdpa or xformers.
        note: one sentence when the wish could not be met, else empty.
    """

    device: str
    dtype: str
    attention: str
    note: str = ""

    def __str__(self) -> str:
        return {"cpu": "CPU", "cuda": "NVIDIA GPU", "mps": "Apple GPU"}[self.device]


def resolve(device: str = "auto", attention: str = "auto") -> Placement:
    """Turn wishes into a placement; imports torch, so only the worker calls it.

    Raises:
        NoSuchDevice: if cuda or mps is asked for by name and is not there.
    """
    import torch

    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if device == "auto":
        device = next(name for name in ("cuda", "mps", "cpu") if there[name])
    if not there[device]:
        raise NoSuchDevice(f"This machine has no {device} device that torch can use; start with --device auto or cpu.")
    dtype = "float16" if device == "cuda" else "float32"
    if attention != "xformers":
        return Placement(device, dtype, "sdpa")
    if device != "cuda":
        return Placement(device, dtype, "sdpa", "xformers needs an NVIDIA GPU, so SDPA is used instead.")
    reason = _xformers_problem()
    if reason:
        return Placement(device, dtype, "sdpa", f"xformers {reason}, so SDPA is used instead.")
    return Placement(device, dtype, "xformers")


def _xformers_problem() -> str:
    """Why xformers cannot be used on the NVIDIA GPU, or "": found out by running its operator once."""
    import torch

    try:
        from xformers.ops import memory_efficient_attention
    except Exception:
        return "cannot be imported here"
    try:
        q = torch.zeros(1, 16, 1, 32, device="cuda", dtype=torch.float16)
        memory_efficient_attention(q, q, q)
    except Exception:
        return "has no working operator for this GPU"
    return ""
