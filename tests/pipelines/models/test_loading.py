"""Loading models: fallbacks, refusals, measured speeds, cancelled and killed loads."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.gpu import pretend_gpu
from benchmarks.gpu.graphics_cards import PretendMachine
from pipelines.cards import ModelCard
from pipelines.model import CannotLoad, LoadStopped
from pipelines.models import components, placement
from pipelines.models.families import generic
from pipelines.models.machine import Machine
from pipelines.models.manager import PipelineManager
from pipelines.request import make_request
from pipelines.sampling.denoise import denoise
from tests.support.tiny_families import make
from tests.support.tiny_model import tiny_card


def test_memory_that_runs_out_is_freed_and_the_load_tried_again(
    cards: list[ModelCard], monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipelines.models.families import stable_diffusion

    manager, plain, left = PipelineManager(cards), stable_diffusion.load, [1]
    with manager.lease("a"):
        pass

    def load(*args: Any) -> Any:
        if left:
            left.pop()
            raise torch.OutOfMemoryError("full")
        assert manager.loaded == ()
        return plain(*args)

    monkeypatch.setattr(stable_diffusion, "load", load)
    with manager.lease("b") as model:
        assert model.card.id == "b"


def test_a_cancelled_load_ends_between_two_parts(cards: list[ModelCard]) -> None:
    manager = PipelineManager(cards, device="cpu")
    parts: list[str] = []
    with (
        pytest.raises(LoadStopped),
        manager.lease("a", lambda part, done, total: parts.append(part), lambda: len(parts) == 2),
    ):
        pass
    assert parts == ["tokenizer", "text_encoder"] and manager.loaded == ()
    with manager.lease("a"):
        pass


class Small(Machine):
    def ram(self) -> tuple[int, int]:
        return 1000, 1000


def test_what_can_never_fit_is_refused_before_it_is_loaded(cards: list[ModelCard]) -> None:
    manager = PipelineManager(cards, device="cpu", machine=Small())
    assert not manager.check("a").ok
    with pytest.raises(CannotLoad, match="choose a smaller model"), manager.lease("a"):
        pass


def test_speed_is_measured_and_remembered(cards: list[ModelCard], tmp_path: Path) -> None:
    manager = PipelineManager(cards, device="cpu", memory_dir=tmp_path)
    before = manager.check("a")
    assert before.ok and before.seconds is None
    with manager.lease("a") as model:
        assert before.weights == pytest.approx(model.size_bytes, rel=0.1)
    again = PipelineManager(cards, device="cpu", memory_dir=tmp_path)
    assert again.check("b").seconds is not None and again.placement is not None


KILLED = """
import sys, time
from pathlib import Path
from pipelines.models.manager import PipelineManager
from pipelines.request import make_request
from pipelines.sampling.denoise import denoise
from benchmarks.gpu import pretend_gpu
from benchmarks.gpu.graphics_cards import PretendMachine
from tests.support.tiny_model import tiny_card

def report(part, done, total):
    if done == 3:
        print("loading", flush=True)
        time.sleep(600)

memory = Path(sys.argv[2])
manager = PipelineManager([tiny_card(sys.argv[1])], device="cpu", memory_dir=memory)
manager.oom_fallback.remember("stable_diffusion " + sys.argv[1], manager._resolve(manager.cards["tiny"]), 4096, ["one"])
(memory / ".ladder.json.12345678.part").write_bytes(b'{"cp')  # as if it had been killed while it wrote
with manager.lease("tiny", report):
    pass
