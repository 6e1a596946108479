"""The facts of a graphics card that decide how models run on it: read once, and one record for all of the program."""

from __future__ import annotations

import os
import re
import sys
import warnings
from dataclasses import dataclass, replace
from typing import Any

from pipelines.system.gpu import other_cards
from pipelines.system.gpu.nvidia_smi import FIRST_DRIVER, NvidiaSmi, ask, version
from pipelines.system.gpu.other_cards import AMD, INTEL, OtherCard
from pipelines.system.gpu.torch_build import (
    CUDA_12,
    CUDA_13,
    CUDA_13_CAPABILITY,
    FittingBuild,
    build_for,
    how_to_install,
)
from pipelines.system.text import first_line, shorten

CUDA, MPS = "cuda", "mps"
# Cards with a TU117 or TU116 chip: 16-bit convolutions come out wrong, and pictures black.
_NO_FLOAT16 = re.compile(r"GTX 16\d\d|MX ?[45]50|CMP 30HX|\bT(400|500|550|600|1000|1200|2000)\b")
# AMD's chips with arithmetic in bfloat16 (CDNA, RDNA 3 and newer); PyTorch says of all that they have it.
_ROCM_BFLOAT16 = re.compile(r"gfx(908|90a|94\d|950|11|12)")
# Smaller chips of RDNA 2 (RX 6400 to 6750): no build of PyTorch has kernels for them.
_RDNA_2 = re.compile(r"gfx103[1-6]\b")
# By which variables a user hides cards from a program.
_HIDING = ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES")


@dataclass(frozen=True)
class GraphicsCard:
    """A graphics card, and the build of PyTorch that is to use it.

    Attributes:
        name: as its driver says.
        kind: how PyTorch speaks to it: cuda (NVIDIA, and AMD through ROCm) or mps (Apple).
        memory: bytes; of Apple's chips the share of the main memory that a program gets for the GPU.
        capability: generation of an NVIDIA card, such as (8, 6); (0, 0) for others.
        float16, bfloat16: whether it computes right, and not by emulation, in this format.
        architectures: for which cards the build has kernels (sm_86, compute_90, gfx1100); () if it does not say.
        architecture: the card's own, among those names.
        driver, runtime: the newest CUDA that the driver runs, and that of the build; (0, 0) if unknown or none.
        rocm: whether it is an AMD card.
        device: its name in PyTorch.
        problem: why the build cannot use it and what to do, as one sentence; "" where it can.
        passed_over: the problem of an earlier card, where this one is used instead; else "".
    """

    name: str
    kind: str = CUDA
    memory: int = 0
    capability: tuple[int, int] = (0, 0)
    float16: bool = True
    bfloat16: bool = False
    architectures: tuple[str, ...] = ()
    architecture: str = ""
    driver: tuple[int, int] = (0, 0)
    runtime: tuple[int, int] = (0, 0)
    rocm: bool = False
    device: str = CUDA
    problem: str = ""
    passed_over: str = ""

    @property
    def half_is_quick(self) -> bool:
        """Whether 16-bit arithmetic is quicker than 32-bit: not on most NVIDIA cards before 2018.

        The rates are in NVIDIA's CUDA C++ programming guide (throughput of arithmetic instructions by capability).
        """
        return self.rocm or self.kind == MPS or self.capability >= (7, 0) or self.capability in ((5, 3), (6, 0), (6, 2))


def mismatch(card: GraphicsCard) -> str:
    """Why a build of PyTorch cannot compute on a card and what to do, as one sentence, or ""."""
    if card.kind != CUDA:
        return ""
    build = _fitting(card).name
    if build == "cpu" and not card.rocm:
        return f"No build of this PyTorch has kernels for {card.name} ({card.architecture}); start with --device cpu."
    if card.driver > (0, 0) and card.runtime[0] > card.driver[0] and not card.rocm:
        if (0, 0) < card.capability < CUDA_13_CAPABILITY and card.runtime >= CUDA_13:
            return _no_kernels(card)  # a newer driver alone would not help
        other = card.driver >= CUDA_12 and build == "cu126" and card.runtime[0] > CUDA_12[0]
        update = f"update the driver to {FIRST_DRIVER.get(card.runtime[0], 'the newest')}"
        return (
            f"The driver of {card.name} is too old for this PyTorch (it runs CUDA {_dotted(card.driver)}, this build "
            f"wants {_dotted(card.runtime)}); {update} or newer"
            f"{', or install the build for it: ' + how_to_install(build) if other else ''}."
        )
    if card.architectures and not has_kernels(card):
        return _no_kernels(card)
    return ""


def _no_kernels(card: GraphicsCard) -> str:
    missing, build = f"This PyTorch has no kernels for {card.name} ({card.architecture})", _fitting(card)
    if _RDNA_2.match(card.architecture):
        return (
            f"{missing}; such chips often run those for gfx1030: HSA_OVERRIDE_GFX_VERSION=10.3.0 make run, else "
            "--device cpu."
        )
    if card.rocm:
        return f"{missing}; a build for a newer ROCm may have them: make run TORCH=rocm7.2, else --device cpu."
    update = f"update its driver to {build.driver} or newer, then " if build.driver else ""
    return f"{missing}; {update}install the build that has them: {how_to_install(build.name)}."


