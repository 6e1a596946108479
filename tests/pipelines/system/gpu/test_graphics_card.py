"""Which builds of PyTorch can use which graphics card, and what the user is told where one cannot."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from benchmarks.gpu import pretend_gpu
from benchmarks.gpu.graphics_cards import CARDS, CU126, CU130, MachineWith
from pipelines.models.placement import resolve
from pipelines.system.gpu import graphics_card
from pipelines.system.gpu.graphics_card import GraphicsCard, find, has_kernels, mismatch, unused_card
from pipelines.system.gpu.nvidia_smi import NvidiaSmi, read
from tests.support.tiny_model import tiny_card


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
    assert "runs CUDA 12.4, this build wants 13.0" in driver and "update the driver to 580" in driver
    assert "make run TORCH=cu126" in driver
    radeon = mismatch(replace(CARDS["Radeon"], architecture="gfx803"))
    assert "no kernels for AMD Radeon" in radeon and "TORCH=rocm" in radeon
    assert mismatch(replace(CARDS["Radeon"], architecture="gfx1100:sramecc+:xnack-")) == ""
    for sentence in (old, driver, radeon):
        assert sentence.endswith(".") and sentence.count(". ") == 0


RTX_5090 = replace(CARDS["RTX 4090"], name="NVIDIA GeForce RTX 5090", capability=(12, 0), architecture="sm_120")


@pytest.mark.parametrize(
    ("card", "told", "not_told"),
    [
        # The build for CUDA 12.6 has no kernels for it.
        (replace(RTX_5090, architectures=CU126, runtime=(12, 6)), "make run TORCH=cu130", "cu126"),
        (replace(RTX_5090, driver=(12, 8)), "update the driver to 580", "cu126"),
        # It is there already.
        (replace(CARDS["RTX 3060"], driver=(11, 4), architectures=CU126, runtime=(12, 6)), "driver to 525", "cu126"),
        (replace(CARDS["RTX 3060"], driver=(11, 4)), "update the driver to 580", "cu126"),
        (replace(CARDS["RTX 3060"], capability=(3, 7), architecture="sm_37"), "start with --device cpu", "make run"),
        # No build of any ROCm has kernels for an RX 6600.
        (replace(CARDS["Radeon"], architecture="gfx1032"), "HSA_OVERRIDE_GFX_VERSION=10.3.0 make run", "rocm7.2"),
        (replace(CARDS["Radeon"], architecture="gfx1010:xnack-"), "make run TORCH=rocm7.2", "HSA"),
        # PyPI's build for CUDA 13 on a driver of 550: a newer driver runs it, and still has no kernels for the card.
        (replace(CARDS["GTX 1060"], driver=(12, 0), architectures=CU130, runtime=(13, 0)), "TORCH=cu126", "580"),
        (
            replace(CARDS["GTX 1060"], driver=(11, 4), architectures=(), runtime=(13, 0)),
            "update its driver to 525 or newer, then install the build that has them: make run TORCH=cu126",
            "580",
        ),
    ],
)
def test_nothing_is_advised_that_would_not_help(card: GraphicsCard, told: str, not_told: str) -> None:
    assert told in mismatch(card) and not_told not in mismatch(card)


@pytest.mark.parametrize(
    ("answer", "runtime", "words"),
    [
        ("NVIDIA GeForce RTX 3060, 12288, 581.1, 8.6\n", (0, 0), "make run TORCH=cu130"),
        ("NVIDIA GeForce RTX 3060, 12288, 551.1, 8.6\n", (0, 0), "make run TORCH=cu126"),
        ("NVIDIA GeForce GTX 1060 6GB, 6144, 581.1, 6.1\nother, 1, 581.1, 1.0", (0, 0), "make run TORCH=cu126"),
        ("NVIDIA GeForce RTX 3060, 12288, 581.1, 8.6", (13, 0), "update its driver"),
        ("NVIDIA GeForce RTX 3060, 12288, 551.1, 8.6", (13, 0), "update the driver to 580"),
        (
            "NVIDIA GeForce GTX 1060 6GB, 6144, 551.1, 6.1",
            (13, 0),
            "no kernels for NVIDIA GeForce GTX 1060 6GB (sm_61)",
        ),
        ("NVIDIA GeForce RTX 5090, 32607, 571.3, 12.0", (0, 0), "update its driver to 580 or newer, then install"),
        ("GeForce GTX 970, 4096, 471.11", (0, 0), "update its driver to 525 or newer, then install"),
        ("GeForce GTX 780, 3072, 471.11, 3.5", (0, 0), "No build of this PyTorch has kernels"),
    ],
)
def test_a_card_that_pytorch_does_not_see_is_not_passed_over(answer: str, runtime: tuple[int, int], words: str) -> None:
    """PyPI's PyTorch on Windows computes on the CPU and knows of no card."""
    found = unused_card(read(answer), runtime)
    assert found is not None and found.name in found.problem and words in found.problem
    assert found.memory == int(answer.split(",")[1]) * 2**20


