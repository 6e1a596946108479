"""Which builds of PyTorch can use which graphics card, and what the user is told where one cannot."""

from __future__ import annotations

from dataclasses import replace

import pytest

from benchmarks.gpu.graphics_cards import CARDS, CU126, CU130, MachineWith
from pipelines.system.gpu.graphics_card import GraphicsCard, find, has_kernels, mismatch, unused_card


@pytest.mark.parametrize("name", CARDS)
def test_each_card_works_with_the_build_for_it(name: str) -> None:
    assert mismatch(CARDS[name]) == ""


@pytest.mark.parametrize(
    ("capability", "build", "found"),
    [
        ((6, 1), CU126, True),  # machine code for 6.0 runs on 6.1
        ((5, 2), CU126, True),
        ((6, 1), CU130, False),
        ((7, 0), CU130, False),  # V100
        ((8, 9), CU130, True),  # machine code for 8.6
        ((12, 1), CU126, False),
        ((12, 1), CU130, True),
        ((13, 0), CU130, True),  # PTX that its driver compiles
        ((9, 0), ("sm_90a",), True),
        ((8, 0), ("sm_86",), False),
        ((8, 6), ("nonsense",), False),
    ],
)
def test_which_cards_a_build_has_kernels_for(capability: tuple[int, int], build: tuple[str, ...], found: bool) -> None:
    assert has_kernels(GraphicsCard("A card", capability=capability, architectures=build)) is found


def test_what_to_do_is_said_in_one_sentence() -> None:
    old = mismatch(replace(CARDS["GTX 1060"], architectures=CU130))
    assert "no kernels for NVIDIA GeForce GTX 1060 6GB (sm_61)" in old and "make run TORCH=cu126" in old
    driver = mismatch(replace(CARDS["RTX 3060"], driver=(12, 4)))
    assert "runs CUDA 12.4, this build wants 13.0" in driver and "update the driver" in driver
    radeon = mismatch(replace(CARDS["Radeon"], architecture="gfx803"))
    assert "no kernels for AMD Radeon" in radeon and "TORCH=rocm" in radeon
    assert mismatch(replace(CARDS["Radeon"], architecture="gfx1100:sramecc+:xnack-")) == ""
    for sentence in (old, driver, radeon):
        assert sentence.endswith(".") and sentence.count(". ") == 0


@pytest.mark.parametrize(
    ("answer", "runtime", "words"),
    [
        ("NVIDIA GeForce RTX 3060, 12288, 8.6\n", (0, 0), "make run TORCH=cu130"),
        ("NVIDIA GeForce GTX 1060 6GB, 6144, 6.1\nother, 1, 1.0", (0, 0), "make run TORCH=cu126"),
        ("NVIDIA GeForce RTX 3060, 12288, 8.6", (13, 0), "update its driver"),
    ],
)
def test_a_card_that_pytorch_does_not_see_is_not_passed_over(answer: str, runtime: tuple[int, int], words: str) -> None:
    """PyPI's PyTorch on Windows computes on the CPU and knows of no card."""
    found = unused_card(answer, runtime)
    assert found is not None and found.name in found.problem and words in found.problem
    assert found.memory == int(answer.split(",")[1]) * 2**20


@pytest.mark.parametrize("answer", ["", "No devices were found", "a, b, c", "x, 12"])
def test_an_answer_without_a_card(answer: str) -> None:
    assert unused_card(answer, (0, 0)) is None


def test_where_nothing_is_there_nothing_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name: None)
    assert find("cpu") is None and find("cuda") is None and find("mps") is None


def test_a_driver_that_would_spill_is_bounded_at_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows' driver moves to the main memory what does not fit, and a run becomes ten times slower."""
    import platform
    import sys

    import torch

    from pipelines.models.machine import Machine

    shares: list[tuple[float, str]] = []
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", lambda share, card: shares.append((share, card)))
    monkeypatch.setattr(torch.mps, "set_per_process_memory_fraction", lambda share: shares.append((share, "mps")))

    def bound(name: str, free: float = 0.8) -> None:
        machine = MachineWith(CARDS[name])
        machine._free = int(CARDS[name].memory * free)
        Machine.bound_share(machine)

    bound("RTX 3060")
    assert shares == []
    monkeypatch.setattr(sys, "platform", "win32")
    bound("RTX 3060")
    bound("RTX 3060", free=1.0)
    monkeypatch.undo()
    assert shares == [(pytest.approx(0.8, abs=0.01), "cuda"), (0.95, "cuda")]
    with monkeypatch.context() as patch:
        patch.setattr(platform, "release", lambda: "5.15.153.1-microsoft-standard-WSL2")
        patch.setattr(torch.cuda, "set_per_process_memory_fraction", lambda share, card: shares.append((share, "wsl")))
        bound("RTX 2060")
        patch.setattr(torch.mps, "set_per_process_memory_fraction", lambda share: shares.append((share, "mps")))
        bound("M1")
    assert [where for _, where in shares[2:]] == ["wsl", "mps"]
