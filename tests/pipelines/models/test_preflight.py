"""What a model needs, read from its files' headers, and what is said about it."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipelines.hub.selection import DownloadPlan, PlannedFile
from pipelines.model import Placement
from pipelines.models.families import loader
from pipelines.models.loading import PipelineLoader
from pipelines.models.machine import Machine, Measurements
from pipelines.models.oom_fallback import OomFallback
from pipelines.models.preflight import activation_bytes, component_bytes, gb, preflight
from pipelines.models.residency import Residency
from tests.support.tiny_families import make
from tests.support.tiny_model import make_tiny_model, tiny_card

CPU = Placement("cpu", "float32", "sdpa")
CUDA = Placement("cuda", "float16", "sdpa")
GB = 10**9


class Fake(Machine):
    def __init__(self, ram: float = 16, vram: float = 0, disk: float = 100, free: float = 1.0) -> None:
        self._ram, self._vram, self._disk, self._free = int(ram * GB), int(vram * GB), int(disk * GB), free

    def ram(self) -> tuple[int, int]:
        return self._ram, int(self._ram * self._free)

    def vram(self) -> tuple[int, int]:
        return self._vram, int(self._vram * self._free)

    @property
    def card(self) -> Any:
        return None

    def card_problem(self) -> str | None:
        return ""

    def usable(self) -> int:
        return self.vram()[1]

    def usable_ram(self) -> int:
        return self.ram()[1]

    def shared(self) -> tuple[int, int]:
        return self.ram()

    def bound_share(self) -> None:
        pass

    def make_current(self) -> None:
        pass

    def name(self) -> str:
        return "Fake GPU" if self._vram else ""

    def disk(self, folder: Path) -> int:
        return self._disk


def huge(folder: Path, gigabytes: float, dtype: str = "F16") -> Path:
    """A diffusers folder whose UNet is said to be this large; its files hold hardly more than their headers."""
    count = int(gigabytes * GB / {"F32": 4, "F16": 2}[dtype])
    (folder / "unet").mkdir(parents=True)
    header = json.dumps({"weight": {"dtype": dtype, "shape": [count], "data_offsets": [0, 0]}}).encode()
    (folder / "unet" / "diffusion_pytorch_model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header)
    (folder / "model_index.json").write_text(json.dumps({"unet": ["diffusers", "UNet2DConditionModel"]}))
    return folder


@pytest.mark.parametrize("family", ["stable_diffusion", "stable_diffusion_xl", "stable_diffusion_3", "flux", "any"])
def test_headers_say_how_much_memory_the_loaded_model_takes(family: str, tmp_path: Path) -> None:
    names = {"any": "pixart"}
    folder = make_tiny_model(tmp_path) if family == "stable_diffusion" else make(names.get(family, family), tmp_path)
    found = component_bytes(folder, "float32")
    model = loader(family)(tiny_card(folder, family=family), CPU, lambda *a: None)
    assert set(found) == set(model.modules)
    # Networks keep a few numbers that are not saved (positions), and share some that are.
    assert sum(found.values()) == pytest.approx(model.size_bytes, rel=0.1)
    assert sum(component_bytes(folder, "float16").values()) == pytest.approx(sum(found.values()) / 2, rel=0.01)


def test_each_component_counts_once_however_many_copies_there_are(tiny_folder: Path, tmp_path: Path) -> None:
    import shutil

    folder = shutil.copytree(tiny_folder, tmp_path / "m")
    before = component_bytes(folder, "float32")
    unet = folder / "unet" / "diffusion_pytorch_model.safetensors"
    shutil.copy(unet, unet.with_name("diffusion_pytorch_model.fp16.safetensors"))
    shutil.copy(unet, unet.with_name("diffusion_pytorch_model.non_ema.safetensors"))
    assert component_bytes(folder, "float32") == before
    unet.rename(unet.with_name("diffusion_pytorch_model-00001-of-00001.safetensors"))
    index = {"weight_map": {"a": "diffusion_pytorch_model-00001-of-00001.safetensors"}}
    (folder / "unet" / "diffusion_pytorch_model.safetensors.index.json").write_text(json.dumps(index))
    assert component_bytes(folder, "float32") == before


def test_a_single_file_is_read_by_its_names(tmp_path: Path) -> None:
    import torch
    from safetensors.torch import save_file

    names = ("model.diffusion_model.a", "first_stage_model.b", "cond_stage_model.c", "model_ema.d")
    tensors = {name: torch.zeros(10 * (k + 1), dtype=torch.float16) for k, name in enumerate(names)}
    save_file({**tensors, "cond_stage_model.ids": torch.arange(3)}, tmp_path / "one.safetensors")
    found = component_bytes(tmp_path / "one.safetensors", "float32")
    assert found == {"unet": 40, "vae": 80, "text_encoder": 120 + 24}


@pytest.mark.parametrize("content", [b"", b"1234567", struct.pack("<Q", 2**60) + b"{}", struct.pack("<Q", 4) + b"[1]x"])
def test_other_files_than_safetensors_are_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.safetensors").write_bytes(content)
    assert component_bytes(tmp_path / "x.safetensors", "float32") == {}
    assert component_bytes(tmp_path, "float32") == component_bytes(tmp_path / "nothing", "float32") == {}


def test_larger_pictures_take_more(tiny_folder: Path) -> None:
    card = tiny_card(tiny_folder)
    small, large = (activation_bytes(card, CPU, tiny_folder, (side, side)) for side in (64, 128))
    assert large == 4 * small > 0
    assert activation_bytes(card, CUDA, tiny_folder, (64, 64)) == small // 2
    # Stable Diffusion's autoencoder at 512 px, in 16 bits: some hundred megabytes.
    assert 0.3 * GB < activation_bytes(card, CUDA, None, (512, 512)) < 2 * GB


def test_what_fits_is_said_without_a_warning(tiny_folder: Path) -> None:
    found = preflight(tiny_card(tiny_folder), CPU, Fake(), tiny_folder)
    assert found.ok and found.fits and found.download == found.disk == found.vram == 0
    assert found.ram == found.weights + found.activations
    assert len(found.sentences) == 2 and "16.0 GB of 16.0 GB are free" in found.sentences[0]
    assert found.sentences[1] == "How long it takes is known after the first time."


@pytest.mark.parametrize(
    ("gigabytes", "placement", "machine", "ok", "fits", "words"),
    [
        (4.0, CUDA, Fake(vram=8), True, True, ""),
        (4.0, CUDA, Fake(vram=8, free=0.3), True, True, "close other programs"),
        (12.0, CUDA, Fake(vram=8), True, False, "parts of the model will wait in RAM"),
        (30.0, CUDA, Fake(vram=8), False, False, "30.0 GB of weights even in half precision"),
        (20.0, CPU, Fake(), True, False, "more than this machine has"),  # 40 in float32, 20 in half of 16: see below
        (12.0, CPU, Fake(), True, False, "may become very slow"),
    ],
)
def test_a_warning_where_it_may_work_a_refusal_where_it_cannot(
    tmp_path: Path, gigabytes: float, placement: Placement, machine: Fake, ok: bool, fits: bool, words: str
) -> None:
    if placement is CPU and gigabytes == 20:
        machine = Fake(ram=24)
    found = preflight(tiny_card(tmp_path), placement, machine, huge(tmp_path / "m", gigabytes))
    assert (found.ok, found.fits) == (ok, fits)
    assert words in " ".join(found.sentences)
    assert all(sentence.endswith(".") for sentence in found.sentences)
    assert ok or len(found.sentences) == 1


FLOAT32 = Placement("cuda", "float32", "sdpa")


@pytest.mark.parametrize(
    ("half", "machine", "ok", "words"),
    [
        # FLUX on a GTX 1660, which computes right in float32 alone.
        ("", Fake(ram=32, vram=6), False, "has 68.0 GB of weights in float32, the one format in which Fake GPU"),
        ("", Fake(ram=64, vram=6), False, "or start with --device cpu, which needs 34.0 GB in half precision."),
        ("", Fake(ram=128, vram=6), True, "parts of the model will wait in RAM"),
        ("", Fake(ram=128, vram=6, free=0.2), True, "68.0 GB of it wait in RAM, and 25.6 GB are free there"),
        # On a GTX 1060, where float16 is slow and right.
        ("float16", Fake(ram=32, vram=6), False, "has 34.0 GB of weights even in half precision"),
        ("float16", Fake(ram=36, vram=6), True, "It begins in half precision, in which its weights take 34.0 GB."),
    ],
)
def test_what_waits_in_ram_must_find_room_there(tmp_path: Path, half: str, machine: Fake, ok: bool, words: str) -> None:
    placement = replace(FLOAT32, half=half)
    found = preflight(tiny_card(tmp_path), placement, machine, huge(tmp_path / "m", 34))
    assert found.ok == ok and found.ram == found.weights == 68 * GB
    assert words in " ".join(found.sentences)
    assert all(sentence.endswith(".") and sentence.count(". ") == 0 for sentence in found.sentences)


def test_room_is_left_for_the_system(tmp_path: Path) -> None:
    """FLUX.1 of 33.7 GB on a machine of 34.4: the system would swap, or end the program."""
    folder, cards = huge(tmp_path / "m", 33.7), tiny_card(tmp_path)
    full = preflight(cards, CUDA, Fake(ram=34.4, vram=12), folder)
    assert not full.ok and "34.4 GB of RAM (the system needs 2.0 GB of it) and 12.0 GB of" in full.sentences[0]
    assert "start with --quantize int4, or choose a smaller model." in full.sentences[0]
    assert "--quantize" not in preflight(cards, CUDA, Fake(ram=34.4, vram=8), folder).sentences[0]
    assert preflight(cards, CUDA, Fake(ram=36, vram=12), folder).ok
    on_cpu = huge(tmp_path / "small", 0.8)
    assert preflight(cards, CPU, Fake(ram=1), on_cpu).ok is False and preflight(cards, CPU, Fake(ram=2), on_cpu).ok


def test_what_is_advised_before_a_download_is_not_refused_then(tmp_path: Path) -> None:
    card = tiny_card(tmp_path / "away", half="bfloat16")
    refused = preflight(card, CUDA, Fake(ram=34, vram=12), plan=plan(33.7))
    assert not refused.ok and "start with --quantize int4" in refused.sentences[0]
    found = preflight(card, replace(CUDA, quantize="int4"), Fake(ram=34, vram=12), plan=plan(33.7))
    assert found.ok and found.fits is (found.weights + found.activations <= 12 * GB)
    assert found.weights == pytest.approx(0.35 * 33.7 * GB, rel=0.01)


def test_a_part_of_a_model_may_wait_in_ram(tmp_path: Path) -> None:
    folder = huge(tmp_path / "m", 5)
    huge(tmp_path / "text", 9)
    (tmp_path / "text" / "unet").rename(folder / "text_encoder")
    index = {"unet": ["diffusers", "X"], "text_encoder": ["transformers", "Y"]}
    (folder / "model_index.json").write_text(json.dumps(index))
    found = preflight(tiny_card(tmp_path), CUDA, Fake(ram=16, vram=12), folder)
    assert found.ok and found.ram == 9 * GB
    found = preflight(tiny_card(tmp_path), CUDA, Fake(ram=8, vram=12), folder)
    assert not found.ok and "has 14.0 GB of weights, of which 9.0 GB wait in RAM, even in half" in found.sentences[0]
    assert preflight(tiny_card(tmp_path), CUDA, Fake(ram=8, vram=24), folder).ok  # nothing waits


@pytest.mark.parametrize(("placement", "vram"), [(CPU, 0), (replace(FLOAT32, half="float16"), 2)])
@pytest.mark.parametrize(("free", "half"), [(1.0, False), (0.4, True)])
def test_half_precision_begins_where_float32_takes_more_ram_than_is_free(
    placement: Placement, vram: float, free: float, half: bool, tmp_path: Path
) -> None:
    """Linux gives more than there is, and ends the program once it is used."""
    card, machine = tiny_card(tmp_path), Fake(ram=16, vram=vram, free=free)
    residency = Residency(None, None, lambda: (), machine=machine)
    pipeline_loader = PipelineLoader(residency, OomFallback(machine=machine), Measurements(None), machine)
    folder = huge(tmp_path / "m", 4)
    ahead = pipeline_loader.preflight(card, placement, folder)
    assert ahead.weights == 8 * GB
    names = pipeline_loader._foretold(card, placement, ahead, folder, [])
    assert ("half" in names) == half
    assert ("parts" in names or "blocks" in names) == bool(vram)


def test_quantised_matrices_take_less(tmp_path: Path) -> None:
    folder = huge(tmp_path / "m", 12)
    card = tiny_card(tmp_path)
    placement = Placement("cuda", "float16", "sdpa", quantize="int8")
    assert preflight(card, placement, Fake(vram=8), folder).weights == pytest.approx(6 * GB, rel=0.01)
    refused = preflight(card, placement, Fake(vram=5, ram=64), folder)
    assert not refused.ok and "has 6.0 GB of weights in int8, which cannot wait in RAM" in refused.sentences[0]
    assert refused.sentences[0].count(". ") == 0 and len(refused.sentences) == 1


def plan(total: float, there: float = 0, free: float = 100) -> DownloadPlan:
    files = (PlannedFile("a/b", "c" * 40, "unet/diffusion_pytorch_model.safetensors", int(total * GB), "d" * 64),)
    return DownloadPlan(files, int(total * GB), int(there * GB), int(free * GB))


def test_a_download_is_told_with_its_disk() -> None:
    card = tiny_card("a/b")
    found = preflight(card, CUDA, Fake(vram=8), plan=plan(4, there=1))
    assert found.ok and found.download == found.disk == 3 * GB and found.weights == 4 * GB
    assert "3.0 GB are fetched first; 100.0 GB of disk are free." in found.sentences
    full = preflight(card, CUDA, Fake(vram=8), plan=plan(4, free=2))
    assert not full.ok and full.sentences == (
        "Tiny needs 4.0 GB of disk and 2.0 GB are free; delete a model or free some space.",
    )
    by_card = preflight(tiny_card("a/b", download_bytes=2 * GB), CPU, Fake())
    assert by_card.download == 2 * GB and by_card.ok
    unknown = preflight(card, CPU, Fake())
    assert unknown.ok and "is not known before its files are here" in unknown.sentences[0]


@pytest.mark.parametrize(
    ("half", "variant", "times"), [("bfloat16", "", 2), ("float16", "fp16", 2), ("float16", "", 1)]
)
def test_files_of_16_bits_are_foretold_in_the_format_that_they_will_have(half: str, variant: str, times: int) -> None:
    """FLUX before its download, on a GTX 1660."""
    card = tiny_card("a/b", half=half, variant=variant)
    wide = replace(FLOAT32, half="")
    assert preflight(card, wide, Fake(vram=6, ram=200), plan=plan(34)).weights == times * 34 * GB
    assert preflight(card, CUDA, Fake(vram=6, ram=200), plan=plan(34)).weights == 34 * GB
    assert preflight(card, wide, Fake(vram=6), plan=plan(34)).ok is False


def test_time_is_estimated_from_what_was_measured() -> None:
    card = tiny_card("a/b")
    assert preflight(card, CUDA, Fake(vram=8), plan=plan(4)).seconds is None
    assert preflight(card, CUDA, Fake(vram=8), plan=plan(4), speeds={"load": 1e9}).seconds is None
    found = preflight(card, CUDA, Fake(vram=8), plan=plan(4), speeds={"load": 1e9, "download": 1e7})
    assert found.seconds == pytest.approx(404)
    assert found.sentences[-1] == "It takes about 7 minutes until it is ready."
    here = preflight(card, CUDA, Fake(vram=8), plan=plan(4, there=4), speeds={"load": 1e9})
    assert here.sentences[-1] == "It takes about 4 seconds until it is ready."


def test_the_machine_reports_its_memory() -> None:
    machine = Machine()
    total, free = machine.ram()
    assert 0 < free <= total
    assert machine.disk(Path("/tmp/not/there/yet")) > 0
    total, free = machine.vram()
    assert 0 <= free <= total
    assert bool(machine.name()) == bool(total)


def test_bytes_for_people() -> None:
    assert gb(6.94e9) == "6.9 GB" and gb(3_400_000) == "3.4 MB"


def test_measurements_outlast_the_program(tmp_path: Path) -> None:
    path = tmp_path / "new" / "speeds.json"
    notes = Measurements(path)
    assert notes.get("load") is None
    notes.note("load", 5.0)
    notes.note("other", [1])
    notes.note("other", None)
    assert dict(Measurements(path).items()) == {"load": 5.0}
    assert [file.name for file in path.parent.iterdir()] == ["speeds.json"]
    path.write_text("{broken")
    again = Measurements(path)
    assert again.get("load") is None
    again.note("load", 6.0)
    assert Measurements(path).get("load") == 6.0


def test_measurements_that_cannot_be_written_are_still_remembered(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    notes = Measurements(tmp_path / "file" / "speeds.json")
    notes.note("load", 5.0)
    assert notes.get("load") == 5.0
    nowhere = Measurements(None)
    nowhere.note("load", 5.0)
    assert nowhere.get("load") == 5.0


def test_half_written_files_of_a_killed_process_are_removed(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as killed:
        pass
    stale, live = (tmp_path / f".n.json.{pid}-0123abcd.part" for pid in (killed.pid, os.getpid()))
    for path in (stale, live):
        path.write_bytes(b"{")
    Measurements(tmp_path / "n.json")
    assert not stale.exists() and live.exists()


def test_the_fake_machine_has_the_same_methods() -> None:
    def public(cls: Any) -> set[str]:
        return {name for name in vars(cls) if not name.startswith("_")}

    assert public(Fake) == public(Machine)


@pytest.mark.parametrize(("upcast", "times"), [(None, 2), (True, 2), (False, 1)])
def test_an_autoencoder_that_stays_in_float32_is_foretold_so(tmp_path: Path, upcast: bool | None, times: int) -> None:
    """That of SDXL overflows in float16."""
    (tmp_path / "vae").mkdir()
    header = json.dumps({"weight": {"dtype": "F32", "shape": [1000], "data_offsets": [0, 0]}}).encode()
    path = tmp_path / "vae" / "diffusion_pytorch_model.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header)
    config = {"block_out_channels": [64, 128], **({} if upcast is None else {"force_upcast": upcast})}
    (tmp_path / "vae" / "config.json").write_text(json.dumps(config))
    (tmp_path / "model_index.json").write_text(json.dumps({"vae": ["diffusers", "AutoencoderKL"]}))
    plain, wide = (tiny_card(tmp_path, family=family) for family in ("stable_diffusion", "stable_diffusion_xl"))
    found = [preflight(card, CUDA, Fake(vram=8), tmp_path) for card in (plain, wide)]
    assert found[1].parts["vae"] == times * found[0].parts["vae"] == times * 2000
    assert found[1].activations == times * found[0].activations
