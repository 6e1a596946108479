"""Sampling dots by the loop of pictures."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from pipelines.model import Model
from pipelines.sampling.schedulers import DIFFUSION_SCHEDULERS, SCHEDULERS
from pipelines.training.toy.flow import HEIGHT, WIDTH, distance, flow
from pipelines.training.toy.model import DotsModel
from pipelines.training.toy.settings import SamplingSettings
from pipelines.training.toy.shapes import make_dots
from pipelines.training.toy.training import DotsTraining

STEPS = 25
# W1 between noise and these shapes is about 0.6 to 0.8; between two draws of as many dots of one shape about 0.2.
FAR = 0.4


@pytest.mark.parametrize("scheduler", DIFFUSION_SCHEDULERS)
def test_samples_have_the_shape_under_every_sampler(trained: Callable[[str], DotsTraining], scheduler: str) -> None:
    training = trained("moons")
    learned, ideal = (flow(each, SamplingSettings(scheduler, STEPS)) for each in (training.network, training.ideal))
    far, best, noise = (distance(x, training.dots, 0) for x in (learned.places[-1], ideal.places[-1], ideal.places[0]))
    print(
        f"W1 from the shape, {scheduler}, {STEPS} steps: learned {far:.3f}, closed form {best:.3f}, noise {noise:.3f}"
    )
    assert best < FAR < noise
    assert far < max(FAR, 1.25 * best)


def test_the_run_is_that_of_pictures_from_noise_to_no_noise(trained: Callable[[str], DotsTraining]) -> None:
    run = flow(trained("moons").network, SamplingSettings("euler", 4))
    assert run.places.shape == (5, WIDTH * HEIGHT, 2)
    assert run.noise == sorted(run.noise, reverse=True) and run.noise[-1] == 0 and run.noise[0] > 0.98
    # Also of a sampler whose latents are x0 + sigma * eps, dots begin with variance 1.
    assert abs(run.places[0].std() - 1) < 0.1
    again = flow(trained("moons").network, SamplingSettings("euler", 4))
    assert np.array_equal(run.places, again.places)
    other = flow(trained("moons").network, SamplingSettings("euler", 4, seed=2))
    assert not np.array_equal(run.places, other.places)


def test_samples_of_the_closed_form_end_on_dots(trained: Callable[[str], DotsTraining]) -> None:
    training = trained("moons")
    ends = flow(training.ideal, SamplingSettings("ddim", 50)).places[-1]
    nearest = np.linalg.norm(ends[:, None] - training.dots.points[None], axis=-1).min(1)
    assert np.median(nearest) < 0.03


def test_a_class_is_followed_and_guidance_leads_away_from_the_other(trained: Callable[[str], DotsTraining]) -> None:
    training = trained("clouds")
    for denoiser in (training.network, training.ideal):
        means = {
            guidance: flow(denoiser, SamplingSettings("ddim", STEPS, guidance, label=1)).places[-1][:, 0].mean()
            for guidance in (1.0, 4.0)
        }
        assert means[1.0] == pytest.approx(training.dots.of(1)[:, 0].mean(), abs=0.2)
        assert means[4.0] < means[1.0] - 0.1, means


def test_it_has_what_the_loop_needs_of_a_model() -> None:
    members = {name for name in vars(Model) if not name.startswith("_")} | set(Model.__annotations__)
    model = DotsModel(DotsTraining.__new__(DotsTraining))  # type: ignore[arg-type]
    assert {name for name in members if name != "denoiser" and not hasattr(model, name)} == set()
    assert SCHEDULERS.keys() > set(DIFFUSION_SCHEDULERS)
    assert model.encode_prompt(["2", ""]).prompt_embeds.flatten().tolist() == [2.0, 0.0]
    assert isinstance(model.encode_prompt([""]).prompt_embeds, torch.Tensor)


def test_the_distance_is_0_to_the_dots_themselves_and_grows_with_a_shift() -> None:
    dots = make_dots("moons")
    assert distance(dots.points, dots, 0) == pytest.approx(0, abs=1e-6)
    assert distance(dots.points + np.array([0.5, 0]), dots, 0) == pytest.approx(0.5, abs=1e-5)
    assert distance(np.full((4, 2), np.nan), dots, 0) == float("inf")
