"""The trace: exact, whole after a trip to the disk, careful with strange files, and bounded."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipelines.denoise import denoise
from pipelines.events import Picture
from pipelines.manager import PipelineManager
from pipelines.request import InvalidRequest, make_request
from pipelines.schedulers import DIFFUSION, PREDICTION_TYPES, SCHEDULERS, why_not
from pipelines.trace import Recorder, StepFacts, Trace, TraceError, TraceStore, coarse_of
from tests.tiny import make_tiny_model, tiny_card


@pytest.fixture(scope="module", params=PREDICTION_TYPES)
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory):
    folder = make_tiny_model(tmp_path_factory.mktemp(request.param), prediction_type=request.param)
    with PipelineManager([tiny_card(folder)], device="cpu").lease("tiny") as lent:
        yield lent


def ask(**changes: Any):
    values = {
        "model": "tiny", "prompt": "a fox", "width": 32, "height": 32, "scheduler": "ddim", "num_inference_steps": 5,
        "guidance_scale": 4.0, "seed": 3,
    }  # fmt: skip
    return make_request(**{**values, **changes})


def record(model: Any, request: Any, name: str = "run") -> tuple[list[Any], Trace]:
    recorder = Recorder(name, request, 12.5)
    steps = list(denoise(model, request))
    for step in steps:
        recorder.add(step, tuple(f"jpeg {step.index} {k}".encode() for k in range(request.num_images)))
    pictures = tuple(Picture(Path(f"/pictures/{seed}.png"), seed) for seed in request.seeds)
    return steps, recorder.finish(model, pictures, tuple(b"png %d" % seed for seed in request.seeds), 1.5)


@pytest.fixture(scope="module")
def epsilon(tmp_path_factory: pytest.TempPathFactory):
    folder = make_tiny_model(tmp_path_factory.mktemp("epsilon"))
    with PipelineManager([tiny_card(folder)], device="cpu").lease("tiny") as lent:
        yield lent


@pytest.mark.parametrize("scheduler", DIFFUSION)
def test_the_guided_belief_is_the_samplers_own(model, scheduler: str) -> None:
    kind = model.scheduler_config["prediction_type"]
    if why_not(scheduler, kind, False):
        # Not a pair that runs, and the loop itself says so.
        with pytest.raises(InvalidRequest):
            record(model, ask(scheduler=scheduler))
        return
    request = ask(scheduler=scheduler)
    steps, trace = record(model, request)
    g = request.sampling.guidance_scale
    for step, facts in zip(steps, trace.steps, strict=True):
        spread = step.sigma / step.alpha if kind == "epsilon" else 1.0
        assert np.abs(trace.x0(step.index, g) - step.x0.numpy()).max() <= 1e-4 * max(1.0, spread * g)
        assert np.array_equal(trace.x0(step.index), trace.x0(step.index, g))
        # Whatever the sampler's own scale: signal and noise add up to the latent that is drawn.
        rebuilt = facts.alpha * trace.x0(step.index) + facts.sigma * trace.noise(step.index)
        assert np.abs(rebuilt - trace.vp(step.index)).max() <= 1e-4 * max(1.0, spread * g)
        assert math.isclose(facts.alpha**2 + facts.sigma**2, 1, abs_tol=1e-6)
    assert trace.exploding == SCHEDULERS[scheduler].exploding


def test_guidance_one_is_the_prompt_alone_and_zero_the_empty_prompt(epsilon) -> None:
    steps, trace = record(epsilon, ask())
    assert np.allclose(trace.prediction(2, 1.0), steps[2].cond.numpy(), atol=1e-6)
    assert np.array_equal(trace.prediction(2, 0.0), steps[2].uncond.numpy())
    assert np.allclose(trace.guidance(2), (steps[2].cond - steps[2].uncond).numpy())


def test_a_run_without_guidance_has_one_belief(epsilon) -> None:
    _, trace = record(epsilon, ask(guidance_scale=1.0))
    assert trace.uncond is None and trace.guidance(0) is None
    assert np.array_equal(trace.x0(1, 9.0), trace.x0(1))


def test_what_comes_back_from_the_disk_is_the_same(epsilon, tmp_path: Path) -> None:
    _, trace = record(epsilon, ask(num_images=2, scheduler="euler"), "a-b_C1")
    trace.save(tmp_path)
    again = Trace.load(tmp_path, "a-b_C1")
    for field in dataclasses.fields(Trace):
        ours, theirs = getattr(trace, field.name), getattr(again, field.name)
        assert np.array_equal(ours, theirs) if isinstance(ours, np.ndarray) else ours == theirs, field.name
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a-b_C1.json", "a-b_C1.safetensors"]


def test_the_last_latent_decodes_to_the_same_picture(epsilon, tmp_path: Path) -> None:
    import torch

    steps, trace = record(epsilon, ask())
    trace.save(tmp_path)
    latents = torch.from_numpy(Trace.load(tmp_path, "run").final)
    (ours,), (theirs,) = epsilon.latents.decode(latents), epsilon.latents.decode(steps[-1].x_next)
    assert ours.tobytes() == theirs.tobytes()


def test_change_and_its_share(epsilon) -> None:
    _, trace = record(epsilon, ask(num_images=2))
    moved = trace.beliefs[3, 1] - trace.beliefs[2, 1]
    assert trace.change(0, 1) == 0
    assert math.isclose(trace.change(3, 1), float(np.sqrt((moved**2).mean())), rel_tol=1e-6)
    shares = trace.shares(1)
    assert shares == sorted(shares) and shares[0] == 0 and math.isclose(shares[-1], 1)
    _, one = record(epsilon, ask(num_inference_steps=1))
    assert one.shares(0) == [1.0] and len(one.phases(0)) == 1


def walk(coarse: list[float], fine: list[float]) -> Trace:
    """A trace whose beliefs have this coarse and this fine part left to go at each step (prediction type sample)."""
    checks = np.indices((8, 8)).sum(0) % 2 * 2.0 - 1
    x0 = np.array([c + f * checks for c, f in zip(coarse, fine, strict=True)], np.float32)[:, None, None]
    steps = tuple(StepFacts(i, 900.0 - i, 0.6, 0.8) for i in range(len(coarse)))
    return Trace(
        "walk", ask(width=64, height=64), 0.0, len(coarse), "sample", False, steps, x0, x0, None, x0[-1], (), (), (),
        np.zeros((2, 3), np.float32),
    )  # fmt: skip


def test_phases_follow_the_traces_own_figures() -> None:
    early = walk([1, 0.1, 0, 0, 0, 0], [1, 1, 0.8, 0.5, 0.2, 0])
    late = walk([1, 1, 0.9, 0.8, 0.1, 0], [1, 1, 0.8, 0.5, 0.2, 0])
    assert [phase.name for phase in early.phases(0)] == ["Finding the layout", *["Detail"] * 4, "Finishing"]
    assert [phase.name for phase in late.phases(0)] == [*["Finding the layout"] * 4, "Detail", "Finishing"]
    assert "90% of the way" in early.phases(0)[1].words and "20% of the way" in late.phases(0)[3].words
    assert coarse_of(early.beliefs[:, 0]).shape == (6, 1, 4, 4)
    assert {phase.name for phase in walk([0, 0], [0, 0]).phases(0)} == {"Finishing"}


def test_the_gap_between_the_last_belief_and_the_end(epsilon) -> None:
    assert record(epsilon, ask(scheduler="ddim"))[1].gap <= 1e-4
    assert record(epsilon, ask(scheduler="lms"))[1].gap > 1e-4


@pytest.mark.parametrize("name", ["../run", "/etc/passwd", "", "a" * 65, "a.b", "run\n"])
def test_names_that_are_no_ids_are_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(TraceError, match="no name"):
        Trace.load(tmp_path, name)


def spoil_facts(facts: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {**facts, "version": 2},
        {**facts, "id": "other"},
        {**facts, "steps": facts["steps"][:-1]},
        {**facts, "steps": [["x"]] * len(facts["steps"])},
        {**facts, "request": {**facts["request"], "num_images": 3}},
        {**facts, "request": {"prompt": "a fox"}},
        {key: value for key, value in facts.items() if key != "total"},
    ]


def test_damaged_files_are_one_sentence(epsilon, tmp_path: Path) -> None:
    _, trace = record(epsilon, ask())
    trace.save(tmp_path)
    tensors, facts = tmp_path / "run.safetensors", tmp_path / "run.json"
    whole, text = tensors.read_bytes(), facts.read_text()
    for broken in (b"", whole[:50], whole[:-1], b"\xff" * 8 + whole[8:]):
        tensors.write_bytes(broken)
        with pytest.raises(TraceError, match="damaged"):
            Trace.load(tmp_path, "run")
    tensors.write_bytes(whole)
    for spoilt in ("", "[]", "null", *map(json.dumps, spoil_facts(json.loads(text)))):
        facts.write_text(spoilt)
        with pytest.raises(TraceError, match="damaged"):
            Trace.load(tmp_path, "run")
    facts.unlink()
    with pytest.raises(TraceError, match="no longer kept"):
        Trace.load(tmp_path, "run")


def test_the_store_keeps_the_recently_used_in_memory_and_all_on_disk(epsilon, tmp_path: Path) -> None:
    _, trace = record(epsilon, ask())
    store = TraceStore(tmp_path, memory_bytes=2 * trace.nbytes)
    runs = [dataclasses.replace(trace, id=name) for name in "abc"]
    for run in runs[:2]:
        store.put(run)
    assert store.get("a") is runs[0]
    store.put(runs[2])  # pushes out b, which was used longest ago
    assert store.get("a") is runs[0] and store.get("c") is runs[2]
    assert store.get("b") is not runs[1] and np.array_equal(store.get("b").x_t, trace.x_t)
    assert store.get("d") is None


def test_the_store_drops_the_oldest_files(epsilon, tmp_path: Path) -> None:
    import os

    _, trace = record(epsilon, ask())
    trace.save(tmp_path / "size")
    size = (tmp_path / "size" / "run.safetensors").stat().st_size
    store = TraceStore(tmp_path, memory_bytes=1, disk_bytes=2 * size)
    for age, name in enumerate("abc"):
        store.put(dataclasses.replace(trace, id=name))
        os.utime(tmp_path / f"{name}.safetensors", (age, age))
    assert sorted(path.name for path in tmp_path.glob("*.*")) == [
        "b.json", "b.safetensors", "c.json", "c.safetensors",
    ]  # fmt: skip


def test_a_full_disk_costs_the_file_alone(epsilon, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    _, trace = record(epsilon, ask())
    store = TraceStore(tmp_path / "file")
    store.put(trace)
    assert store.get("run") is trace
