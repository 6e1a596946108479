"""What a model needs, read from its files' headers, and what is said about it."""

from __future__ import annotations

import json
import os
import struct
import time
from pathlib import Path
from typing import Any

import pytest

from pipelines.device import Placement
from pipelines.families import loader
from pipelines.hub import Plan, PlannedFile
from pipelines.memory import Machine, Notebook, activation_bytes, component_bytes, gb, preflight, read_header
from tests.tiny import make_tiny_model, tiny_card
from tests.tiny_families import make

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
def test_the_headers_tell_what_the_loaded_model_takes(family: str, tmp_path: Path) -> None:
    names = {"any": "pixart"}
    folder = make_tiny_model(tmp_path) if family == "stable_diffusion" else make(names.get(family, family), tmp_path)
    found = component_bytes(folder, "float32")
    model = loader(family)(tiny_card(folder, family=family), CPU, lambda *a: None)
    assert set(found) == set(model.modules)
    # Networks keep a few numbers that are not saved (positions), and share some that are.
    assert sum(found.values()) == pytest.approx(model.size_bytes, rel=0.1)
    assert sum(component_bytes(folder, "float16").values()) == pytest.approx(sum(found.values()) / 2, rel=0.01)


def test_each_component_counts_once_whatever_copies_lie_there(tiny_folder: Path, tmp_path: Path) -> None:
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
def test_what_is_no_safetensors_file_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.safetensors").write_bytes(content)
    with pytest.raises(ValueError):
        read_header(tmp_path / "x.safetensors")
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


def test_quantised_matrices_take_less(tmp_path: Path) -> None:
    folder = huge(tmp_path / "m", 12)
    card = tiny_card(tmp_path)
    placement = Placement("cuda", "float16", "sdpa", quantize="int8")
    assert preflight(card, placement, Fake(vram=8), folder).weights == pytest.approx(6 * GB, rel=0.01)


def plan(total: float, there: float = 0, free: float = 100) -> Plan:
    files = (PlannedFile("a/b", "c" * 40, "unet/diffusion_pytorch_model.safetensors", int(total * GB), "d" * 64),)
    return Plan(files, int(total * GB), int(there * GB), int(free * GB))


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


def test_time_is_estimated_from_what_was_measured() -> None:
    card = tiny_card("a/b")
    assert preflight(card, CUDA, Fake(vram=8), plan=plan(4)).seconds is None
    assert preflight(card, CUDA, Fake(vram=8), plan=plan(4), speeds={"load": 1e9}).seconds is None
    found = preflight(card, CUDA, Fake(vram=8), plan=plan(4), speeds={"load": 1e9, "download": 1e7})
    assert found.seconds == pytest.approx(404)
    assert found.sentences[-1] == "It takes about 7 minutes until it is ready."
    here = preflight(card, CUDA, Fake(vram=8), plan=plan(4, there=4), speeds={"load": 1e9})
    assert here.sentences[-1] == "It takes about 4 seconds until it is ready."


def test_the_machine_answers() -> None:
    machine = Machine()
    total, free = machine.ram()
    assert 0 < free <= total
    assert machine.disk(Path("/tmp/not/there/yet")) > 0
    total, free = machine.vram()
    assert 0 <= free <= total
    assert bool(machine.name()) == bool(total)


def test_bytes_for_people() -> None:
    assert gb(6.94e9) == "6.9 GB" and gb(3_400_000) == "3.4 MB"


def test_a_notebook_outlasts_the_program(tmp_path: Path) -> None:
    path = tmp_path / "new" / "speeds.json"
    notes = Notebook(path)
    assert notes.get("load") is None
    notes.note("load", 5.0)
    notes.note("other", [1])
    notes.note("other", None)
    assert dict(Notebook(path).items()) == {"load": 5.0}
    assert [file.name for file in path.parent.iterdir()] == ["speeds.json"]
    path.write_text("{broken")
    again = Notebook(path)
    assert again.get("load") is None
    again.note("load", 6.0)
    assert Notebook(path).get("load") == 6.0


def test_a_notebook_that_cannot_be_written_still_remembers(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    notes = Notebook(tmp_path / "file" / "speeds.json")
    notes.note("load", 5.0)
    assert notes.get("load") == 5.0
    nowhere = Notebook(None)
    nowhere.note("load", 5.0)
    assert nowhere.get("load") == 5.0


def test_what_a_killed_process_left_behind_is_swept(tmp_path: Path) -> None:
    old, young, other = (tmp_path / name for name in (".n.json.ab.part", ".n.json.cd.part", ".m.json.ef.part"))
    for path in (old, young, other):
        path.write_bytes(b"{")
    os.utime(old, (time.time() - 3600,) * 2)
    Notebook(tmp_path / "n.json")
    assert not old.exists() and young.exists() and other.exists()


def test_fakes_answer_what_the_machine_does() -> None:
    def public(cls: Any) -> set[str]:
        return {name for name in vars(cls) if not name.startswith("_")}

    assert public(Fake) == public(Machine)
