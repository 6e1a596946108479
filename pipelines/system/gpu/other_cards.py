"""Graphics cards of AMD and Intel that the installed PyTorch does not see: what the system itself tells of them."""

from __future__ import annotations

import re
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

AMD, INTEL = "AMD", "Intel"
# Chips that share the main memory have less of their own, and gain nothing.
LEAST_BYTES = 4 * 10**9
_SYSFS = Path("/sys/class/drm")
_VENDORS = {"0x1002": AMD, "0x8086": INTEL}
# Arc: Alchemist and Battlemage; the other chips of Intel are parts of processors.
_ARC = re.compile(r"0x(56[9ab]|e2[01])")
# Windows' list of display adapters.
_REGISTRY = r"SYSTEM\CurrentControlSet\Control\Class\{4d36e968-e325-11ce-bfc1-08002be10318}"


class OtherCard(NamedTuple):
    """A card of AMD or Intel with memory of its own.

    Attributes:
        maker: AMD or Intel.
        name: as a sentence calls it.
        memory: bytes, 0 if unknown.
    """

    maker: str
    name: str
    memory: int


def find(sysfs: Path = _SYSFS) -> OtherCard | None:
    """The first such card, AMD's before Intel's; None without one, and where the system does not tell."""
    found = _on_windows() if sys.platform == "win32" else _on_linux(sysfs)
    return min(found, key=lambda card: card.maker, default=None)


def _on_linux(sysfs: Path) -> list[OtherCard]:
    found = []
    for folder in sorted(sysfs.glob("card*/device")):
        maker, chip = _VENDORS.get(_text(folder / "vendor")), _text(folder / "device")
        memory = _text(folder / "mem_info_vram_total")
        size = int(memory) if memory.isascii() and memory.isdecimal() else 0
        if maker == AMD and size >= LEAST_BYTES:
            found.append(OtherCard(AMD, "The AMD graphics card", size))
        elif maker == INTEL and _ARC.match(chip):
            found.append(OtherCard(INTEL, "The Intel Arc card", 0))
    return found


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace").strip().lower()
    except OSError:
        return ""


def _on_windows() -> list[OtherCard]:
    import winreg

    registry: Any = winreg
    found = []
    with suppress(OSError), registry.OpenKey(registry.HKEY_LOCAL_MACHINE, _REGISTRY) as adapters:
        for index in range(registry.QueryInfoKey(adapters)[0]):
            with suppress(OSError), registry.OpenKey(adapters, registry.EnumKey(adapters, index)) as adapter:
                name = str(registry.QueryValueEx(adapter, "DriverDesc")[0])
                size = registry.QueryValueEx(adapter, "HardwareInformation.qwMemorySize")[0]
                if isinstance(size, int) and size >= LEAST_BYTES and (maker := _maker(name)):
                    found.append(OtherCard(maker, name, size))
    return found


def _maker(name: str) -> str:
    if re.search(r"\b(AMD|Radeon)\b", name):
        return AMD
    return INTEL if re.search(r"\bArc\b", name) else ""
