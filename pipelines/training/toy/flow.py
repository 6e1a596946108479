"""Dots on their way from noise to shape, by the loop of ``pipelines.sampling.denoise``."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass

import numpy as np

from pipelines.request import GenerationRequest, make_request
from pipelines.sampling.denoise import denoise
from pipelines.sampling.schedulers import SCHEDULERS
from pipelines.training.toy.denoisers import Denoiser
from pipelines.training.toy.model import CARD, DotsModel
from pipelines.training.toy.settings import SamplingSettings
from pipelines.training.toy.shapes import Dots

# Dots that are sampled, as a picture of this width and height.
WIDTH, HEIGHT = 16, 16


@dataclass(frozen=True, eq=False)
class Flow:
    """A run.

    Attributes:
        places: the dots before each of the s steps and after the last, alpha * x0 + sigma * eps, (s + 1, m, 2).
        noise: the noise's share of the variance at each, (s + 1,).
        timesteps: of each step, (s,).
    """

    places: np.ndarray
    noise: list[float]
    timesteps: list[float]


def request_for(settings: SamplingSettings) -> GenerationRequest:
    """The request that the loop runs."""
    return make_request(
        model=CARD.id,
        prompt=str(settings.label or ""),
        width=WIDTH,
        height=HEIGHT,
        scheduler=settings.scheduler,
        num_inference_steps=settings.steps,
        guidance_scale=settings.guidance,
        seed=settings.seed,
    )


def flow(denoiser: Denoiser, settings: SamplingSettings) -> Flow:
    """Sample dots."""
    parts = flow_parts(denoiser, settings)
    while True:
        try:
            next(parts)
        except StopIteration as end:
            found: Flow = end.value
            return found


def flow_parts(denoiser: Denoiser, settings: SamplingSettings) -> Generator[None, None, Flow]:
    """Sample dots a step at a time, and return the run: many steps of the ideal denoiser take seconds."""
    exploding = SCHEDULERS[settings.scheduler].variance_exploding
    places, noise, timesteps = [], [], []
    for step in denoise(DotsModel(denoiser), request_for(settings)):
        places.append((step.alpha if exploding else 1.0) * step.x_t)
        noise.append(step.sigma**2)
        timesteps.append(step.timestep)
        last = step.x_next
        yield
    found = np.stack([x[0].permute(1, 2, 0).reshape(-1, 2).numpy() for x in (*places, last)])
    return Flow(found, [*noise, 0.0], timesteps)


def distance(samples: np.ndarray, dots: Dots, label: int) -> float:
    """W1 = min over pairings of the mean |a_i - b_i|: the Wasserstein distance from as many dots of the shape.

    Args:
        samples: (m, 2).
        dots: the shape.
        label: the class that was asked for, or 0.
    """
    from scipy.optimize import linear_sum_assignment
    from scipy.spatial.distance import cdist

    if not np.isfinite(samples).all():
        return float("inf")
    wanted = dots.of(label)
    chosen = np.random.default_rng(0).permutation(np.resize(np.arange(len(wanted)), max(len(samples), len(wanted))))
    costs = cdist(samples, wanted[chosen[: len(samples)]])
    return float(costs[linear_sum_assignment(costs)].mean())
