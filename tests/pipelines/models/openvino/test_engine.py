"""Small models through OpenVINO: the same pictures, and the network itself for whatever that cannot do."""

from __future__ import annotations

import gc
import logging
import os
import subprocess
import sys
import weakref
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from pipelines.events import Announced, Decoding, Finished, Preview
from pipelines.jobs.local import LocalBackend
from pipelines.models.manager import PipelineManager
from pipelines.models.openvino import convert as convert_module
from pipelines.models.openvino import engine as engine_module
from pipelines.models.openvino.convert import CannotConvert, Graph, GraphCache
from pipelines.models.openvino.engine import Engine, is_supported
from pipelines.models.placement import OPENVINO, TORCH, resolve
from pipelines.request import make_request
from pipelines.sampling.denoise import denoise
from presets.catalogue import load
from tests.support.tiny_loras import make_lora

# Importing it here, without the precautions of ``converting.library``, would have it tell its makers.
pytestmark = pytest.mark.skipif(find_spec("openvino") is None, reason="there is no OpenVINO for this platform")
WAIT = 300.0
ROOT = Path(__file__).resolve().parents[4]


def ask(**changes: Any) -> Any:
    values = {"model": "pocket", "prompt": "a red apple on a yellow background", "width": 128, "height": 128}
    return make_request(
        **{**values, "scheduler": "ddim", "num_inference_steps": 4, "guidance_scale": 1.0, "seed": 7, **changes}
    )


def last(model: Any, **changes: Any) -> torch.Tensor:
    return list(denoise(model, ask(**changes)))[-1].x_next


def manager(engine: str, folder: Path | None = None) -> PipelineManager:
    return PipelineManager(load(), device="cpu", engine=engine, engine_dir=folder)


def unet_of(model: Any) -> Any:
    return model.engine._networks[0]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, home: Path) -> Path:
    """Pocket's networks, converted once for all tests, by a process that has an empty home folder."""
    folder = tmp_path_factory.mktemp("compiled")
    before = os.environ.get("HOME", "")
    os.environ["HOME"] = str(home)
    try:
        with manager(OPENVINO, folder).lease("pocket") as model:
            assert model.engine.wait(WAIT) and model.engine.ready
    finally:
        os.environ["HOME"] = before
    return folder


def refuse(*args: Any) -> None:
    raise CannotConvert("not here")


@pytest.fixture
def no_converting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_module, "convert", refuse)


@pytest.fixture(scope="module")
def model(folder: Path) -> Iterator[Any]:
    """Pocket, compiled out of the cache; to be left as it was."""
    with pytest.MonkeyPatch.context() as patch, manager(OPENVINO, folder).lease("pocket") as model:
        patch.setattr(engine_module, "convert", refuse)
        assert model.engine.wait(WAIT) and model.quick
        patch.undo()
        yield model


@pytest.fixture(scope="module")
def plain() -> Iterator[Any]:
    with manager(TORCH).lease("pocket") as model:
        assert model.engine is None and not model.quick
        yield model


