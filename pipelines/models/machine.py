"""What this machine has (memory, disk, GPU), and what was measured on it."""

from __future__ import annotations

import json
import platform
import shutil
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any

from pipelines.system.atomic_files import atomic_write, remove_stale_parts
from pipelines.system.bounded_json import read_json_file
from pipelines.system.gpu.graphics_card import CUDA, MPS, GraphicsCard, find, make_current


class Machine:
    """Graphics card, memory and disk of this machine, in bytes; tests replace it.

    Args:
        device: auto, cpu, cuda, cuda:1 and so on, or mps: of the card that is looked at.
    """

    def __init__(self, device: str = "auto") -> None:
        self._device = device

    @cached_property
    def card(self) -> GraphicsCard | None:
        """The facts of the graphics card, None without one; imports torch."""
        return find(self._device)

    def card_problem(self) -> str | None:
        """Why the graphics card is not used and what to do, "" if it is or there is none; None before it is known."""
        if "card" not in vars(self):  # looking imports torch, which takes seconds
            return None
        return self.card.problem if self.card else ""

    def ram(self) -> tuple[int, int]:
        """All of the main memory, and what programs can still get of it."""
        import psutil

        memory = psutil.virtual_memory()
        return memory.total, memory.available

    def vram(self) -> tuple[int, int]:
        """All of the memory of a graphics card that has its own, and what is free of it; (0, 0) without one."""
        card = self.card
        if card is None or card.kind != CUDA or card.problem:
            return 0, 0
        import torch

        free, total = torch.cuda.mem_get_info(card.device)
        # PyTorch's own cache of freed blocks is available to us.
        return total, free + torch.cuda.memory_reserved(card.device) - torch.cuda.memory_allocated(card.device)

    def shared(self) -> tuple[int, int]:
        """Of the main memory all that models can get where they run in it, and what is free of that.

        Apple's GPU gets no more than Apple recommends (``bound_share``).
        """
        (total, free), card = self.ram(), self.card
        if card is None or card.kind != MPS or card.problem:
            return total, free
        return min(total, card.memory), min(free, card.memory)

    def usable(self) -> int:
        """What this program can use of the card's memory: what is free, and what it holds itself."""
        card = self.card
        if card is None or card.kind != CUDA or card.problem:
            return 0
        import torch

        return self.vram()[1] + torch.cuda.memory_allocated(card.device)

    def usable_ram(self) -> int:
        """What this program can use of the main memory: what is free, and what it holds itself."""
        import psutil

        return int(psutil.virtual_memory().available + psutil.Process().memory_info().rss)

    def bound_share(self) -> None:
        """Have memory run out with an error, not spill: called before each load, for other programs come and go.

        Drivers on Windows and in WSL move what does not fit into the main memory, and a run becomes ten times slower;
        Apple's GPU takes the main memory until the machine swaps.
        """
        card = self.card
        if card is None or card.problem:
            return
        import torch

        if card.kind == MPS:
            torch.mps.set_per_process_memory_fraction(1.0)  # of what Apple recommends
        elif sys.platform == "win32" or "microsoft" in platform.release().lower():
            # The desktop's own pictures are in there too.
            share = min(0.95, self.usable() / max(1, self.vram()[0]))
            torch.cuda.set_per_process_memory_fraction(share, card.device)

    def make_current(self) -> None:
        """Have this thread's calls that name no card mean this one, where it is not the first (``cuda:1``)."""
        card = self.card
        if card is not None and not card.problem:
            make_current(card.device)

    def name(self) -> str:
        """The graphics card's name, "" without one."""
        return self.card.name if self.card else ""

    def disk(self, folder: Path) -> int:
        """Bytes free on the disk that a folder is on, or would be."""
        here = folder.expanduser().absolute()
        return shutil.disk_usage(next(path for path in (here, *here.parents) if path.exists())).free


class Measurements:
    """Small facts that outlast the program, in one JSON file.  Thread-safe.

    A missing or broken file counts as empty and is written again by the next note.  A file that cannot be written only
    means that nothing is remembered.

    Args:
        path: the file, or None to remember until the program ends.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._facts: dict[str, Any] = _read(path) if path else {}
        if path:
            remove_stale_parts(path.parent)

    def get(self, key: str) -> Any:
        """What is noted under a key, or None."""
        with self._lock:
            return self._facts.get(key)

    def items(self) -> Iterator[tuple[str, Any]]:
        """Everything that is noted."""
        with self._lock:
            return iter(list(self._facts.items()))

    def note(self, key: str, value: Any) -> None:
        """Note a value that JSON can hold; None takes it out."""
        with self._lock:
            if self._facts.get(key) == value:
                return
            self._facts = {name: kept for name, kept in self._facts.items() if name != key}
            if value is not None:
                self._facts[key] = value
            if self._path:
                with suppress(OSError):
                    self._path.parent.mkdir(parents=True, exist_ok=True)
                    with atomic_write(self._path, sync=False) as file:
                        file.write(json.dumps(self._facts, indent=1).encode())


def _read(path: Path) -> dict[str, Any]:
    try:
        facts = read_json_file(path)
    except (OSError, ValueError):
        return {}
    return facts if isinstance(facts, dict) else {}
