"""Runs of many seeds of one prompt in few steps, for their ways alone: nothing of them is kept."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pipelines.models.safety_checker import black_out
from pipelines.request import MAX_IMAGES, GenerationRequest, Sampling
from pipelines.sampling.schedulers import SCHEDULERS
from pipelines.trace.trajectories import Trajectory

if TYPE_CHECKING:
    import torch
    from PIL import Image

    from pipelines.cards import ModelCard
    from pipelines.events import Step
    from pipelines.model import Model
    from pipelines.trace.trace import Trace

MAX_SEEDS = 64
# Steps of such a run: the run's own number up to here, else the model's draft quality.
FEW_STEPS = 8
# Pixels of the pictures that are drawn together.
PIXELS_AT_ONCE = 2 * 2**20
# Seeds where it is not known how long they take.
UNTIMED_SEEDS = 16
# The runs of all seeds together should take no longer than this.
MAX_SECONDS = 60.0


@dataclass(frozen=True, eq=False)
class SeedRun:
    """The way of one seed, and its picture."""

    seed: int
    way: Trajectory
    picture: Image.Image


def affordable(card: ModelCard, trace: Trace, k: int) -> tuple[list[GenerationRequest], float]:
    """Requests for as many seeds as this machine draws in a minute, at most 64, and about how long they take.

    Of a run whose time is not known, a few, and 0 seconds.

    None for runs that began with a picture or used add-ons: what makes them is more than prompt and seed.
    """
    request = trace.request
    if request.init or request.loras or request.controls or request.reference or trace.cond is None:
        return [], 0.0
    few = _few_steps(card, request)
    # A batch shares its overhead among the pictures, so this is an upper bound.
    each = trace.seconds_a_step / request.num_images * SCHEDULERS[few.scheduler].model_calls(few.num_inference_steps)
    count = next((n for n in (MAX_SEEDS, 32, 16, 8) if n * each <= MAX_SECONDS), 0) if each else UNTIMED_SEEDS
    bare = {"prompt": request.prompt_of(k), "prompts": (), "typed": None, "variation": None, "interpolation": None}
    at_once = max(1, min(MAX_IMAGES, PIXELS_AT_ONCE // (request.width * request.height)))
    firsts = range(0, count, at_once)
    numbers = [{"num_images": min(at_once, count - first)} for first in firsts]
    seeds = [{"sampling": few.model_copy(update={"seed": first})} for first in firsts]
    found = [request.model_copy(update=bare | more | seed) for more, seed in zip(numbers, seeds, strict=True)]
    return found, count * each


def _few_steps(card: ModelCard, request: GenerationRequest) -> Sampling:
    """The run's own sampling, or the model's draft quality if that takes fewer steps."""
    own, draft = request.sampling, card.qualities.get("draft")
    if own.num_inference_steps <= FEW_STEPS or draft is None or draft.num_inference_steps >= own.num_inference_steps:
        return own
    return own.model_copy(update={"scheduler": draft.scheduler, "num_inference_steps": draft.num_inference_steps})


def work(request: GenerationRequest) -> int:
    """Pixels that a request's run goes over, all steps together."""
    return request.width * request.height * request.num_images * request.sampling.num_inference_steps


def runs_of(request: GenerationRequest) -> Callable[[Model], Generator[None, None, list[SeedRun]]]:
    """What runs a request with a model, a step at a time, and returns one way for each of its seeds."""

    def ask(model: Model) -> Generator[None, None, list[SeedRun]]:
        from pipelines.sampling.denoise import denoise

        steps = []
        for step in denoise(model, request):
            steps.append(step)
            yield
        exploding = SCHEDULERS[request.sampling.scheduler].variance_exploding
        pictures = black_out(model, model.latents.preview(steps[-1].x_next))
        ways = _ways(steps, exploding)
        return [SeedRun(*one) for one in zip(request.seeds, ways, pictures, strict=True)]

    return ask


def _ways(steps: Sequence[Step], exploding: bool) -> list[Trajectory]:
    """One way for each picture of a batch."""
    x_t = [(step.alpha if exploding else 1.0) * step.x_t for step in steps] + [steps[-1].x_next]
    latents, x0 = _stacked(x_t), _stacked([step.x0 for step in steps])
    return [Trajectory(*one) for one in zip(latents, x0, strict=True)]


def _stacked(rows: Sequence[torch.Tensor]) -> np.ndarray:
    """The latents of s steps, each (n, c, h, w), as float32 (n, s, c h w)."""
    return np.stack([x.flatten(1).float().cpu().numpy() for x in rows], 1)