def counted(model: Any, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How often the UNet itself is asked, and how often in its place."""
    counts, unet, run = [0, 0], unet_of(model), engine_module._CompiledNetwork.__call__
    itself = unet._call

    def asked(**inputs: Any) -> Any:
        counts[0] += 1
        return itself(**inputs)

    def ran(self: Any, inputs: Any) -> Any:
        counts[1] += "sample" in inputs
        return run(self, inputs)

    monkeypatch.setattr(unet, "_call", asked)
    monkeypatch.setattr(engine_module._CompiledNetwork, "__call__", ran)
    return counts


@pytest.mark.parametrize("guidance_scale", [1.0, 4.0])
@pytest.mark.parametrize("num_images", [1, 2])
def test_the_pictures_are_the_same(
    model: Any, plain: Any, num_images: int, guidance_scale: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = {"num_images": num_images, "guidance_scale": guidance_scale}
    last(model, **changes)  # asks for this size
    assert model.engine.wait(WAIT)
    counts = counted(model, monkeypatch)
    for seed in (1, 2, 3):
        ours, theirs = last(model, seed=seed, **changes), last(plain, seed=seed, **changes)
        assert (ours - theirs).abs().max() < 1e-4
        for a, b in zip(model.latents.decode(ours), plain.latents.decode(theirs), strict=True):
            assert np.abs(np.asarray(a, int) - np.asarray(b, int)).max() <= 1
    # Two rows at a time, as guidance of one picture has.
    assert counts == [0, 24 if num_images == 2 and guidance_scale > 1 else 12]


def test_a_run_may_begin_before_its_size_is_compiled(model: Any, plain: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    counts, changes = counted(model, monkeypatch), {"width": 64, "num_images": 3}
    found = [step.x_next for step in denoise(model, ask(**changes)) if model.engine.wait(WAIT)]
    assert counts == [2, 10]  # the network for the first step; then each once to compare them, and each row by itself
    assert (found[-1] - last(plain, **changes)).abs().max() < 1e-4


def test_a_large_picture_is_not_compiled_for_and_leaves_the_others_compiled(
    model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = unet_of(model).ready
    monkeypatch.setattr(engine_module, "MAX_POSITIONS", 2 * 8 * 8)
    counts = counted(model, monkeypatch)
    last(model, width=192, num_inference_steps=1, guidance_scale=4.0)  # rows of 8 x 12 positions
    assert counts == [1, 0] and model.engine.wait(0) and unet_of(model).ready == before


def test_an_output_is_not_overwritten_by_the_next_call(model: Any) -> None:
    steps = list(denoise(model, ask(guidance_scale=4.0)))
    assert not torch.equal(steps[0].cond, steps[1].cond) and not torch.equal(steps[0].cond, steps[0].uncond)


def test_with_other_attention_the_module_itself_runs(model: Any, plain: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    counts, processors, seen = counted(model, monkeypatch), dict(model.unet.attn_processors), []

    class Watching:
        def __init__(self, inner: Any) -> None:
            self.inner = inner

        def __call__(self, *args: Any, **options: Any) -> Any:
            seen.append(1)
            return self.inner(*args, **options)

    model.unet.set_attn_processor({name: Watching(one) for name, one in processors.items()})
    watched = last(model, guidance_scale=4.0)
    assert counts == [4, 0] and len(seen) == 4 * len(processors)
    model.unet.set_attn_processor(processors)
    again = last(model, guidance_scale=4.0)
    assert counts == [4, 4] and (watched - again).abs().max() < 1e-4


def test_hooks_and_other_precision_are_noticed(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    counts, seen = counted(model, monkeypatch), []
    hook = model.unet.mid_block.resnets[0].register_forward_hook(lambda *args: seen.append(1))
    last(model, guidance_scale=4.0)
    hook.remove()
    assert counts == [4, 0] and len(seen) == 4
    model.unet.mid_block.forward = model.unet.mid_block.forward  # as accelerate's hooks do
    last(model, guidance_scale=4.0)
    del model.unet.mid_block.forward
    assert counts == [8, 0]
    last(model, guidance_scale=4.0)
    assert counts == [8, 4]
    with manager(TORCH).lease("pocket") as other:
        network = Engine(None, 1).network("unet", other.unet, other._call)
        assert network._module_state.unchanged() and is_supported(other.unet)
        other.unet.to(torch.bfloat16)
        assert not network._module_state.unchanged() and not is_supported(other.unet)


def test_with_a_lora_the_module_itself_runs_until_it_is_removed(
    model: Any, plain: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = counted(model, monkeypatch)
    lora = make_lora(ROOT / "pocket/weights", "stable_diffusion", tmp_path / "ink.safetensors", 1)
    wish = (str(lora.parent), lora.name, 1.0)
    model.set_loras([wish])
    plain.set_loras([wish])
    dressed = last(model, guidance_scale=4.0)
    assert counts == [4, 0] and torch.equal(dressed, last(plain, guidance_scale=4.0))
    model.set_loras([])
    plain.set_loras([])
    bare = last(model, guidance_scale=4.0)
    assert counts == [4, 4] and (bare - last(plain, guidance_scale=4.0)).abs().max() < 1e-4
    assert (bare - dressed).abs().max() > 1e-2


def test_with_controlnets_and_image_prompts_the_module_itself_runs(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    counts = counted(model, monkeypatch)
    monkeypatch.setattr(model, "added_cond_kwargs", lambda x, conditioning: {"nobody": "reads this"})
    last(model, guidance_scale=4.0)
    assert counts == [4, 0]


def test_tiles_are_decoded_one_by_one(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    decoder = model.engine._networks[1]
    assert decoder._module_state.unchanged()
    monkeypatch.setattr(model.latents.vae, "use_tiling", True)
    assert not decoder._module_state.unchanged()


def test_an_inaccurate_network_is_not_used(folder: Path, no_converting: None, monkeypatch: pytest.MonkeyPatch) -> None:
    run = engine_module._CompiledNetwork.__call__
    monkeypatch.setattr(engine_module._CompiledNetwork, "__call__", lambda self, inputs: run(self, inputs) + 0.01)
    with manager(OPENVINO, folder).lease("pocket") as model:
        assert model.engine.wait(WAIT) and not model.quick
        assert unet_of(model).ready == ()


def test_after_a_failure_the_module_itself_runs(folder: Path, plain: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: Any, inputs: Any) -> None:
        raise RuntimeError("no")

    with manager(OPENVINO, folder).lease("pocket") as model:
        assert model.engine.wait(WAIT) and model.quick
        monkeypatch.setattr(engine_module._CompiledNetwork, "__call__", fail)
        assert torch.equal(last(model, guidance_scale=4.0), last(plain, guidance_scale=4.0))
        assert unet_of(model).ready == ()


def test_without_openvino_the_user_sees_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    found = resolve("cpu", engine="auto")
    assert (found.engine, found.note) == (TORCH, "")
    asked = resolve("cpu", engine=OPENVINO)
    assert asked.engine == TORCH and "not installed" in asked.note
    with manager("auto").lease("pocket") as model:
        assert model.engine is None and not model.placement.note


@pytest.mark.parametrize("what", ["import", "convert"])
def test_when_conversion_fails_the_user_sees_no_error(
    what: str, folder: Path, plain: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*args: Any) -> None:
        raise ImportError("libtbb.so.12: cannot open shared object file")

    monkeypatch.setattr(engine_module, "import_openvino" if what == "import" else "convert", fail)
    with (
        caplog.at_level(logging.DEBUG, "pipelines.models.openvino.engine"),
        manager("auto", folder if what == "import" else None).lease("pocket") as model,
    ):
        assert model.engine.wait(WAIT) and not model.quick
        assert torch.equal(last(model), last(plain))
    levels = [record.levelno for record in caplog.records if record.name.startswith("pipelines")]
    assert levels and set(levels) == {logging.DEBUG}


def test_large_models_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_module, "MAX_PARAMETERS", 1000)
    for wish, words in (("auto", ""), (OPENVINO, "small models")):
        with manager(wish).lease("pocket") as model:
            assert model.engine is None and model.placement.engine == TORCH
            assert words in model.placement.note and bool(words) == bool(model.placement.note)


def test_a_damaged_file_is_converted_again(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = {path.name: path.read_bytes() for path in folder.glob("*.graph")}
    assert len(kept) == 2
    for name, data in kept.items():
        (tmp_path / name).write_bytes(data[: len(data) // 2])
    found, shelf, calls = GraphCache(folder), GraphCache(tmp_path), []

    def again(scratch: Path, kinds: list[str], unwanted: Any) -> dict[str, Graph]:
        calls.append(sorted(kinds))
        assert all((scratch / kind / "config.json").is_file() for kind in kinds)
        graphs = sorted((found.get(name.removesuffix(".graph")) for name in kept), key=lambda graph: len(graph.weights))
        return dict(zip(("decoder", "unet"), graphs, strict=True))

    monkeypatch.setattr(engine_module, "convert", again)
    with manager(OPENVINO, tmp_path).lease("pocket") as model:
        assert model.engine.wait(WAIT) and model.quick
    assert calls == [["decoder", "unet"]]
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == kept
    assert all(shelf.get(name.removesuffix(".graph")) for name in kept)


def test_the_cache_keeps_the_most_recently_used(tmp_path: Path) -> None:
    shelf = GraphCache(tmp_path)
    for k in range(convert_module.KEEP_FILES + 2):
        shelf.put(f"graph{k}", Graph(b"<xml/>", bytes([k])))
        os.utime(tmp_path / f"graph{k}.graph", (k, k))
    assert shelf.get("graph0") is None and shelf.get("graph9").weights == b"\x09"
    (tmp_path / "graph9.graph").write_bytes(b"nothing of the kind")
    assert shelf.get("graph9") is None
    assert GraphCache(None).get("graph9") is None


def test_unloading_frees_it(folder: Path, no_converting: None) -> None:
    owner = manager(OPENVINO, folder)
    with owner.lease("pocket") as model:
        assert model.engine.wait(WAIT) and model.quick
        engine, unet = weakref.ref(model.engine), weakref.ref(model.unet)
        ready = [weakref.ref(one) for network in model.engine._networks for one in network._ready.values()]
    assert len(ready) == 2
    del model
    owner.unload("pocket")
    assert engine() is None and unet() is None and [one() for one in ready] == [None, None]


def test_unloading_ends_a_running_conversion(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Any] = []
    start = subprocess.Popen
    monkeypatch.setattr(convert_module.subprocess, "Popen", lambda *a, **o: made.append(start(*a, **o)) or made[0])
    owner = manager(OPENVINO)
    with owner.lease("pocket") as model:
        engine = weakref.ref(model.engine)
        thread = next(each for each in engine_module.threading.enumerate() if each.name == "playground-engine")
        while not made:
            thread.join(0.01)
    del model
    owner.unload("pocket")
    gc.collect()
    thread.join(WAIT)
    assert engine() is None and made[0].returncode not in (0, None)


def test_a_process_that_cannot_convert_says_why(tmp_path: Path) -> None:
    (tmp_path / "unet").mkdir()
    (tmp_path / "unet" / "config.json").write_text("{}")
    with pytest.raises(CannotConvert, match="_class_name"):
        convert_module.convert(tmp_path, ["unet"], lambda: False)


def test_no_telemetry_and_nothing_written_into_the_home_folder(folder: Path, home: Path) -> None:
    assert list(home.rglob("*")) == []
    convert_module.import_openvino()
    assert sys.modules["openvino_telemetry"] is None
    assert not [name for name in sys.modules if name.startswith("openvino_telemetry.")]


def test_a_quick_run_shows_its_picture_first(folder: Path, no_converting: None, tmp_path: Path) -> None:
    owner = manager(OPENVINO, folder)
    backend = LocalBackend(owner, tmp_path / "pictures", threads=1)
    try:
        list(backend.submit(ask()).events())
        with owner.lease("pocket") as model:
            assert model.engine.wait(WAIT) and model.quick
        job, there = backend.submit(ask(num_inference_steps=4)), []
        for event in job.events():
            if isinstance(event, Preview):
                there.append(len(list((tmp_path / "pictures").glob("*.png"))))
        events = job.poll()
        done, previews = events[-1], [event for event in events if isinstance(event, Preview)]
        assert isinstance(done, Finished) and there == [2] * 4
        assert [event.index for event in previews] == [0, 1, 2, 3]
        kinds = [type(event) for event in events]
        assert kinds.index(Decoding) < kinds.index(Announced) < events.index(previews[0])
        trace = backend.trace(job.id)
        assert [list(row) for row in trace.frames] == [list(event.frames) for event in previews] and not trace.rough
        assert Image.open(done.pictures[0].path).size == (128, 128)
    finally:
        backend.close()


def test_an_engine_without_networks_is_not_ready() -> None:
    assert not Engine(None, 1).ready
