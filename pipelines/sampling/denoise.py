"""The denoising loop: the whole method in one generator."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import torch

from pipelines.events import Step
from pipelines.request import GenerationRequest, InvalidRequest
from pipelines.sampling.conditioning import encode_prompts
from pipelines.sampling.image_to_image import InitLatents, initial_latents
from pipelines.sampling.initial_noise import make_generators
from pipelines.sampling.schedulers import (
    alpha_sigma,
    build_scheduler,
    check_scheduler,
    predict_x0,
    prediction_type_of,
    scale_model_input,
    set_timesteps,
)
from pipelines.system.gpu.device_copies import quiet_uploads, upload

if TYPE_CHECKING:
    from pipelines.model import Model


@torch.inference_mode()
def denoise(
    model: Model,
    request: GenerationRequest,
    init: InitLatents | None = None,
    *,
    cancelled: Callable[[], bool] = lambda: False,
) -> Iterator[Step]:
    """Turn noise into latents, one step at a time.

    x_t = alpha_t * x0 + sigma_t * eps: each step predicts x0, and the scheduler goes to the next noise level (Song et
    al. 2021, arXiv:2011.13456).  Guidance is uncond + scale * (cond - uncond), as in diffusers (Ho and Salimans 2022,
    arXiv:2207.12598).  A seed gives the latents that diffusers' pipelines give.

    Args:
        model: what ``PipelineManager.lease`` yields.
        request: what to make; image k draws from its own CPU generator with seed + k.
        init: latents of the init image; needed if, and only if, the request has one.
        cancelled: asked before each model call; when true, the generator ends without another step.

    Yields:
        A ``Step`` for each of the scheduler's timesteps that are run.

    Raises:
        InvalidRequest: at the first ``next``, if the model cannot run this request.
    """
    if model.own_loop is not None:
        yield from model.own_loop(request, cancelled)
        return
    check(model, request)
    scheduler = build_scheduler(request.sampling.scheduler, model.scheduler_config)
    set_timesteps(scheduler, model, request)
    generators = make_generators(request)
    options = {"generator": generators} if "generator" in inspect.signature(scheduler.step).parameters else {}
    scale = request.sampling.guidance_scale
    guided = scale > 1 and not model.guidance_embedded
    conditioning = encode_prompts(model, request, guided)

    first, x_t, inpaint = initial_latents(model, request, scheduler, generators, init)
    timesteps = scheduler.timesteps[first:]
    total = len(timesteps)
    # The schedule stays on the CPU, or each look at a sigma would wait for the GPU; the model gets its own copy.
    model_timesteps = upload(timesteps, x_t.device)
    for index, t in enumerate(timesteps):
        if cancelled():
            return
        alpha_t, sigma_t = alpha_sigma(scheduler, t, first + index)
        x_in = inpaint.concat(scale_model_input(scheduler, x_t, t))
        x_in = torch.cat([x_in, x_in]) if guided else x_in
        predictions = model.predict(x_in, model_timesteps[index], conditioning.at_step(index, total), scale)
        uncond, cond = predictions.chunk(2) if guided else (None, predictions)
        prediction = cond if uncond is None else uncond + scale * (cond - uncond)
        x0 = predict_x0(scheduler, prediction, t, x_t, first + index)
        with quiet_uploads(x_t.device):
            x_next = scheduler.step(prediction, t, x_t, **options, return_dict=False)[0]
        x_next = inpaint.blend(x_next, timesteps[index + 1 : index + 2])
        yield Step(index, total, float(t), sigma_t, alpha_t, x_t, x0, cond, uncond, x_next)
        x_t = x_next


def check(model: Model, request: GenerationRequest) -> None:
    """Raise InvalidRequest if the loaded model cannot run the request."""
    request.check_size(model.size_factor)
    if model.is_inpainting and (request.init is None or request.init.mask is None):
        raise InvalidRequest(
            "model",
            f"{model.card.name} is made for inpainting: give it a picture with a part marked, or choose another model.",
        )
    config = model.scheduler_config
    check_scheduler(request.sampling, prediction_type_of(config), config.get("rescale_betas_zero_snr", False))
