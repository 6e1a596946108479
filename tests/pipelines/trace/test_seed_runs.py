"""Other seeds of a run's prompt, for their ways alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from pipelines.models.manager import PipelineManager
from pipelines.request import InitImage
from pipelines.sampling.denoise import denoise
from pipelines.trace import seed_runs
from tests.support.known_trace import make_trace
from tests.support.recorded_runs import returned
from tests.support.site import tiny_card


def test_as_many_seeds_as_a_minute_allows() -> None:
    card = tiny_card(Path("nowhere"))
    quick, slow, slowest = (replace(make_trace(num_images=2), seconds=s) for s in (1.0, 30.0, 900.0))
    requests, seconds = seed_runs.affordable(card, quick, 1)
    assert [request.num_images for request in requests] == [8] * 8
    assert sorted(seed for request in requests for seed in request.seeds) == list(range(64))
    assert 0 < seconds <= seed_runs.MAX_SECONDS
    assert sum(request.num_images for request in seed_runs.affordable(card, slow, 0)[0]) < 64
    assert seed_runs.affordable(card, slowest, 0)[0] == []
    unknown, seconds = seed_runs.affordable(card, replace(quick, seconds=0.0), 0)
    assert sum(request.num_images for request in unknown) == seed_runs.UNTIMED_SEEDS and seconds == 0


def test_long_runs_take_the_drafts_steps_and_add_ons_none() -> None:
    card = tiny_card(Path("nowhere"))
    request = seed_runs.affordable(card, make_trace(num_inference_steps=30, prompt="an owl"), 0)[0][0]
    assert (request.sampling.num_inference_steps, request.sampling.scheduler, request.prompt) == (4, "euler", "an owl")
    assert request.sampling.guidance_scale == 4.0
    trace = make_trace()
    pictured = trace.request.model_copy(update={"init": InitImage(image="0" * 32, strength=0.5)})
    assert seed_runs.affordable(card, replace(trace, request=pictured), 0) == ([], 0.0)


def test_large_pictures_are_drawn_few_at_once() -> None:
    trace = replace(make_trace(num_images=1), seconds=0.001)
    large = trace.request.model_copy(update={"width": 1024, "height": 1024})
    requests, _ = seed_runs.affordable(tiny_card(Path("nowhere")), replace(trace, request=large), 0)
    assert {request.num_images for request in requests} == {2}
    assert sorted(seed for request in requests for seed in request.seeds) == list(range(64))


def test_pictures_that_the_checker_withholds_are_black(tiny_folder: Path) -> None:
    card = tiny_card(tiny_folder, prediction_type="epsilon")
    trace = make_trace(num_inference_steps=3, scheduler="ddim")
    request = seed_runs.affordable(card, trace, 0)[0][0].model_copy(update={"num_images": 2})
    with PipelineManager([card], device="cpu").lease("tiny") as model, torch.inference_mode():
        model.withheld_by_checker = lambda images: (True, False)
        parts = seed_runs.runs_of(request)(model)
        assert [next(parts), next(parts)] == [None, None], "a step at a time"
        first, second = (run.picture.convert("L").getextrema() for run in returned(parts))
    assert first == (0, 0) and second != (0, 0)


@pytest.mark.parametrize("scheduler", ["ddim", "euler"])
def test_a_seeds_way_is_the_loops(tiny_folder: Path, scheduler: str) -> None:
    card = tiny_card(tiny_folder, prediction_type="epsilon")
    trace = make_trace(num_inference_steps=3, scheduler=scheduler)
    request = seed_runs.affordable(card, trace, 0)[0][0].model_copy(update={"num_images": 3})
    with PipelineManager([card], device="cpu").lease("tiny") as model, torch.inference_mode():
        runs = returned(seed_runs.runs_of(request)(model))
        steps = list(denoise(model, request))
    assert [run.seed for run in runs] == [0, 1, 2]
    for k, run in enumerate(runs):
        assert run.way.x_t.shape == (4, 64) and run.way.x0.shape == (3, 64)
        np.testing.assert_allclose(run.way.x_t[-1], steps[-1].x_next[k].flatten(), rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(run.way.x0[1], steps[1].x0[k].flatten(), rtol=1e-5, atol=1e-5)
        scale = steps[1].alpha if scheduler == "euler" else 1.0
        np.testing.assert_allclose(run.way.x_t[1], scale * steps[1].x_t[k].flatten(), rtol=1e-5, atol=1e-5)
