"""Stable Diffusion XL, its refiner and LCM against diffusers' own pipelines, step by step."""

from __future__ import annotations

from pathlib import Path

import diffusers
import pytest

from pipelines.images.uploads import UploadStore
from pipelines.sampling.denoise import denoise
from tests.support.paired_models import THEIRS, request
from tests.support.pipeline_parity import assert_same, from_picture, load, picture, theirs
from tests.support.tiny_families import make

XL_SCHEDULERS = ("euler", "euler_a", "dpmpp_2m", "ddim", "lcm")


@pytest.fixture(scope="module")
def xl(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make("stable_diffusion_xl", tmp_path_factory.mktemp("xl"))


@pytest.mark.parametrize("scheduler", XL_SCHEDULERS)
@pytest.mark.parametrize("negative", ["", "dull"])
def test_xl_is_diffusers_xl(xl: Path, scheduler: str, negative: str) -> None:
    asked = request(negative_prompt=negative, scheduler=scheduler, num_images=2, height=48)
    model = load(xl, "stable_diffusion_xl")
    pipe = diffusers.StableDiffusionXLPipeline.from_pretrained(xl)
    name, options = THEIRS[scheduler]
    pipe.scheduler = getattr(diffusers, name).from_config({**pipe.scheduler.config, "clip_sample": False, **options})
    # Nothing to avoid is nothing at all for this model, not an empty text.
    found = theirs(pipe, asked, negative_prompt=negative or None, width=32, height=48)
    assert_same(list(denoise(model, asked)), *found)


def test_xl_that_was_trained_with_an_empty_prompt(tmp_path: Path) -> None:
    folder = make("stable_diffusion_xl", tmp_path, zeros=False)
    asked = request(negative_prompt="", scheduler="euler")
    pipe = diffusers.StableDiffusionXLPipeline.from_pretrained(folder)
    found = theirs(pipe, asked, width=32, height=40)
    assert_same(list(denoise(load(folder, "stable_diffusion_xl"), asked)), *found)


def test_xl_without_guidance_is_called_once(xl: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, asked = load(xl, "stable_diffusion_xl"), request(guidance_scale=1.0, scheduler="euler")
    pipe = diffusers.StableDiffusionXLPipeline.from_pretrained(xl)
    steps = list(denoise(model, asked))
    assert steps[0].uncond is None
    assert_same(steps, *theirs(pipe, asked, width=32, height=40))


@pytest.mark.parametrize("family", ["stable_diffusion_xl", "refiner"])
@pytest.mark.parametrize("scheduler", ["euler", "dpmpp_2m"])
def test_image_to_image_with_xl_and_its_refiner(tmp_path: Path, family: str, scheduler: str) -> None:
    folder = make(family, tmp_path / "model")
    model = load(folder, "stable_diffusion_xl")
    asked, steps = from_picture(
        model,
        UploadStore(tmp_path / "inputs"),
        0.6,
        negative_prompt="dull",
        scheduler=scheduler,
        num_inference_steps=10,
    )
    pipe = diffusers.StableDiffusionXLImg2ImgPipeline.from_pretrained(folder)
    name, options = THEIRS[scheduler]
    pipe.scheduler = getattr(diffusers, name).from_config({**pipe.scheduler.config, "clip_sample": False, **options})
    found = theirs(pipe, asked, negative_prompt="dull", image=picture(), strength=0.6)
    assert_same(steps, *found)


def test_lcm_is_diffusers_lcm(tmp_path: Path) -> None:
    folder = make("lcm", tmp_path)
    model = load(folder, "stable_diffusion")
    assert model.guidance_embedded
    for scale in (1.0, 8.5):
        asked = request(scheduler="lcm", num_inference_steps=4, guidance_scale=scale, num_images=2)
        pipe = diffusers.LatentConsistencyModelPipeline.from_pretrained(folder)
        steps = list(denoise(model, asked))
        assert all(step.uncond is None for step in steps)
        assert_same(steps, *theirs(pipe, asked, width=32, height=40))
