"""The measurement of a real card, tried at tiny size: on the CPU, and on the pretend GPU, which has memory to bound."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from benchmarks.card import __main__ as command
from benchmarks.card import sections
from benchmarks.card.__main__ import SECTIONS, TINY, measure, run_section
from benchmarks.card.device import MeasuredDevice
from benchmarks.card.findings import Findings
from benchmarks.card.site import Site, difference
from benchmarks.gpu import pretend_gpu
from benchmarks.gpu.graphics_cards import PretendMachine
from benchmarks.gpu.pretend_memory import gpu
from pipelines.models.machine import Machine
from pipelines.sampling import schedulers
from pipelines.sampling.schedulers import DIFFUSION_SCHEDULERS

MB = 2**20
# Seconds: no test depends on how fast the machine is.
PLENTY = 3600.0


class PretendDevice(MeasuredDevice):
    """The pretend GPU as a device to be measured."""

    @property
    def card(self) -> Any:
        return self.machine().card

    def machine(self, limit: int | None = None) -> Machine:
        return PretendMachine("GTX 1060")

    def bound(self, limit: int | None) -> None:
        gpu.memory = limit or 1 << 50

    def reset_peak(self) -> None:
        gpu.peak = gpu.allocated

    def peak(self) -> int:
        return gpu.peak

    def wait(self) -> None:
        gpu.synchronize()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("card")
    made = run_section("models", Site(folder, MeasuredDevice("cpu"), **TINY), None, PLENTY)
    assert [one["gb"] for one in made["found"].values()] == pytest.approx([0.002, 0.003], abs=0.001)
    return folder


@pytest.fixture
def cpu(folder: Path) -> Site:
    torch.set_num_threads(1)
    return Site(folder, MeasuredDevice("cpu"), **{**TINY, "sizes": (32,), "steps": 1})


@pytest.fixture
def pretend(folder: Path) -> Iterator[Site]:
    torch.set_num_threads(1)
    with pretend_gpu.use():
        yield Site(
            folder, PretendDevice(), **{**TINY, "sizes": (32,), "batches": (1,), "steps": 1, "limits": (6 / 1024,)}
        )


def test_all_budgets_together_stay_within_ten_minutes() -> None:
    assert sum(seconds for _, seconds in SECTIONS.values()) <= 590


@pytest.mark.parametrize("name", [name for name in SECTIONS if name not in ("models", "samplers")])
def test_each_section_measures_or_says_why_not_on_a_cpu(name: str, cpu: Site, tmp_path: Path) -> None:
    found = run_section(name, cpu, tmp_path / "found.json", PLENTY)
    assert json.loads((tmp_path / "found.json").read_text())["found"].keys() == found["found"].keys()
    assert "problem" not in found
    assert "error" not in json.dumps(found["found"])
    assert bool(found["found"]) != ("skipped" in found)
    assert ("skipped" in found) == (name in ("syncs", "memory", "spread"))


def test_samplers_and_speed_on_the_pretend_gpu(pretend: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some of the samplers: tests/pipelines/sampling/test_denoise_gpu.py has all."""
    some = DIFFUSION_SCHEDULERS[::4]
    monkeypatch.setattr(schedulers, "DIFFUSION_SCHEDULERS", some)
    found = run_section("samplers", pretend, None, PLENTY)["found"]
    assert tuple(found) == some and len(some) > 3
    assert all(one["float32"]["relative_difference"] < 1e-4 for one in found.values())
    found = run_section("speed", pretend, None, PLENTY)["found"]
    assert list(found) == ["sd15, 32 px, 1", "sdxl, 32 px, 1"]
    for one in found.values():
        assert one["alone"]["peak_gb"] > 0 and one["alone"]["seconds"] > 0
        assert one["previewed_and_recorded"]["ended"] == "Finished" and one["previewed_and_recorded"]["recorded"]


def test_little_memory_takes_fallbacks_that_are_told(pretend: Site) -> None:
    found = run_section("memory", pretend, None, PLENTY)["found"]
    assert all(one["ended"] == "Finished" and one["peak_gb"] * 1e9 <= 6.4 * MB for one in found.values())
    # A picture is expected to take far more than this card has, of which streamed blocks would leave less.
    words = "parts of the model moved to the GPU only while they work"
    assert [one["fallbacks"] for one in found.values()] == [[], [words]]
    assert words in list(found.values())[1]["notes"][0]
    assert gpu.memory == 1 << 50


