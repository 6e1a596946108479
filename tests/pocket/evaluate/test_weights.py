"""The shipped weights: a plain diffusers folder, small enough, and every scheduler draws with them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from pipelines.models.manager import PipelineManager
from pipelines.request import make_request
from pipelines.sampling.denoise import denoise
from pipelines.sampling.schedulers import DIFFUSION_SCHEDULERS
from pipelines.trace.recorder import Recorder
from pocket.evaluate.evaluation import background_name
from pocket.paths import TURBO, WEIGHTS
from presets.catalogue import load

PROMPTS = [
    ("fox", "green"),
    ("rocket", "black"),
    ("whale", "pink"),
    ("cat", "white"),
    ("pizza", "blue"),
    ("tree", "purple"),
    ("star", "red"),
    ("car", "yellow"),
    ("ghost", "teal"),
    ("guitar", "orange"),
]


def test_loads_with_diffusers_alone_and_draws():
    from diffusers import StableDiffusionPipeline

    pipeline = StableDiffusionPipeline.from_pretrained(WEIGHTS)
    assert {p.dtype for m in (pipeline.unet, pipeline.vae, pipeline.text_encoder) for p in m.parameters()} == {
        torch.float32
    }
    pipeline.set_progress_bar_config(disable=True)
    picture = pipeline(
        "a fox on a green background", num_inference_steps=10, generator=torch.Generator().manual_seed(0)
    ).images[0]
    assert picture.size == (128, 128)
    assert background_name(np.asarray(picture)) == "green"


def test_weights_are_small():
    assert sum(f.stat().st_size for f in Path(WEIGHTS).rglob("*.safetensors")) <= 32_000_000


@pytest.fixture(scope="module")
def pocket():
    with PipelineManager(load(), device="cpu").lease("pocket") as model:
        yield model


def run(model, prompt: str, scheduler: str, steps: int, seed: int = 0):
    card = model.card
    request = make_request(
        model=card.id,
        prompt=prompt,
        width=card.width,
        height=card.height,
        scheduler=scheduler,
        num_inference_steps=steps,
        guidance_scale=card.guidance_scale,
        seed=seed,
    )
    recorder = Recorder("run", request, 0.0)
    steps = list(denoise(model, request))
    for step in steps:
        recorder.add(step, (b"",))
    return steps, recorder.finish(model, (), (), 0.0)


@pytest.mark.parametrize("scheduler", DIFFUSION_SCHEDULERS)
def test_every_scheduler_stays_finite_and_its_trace_holds_what_it_believed(pocket, scheduler):
    for count in (1, 4, 25):
        steps, trace = run(pocket, "a fox on a green background", scheduler, count)
        assert np.isfinite(trace.final).all(), count
        if count < 25:
            continue
        guidance = trace.request.sampling.guidance_scale
        for step in steps:
            assert np.abs(trace.x0(step.index, guidance) - step.x0.numpy()).max() <= 1e-4 * max(1, guidance)
        # These three end beside their last belief; the page shows by how much.
        assert (trace.final_gap > 1e-4) == (scheduler in ("pndm", "lms", "deis")), trace.final_gap


def painted(model, scheduler: str, steps: int, pictures: int = len(PROMPTS)) -> int:
    """How many pictures have the background that was asked for."""
    right = 0
    for seed, (name, colour) in enumerate(PROMPTS[:pictures]):
        prompt = f"a {name} on a{'n' * (colour == 'orange')} {colour} background"
        latents = torch.from_numpy(run(model, prompt, scheduler, steps, seed)[1].final)
        with torch.inference_mode():
            right += background_name(np.asarray(model.latents.decode(latents)[0])) == colour
    return right


@pytest.mark.parametrize("scheduler", DIFFUSION_SCHEDULERS)
def test_every_scheduler_paints_the_background_that_was_asked_for(pocket, scheduler):
    assert painted(pocket, scheduler, 25, 4) >= 3  # ``make evaluate`` draws hundreds


@pytest.mark.parametrize("steps", [1, 2, 4, 8])
def test_the_quick_form_needs_few_steps_and_no_guidance(steps):
    with PipelineManager(load(), device="cpu").lease("pocket-turbo") as turbo:
        assert turbo.card.guidance_scale == 1
        assert painted(turbo, "lcm", steps) >= 9


def test_the_quick_form_is_small_enough_and_says_nothing_of_where_it_was_made():
    files = [path for path in TURBO.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 22_000_000
    assert not any("_name_or_path" in path.read_text() for path in files if path.suffix == ".json")
