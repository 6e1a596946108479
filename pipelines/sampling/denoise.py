"""The denoising loop: the whole method in one generator."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import torch

from pipelines.events import Step
from pipelines.request import GenerationRequest, InvalidRequest
from pipelines.sampling.conditioning import encode_prompts
from pipelines.sampling.forks import Recording, begin, check_fork
from pipelines.sampling.schedulers import check_scheduler, predict_x0, prediction_type_of, scale_model_input
from pipelines.system.gpu.device_copies import upload

if TYPE_CHECKING:
    from pipelines.model import Model
    from pipelines.sampling.image_to_image import InitLatents


@torch.inference_mode()
def denoise(
    model: Model,
    request: GenerationRequest,
    init: InitLatents | None = None,
    *,
    recording: Recording | None = None,
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
        recording: the steps of the run that a fork leaves; needed for forks alone.
        cancelled: asked before each model call; when true, the generator ends without another step.

    Yields:
        A ``Step`` for each of the scheduler's timesteps that are run; of a fork, for those after the recorded ones.

    Raises:
        InvalidRequest: at the first ``next``, if the model cannot run this request.
    """
    check_fork(model, request)
    if model.own_loop is not None:
        yield from model.own_loop(request, cancelled)
        return
    check(model, request)
    scale = request.sampling.guidance_scale
    guided = scale > 1 and not model.guidance_embedded
    conditioning = encode_prompts(model, request, guided)

    run = begin(model, request, init, recording)
    scheduler, inpaint, total = run.scheduler, run.inpaint, run.total
    # The schedule stays on the CPU, or each look at a sigma would wait for the GPU; the model gets its own copy.
    model_timesteps = upload(scheduler.timesteps, run.x_t.device)
    for index in range(run.index, total):
        if cancelled():
            return
        x_t, position, t = run.x_t, run.position, scheduler.timesteps[run.position]
        alpha_t, sigma_t = run.levels
        x_in = inpaint.concat(scale_model_input(scheduler, x_t, t))
        x_in = torch.cat([x_in, x_in]) if guided else x_in
        predictions = model.predict(x_in, model_timesteps[position], conditioning.at_step(index, total), scale)
        uncond, cond = predictions.chunk(2) if guided else (None, predictions)
        prediction = cond if uncond is None else uncond + scale * (cond - uncond)
        x0 = predict_x0(scheduler, prediction, t, x_t, position)
        x_next = run.step(prediction)
        yield Step(index, total, float(t), sigma_t, alpha_t, x_t, x0, cond, uncond, x_next)


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