def test_parts_that_wait_in_ram_make_the_same_latents(pretend: Site) -> None:
    found = run_section("spread", replace(pretend, models=("sdxl",)), None, PLENTY)["found"]
    assert [one["fallbacks"] for one in found.values()] == [[], ["wait"], ["blocks"], ["parts"]]
    assert all(one["relative_difference"] < 1e-4 and one["ram_gb"] > 0 for one in found.values())


def test_an_item_that_fails_is_told_and_the_rest_goes_on(tmp_path: Path) -> None:
    findings = Findings(tmp_path / "found.json", PLENTY)
    findings.measure("bad", lambda: 1 / 0)  # type: ignore[arg-type,return-value]
    findings.measure("good", lambda: {"value": 1})
    findings._ends = 0.0
    findings.measure("late", lambda: {"value": 1})
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["found"]["bad"]["error"] == "ZeroDivisionError: division by zero"
    assert found["found"]["good"]["value"] == 1 and found["left_out"] == ["late"]


# In place of the measurement's own command line: one section dies, one never ends, both had found something.
CHILD = """
import json, os, sys, time
name, path = sys.argv[sys.argv.index("--section") + 1], sys.argv[sys.argv.index("--found") + 1]
open(path, "w").write(json.dumps({"found": {"first": {"value": 1}}}))
if name == "samplers":
    sys.stderr.write("CUDA error: an illegal memory access was encountered\\n")
    sys.stderr.flush()
    os._exit(134)
if name == "syncs":
    time.sleep(600)
"""


def test_a_section_that_crashes_or_hangs_is_recorded_and_the_rest_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "child.py"
    program.write_text(CHILD)
    monkeypatch.setattr(command, "PROGRAM", (str(program),))
    monkeypatch.setattr(command, "SECTIONS", {**SECTIONS, "syncs": (SECTIONS["syncs"][0], 2)})
    found = measure(tmp_path, (), ("samplers", "syncs", "speed"))["sections"]
    assert list(found) == ["models", "samplers", "syncs", "speed"]  # the random models come first
    assert all(one["found"] == {"first": {"value": 1}} for one in found.values())
    assert "illegal memory access" in found["samplers"]["problem"]
    assert found["syncs"]["problem"] == "ended after 2 seconds" and "problem" not in found["speed"]


def test_the_command_writes_one_file_for_the_project(tmp_path: Path) -> None:
    path = tmp_path / "card.json"
    command.main(["--device", "cpu", "--tiny", "--only", "versions", "--out", str(path), "--folder", str(tmp_path)])
    found = json.loads(path.read_text())["sections"]["versions"]
    assert found["found"]["packages"]["torch"].startswith(torch.__version__.partition("+")[0]), found
    assert "problem" not in found and str(Path.home()) not in path.read_text()


def test_a_card_of_6_gb_is_measured_although_it_says_5_8(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Small(PretendDevice):
        memory = int(5.8 * 2**30)

    bounds: list[int] = []
    monkeypatch.setattr(sections, "_bounded", lambda site, name, limit: bounds.append(limit) or {})
    sections.memory(Findings(None, PLENTY), Site(tmp_path, Small(), models=("sd15",)))
    assert bounds == [Small.memory]


def test_waits_are_counted_by_the_line_that_caused_them_after_the_first_step() -> None:
    def wait(line: int, text: str = "called a synchronizing CUDA operation") -> Any:
        return SimpleNamespace(
            message=UserWarning(text), filename="/home/me/pipelines/sampling/denoise.py", lineno=line
        )

    told = [wait(1), wait(2), wait(7), wait(7), wait(8, "deprecated"), wait(9)]
    assert sections.by_place(told, [2, 3, 5]) == {
        "steps": 2,
        "waits": 2,
        "places": {"pipelines/sampling/denoise.py:7": 2},
    }
    assert sections.by_place([], []) == {"steps": 0, "waits": 0, "places": {}}


def test_a_difference_is_relative_and_fits_into_json() -> None:
    ours, theirs = torch.tensor([1.0, 8.0]), torch.tensor([1.5, 10.0])
    assert difference(ours, theirs) == 0.2
    assert difference(ours / 100, theirs / 100) == 0.02
    assert difference(ours * float("nan"), theirs) == "not finite"
