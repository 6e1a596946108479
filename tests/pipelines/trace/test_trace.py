"""A trace is exact: what it computes is what the sampler computed."""

from __future__ import annotations

import math

import numpy as np
import pytest

from pipelines.models.manager import PipelineManager
from pipelines.request import InvalidRequest
from pipelines.sampling.schedulers import DIFFUSION_SCHEDULERS, PREDICTION_TYPES, SCHEDULERS, incompatibility
from tests.support.recorded_runs import ask, record
from tests.support.tiny_model import make_tiny_model, tiny_card


@pytest.fixture(scope="module", params=PREDICTION_TYPES)
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory):
    folder = make_tiny_model(tmp_path_factory.mktemp(request.param), prediction_type=request.param)
    with PipelineManager([tiny_card(folder)], device="cpu").lease("tiny") as lent:
        yield lent


@pytest.mark.parametrize("scheduler", DIFFUSION_SCHEDULERS)
def test_the_guided_x0_is_the_samplers_own(model, scheduler: str) -> None:
    kind = model.scheduler_config["prediction_type"]
    if incompatibility(scheduler, kind, False):
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
        # In every scale of the sampler, signal and noise add up to the latents that are decoded.
        rebuilt = facts.alpha * trace.x0(step.index) + facts.sigma * trace.noise(step.index)
        assert np.abs(rebuilt - trace.variance_preserving(step.index)).max() <= 1e-4 * max(1.0, spread * g)
        assert math.isclose(facts.alpha**2 + facts.sigma**2, 1, abs_tol=1e-6)
    assert trace.variance_exploding == SCHEDULERS[scheduler].variance_exploding


def test_guidance_one_is_the_prompt_alone_and_zero_the_empty_prompt(epsilon) -> None:
    steps, trace = record(epsilon, ask())
    assert np.allclose(trace.prediction(2, 1.0), steps[2].cond.numpy(), atol=1e-6)
    assert np.array_equal(trace.prediction(2, 0.0), steps[2].uncond.numpy())
    assert np.allclose(trace.guidance(2), (steps[2].cond - steps[2].uncond).numpy())


def test_a_run_without_guidance_has_one_x0(epsilon) -> None:
    _, trace = record(epsilon, ask(guidance_scale=1.0))
    assert trace.uncond is None and trace.guidance(0) is None
    assert np.array_equal(trace.x0(1, 9.0), trace.x0(1))


def test_change_and_its_share(epsilon) -> None:
    _, trace = record(epsilon, ask(num_images=2))
    moved = trace.x0s[3, 1] - trace.x0s[2, 1]
    assert trace.change(0, 1) == 0
    assert math.isclose(trace.change(3, 1), float(np.sqrt((moved**2).mean())), rel_tol=1e-6)
    shares = trace.cumulative_change(1)
    assert shares == sorted(shares) and shares[0] == 0 and math.isclose(shares[-1], 1)
    _, one = record(epsilon, ask(num_inference_steps=1))
    assert one.cumulative_change(0) == [1.0]


def test_the_gap_between_the_last_x0_and_the_final_latents(epsilon) -> None:
    assert record(epsilon, ask(scheduler="ddim"))[1].final_gap <= 1e-4
    assert record(epsilon, ask(scheduler="lms"))[1].final_gap > 1e-4


def test_the_loudest_step_is_where_the_guess_moves_most(epsilon) -> None:
    _, trace = record(epsilon, ask())
    moved = [np.square(trace.guess(i)[0] - trace.guess(i - 1)[0]).mean() for i in range(1, len(trace.steps))]
    assert trace.loudest_step(0) == 1 + int(np.argmax(moved))
