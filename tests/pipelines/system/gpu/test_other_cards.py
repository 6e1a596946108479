"""Cards of AMD and Intel that PyTorch does not see: what the system tells of them, and what the user is told."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from pipelines.models.placement import NoSuchDevice, resolve
from pipelines.system.gpu import graphics_card, other_cards
from pipelines.system.gpu.graphics_card import unused_other_card
from pipelines.system.gpu.nvidia_smi import NvidiaSmi
from pipelines.system.gpu.other_cards import AMD, INTEL, OtherCard, find
from tests.support.tiny_model import tiny_card

RADEON = OtherCard(AMD, "The AMD graphics card", 16 * 2**30)
ARC = OtherCard(INTEL, "The Intel Arc card", 0)


def sysfs(folder: Path, *cards: dict[str, str]) -> Path:
    for index, card in enumerate(cards):
        device = folder / f"card{index}" / "device"
        device.mkdir(parents=True)
        for name, text in card.items():
            (device / name).write_text(text + "\n")
    return folder


@pytest.mark.parametrize(
    ("card", "found"),
    [
        ({"vendor": "0x1002", "device": "0x744c", "mem_info_vram_total": str(24 * 2**30)}, AMD),
        ({"vendor": "0x1002", "device": "0x1681", "mem_info_vram_total": str(2**29)}, None),  # part of a processor
        ({"vendor": "0x1002", "device": "0x744c"}, None),  # a driver that does not tell
        ({"vendor": "0x1002", "device": "0x744c", "mem_info_vram_total": "\u0665"}, None),
        ({"vendor": "0x8086", "device": "0x56a0"}, INTEL),
        ({"vendor": "0x8086", "device": "0xe20b"}, INTEL),
        ({"vendor": "0x8086", "device": "0x46a6"}, None),
        ({"vendor": "0x10de", "device": "0x2484"}, None),
        ({}, None),
    ],
)
def test_linux_tells_of_cards_with_memory_of_their_own(card: dict[str, str], found: str | None, tmp_path: Path) -> None:
    there = find(sysfs(tmp_path, {"vendor": "0x1a03"}, card))
    assert (there.maker if there else None) == found
    assert find(tmp_path / "nowhere") is None


def test_a_card_that_a_build_can_use_is_named_first(tmp_path: Path) -> None:
    arc = {"vendor": "0x8086", "device": "0x56a0"}
    radeon = {"vendor": "0x1002", "device": "0x744c", "mem_info_vram_total": str(24 * 2**30)}
    there = find(sysfs(tmp_path, arc, radeon))
    assert there is not None and there.maker == AMD and there.memory == 24 * 2**30


def test_windows_tells_of_its_display_adapters(monkeypatch: pytest.MonkeyPatch) -> None:
    adapters: list[dict[str, Any]] = [
        {"DriverDesc": "Microsoft Basic Render Driver"},
        {"DriverDesc": "AMD Radeon(TM) Graphics", "HardwareInformation.qwMemorySize": 2**29},
        {"DriverDesc": "Intel(R) Arc(TM) A770 Graphics", "HardwareInformation.qwMemorySize": 16 * 2**30},
        {"DriverDesc": "AMD Radeon RX 7900 XTX", "HardwareInformation.qwMemorySize": 24 * 2**30},
        {"DriverDesc": "NVIDIA GeForce RTX 3060", "HardwareInformation.qwMemorySize": 12 * 2**30},
    ]

    def value(adapter: dict[str, Any], name: str) -> tuple[Any, int]:
        if name not in adapter:
            raise FileNotFoundError(name)
        return adapter[name], 0

    def opened(parent: Any, key: Any) -> Any:
        return nullcontext(adapters if isinstance(parent, str) else adapters[key])

    registry = SimpleNamespace(
        HKEY_LOCAL_MACHINE="machine", OpenKey=opened, QueryInfoKey=lambda key: (len(key), 0, 0),
        EnumKey=lambda key, index: index, QueryValueEx=value,
    )  # fmt: skip
    monkeypatch.setitem(sys.modules, "winreg", registry)
    assert [card.name for card in other_cards._on_windows()] == [adapters[2]["DriverDesc"], adapters[3]["DriverDesc"]]
    monkeypatch.setattr(sys, "platform", "win32")
    found = find()
    assert found is not None and found.maker == AMD
    registry.OpenKey = lambda parent, key: (_ for _ in ()).throw(OSError("no such key"))
    assert find() is None


@pytest.mark.parametrize(
    ("card", "system", "rocm", "hiding", "told"),
    [
        (RADEON, "linux", False, "", "has no ROCm; install the build for it: make run TORCH=rocm."),
        (RADEON, "linux", True, "", "cannot reach it; update its driver, and add your user to the groups render"),
        (RADEON, "linux", True, "HIP_VISIBLE_DEVICES=7", "HIP_VISIBLE_DEVICES=7 hides it from this program; unset it"),
        (RADEON, "win32", False, "", "PyTorch has no build for AMD cards on Windows; use Linux for it"),
        (ARC, "linux", False, "", "computes on NVIDIA, AMD and Apple GPUs alone; models run on the CPU"),
        (ARC, "win32", False, "", "start with --device cpu to be told no more"),
    ],
)
def test_what_to_do_is_said_in_one_sentence(
    card: OtherCard, system: str, rocm: bool, hiding: str, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", system)
    found = unused_other_card(card, rocm, hiding)
    assert found is not None and found.problem.startswith(f"{card.name} is not used: ") and told in found.problem
    assert found.problem.endswith(".") and found.problem.count(". ") == 0
    assert unused_other_card(None, rocm) is None


def test_a_build_without_rocm_is_not_silent_of_the_card(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graphics_card, "ask", NvidiaSmi)
    monkeypatch.setattr(other_cards, "find", lambda: RADEON)
    found = graphics_card.find("auto")
    assert found is not None and "has no ROCm" in found.problem
    assert graphics_card.find("cpu") is None
    machine: Any = SimpleNamespace(card=found)
    here = resolve(card=tiny_card("x"), machine=machine)
    assert here.device == "cpu" and here.note == found.problem
    with pytest.raises(NoSuchDevice, match="has no ROCm"):
        resolve("cuda", card=tiny_card("x"), machine=machine)
    monkeypatch.setenv("HIP_VISIBLE_DEVICES", "-1")  # as the user wants it
    assert graphics_card.find("auto") is None
    assert torch.version.hip is None
