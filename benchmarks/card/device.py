"""The device that is measured: its memory, the most that was taken of it, and a bound on it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from pipelines.models.machine import Machine
from pipelines.system.gpu.graphics_card import CUDA, GraphicsCard

GB = 2**30


class BoundedMachine(Machine):
    """This machine, as if its card had less memory.

    Args:
        device: auto, cpu, cuda, cuda:1 and so on, or mps.
        limit: bytes of the card.
    """

    def __init__(self, device: str, limit: int) -> None:
        super().__init__(device)
        self._limit = limit

    def vram(self) -> tuple[int, int]:
        total, free = super().vram()
        if not total:
            return 0, 0
        import torch

        assert self.card is not None
        left = self._limit - torch.cuda.memory_allocated(self.card.device)
        return min(total, self._limit), max(0, min(free, left))

    def usable(self) -> int:
        return min(super().usable(), self._limit)

    def bound_share(self) -> None:
        """The bound is there already."""


class MeasuredDevice:
    """A device and its memory.

    Args:
        name: auto, cpu, cuda, cuda:1 and so on, or mps.
    """

    def __init__(self, name: str = "auto") -> None:
        self.name = name

    @property
    def card(self) -> GraphicsCard | None:
        """The card that models run on; None for the CPU."""
        card = Machine(self.name).card
        return None if card is None or card.problem else card

    @property
    def memory(self) -> int:
        """Bytes of the card that has its own, 0 without one."""
        card = self.card
        return card.memory if card is not None and card.kind == CUDA else 0

    def machine(self, limit: int | None = None) -> Machine:
        """The machine, its card bounded to so many bytes."""
        return BoundedMachine(self.name, limit) if limit else Machine(self.name)

    def bound(self, limit: int | None) -> None:
        """Have an allocation beyond these bytes fail, as it would on a smaller card; None for no bound."""
        import torch

        card = self.card
        if card is not None and card.kind == CUDA:
            share = min(1.0, limit / card.memory) if limit else 1.0
            torch.cuda.set_per_process_memory_fraction(share, card.device)

    def reset_peak(self) -> None:
        """Measure the most memory from now on."""
        import torch

        if self.memory:
            torch.cuda.reset_peak_memory_stats(self.device)

    def peak(self) -> int | None:
        """The most bytes since then; None where that is not known."""
        import torch

        return int(torch.cuda.max_memory_allocated(self.device)) if self.memory else None

    @property
    def device(self) -> str:
        """Its name in PyTorch."""
        return self.card.device if self.card else "cpu"

    def wait(self) -> None:
        """Let it finish what it was asked for."""
        import torch

        if self.card is not None:
            torch.get_device_module(self.device.partition(":")[0]).synchronize()

    def timed(self, work: Callable[[], Any]) -> tuple[Any, dict[str, Any]]:
        """What the work returns, and its seconds and the most memory, in GB where that is known."""
        self.wait()
        self.reset_peak()
        started = time.perf_counter()
        done = work()
        self.wait()
        seconds, peak = time.perf_counter() - started, self.peak()
        return done, {"seconds": round(seconds, 3), **({} if peak is None else {"peak_gb": round(peak / 1e9, 3)})}
