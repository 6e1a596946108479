"""Stable Diffusion 3 against diffusers' own pipeline, and what all flow models have in common."""

from __future__ import annotations

from pathlib import Path

import diffusers
import numpy as np
import pytest
import torch

from pipelines.images.uploads import UploadStore
from pipelines.jobs.model_queries import predict_x0
from pipelines.request import Interpolation, InvalidRequest
from pipelines.sampling.denoise import denoise
from tests.support.paired_models import request
from tests.support.pipeline_parity import assert_same, from_picture, load, theirs
from tests.support.tiny_families import make


@pytest.mark.parametrize("options", [{}, {"t5": False}, {"dynamic": True}])
@pytest.mark.parametrize("scale", [1.0, 4.0])
def test_sd3_is_diffusers_sd3(tmp_path: Path, options: dict[str, bool], scale: float) -> None:
    folder = make("stable_diffusion_3", tmp_path, **options)
    asked = request(scheduler="flow_euler", guidance_scale=scale, num_images=2, height=48)
    bare = {} if options.get("t5", True) else {"text_encoder_3": None, "tokenizer_3": None}
    pipe = diffusers.StableDiffusion3Pipeline.from_pretrained(folder, **bare)
    found = theirs(pipe, asked, negative_prompt="dull", width=32, height=48)
    assert_same(list(denoise(load(folder, "stable_diffusion_3"), asked)), *found)


@pytest.mark.parametrize("family", ["stable_diffusion_3", "flux"])
def test_a_flow_is_straight_between_noise_and_x0(tmp_path: Path, family: str) -> None:
    model = load(make(family, tmp_path), family)
    steps = list(denoise(model, request(scheduler="flow_euler", height=48, num_inference_steps=4)))
    for step in steps:
        assert step.alpha + step.sigma == pytest.approx(1)
    # The last Euler step lands on the last belief.
    torch.testing.assert_close(steps[-1].x_next, steps[-1].x0, atol=1e-5, rtol=1e-5)
    assert [step.sigma for step in steps] == sorted((step.sigma for step in steps), reverse=True)


def test_flow_heun_calls_the_model_twice(tmp_path: Path) -> None:
    model = load(make("stable_diffusion_3", tmp_path), "stable_diffusion_3")
    steps = list(denoise(model, request(scheduler="flow_heun", num_inference_steps=4, height=48)))
    assert len(steps) == 7
    torch.testing.assert_close(steps[-1].x_next, steps[-1].x0, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("family", ["stable_diffusion_3", "flux"])
def test_flow_models_start_from_pictures_and_blend(tmp_path: Path, family: str) -> None:
    model = load(make(family, tmp_path / "model"), family)
    _, steps = from_picture(model, UploadStore(tmp_path / "inputs"), 0.5, scheduler="flow_euler", num_inference_steps=8)
    assert len(steps) == 4 and steps[0].sigma < 1
    asked = request(scheduler="flow_euler", num_images=3, height=48)
    blend = asked.model_copy(update={"interpolation": Interpolation(prompt="a fox")})
    plain = list(denoise(model, asked.model_copy(update={"num_images": 1})))[-1].x_next
    mixed = list(denoise(model, blend))[-1].x_next
    torch.testing.assert_close(mixed[:1], plain, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(mixed[1], mixed[0])


@pytest.mark.parametrize("scheduler", ["euler", "ddim", "own"])
def test_flow_models_refuse_other_samplers(tmp_path: Path, scheduler: str) -> None:
    model = load(make("flux", tmp_path), "flux")
    with pytest.raises(InvalidRequest, match="choose another scheduler"):
        next(denoise(model, request(scheduler=scheduler, height=48)))


@pytest.mark.parametrize("family", ["stable_diffusion_3", "flux"])
def test_one_query_of_a_flow_predicts_what_the_run_predicted(tmp_path: Path, family: str) -> None:
    model = load(make(family, tmp_path), family, guidance_scale=3.5)
    scale = 1.0 if family == "stable_diffusion_3" else 3.5
    steps = list(denoise(model, request(scheduler="flow_euler", guidance_scale=scale, height=48)))
    step = steps[2]
    seen = predict_x0(model, step.x_t.numpy(), [step.timestep], "a red apple")
    np.testing.assert_allclose(seen, step.x0.numpy(), atol=1e-4)