def test_a_driver_that_does_not_answer_is_not_passed_over() -> None:
    found = unused_card(NvidiaSmi(silent=True), (13, 0))
    assert found is not None and "does not answer" in found.problem and "--device cpu" in found.problem
    assert unused_card(NvidiaSmi(), (0, 0)) is None


def test_where_nothing_is_there_nothing_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name: None)
    assert find("cpu") is None and find("cuda") is None and find("mps") is None


def test_cards_that_the_user_hides_are_not_called_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    """nvidia-smi shows them all the same."""
    monkeypatch.setattr(graphics_card, "ask", lambda: read("NVIDIA GeForce RTX 3060, 12288, 581.1, 8.6"))
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    for hidden in ("", "-1"):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden)
        assert find("auto") is None
        asked = find("cuda")
        assert asked is not None and f"CUDA_VISIBLE_DEVICES={hidden} hides NVIDIA GeForce" in asked.problem
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")  # a mistake
    mistaken = find("auto")
    assert mistaken is not None and "CUDA_VISIBLE_DEVICES=7 hides" in mistaken.problem
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    plain = find("auto")
    assert plain is not None and "update its driver" in plain.problem


class Driver:
    """What torch tells of one card."""

    def __init__(self, name: str, capability: tuple[int, int], hip: str | None = None, error: str = "") -> None:
        self.version = SimpleNamespace(cuda=None if hip else "13.0", hip=hip)
        self.cuda, self._C, self.name = self, SimpleNamespace(_cuda_getDriverVersion=lambda: 13000), name
        self.capability, self.error, self.chip = capability, error, "gfx1100"

    def get_device_properties(self, index: int) -> Any:
        if self.error:
            raise RuntimeError(self.error)
        return SimpleNamespace(total_memory=8 * 2**30, gcnArchName=self.chip)

    def get_device_name(self, index: int) -> str:
        return self.name

    def get_device_capability(self, index: int) -> tuple[int, int]:
        return self.capability

    def device(self, index: int) -> Any:
        return nullcontext()

    def is_bf16_supported(self, including_emulation: bool) -> bool:
        return self.capability >= (8, 0)

    def get_arch_list(self) -> list[str]:
        return [self.chip] if self.version.hip else list(CU130)

    def ones(self, count: int, device: str) -> torch.Tensor:
        return torch.ones(count)


@pytest.mark.parametrize(
    ("name", "capability", "float16", "bfloat16"),
    [
        ("NVIDIA GeForce GTX 1650 Ti with Max-Q Design", (7, 5), False, False),
        ("NVIDIA GeForce MX450", (7, 5), False, False),
        ("NVIDIA T1000 8GB", (7, 5), False, False),
        ("Quadro T2000 with Max-Q Design", (7, 5), False, False),
        ("NVIDIA CMP 30HX", (7, 5), False, False),
        ("Tesla T4", (7, 5), True, False),
        ("NVIDIA GeForce RTX 2060", (7, 5), True, False),
        ("NVIDIA GeForce RTX 3050", (8, 6), True, True),
        ("NVIDIA RTX A2000", (8, 6), True, True),
        ("NVIDIA GeForce RTX 5090", (12, 0), True, True),
    ],
)
def test_what_a_card_can_do_is_read_from_its_driver(
    name: str, capability: tuple[int, int], float16: bool, bfloat16: bool
) -> None:
    found = graphics_card._cuda_card(Driver(name, capability), 1, "cuda:1")
    assert (found.name, found.float16, found.bfloat16, found.problem) == (name, float16, bfloat16, "")
    assert (found.device, found.driver, found.runtime) == ("cuda:1", (13, 0), (13, 0))


def test_a_driver_that_fails_at_the_start_leaves_the_cpu() -> None:
    found = graphics_card._cuda_card(Driver("x", (8, 6), error="CUDA unknown error - see the docs\nmore"), 0, "cuda")
    assert "cannot start on the graphics card (CUDA unknown error - see the docs);" in found.problem
    radeon = graphics_card._cuda_card(Driver("AMD Radeon T1000", (11, 0), hip="7.1"), 0, "cuda")
    assert radeon.rocm and radeon.float16 and radeon.problem == "" and radeon.architecture == "gfx1100"


@pytest.mark.parametrize(
    ("chip", "bfloat16"),
    [
        ("gfx906:sramecc+:xnack-", False), ("gfx900", False), ("gfx1010", False), ("gfx1030", False),
        ("gfx908", True), ("gfx90a", True), ("gfx942", True), ("gfx1100", True), ("gfx1201", True),
    ],
)  # fmt: skip
def test_bfloat16_is_used_on_the_cards_of_amd_that_compute_in_it(chip: str, bfloat16: bool) -> None:
    """PyTorch says of every card on ROCm that it does."""
    driver = Driver("AMD Radeon", (11, 0), hip="7.1")
    driver.chip = chip
    found = graphics_card._cuda_card(driver, 0, "cuda")
    assert (found.bfloat16, found.float16, found.problem) == (bfloat16, True, "")


