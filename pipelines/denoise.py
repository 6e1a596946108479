"""The denoising loop: the whole method in one generator."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import Any

import torch

from pipelines.blends import generators_for, told_for
from pipelines.events import Step
from pipelines.request import GenerationRequest, InvalidRequest
from pipelines.schedulers import alpha_sigma, build, predict_x0, prediction_type_of, prepare, scaled, why_not
from pipelines.start import Start, begin


@torch.inference_mode()
def denoise(
    model: Any,
    request: GenerationRequest,
    start: Start | None = None,
    *,
    cancelled: Callable[[], bool] = lambda: False,
) -> Iterator[Step]:
    """Turn noise into latents, one step at a time.

    Each step predicts x0 from x_t = alpha_t * x0 + sigma_t * eps and lets the scheduler go to the next noise
    level (Song et al. 2021, arXiv:2011.13456).  Guidance follows diffusers: uncond + scale * (cond - uncond)
    (Ho and Salimans 2022, arXiv:2207.12598).  The same seed gives what diffusers' pipelines give.

    Args:
        model: what ``PipelineManager.lease`` yields.
        request: what to make; picture k draws from its own CPU generator with seed + k.
        start: what image-to-image begins with; needed if, and only if, the request has a picture to start from.
        cancelled: asked before each model call; when true, the generator ends without another step.

    Yields:
        A ``Step`` for each of the scheduler's timesteps that are run.

    Raises:
        InvalidRequest: at the first ``next``, if the model cannot run this request.
    """
    if hasattr(model, "own_loop"):
        yield from model.own_loop(request, cancelled)
        return
    check(model, request)
    device, scale = model.placement.device, request.sampling.guidance_scale
    scheduler = build(request.sampling.scheduler, model.scheduler_config)
    prepare(scheduler, model, request, device)
    generators = generators_for(request)
    draws = {"generator": generators} if "generator" in inspect.signature(scheduler.step).parameters else {}
    guided = scale > 1 and not model.guides_itself
    told = told_for(model, request, guided)

    first, x_t, canvas = begin(model, request, scheduler, generators, start)
    timesteps = scheduler.timesteps[first:]
    for index, t in enumerate(timesteps):
        if cancelled():
            return
        alpha_t, sigma_t = alpha_sigma(scheduler, t, first + index)
        x_in = canvas.beside(scaled(scheduler, x_t, t))
        now = told.at(index, len(timesteps))
        predictions = model.predict(torch.cat([x_in, x_in]) if guided else x_in, t, now, scale)
        uncond, cond = predictions.chunk(2) if guided else (None, predictions)
        prediction = cond if uncond is None else uncond + scale * (cond - uncond)
        x0 = predict_x0(scheduler, prediction, t, x_t, first + index)
        x_next = scheduler.step(prediction, t, x_t, **draws, return_dict=False)[0]
        x_next = canvas.kept(x_next, timesteps[index + 1 : index + 2])
        yield Step(index, len(timesteps), float(t), sigma_t, alpha_t, x_t, x0, cond, uncond, x_next)
        x_t = x_next


def check(model: Any, request: GenerationRequest) -> None:
    """Raise InvalidRequest if the loaded model cannot run the request."""
    request.check_size(model.size_factor)
    if model.inpaints and (request.init is None or request.init.mask is None):
        raise InvalidRequest(
            f"{model.card.name} is made for inpainting: give it a picture with a part marked, or choose another model."
        )
    config, sampling = model.scheduler_config, request.sampling
    reason = why_not(
        sampling.scheduler,
        prediction_type_of(config),
        config.get("rescale_betas_zero_snr", False),
        sampling.num_inference_steps,
    )
    if reason:
        raise InvalidRequest(reason)
