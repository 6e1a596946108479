"""Recording runs of every kind of model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from pipelines.trace.lenses import available_lenses, project, render
from pipelines.trace.recorder import Recorder
from pipelines.trace.serialization import load_trace, save_trace
from tests.support.known_trace import make_trace
from tests.support.paired_models import request
from tests.support.pipeline_parity import load, record
from tests.support.tiny_families import make


@pytest.mark.parametrize("family", ["stable_diffusion_3", "flux", "pixart"])
def test_a_trace_of_each_kind_of_model_is_exact_and_can_be_looked_into(tmp_path: Path, family: str) -> None:
    own = family == "pixart"
    model = load(make(family, tmp_path / "model"), "any" if own else family)
    trace, steps = record(model, request(scheduler="own" if own else "flow_euler", height=48, num_images=2))
    save_trace(trace, tmp_path)
    trace = load_trace(tmp_path, "run")
    for i, step in enumerate(steps):
        np.testing.assert_allclose(trace.x0(i), step.x0.numpy(), atol=1e-4)
        facts = trace.steps[i]
        mixed = facts.alpha * trace.x0(i) + facts.sigma * trace.noise(i)
        np.testing.assert_allclose(
            mixed, trace.variance_preserving(i), atol=1e-4 * max(1, float(np.abs(trace.variance_preserving(i)).max()))
        )
        assert 0 <= facts.alpha_bar <= 1 and facts.snr == pytest.approx((facts.alpha / facts.sigma) ** 2)
    assert trace.final_gap < 1e-3
    assert ("guidance" in available_lenses(trace)) == (family == "stable_diffusion_3")
    for name in available_lenses(trace):
        assert len(render(trace, name, 1, lambda latents: project(trace, latents))) == len(steps)


@pytest.mark.parametrize("steps", [0, 2])
def test_a_fork_that_takes_rough_frames_over_is_rough_itself(steps: int) -> None:
    stopped = replace(make_trace(done=4), rough=True)
    recorder = Recorder("fork", stopped.request, 0.0)
    recorder.begin_with(stopped, steps)
    x = torch.zeros(1, 3, 4, 4)
    own = {"timestep": 1.0, "sigma": 0.5, "alpha": 0.5, "x_t": x, "cond": x, "uncond": x, "x_next": x, "total": 6}
    recorder.add(SimpleNamespace(index=steps, **own), (b"frame",))  # type: ignore[arg-type]
    model = SimpleNamespace(
        scheduler_config={"prediction_type": "v_prediction"},
        latents=SimpleNamespace(to_rgb=lambda: np.zeros((4, 3), np.float32)),
        card=SimpleNamespace(name="Tiny", licence="none"),
    )
    assert recorder.finish(model, (), (), 1.0).rough == (steps > 0)
