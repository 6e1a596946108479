"""Where a model runs: device, number format, attention, and what is done to its networks for that."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from pipelines.model import Placement
from pipelines.models.families import family_of
from pipelines.models.machine import Machine
from pipelines.models.offloading.spread import leave_uncompiled, spread_of, waits
from pipelines.system.gpu.graphics_card import CUDA, MPS, GraphicsCard
from pipelines.system.gpu.number_formats import wide_parts

if TYPE_CHECKING:
    from pipelines.cards import ModelCard

QUANTIZE = ("", "int8", "int4")
# From which generation of NVIDIA's cards on bitsandbytes has kernels.
INT8_CAPABILITY, INT4_CAPABILITY = (7, 5), (6, 0)
# Parts that are called at every step.
DENOISERS = ("unet", "transformer", "prior", "decoder")
TORCH, OPENVINO = "torch", "openvino"


class NoSuchDevice(ValueError):
    """The device that was asked for is not on this machine; the message says what to do."""


class Placements:
    """Where each model of the catalogue runs; looks at the machine once for each kind of model.

    Args:
        device: auto, cpu, cuda, cuda:1 and so on, or mps.
        attention: auto, sdpa or xformers; or these by model id, "" for those that are not named.
        options: further ones of ``resolve``: compile, quantize, checks, engine, machine.

    Attributes:
        last: the placement that was asked for last, None before the first.
    """

    def __init__(
        self,
        device: str,
        attention: str | Mapping[str, str],
        **options: Any,
    ) -> None:
        self._device, self._options = device, options
        self._attention = {"": attention} if isinstance(attention, str) else dict(attention)
        self._known: dict[tuple[str, ...], Placement] = {}
        self.last: Placement | None = None

    def of(self, card: ModelCard) -> Placement:
        """Where a model runs, without fallbacks.  Raises NoSuchDevice."""
        attention = self._attention.get(card.id) or self._attention.get("", "auto")
        key = (card.family, card.half, card.name, attention)
        if key not in self._known:  # looking for xformers runs it
            self._known[key] = resolve(self._device, attention, card=card, **self._options)
        self.last = self._known[key]
        return self.last


def resolve(
    device: str = "auto",
    attention: str = "auto",
    card: ModelCard | None = None,
    compile: bool = False,
    quantize: str = "",
    checks: bool = True,
    engine: str = TORCH,
    machine: Machine | None = None,
) -> Placement:
    """Turn settings into a placement; imports torch, so only the worker calls it.

    Args:
        device: auto, cpu, cuda, cuda:1 and so on, or mps.
        attention: auto, sdpa or xformers.
        card: the model; it says which 16-bit format suits it.
        compile: whether to use torch.compile.
        quantize: "", int8 or int4.
        checks: see ``Placement``.
        engine: auto, torch or openvino.
        machine: has the graphics card.

    Raises:
        NoSuchDevice: if a graphics card is asked for by name and cannot be used.
    """
    gpu, about_device = _gpu(device, (machine or Machine(device)).card)
    device, kind = (gpu.device, gpu.kind) if gpu else ("cpu", "cpu")
    dtype, about_dtype = _dtype(gpu, card)
    attention, about_attention = _attention(gpu, attention, card)
    compile, about_compile = _compile(kind, compile)
    quantize, about_quantize = _quantize(gpu, quantize)
    engine, about_engine = _engine(kind, engine)
    notes = (about_device, about_dtype, about_attention, about_compile, about_quantize, about_engine)
    return Placement(
        device,
        dtype,
        attention,
        " ".join(note for note in notes if note),
        compile,
        quantize,
        checks=checks,
        engine=engine,
        kind=kind,
        half=_half(gpu, card),
        gpu="AMD GPU" if gpu and gpu.rocm else "",
    )


def _gpu(device: str, found: GraphicsCard | None) -> tuple[GraphicsCard | None, str]:
    """The graphics card to run on, None for the CPU, and a sentence where one is there that is not used."""
    wanted = device.partition(":")[0]
    if wanted == "cpu":
        return None, ""
    if wanted == "auto":
        return (None, found.problem) if found and found.problem else (found, _instead_of_first(found))
    if found is None or found.kind != wanted:
        raise NoSuchDevice(f"This machine has no {device} device that torch can use; start with --device auto or cpu.")
    if found.problem:
        raise NoSuchDevice(found.problem)
    return found, _instead_of_first(found)


def _instead_of_first(found: GraphicsCard | None) -> str:
    """A sentence where another card than the first one is used, since the build cannot use that."""
    if found is None or not found.passed_over:
        return ""
    return f"{found.name} ({found.device}) is used instead of the first card: {found.passed_over}"


def half_dtype(placement: Placement, card: ModelCard) -> str:
    """The 16-bit format that a model falls back to where it runs, "" where none is right.

    CPUs compute in bfloat16 if in any.
    """
    return "bfloat16" if placement.kind == "cpu" else placement.half


def _half(gpu: GraphicsCard | None, card: ModelCard | None) -> str:
    """The 16-bit format for a model on a graphics card, "" where none is right."""
    if gpu is None:
        return "float16"
    if card is not None and card.half == "bfloat16" and gpu.bfloat16:
        return "bfloat16"
    if gpu.float16 and not (gpu.kind == MPS and card is not None and card.half == "bfloat16"):
        return "float16"
    return "bfloat16" if gpu.bfloat16 else ""


def _dtype(gpu: GraphicsCard | None, card: ModelCard | None) -> tuple[str, str]:
    """The number format, and a sentence where it is not what the model wants."""
    half = _half(gpu, card)
    if gpu is None or not half or not gpu.half_is_quick:
        return "float32", ""
    if card is None or card.half != "bfloat16" or half == "bfloat16":
        return half, ""
    return (
        half,
        f"{card.name} is made for bfloat16, which {gpu.name} lacks, so float16 is used; its range is smaller.",
    )


def _attention(gpu: GraphicsCard | None, wanted: str, card: ModelCard | None) -> tuple[str, str]:
    """The attention, and the reason where it is not the one that was asked for."""
    if wanted != "xformers":
        return "sdpa", ""
    if gpu is None or gpu.kind != CUDA or gpu.rocm:
        return "sdpa", "xformers needs an NVIDIA GPU, so SDPA is used instead."
    if card is not None and not family_of(card).xformers:
        return "sdpa", f"xformers has no operator for {card.name}, so SDPA is used instead."
    reason = _xformers_problem(gpu.device)
    return ("sdpa", f"xformers {reason}, so SDPA is used instead.") if reason else ("xformers", "")


def _xformers_problem(device: str) -> str:
    """Why xformers cannot be used on the NVIDIA GPU, or "": found out by running its operator once."""
    import torch

    try:
        import xformers
        from xformers.ops import memory_efficient_attention
    except Exception:
        return "cannot be imported here"
    if not getattr(xformers, "_has_cpp_library", False):
        # Its operator would run all the same, on PyTorch's own kernels.
        return f"cannot load its kernels beside this PyTorch ({torch.__version__}); its extra fits the build cu126"
    try:
        q = torch.zeros(1, 16, 1, 32, device=device, dtype=torch.float16)
        memory_efficient_attention(q, q, q)
    except Exception:
        return "has no working operator for this GPU"
    return ""


def _compile(device: str, wanted: bool) -> tuple[bool, str]:
    if not wanted:
        return False, ""
    if device != CUDA:
        return False, "torch.compile is used on NVIDIA GPUs only, so it is left out."
    if find_spec("triton") is None:
        return False, "torch.compile needs the package triton, which is not installed, so it is left out."
    return True, ""


def _quantize(gpu: GraphicsCard | None, wanted: str) -> tuple[str, str]:
    if not wanted:
        return "", ""
    if wanted not in QUANTIZE:
        return "", f"quantize is {wanted[:20]!r}; allowed: int8, int4; the model is left as it is."
    if gpu is None or gpu.kind != CUDA:
        return "", "Quantisation is used on NVIDIA GPUs only, so it is left out."
    if wanted == "int4" and not find_spec("bitsandbytes"):
        return "", "int4 needs the package bitsandbytes; install it (pip install bitsandbytes), it is left out now."
    if not (find_spec("torchao") or find_spec("bitsandbytes")):
        return "", "Quantisation needs the package torchao or bitsandbytes; install one of them, it is left out now."
    reason = _bitsandbytes_problem(gpu, wanted)
    return ("", reason) if reason else (wanted, "")


def _bitsandbytes_problem(gpu: GraphicsCard, wanted: str) -> str:
    """Why bitsandbytes cannot do this on a card and what to do, as one sentence, or "".

    Its README: 8 bits by LLM.int8() from Turing (7.5) on, which computes in float16; 4 bits from 6.0 on.
    """
    if gpu.rocm or (wanted == "int8" and find_spec("torchao")):
        return ""
    if wanted == "int4" and gpu.capability < INT4_CAPABILITY:
        return (
            f"int4 by bitsandbytes has no kernels for {gpu.name}, so it is left out; use --quantize int8 with torchao."
        )
    if wanted == "int8" and not (gpu.float16 and gpu.capability >= INT8_CAPABILITY):
        why = "computes in float16, which comes out wrong on" if not gpu.float16 else "has no kernels for"
        return (
            f"int8 by bitsandbytes {why} {gpu.name}, so it is left out; install torchao (pip install torchao), or use "
            "--quantize int4."
        )
    return ""


def _engine(device: str, wanted: str) -> tuple[str, str]:
    """The engine, and the reason where it is not the one that was asked for by name."""
    if wanted == TORCH:
        return TORCH, ""
    problem = ""
    if device != "cpu":
        problem = "OpenVINO is used on a CPU only, so PyTorch is used instead."
    elif find_spec("openvino") is None:
        problem = "OpenVINO is not installed, so PyTorch is used instead."
    if problem:
        return TORCH, problem if wanted == OPENVINO else ""
    return OPENVINO, ""


def prepare_for(model: Any, placement: Placement) -> None:
    """What is done once to a loaded model for where it runs: memory layout, precision of its autoencoder, compiling.

    Args:
        model: see ``pipelines.model.Model``; its weights may still be in RAM.
        placement: where it will run.
    """
    import torch

    for module in model.modules.values():
        if placement.dtype == "float16" and needs_float32(model, module):
            module.to(torch.float32)
    if not placement.has_own_memory:
        return
    for name in ("unet", "vae"):
        if name in model.modules:
            model.modules[name].to(memory_format=torch.channels_last)
    if placement.compile and model.own_loop is not None:
        leave_uncompiled(model, f"torch.compile is left out for {model.card.name}, which runs a loop of its own.")
    elif placement.compile and not spread_of(placement):
        model.denoiser.compile()


def needs_float32(model: Any, module: Any) -> bool:
    """Whether a network overflows in float16: the autoencoder of Stable Diffusion XL does, its pictures would be black.

    Its configuration says so unless it was mended; that of other families says so too, but they stay in range.
    """
    upcast = getattr(getattr(module, "config", None), "force_upcast", False)
    return bool(upcast) and family_of(model.card).upcast_vae


def settle(part: str, module: Any, placement: Placement) -> Any:
    """A network that has just been read, in the format and the place where it stays until it works.

    It is done before the next one is read: so a model passes through RAM part by part, and one that is larger than the
    RAM can run on a card that holds it.

    Args:
        part: its name in the diffusers format.
        module: in RAM; changed in place.
        placement: of its model.
    """
    module = module.eval().requires_grad_(False)
    if not placement.has_own_memory:
        return module.to(placement.device)
    # T5 is as large as a denoiser.
    if placement.quantize and (part in DENOISERS or type(module).__name__ == "T5EncoderModel"):
        quantize_linear(module, placement.quantize)
    return module if waits(module, spread_of(placement), part in DENOISERS) else module.to(placement.device)


def quantize_linear(module: Any, kind: str) -> None:
    """Keep a network's matrices in 8 bits by torchao where it is installed, else in 8 or 4 (nf4) by bitsandbytes.

    Torchao's own 4 bits need further packages of kernels for each kind of card.

    Args:
        module: changed in place; before it is moved to the GPU.  What its class keeps wide (``number_formats``) stays
            as it is: T5 casts what comes to those layers to the format of their weights, which may be whole numbers.
        kind: int8 or int4.
    """
    import torch

    wide = wide_parts(module)
    linears = [
        name for name, one in module.named_modules() if type(one) is torch.nn.Linear and not wide & {*name.split(".")}
    ]
    if kind == "int8" and find_spec("torchao"):
        from torchao.quantization import Int8WeightOnlyConfig, quantize_

        quantize_(module, Int8WeightOnlyConfig(), filter_fn=lambda one, name: name in linears)
        return
    import bitsandbytes

    for path in linears:
        parent, _, name = path.rpartition(".")
        owner = module.get_submodule(parent)
        setattr(owner, name, _quantized_linear(bitsandbytes.nn, getattr(owner, name), kind))


def _quantized_linear(layers: Any, linear: Any, kind: str) -> Any:
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
