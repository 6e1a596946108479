"""The build of PyTorch for each machine."""

from __future__ import annotations

import sys

import pytest

from pipelines.system.gpu.nvidia_smi import NvidiaSmi, read
from pipelines.system.gpu.torch_build import INDEX, build_for, choose, command_in, has_own_sources, how_to_install
from pipelines.system.text import hide_paths


def smi(driver: str, *capabilities: str) -> NvidiaSmi:
    return read("\n".join(f"A card, 8192, {driver}, {capability}" for capability in capabilities))


NONE, SILENT = NvidiaSmi(), NvidiaSmi(silent=True)


@pytest.mark.parametrize(
    ("system", "machine", "told", "name", "words"),
    [
        ("Linux", "x86_64", NONE, "cpu", "finds no NVIDIA card"),
        ("Windows", "AMD64", NONE, "cpu", "finds no NVIDIA card"),
        ("Windows", "AMD64", SILENT, "cpu", "nvidia-smi does not answer"),
        ("Windows", "AMD64", smi("581.29", "8.6"), "cu130", ""),  # RTX 3050
        ("Linux", "x86_64", smi("580.65.06", "8.9"), "cu130", ""),
        ("Linux", "x86_64", smi("580.65.06", "7.5"), "cu130", ""),  # Tesla T4, RTX 2060, GTX 1660
        ("Linux", "x86_64", smi("580.65.06", "6.1"), "cu126", "CUDA 13 has no kernels"),  # GTX 1060, 1080
        ("Linux", "x86_64", smi("580.65.06", "7.0"), "cu126", "CUDA 13 has no kernels"),  # V100
        ("Linux", "x86_64", smi("580.65.06", "8.6", "6.1"), "cu126", ""),
        ("Linux", "x86_64", smi("550.54.14", "8.6"), "cu126", "CUDA 13 wants a driver of 580"),
        ("Linux", "x86_64", smi("470.82.01", "8.6"), "cu126", "CUDA 13 wants a driver of 580"),
        ("Linux", "x86_64", smi("470.82", "8.6"), "cu126", "update its driver to 525"),
        ("Linux", "x86_64", read("Quadro P2000, 5120, 390.77"), "cu126", "update its driver to 525"),
        ("Linux", "x86_64", smi("570.86", "12.0"), "cu130", "update its driver to 580"),  # RTX 5090: not in cu126
        ("Linux", "x86_64", smi("580.65.06", "12.0", "6.1"), "cu130", ""),
        ("Linux", "x86_64", smi("470.82", "3.5"), "cpu", "no build of this version"),  # GTX 780
        ("Linux", "x86_64", smi("580.65.06", "8.6", "3.5"), "cu130", ""),
        ("Linux", "aarch64", smi("580.65.06", "9.0"), "", ""),
        ("Darwin", "arm64", NONE, "", ""),
    ],
)
def test_the_build_goes_by_system_and_card(system: str, machine: str, told: NvidiaSmi, name: str, words: str) -> None:
    found = choose("auto", system, machine, told)
    assert found.name == name and found.index == (INDEX + name if name else "")
    assert found.why.endswith(".") and ("GB" in found.why) == bool(name) and words in found.why


def test_a_build_by_name_and_sources_of_ones_own() -> None:
    assert choose("cu126", "Linux", "x86_64").index == INDEX + "cu126"
    assert choose("rocm", "Linux", "x86_64").index.startswith(INDEX + "rocm")
    assert choose("rocm7.2", "Linux", "x86_64").index == INDEX + "rocm7.2"
    assert "does not use" in choose("rocm", "Linux", "x86_64", smi("580.65", "8.6")).why
    assert choose("auto", "Linux", "x86_64", smi("580.65", "8.6"), own_sources=True).index == ""
    assert choose("cpu", "Darwin", "arm64").index == ""
    with pytest.raises(ValueError, match="allowed: auto, cpu, cu126, cu130, rocm"):
        choose("cuda", "Linux", "x86_64")
    assert has_own_sources({"PIP_INDEX_URL": "https://here"}) and has_own_sources({}, "global.find-links='/x'")
    assert has_own_sources({}, "global.extra-index-url = 'https://here'") and not has_own_sources(
        {}, "global.cert='/x'"
    )


@pytest.mark.parametrize(
    ("asked", "system", "machine", "words"),
    [
        ("auto", "Darwin", "x86_64", "not made for Intel Macs"),
        ("cpu", "Darwin", "x86_64", "not made for Intel Macs"),
        ("cu130", "Darwin", "arm64", "A Mac has no use for the build cu130"),
        ("rocm", "Windows", "AMD64", "for Linux on x86-64 alone"),
        ("rocm7.2", "Linux", "aarch64", "for Linux on x86-64 alone"),
    ],
)
def test_what_is_not_made_for_a_machine_is_said_before_anything_is_fetched(
    asked: str, system: str, machine: str, words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        choose(asked, system, machine)


def test_the_command_replaces_the_installed_build_also_without_make(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    assert how_to_install("cu126") == "make run TORCH=cu126"
    assert command_in(f"It is old; install it: {how_to_install('rocm7.2')}, else not.") == "make run TORCH=rocm7.2"
    assert command_in("Update its driver.") == ""
    monkeypatch.setattr(sys, "platform", "win32")
    # Without the build's name pip would take the one that is there for the right one.
    found = how_to_install("cu130")
    assert found.startswith(r".venv\Scripts\python -m pip install torch==")
    assert found.endswith(f"+cu130 --index-url {INDEX}cu130") and hide_paths(found) == found
    assert command_in(f"It is old; install it: {found}.") == found


def test_what_must_be_updated_first() -> None:
    assert build_for((8, 6), (11, 0)).driver == 525 and build_for((12, 0), (12, 0)).driver == 580
    assert build_for((6, 1), (12, 0)).driver == build_for((8, 6), (13, 0)).driver == build_for((0, 0)).driver == 0
