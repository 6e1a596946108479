"""Facts of graphics cards that people have, and machines with them: for tests and benchmarks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from benchmarks.gpu.pretend_memory import NAME, gpu
from pipelines.models.machine import Machine
from pipelines.system.gpu.graphics_card import CUDA, MPS, GraphicsCard

GB = 2**30
# What PyTorch 2.13's builds for CUDA 12.6, CUDA 13.0 and ROCm have kernels for.
CU126 = ("sm_50", "sm_60", "sm_70", "sm_75", "sm_80", "sm_86", "sm_90")
CU130 = ("sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120", "compute_120")
ROCM = ("gfx900", "gfx906", "gfx90a", "gfx1030", "gfx1100", "gfx1101")


def _nvidia(name: str, memory: int, capability: tuple[int, int], **more: object) -> GraphicsCard:
    facts = {"architectures": CU130, "driver": (13, 0), "runtime": (13, 0), "bfloat16": capability >= (8, 0)}
    architecture = "sm_{}{}".format(*capability)
    return GraphicsCard(name, CUDA, memory, capability, architecture=architecture, **{**facts, **more})  # type: ignore[arg-type]


# Apple recommends two thirds of the main memory for the GPU, of more than 32 GB three quarters.
CARDS: Mapping[str, GraphicsCard] = {
    "GTX 1060": _nvidia("NVIDIA GeForce GTX 1060 6GB", 6 * GB, (6, 1), architectures=CU126, runtime=(12, 6)),
    "GTX 1080": _nvidia("NVIDIA GeForce GTX 1080", 8 * GB, (6, 1), architectures=CU126, runtime=(12, 6)),
    "GTX 1660": _nvidia("NVIDIA GeForce GTX 1660", 6 * GB, (7, 5), float16=False),
    "RTX 2060": _nvidia("NVIDIA GeForce RTX 2060", 6 * GB, (7, 5)),
    "Tesla T4": _nvidia("Tesla T4", 15 * GB, (7, 5)),
    "RTX 3050": _nvidia("NVIDIA GeForce RTX 3050", 8 * GB, (8, 6)),
    "RTX 3060": _nvidia("NVIDIA GeForce RTX 3060", 12 * GB, (8, 6)),
    "RTX 4090": _nvidia("NVIDIA GeForce RTX 4090", 24 * GB, (8, 9)),
    "RTX 5090": _nvidia("NVIDIA GeForce RTX 5090", 32 * GB, (12, 0)),
    "H200": _nvidia("NVIDIA H200", 139 * GB, (9, 0)),
    "M1": GraphicsCard("Apple GPU", MPS, 16 * GB // 3, device=MPS),
    "M3": GraphicsCard("Apple GPU", MPS, 27 * GB, bfloat16=True, device=MPS),
    "Radeon": GraphicsCard(
        "AMD Radeon RX 7900 XTX", CUDA, 24 * GB, bfloat16=True, architectures=ROCM, architecture="gfx1100", rocm=True
    ),
}


class MachineWith(Machine):
    """A machine with one of these cards, or None.

    Args:
        card: of ``CARDS``.
        ram: all of the main memory and what is free of it, in bytes.
        free: bytes free on the card; None for all of them.
    """

    def __init__(self, card: GraphicsCard | None, ram: tuple[int, int] = (32 * GB, 24 * GB), free: int | None = None):
        super().__init__()
        self.card = card
        self._ram, self._free = ram, free

    def ram(self) -> tuple[int, int]:
        return self._ram

    def vram(self) -> tuple[int, int]:
        if self.card is None or self.card.kind != CUDA:
            return 0, 0
        return self.card.memory, self.card.memory if self._free is None else self._free

    def usable(self) -> int:
        return self.vram()[1]

    def usable_ram(self) -> int:
        return self._ram[1]

    def bound_share(self) -> None:
        pass

    def disk(self, folder: Path) -> int:
        return 500 * GB


class PretendMachine(MachineWith):
    """A machine whose card is the pretend GPU, with the facts of one of ``CARDS``."""

    def __init__(self, name: str = "RTX 3060", ram: tuple[int, int] = (32 * GB, 24 * GB)):
        super().__init__(replace(CARDS[name], device=NAME), ram)

    def vram(self) -> tuple[int, int]:
        assert self.card is not None
        if self.card.kind != CUDA:
            return 0, 0
        memory = min(gpu.memory, self.card.memory)
        return memory, memory - gpu.allocated

    def usable(self) -> int:
        return self.vram()[0]