def _fitting(card: GraphicsCard) -> FittingBuild:
    return build_for(card.capability, card.driver)


def has_kernels(card: GraphicsCard) -> bool:
    """Whether a build has machine code for a card, or PTX that its driver can compile.

    Machine code for sm_86 runs on 8.6 and on later minor versions of 8; PTX (compute_80) runs on everything newer
    (NVIDIA's CUDA C++ programming guide, binary and PTX compatibility).
    """
    if card.rocm:
        return card.architecture.partition(":")[0] in {name.partition(":")[0] for name in card.architectures}
    for name in card.architectures:
        found = re.fullmatch(r"(sm|compute)_(\d+)(\d)a?f?", name)
        if found is None:
            continue
        kind, version = found[1], (int(found[2]), int(found[3]))
        same = version[0] == card.capability[0] and version <= card.capability
        if same or (kind == "compute" and version <= card.capability):
            return True
    return False


def find(device: str = "auto") -> GraphicsCard | None:
    """The graphics card that models run on, or would run on with another build of PyTorch; None without one.

    Args:
        device: auto, cpu, cuda, cuda:1 and so on, or mps.
    """
    import torch

    if device == "cpu":
        return None
    wanted = device.partition(":")[0]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns of what ``mismatch`` says in a sentence
        if wanted in ("auto", CUDA) and torch.cuda.is_available():
            if device in ("auto", CUDA):
                return _first_usable(torch)
            index = int(device.partition(":")[2])
            return _cuda_card(torch, index, device) if index < _count(torch) else None
    if wanted in ("auto", MPS) and torch.backends.mps.is_available():
        return _mps_card(torch)
    if wanted not in ("auto", CUDA):
        return None
    hiding = next((f"{name}={os.environ[name]}" for name in _HIDING if name in os.environ), "")
    if wanted == "auto" and hiding.partition("=")[2].strip() in ("", "-1") and hiding:
        return None  # as the user wants it
    hiding = shorten(hiding, 60)
    return unused_card(ask(), version(torch.version.cuda), _driver(torch), hiding) or unused_other_card(
        other_cards.find(), torch.version.hip is not None, hiding
    )


def make_current(device: str) -> None:
    """Have this thread's calls that name no card mean this one, where it is not the first (``cuda:1``)."""
    if device.startswith(f"{CUDA}:"):
        import torch

        torch.cuda.set_device(device)


def hand_back(device: str) -> None:
    """Give the memory that a GPU's allocator keeps for the next work back: of Apple's GPU all programs share it."""
    import torch

    torch.get_device_module(device).empty_cache()


def _count(torch: Any) -> int:
    return int(torch.cuda.device_count())


def _first_usable(torch: Any) -> GraphicsCard:
    """The first card that the build can compute on, else the first one."""
    first = _cuda_card(torch, 0, CUDA)
    others = (_cuda_card(torch, index, f"{CUDA}:{index}") for index in range(1, _count(torch) if first.problem else 1))
    usable = next((card for card in others if not card.problem), None)
    return first if usable is None else replace(usable, passed_over=first.problem)


def _cuda_card(torch: Any, index: int, device: str) -> GraphicsCard:
    try:
        found = _facts(torch, index, device)
    except Exception as error:  # a driver that is there and does not work
        return GraphicsCard(
            "The graphics card", device=device,
            problem=f"PyTorch cannot start on the graphics card ({first_line(error)}); restart the computer, update "
            "its driver, or start with --device cpu.",
        )  # fmt: skip
    return _with_problem(found, mismatch(found) or _first_kernel(torch, found))


def _facts(torch: Any, index: int, device: str) -> GraphicsCard:
    facts = torch.cuda.get_device_properties(index)
    name, rocm = torch.cuda.get_device_name(index), torch.version.hip is not None
    capability = (0, 0) if rocm else tuple(torch.cuda.get_device_capability(index))
    architecture = getattr(facts, "gcnArchName", "") if rocm else "sm_{}{}".format(*capability)
    with torch.cuda.device(index):
        bfloat16 = not rocm and torch.cuda.is_bf16_supported(including_emulation=False)
    return GraphicsCard(
        name=name,
        memory=facts.total_memory,
        capability=capability,
        float16=rocm or _NO_FLOAT16.search(name) is None,
        bfloat16=bfloat16 or (rocm and _ROCM_BFLOAT16.match(architecture) is not None),
        architectures=tuple(torch.cuda.get_arch_list()),
        architecture=architecture,
        driver=_driver(torch),
        runtime=version(torch.version.cuda),
        rocm=rocm,
        device=device,
    )


def _mps_card(torch: Any) -> GraphicsCard:
    float16, bfloat16 = (_computes_right(torch, MPS, name) for name in ("float16", "bfloat16"))
    memory = int(torch.mps.recommended_max_memory())
    return GraphicsCard("Apple GPU", MPS, memory, float16=float16, bfloat16=bfloat16, device=MPS)


