"""Where a model runs: device, number format, attention, and what is done to its networks for that."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipelines.cards import ModelCard

QUANTIZE = ("", "int8", "int4")
TORCH, OPENVINO = "torch", "openvino"
# Families whose networks have a place to put xformers' operator into.
XFORMERS_FAMILIES = ("stable_diffusion", "stable_diffusion_xl", "stable_diffusion_3")


class NoSuchDevice(ValueError):
    """The device that was asked for is not on this machine; the message says what to do."""


@dataclass(frozen=True)
class Placement:
    """Device, dtype and attention by name, so that the page can speak of them without importing torch.

    Attributes:
        device: cpu, cuda or mps.
        dtype: float32, float16 or bfloat16.
        attention: sdpa or xformers.
        note: one sentence for each wish that could not be met, else empty.
        compile: whether the denoiser is compiled by torch.compile.
        quantize: int8 or int4 for the denoiser's matrices, or "".
        rungs: names of the rungs of ``pipelines.ladder`` that the model stands on.
        checks: whether a model's own safety checker looks at its pictures.
        engine: torch, or openvino for networks that ``pipelines.compiled`` compiles.
    """

    device: str
    dtype: str
    attention: str
    note: str = ""
    compile: bool = False
    quantize: str = ""
    rungs: tuple[str, ...] = ()
    checks: bool = True
    engine: str = TORCH

    def __str__(self) -> str:
        return {"cpu": "CPU", "cuda": "NVIDIA GPU", "mps": "Apple GPU"}[self.device]


@dataclass(frozen=True)
class Gpu:
    """What is asked of an NVIDIA GPU.

    Attributes:
        name: as the driver says.
        capability: its generation, such as (8, 6).
        bfloat16: whether it has that arithmetic in hardware.
    """

    name: str
    capability: tuple[int, int]
    bfloat16: bool


def gpu() -> Gpu | None:
    """The NVIDIA GPU that torch would use, or None."""
    import torch

    if not torch.cuda.is_available():
        return None
    capability = torch.cuda.get_device_capability()
    # AMD cards speak CUDA's language here, with generations of their own.
    bfloat16 = torch.cuda.is_bf16_supported(including_emulation=False)
    return Gpu(torch.cuda.get_device_name(), capability, bfloat16)


def resolve(
    device: str = "auto",
    attention: str = "auto",
    card: ModelCard | None = None,
    compile: bool = False,
    quantize: str = "",
    checks: bool = True,
    engine: str = TORCH,
) -> Placement:
    """Turn wishes into a placement; imports torch, so only the worker calls it.

    Args:
        device: auto, cpu, cuda or mps.
        attention: auto, sdpa or xformers.
        card: the model; it says which 16-bit format suits it.
        compile: whether to use torch.compile.
        quantize: "", int8 or int4.
        checks: see ``Placement``.
        engine: auto, torch or openvino.

    Raises:
        NoSuchDevice: if cuda or mps is asked for by name and is not there.
    """
    import torch

    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if device == "auto":
        device = next(name for name in ("cuda", "mps", "cpu") if there[name])
    if not there[device]:
        raise NoSuchDevice(f"This machine has no {device} device that torch can use; start with --device auto or cpu.")
    dtype, about_dtype = _dtype(device, card)
    attention, about_attention = _attention(device, attention, card)
    compile, about_compile = _compile(device, compile)
    quantize, about_quantize = _quantize(device, quantize)
    engine, about_engine = _engine(device, engine)
    notes = (about_dtype, about_attention, about_compile, about_quantize, about_engine)
    note = " ".join(note for note in notes if note)
    return Placement(device, dtype, attention, note, compile, quantize, checks=checks, engine=engine)


def half_of(placement: Placement, card: ModelCard) -> str:
    """The 16-bit format for a model where it runs; CPUs compute in bfloat16 if in any."""
    if placement.device == "cpu":
        return "bfloat16"
    found = gpu() if placement.device == "cuda" else None
    return "bfloat16" if card.half == "bfloat16" and found and found.bfloat16 else "float16"


def _dtype(device: str, card: ModelCard | None) -> tuple[str, str]:
    """The number format, and a sentence where it is not what the model wants."""
    found = gpu() if device == "cuda" else None
    if found is None or not _half_is_good(found):
        return "float32", ""
    if card is None or card.half != "bfloat16":
        return "float16", ""
    if found.bfloat16:
        return "bfloat16", ""
    return (
        "float16",
        f"{card.name} is made for bfloat16, which {found.name} lacks, so float16 is used; its range is smaller.",
    )


def _half_is_good(found: Gpu) -> bool:
    """Whether 16-bit arithmetic is quick and right: not on most cards before 2018, nor on the GTX 16 series.

    The rates are in NVIDIA's CUDA C++ programming guide (arithmetic instructions, throughput by compute capability);
    cards of the GTX 16 series compute wrong numbers in some convolutions, and pictures come out black.
    """
    fast = found.capability >= (7, 0) or found.capability in ((5, 3), (6, 0), (6, 2))
    return fast and "GTX 16" not in found.name


def _attention(device: str, wish: str, card: ModelCard | None) -> tuple[str, str]:
    """The attention, and the reason where it is not the one that was asked for."""
    if wish != "xformers":
        return "sdpa", ""
    if device != "cuda":
        return "sdpa", "xformers needs an NVIDIA GPU, so SDPA is used instead."
    if card is not None and card.family not in XFORMERS_FAMILIES:
        return "sdpa", f"xformers has no operator for {card.name}, so SDPA is used instead."
    reason = _xformers_problem()
    return ("sdpa", f"xformers {reason}, so SDPA is used instead.") if reason else ("xformers", "")


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


def _compile(device: str, wish: bool) -> tuple[bool, str]:
    if not wish:
        return False, ""
    if device != "cuda":
        return False, "torch.compile is used on NVIDIA GPUs only, so it is left out."
    if find_spec("triton") is None:
        return False, "torch.compile needs the package triton, which is not installed, so it is left out."
    return True, ""


def _quantize(device: str, wish: str) -> tuple[str, str]:
    if not wish:
        return "", ""
    if wish not in QUANTIZE:
        return "", f"quantize is {wish[:20]!r}; allowed: int8, int4; the model is left as it is."
    if device != "cuda":
        return "", "Quantisation is used on NVIDIA GPUs only, so it is left out."
    if not (find_spec("torchao") or find_spec("bitsandbytes")):
        return "", "Quantisation needs the package torchao or bitsandbytes; install one of them, it is left out now."
    return wish, ""


def _engine(device: str, wish: str) -> tuple[str, str]:
    """The engine, and the reason where it is not the one that was asked for by name."""
    if wish == TORCH:
        return TORCH, ""
    problem = ""
    if device != "cpu":
        problem = "OpenVINO is used on a CPU only, so PyTorch is used instead."
    elif find_spec("openvino") is None:
        problem = "OpenVINO is not installed, so PyTorch is used instead."
    if problem:
        return TORCH, problem if wish == OPENVINO else ""
    return OPENVINO, ""


def settle_in(model: Any, placement: Placement) -> None:
    """What is done once to a loaded model for where it runs: memory layout, precision of its autoencoder, compiling.

    Args:
        model: see ``pipelines.families.Model``; its weights may still be in RAM.
        placement: where it will run.
    """
    import torch

    for module in model.modules.values():
        if placement.dtype == "float16" and needs_range(model, module):
            module.to(torch.float32)
    if placement.device != "cuda":
        return
    for name in ("unet", "vae"):
        if name in model.modules:
            model.modules[name].to(memory_format=torch.channels_last)
    if placement.quantize:
        quantize_matrices(model.denoiser, placement.quantize)
    if placement.compile and "parts" not in placement.rungs:
        model.denoiser.compile()


def needs_range(model: Any, module: Any) -> bool:
    """Whether a network overflows in float16: the autoencoder of Stable Diffusion XL does, its pictures would be black.

    Its configuration says so unless it was mended; that of other families says so too, but they stay in range.
    """
    upcast = getattr(getattr(module, "config", None), "force_upcast", False)
    return bool(upcast) and model.card.family == "stable_diffusion_xl"


def quantize_matrices(module: Any, kind: str) -> None:
    """Keep a network's matrices in 8 or 4 bits: torchao where it is installed, else bitsandbytes.

    Args:
        module: changed in place; before it is moved to the GPU.
        kind: int8 or int4.
    """
    if find_spec("torchao"):
        from torchao.quantization import Int4WeightOnlyConfig, Int8WeightOnlyConfig, quantize_

        quantize_(module, Int8WeightOnlyConfig() if kind == "int8" else Int4WeightOnlyConfig())
        return
    import bitsandbytes
    import torch

    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            if type(child) is torch.nn.Linear:
                setattr(parent, name, _in_few_bits(bitsandbytes.nn, child, kind))


def _in_few_bits(layers: Any, linear: Any, kind: str) -> Any:
    """bitsandbytes' layer with the same weights; they are rounded when it is moved to the GPU."""
    shape = (linear.in_features, linear.out_features)
    bias = linear.bias is not None
    if kind == "int8":
        other = layers.Linear8bitLt(*shape, bias=bias, has_fp16_weights=False)
        other.weight = layers.Int8Params(linear.weight.data, requires_grad=False, has_fp16_weights=False)
    else:
        other = layers.Linear4bit(*shape, bias=bias, compute_dtype=linear.weight.dtype, quant_type="nf4")
        other.weight = layers.Params4bit(linear.weight.data, requires_grad=False, quant_type="nf4")
    other.bias = linear.bias
    return other