"""


def test_a_process_that_is_killed_while_it_loads_leaves_nothing_in_the_way(
    cards: list[ModelCard], tmp_path: Path
) -> None:
    folder, root = cards[0].source, Path(__file__).resolve().parents[3]
    files = {path: path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()}
    killed = subprocess.Popen(
        [sys.executable, "-c", KILLED, folder, str(tmp_path)], cwd=root, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    try:
        assert killed.stdout is not None and killed.stdout.readline() == b"loading\n", killed.communicate()
        os.kill(killed.pid, signal.SIGKILL)
    finally:
        killed.kill()
        killed.communicate()
    assert {path: path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()} == files
    manager = PipelineManager([tiny_card(folder)], device="cpu", memory_dir=tmp_path)
    assert manager.remembered_fallbacks("tiny", 4096) == ("one",)
    with manager.lease("tiny", fallbacks=manager.remembered_fallbacks("tiny", 4096)) as model:
        assert model.placement.fallbacks == ("one",)
    assert {path.name for path in tmp_path.glob("*.json")} == {"ladder.json", "speeds.json"}


def test_a_network_that_cannot_be_compiled_runs_as_it_is(tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """torch.compile only marks a network; it fails when that is first called."""

    def no_compiler(*args: Any, **options: Any) -> Any:
        raise RuntimeError("Cannot find a working triton installation.\nMore lines")

    monkeypatch.setattr(torch, "compile", lambda *args, **options: no_compiler)
    monkeypatch.setattr("pipelines.models.placement.find_spec", lambda name: object())
    with pretend_gpu.use():
        manager = PipelineManager([tiny_card(tiny_folder)], machine=PretendMachine("GTX 1060"), compile=True)
        with manager.lease("tiny") as model:
            assert not model.placement.compile
            assert "torch.compile failed (Cannot find a working triton installation" in model.placement.note
            *_, last = denoise(model, make_request(model="tiny", prompt="x", width=32, height=32, scheduler="euler",
                                                   num_inference_steps=2, guidance_scale=4.0, seed=1))  # fmt: skip
            assert bool(torch.isfinite(last.x_next).all())


CASES = [(family, how) for family in ("stable_diffusion_xl", "flux") for how in ("", "wait", "int8")]


@pytest.mark.parametrize(("family", "how"), [*CASES, ("any", ""), ("any", "int8")])
def test_a_model_passes_through_ram_part_by_part(
    family: str, how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """FLUX.1 has 33 GB: it must not need 33 GB of RAM to get to a card, or into fewer bits."""
    plain, read, rounded = components.from_pretrained, [], []

    def parts_in_ram() -> list[Any]:
        """Networks that were read before, and are in RAM as they were read."""
        there = [one for one in read if next(one.parameters()).device.type == "cpu"]
        return [one for one in there if how != "int8" or one not in rounded]

    def from_pretrained(cls: Any, source: str, name: str, *more: Any) -> Any:
        left = [type(one).__name__ for one in parts_in_ram()]
        assert how == "wait" or not left, left
        assert not any(name.endswith(("UNet2DConditionModel", "Transformer2DModel")) for name in left), left
        read.append(plain(cls, source, name, *more))
        return read[-1]

    for module in (components, generic):
        monkeypatch.setattr(module, "from_pretrained", from_pretrained)
    monkeypatch.setattr(placement, "quantize_linear", lambda module, kind: rounded.append(module))
    monkeypatch.setattr(placement, "find_spec", lambda name: object())
    folder = make("pixart" if family == "any" else family, tmp_path / "model")
    kind = {"any": "own", "flux": "flow_prediction"}.get(family, "epsilon")
    card = tiny_card(folder, family=family, prediction_type=kind)
    with pretend_gpu.use():
        quantize = how if how == "int8" else ""
        manager = PipelineManager([card], machine=PretendMachine("GTX 1060"), quantize=quantize)
        with manager.lease("tiny", fallbacks=(how,) if how == "wait" else ()) as model:
            assert set(map(id, read)) >= {id(part) for name, part in model.modules.items() if name != "preview"}
            assert next(model.denoiser.parameters()).device.type == pretend_gpu.NAME
            assert (model.denoiser in rounded) == (how == "int8")
            (state,) = manager.states()
            assert state.where == "gpu" and len(read) > 2


@pytest.mark.parametrize(("family", "how"), [("stable_diffusion_xl", "wait"), ("any", "")])
def test_what_is_not_compiled_is_not_called_compiled(
    family: str, how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(placement, "find_spec", lambda name: object())
    compiled: list[Any] = []
    monkeypatch.setattr(torch, "compile", lambda call, **options: compiled.append(call) or call)
    folder = make("pixart" if family == "any" else family, tmp_path / "model")
    card = tiny_card(folder, family=family, prediction_type="own" if family == "any" else "epsilon")
    with pretend_gpu.use():
        manager = PipelineManager([card], machine=PretendMachine("GTX 1060"), compile=True)
        with manager.lease("tiny", fallbacks=(how,) if how else ()) as model:
            assert not compiled and not model.placement.compile
            assert "torch.compile is left out" in model.placement.note
        manager.unload()
        if not how:
            return
        with manager.lease("tiny") as model:  # compiled, and spread when memory runs out
            assert compiled and model.placement.compile
            found = manager.apply_next_fallback("tiny", "start", 1)
            while found is not None and found[1] != how:
                found = manager.apply_next_fallback("tiny", "start", 1)
            assert found is not None and not found[0].placement.compile
            assert found[0].denoiser._compiled_call_impl is None