def unused_card(
    smi: NvidiaSmi, runtime: tuple[int, int], driver: tuple[int, int] = (0, 0), hiding: str = ""
) -> GraphicsCard | None:
    """An NVIDIA card that PyTorch does not see, with what keeps it from using it; None without one.

    Args:
        smi: what nvidia-smi tells.
        runtime: the CUDA of the build, (0, 0) for one without.
        driver: the CUDA that the driver runs as PyTorch tells, (0, 0) where it does not.
        hiding: the variable of the environment that hides cards, with its value; "" without one.
    """
    if smi.silent:
        name = "The NVIDIA card"
        return GraphicsCard(
            name, problem=f"{name} is not used: its driver does not answer (nvidia-smi); restart the computer or "
            "install the driver again, or start with --device cpu if there is no such card.",
        )  # fmt: skip
    if not smi.cards:
        return None
    # One that some build can use, if there is any.
    told = next((card for card in smi.cards if build_for(card.capability).name != "cpu"), smi.cards[0])
    found = GraphicsCard(
        told.name, memory=told.memory, capability=told.capability, driver=max(driver, smi.driver), runtime=runtime,
        architecture="sm_{}{}".format(*told.capability),
    )  # fmt: skip
    if reason := mismatch(found):
        return _with_problem(found, reason)
    if runtime == (0, 0):
        return _with_problem(found, _without_cuda(found))
    if hiding:
        return _with_problem(found, f"{hiding} hides {found.name} from this program; unset it, or name a card there.")
    build = build_for(found.capability, found.driver).name
    return _with_problem(
        found,
        f"{found.name} is not used: this PyTorch (CUDA {_dotted(runtime)}) cannot reach it; update its driver, or "
        f"install another build: {how_to_install(build)}.",
    )


def unused_other_card(other: OtherCard | None, rocm: bool, hiding: str = "") -> GraphicsCard | None:
    """A card of AMD or Intel that PyTorch does not see, with what keeps it from using it; None without one.

    Args:
        other: what the system tells.
        rocm: whether the build is one for AMD's cards.
        hiding: as for ``unused_card``.
    """
    if other is None:
        return None
    if other.maker == INTEL:
        reason = "this program computes on NVIDIA, AMD and Apple GPUs alone"
        what = "models run on the CPU; start with --device cpu to be told no more"
    elif sys.platform == "win32":
        reason = "PyTorch has no build for AMD cards on Windows"
        what = "use Linux for it, or start with --device cpu to be told no more"
    elif not rocm:
        reason, what = "the installed PyTorch has no ROCm", f"install the build for it: {how_to_install('rocm')}"
    elif hiding:
        reason, what = f"{hiding} hides it from this program", "unset it, or name a card there"
    else:
        reason = "this PyTorch (ROCm) cannot reach it"
        what = "update its driver, and add your user to the groups render and video"
    return GraphicsCard(
        other.name, memory=other.memory, rocm=other.maker == AMD, problem=f"{other.name} is not used: {reason}; {what}."
    )


def _without_cuda(card: GraphicsCard) -> str:
    build = build_for(card.capability, card.driver)
    first = f"update its driver to {build.driver} or newer, then " if build.driver else ""
    return (
        f"{card.name} is not used: the installed PyTorch has no CUDA; {first}install the build for the card: "
        f"{how_to_install(build.name)}."
    )


def _with_problem(card: GraphicsCard, problem: str) -> GraphicsCard:
    return replace(card, problem=problem)


def _first_kernel(torch: Any, card: GraphicsCard) -> str:
    """Whether one tiny kernel runs: the answer that no table of versions gives."""
    try:
        ok = torch.ones(2, device=card.device).sum().item() == 2
    except Exception as error:
        if "out of memory" in str(error).lower():
            return ""
        ok = False
    return "" if ok else f"PyTorch cannot compute on {card.name}; update its driver, or start with --device cpu."


def _computes_right(torch: Any, device: str, dtype: str) -> bool:
    """Whether a matrix product and a convolution in a 16-bit format agree with float32 on the CPU."""
    generator = torch.Generator().manual_seed(0)
    x, w = (torch.randn(shape, generator=generator) for shape in ((1, 8, 16, 16), (8, 8, 3, 3)))
    try:
        kind = getattr(torch, dtype)
        a, b = x.to(device, kind), w.to(device, kind)
        found = torch.nn.functional.conv2d(a, b, padding=1).float().cpu()
        product = (a[0, 0] @ a[0, 1]).float().cpu()
    except Exception:
        return False
    close = torch.allclose(found, torch.nn.functional.conv2d(x, w, padding=1), rtol=0.05, atol=0.3)
    return bool(close and torch.allclose(product, x[0, 0] @ x[0, 1], rtol=0.05, atol=0.3))


def _driver(torch: Any) -> tuple[int, int]:
    try:
        number = int(torch._C._cuda_getDriverVersion())  # 12040 for CUDA 12.4
    except (AttributeError, RuntimeError):
        return 0, 0
    return number // 1000, number % 1000 // 10


def _dotted(version: tuple[int, int]) -> str:
    return "{}.{}".format(*version)