class TwoCards(Driver):
    """The first is of another generation than the second."""

    def __init__(self, *generations: tuple[int, int]) -> None:
        super().__init__("", generations[0])
        self.generations = generations

    def device_count(self) -> int:
        return len(self.generations)

    def get_device_name(self, index: int) -> str:
        return f"NVIDIA card {index}"

    def get_device_capability(self, index: int) -> tuple[int, int]:
        return self.generations[index]


@pytest.mark.parametrize(
    ("generations", "used"),
    [
        (((6, 1), (8, 6)), "cuda:1"), (((6, 1), (6, 1), (8, 6)), "cuda:2"), (((8, 6), (6, 1)), "cuda"),
        (((6, 1), (6, 1)), "cuda"), (((6, 1),), "cuda"),
    ],
)  # fmt: skip
def test_a_card_that_the_build_has_kernels_for_is_used_before_the_first_one(
    generations: tuple[tuple[int, int], ...], used: str
) -> None:
    found = graphics_card._first_usable(TwoCards(*generations))
    assert found.device == used
    works = generations[int(used.partition(":")[2] or 0)] >= (7, 5)
    assert bool(found.problem) == (not works)
    if used != "cuda":
        assert "no kernels for NVIDIA card 0" in found.passed_over
        note = resolve("auto", card=tiny_card("x"), machine=MachineWith(found)).note
        assert note.startswith(f"NVIDIA card {used[-1]} ({used}) is used instead of the first card: This PyTorch has")


def test_of_several_cards_that_are_not_used_one_that_a_build_can_use_is_named() -> None:
    answer = "GeForce GTX 780, 3072, 581.1, 3.5\nNVIDIA GeForce RTX 3060, 12288, 581.1, 8.6"
    found = unused_card(read(answer), (0, 0))
    assert found is not None and found.name == "NVIDIA GeForce RTX 3060" and "TORCH=cu130" in found.problem


def test_one_tiny_kernel_answers_what_no_table_does(monkeypatch: pytest.MonkeyPatch) -> None:
    def told(ones: Any) -> str:
        monkeypatch.setattr(Driver, "ones", ones)
        return graphics_card._cuda_card(Driver("NVIDIA GeForce RTX 3050", (8, 6)), 0, "cuda").problem

    def fails(message: str) -> Any:
        def ones(driver: Driver, count: int, device: str) -> torch.Tensor:
            raise RuntimeError(message)

        return ones

    refused = told(fails("CUDA error: no kernel image is available for execution on the device"))
    assert refused == told(lambda driver, count, device: torch.zeros(count))  # it runs, and computes nothing
    assert refused.startswith("PyTorch cannot compute on NVIDIA GeForce RTX 3050; update its driver")
    assert told(fails("CUDA out of memory.")) == ""  # of another program


def test_apples_gpu_is_found_with_the_formats_that_compute_right(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(torch.mps, "recommended_max_memory", lambda: 5 * 2**30)
    monkeypatch.setattr(graphics_card, "_computes_right", lambda torch, device, dtype: dtype == "float16")
    for device in ("auto", "mps"):
        found = find(device)
        assert found is not None and (found.kind, found.device, found.problem) == ("mps", "mps", "")
        assert (found.float16, found.bfloat16) == (True, False) and found.memory == 5 * 2**30
    assert find("cpu") is None


def test_a_format_is_used_on_apples_gpu_only_where_it_computes_right(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_num_threads(1)
    with pretend_gpu.use():
        assert graphics_card._computes_right(torch, pretend_gpu.NAME, "bfloat16")
        assert not graphics_card._computes_right(torch, "nowhere", "float16")
        plain = torch.nn.functional.conv2d
        wrong = lambda x, w, **more: plain(x, w, **more) * (1 + (x.dtype == torch.float16))  # noqa: E731
        monkeypatch.setattr(torch.nn.functional, "conv2d", wrong)
        assert not graphics_card._computes_right(torch, pretend_gpu.NAME, "float16")


def test_a_driver_that_would_spill_is_bounded_before_each_load(monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows' driver moves to the main memory what does not fit, and a run becomes ten times slower."""
    import platform
    import sys

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


@pytest.mark.parametrize(("name", "device", "made"), [
    ("RTX 3060", "cuda:1", ["cuda:1"]), ("RTX 3060", "cuda", []), ("M1", "mps", []),
])  # fmt: skip
def test_another_card_is_the_current_one_where_models_run(
    name: str, device: str, made: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Streams, events and kernels of libraries are otherwise those of the first card."""
    from pipelines.models.machine import Machine

    current: list[str] = []
    monkeypatch.setattr(torch.cuda, "set_device", current.append)
    Machine.make_current(MachineWith(replace(CARDS[name], device=device)))
    assert current == made
