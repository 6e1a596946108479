"""What the NVIDIA driver's own program tells of cards and driver; needs nothing but Python."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass

PROGRAM = "nvidia-smi"
# Where drivers put it that is not always on the path: in WSL, and on Windows before and after 2020.
PLACES = (
    "/usr/lib/wsl/lib/nvidia-smi", r"C:\Windows\System32\nvidia-smi.exe",
    r"C:\Program Files\NVIDIA Corporation\NVSMI\nvidia-smi.exe",
)  # fmt: skip
# A laptop's card may sleep, and takes seconds to wake.
SECONDS = 20.0
FIELDS = "name,memory.total,driver_version"
# Drivers before 2022 do not know the last field and refuse the whole question.
QUERIES = (f"{FIELDS},compute_cap", FIELDS)
NO_CARD = "no devices were found"
# The first driver for each CUDA (NVIDIA's CUDA compatibility guide): it runs that CUDA and older ones.
FIRST_DRIVER = {13: 580, 12: 525, 11: 450, 10: 410}


@dataclass(frozen=True)
class NvidiaCard:
    """A card as its driver tells of it.

    Attributes:
        name: of the card.
        memory: bytes, 0 where it has none of its own.
        capability: such as (8, 6); (0, 0) where the driver is too old to say.
    """

    name: str
    memory: int = 0
    capability: tuple[int, int] = (0, 0)


@dataclass(frozen=True)
class NvidiaSmi:
    """The answer of nvidia-smi.

    Attributes:
        cards: in the driver's order.
        driver: the newest CUDA that the driver runs, (0, 0) if unknown.
        silent: whether the program is there and does not answer.
    """

    cards: tuple[NvidiaCard, ...] = ()
    driver: tuple[int, int] = (0, 0)
    silent: bool = False


def ask() -> NvidiaSmi:
    """Ask nvidia-smi, for some seconds at most; an empty answer where there is none."""
    path = shutil.which(PROGRAM) or next((place for place in PLACES if os.access(place, os.X_OK)), None)
    if path is None:
        return NvidiaSmi()
    for query in QUERIES:
        try:
            done = subprocess.run(
                [path, f"--query-gpu={query}", "--format=csv,noheader,nounits"],
                capture_output=True, text=True, errors="replace", timeout=SECONDS, check=False,
            )  # fmt: skip
        except (OSError, subprocess.SubprocessError):
            break
        found = read(done.stdout)
        if found.cards or NO_CARD in (done.stdout + done.stderr).lower():
            return found
    return NvidiaSmi(silent=True)


def read(answer: str) -> NvidiaSmi:
    """What lines of name, memory in MiB, driver and, from newer drivers, capability say; other lines say nothing."""
    cards, driver = [], (0, 0)
    for line in answer.splitlines():
        name, *facts = (part.strip() for part in line.split(","))
        if len(facts) not in (2, 3) or not re.fullmatch(r"\d+(\.\d+)+", facts[1]):
            continue
        memory = int(facts[0]) * 2**20 if facts[0].isascii() and facts[0].isdecimal() else 0
        cards.append(NvidiaCard(name, memory, version(facts[2]) if len(facts) == 3 else (0, 0)))
        driver = _cuda_of(int(facts[1].partition(".")[0]))
    return NvidiaSmi(tuple(cards), driver)


def version(text: str | None) -> tuple[int, int]:
    """The first two numbers of a text, (0, 0) without them."""
    numbers = re.findall(r"\d+", text or "")[:2]
    return (int(numbers[0]), int(numbers[1])) if len(numbers) == 2 else (0, 0)


def _cuda_of(driver: int) -> tuple[int, int]:
    return next(((cuda, 0) for cuda, first in FIRST_DRIVER.items() if driver >= first), (9, 0))
