"""A saved trace comes back whole, and damaged files are refused with one sentence."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipelines.trace.serialization import load_trace, save_trace
from pipelines.trace.trace import Trace, TraceError
from tests.support.recorded_runs import ask, record


def test_what_comes_back_from_the_disk_is_the_same(epsilon, tmp_path: Path) -> None:
    _, trace = record(epsilon, ask(num_images=2, scheduler="euler"), "a-b_C1")
    save_trace(trace, tmp_path)
    again = load_trace(tmp_path, "a-b_C1")
    for field in dataclasses.fields(Trace):
        ours, theirs = getattr(trace, field.name), getattr(again, field.name)
        assert np.array_equal(ours, theirs) if isinstance(ours, np.ndarray) else ours == theirs, field.name
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a-b_C1.json", "a-b_C1.safetensors"]


def test_a_trace_of_an_earlier_version_has_guided_guesses_and_no_noisy_pictures(epsilon, tmp_path: Path) -> None:
    _, trace = record(epsilon, ask(num_images=2))
    noisy = tuple((b"one", b"two") for _ in trace.steps)
    save_trace(dataclasses.replace(trace, noisy=noisy, frames_guidance=1.0, rough=True), tmp_path)
    again = load_trace(tmp_path, "run")
    assert again.noisy == noisy and again.frames_guidance == 1.0 and again.rough
    save_trace(trace, tmp_path)
    facts = json.loads((tmp_path / "run.json").read_text())
    del facts["frames_guidance"]
    (tmp_path / "run.json").write_text(json.dumps(facts))
    old = load_trace(tmp_path, "run")
    assert old.noisy == () and old.frames_guidance == trace.request.sampling.guidance_scale


def test_the_last_latent_decodes_to_the_same_picture(epsilon, tmp_path: Path) -> None:
    import torch

    steps, trace = record(epsilon, ask())
    save_trace(trace, tmp_path)
    latents = torch.from_numpy(load_trace(tmp_path, "run").final)
    (ours,), (theirs,) = epsilon.latents.decode(latents), epsilon.latents.decode(steps[-1].x_next)
    assert ours.tobytes() == theirs.tobytes()


@pytest.mark.parametrize("name", ["../run", "/etc/passwd", "", "a" * 65, "a.b", "run\n"])
def test_names_that_are_no_ids_are_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(TraceError, match="no name"):
        load_trace(tmp_path, name)


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
    save_trace(trace, tmp_path)
    tensors, facts = tmp_path / "run.safetensors", tmp_path / "run.json"
    whole, text = tensors.read_bytes(), facts.read_text()
    for broken in (b"", whole[:50], whole[:-1], b"\xff" * 8 + whole[8:]):
        tensors.write_bytes(broken)
        with pytest.raises(TraceError, match="damaged"):
            load_trace(tmp_path, "run")
    tensors.write_bytes(whole)
    for spoilt in ("", "[]", "null", *map(json.dumps, spoil_facts(json.loads(text)))):
        facts.write_text(spoilt)
        with pytest.raises(TraceError, match="damaged"):
            load_trace(tmp_path, "run")
    facts.unlink()
    with pytest.raises(TraceError, match="no longer kept"):
        load_trace(tmp_path, "run")
