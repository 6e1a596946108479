"""The denoising loop: the whole method in one generator."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import Any

import torch
from diffusers.utils.torch_utils import randn_tensor

from pipelines.events import Step
from pipelines.request import GenerationRequest, InvalidRequest
from pipelines.schedulers import alpha_sigma, build, predict_x0, why_not


@torch.inference_mode()
def denoise(model: Any, request: GenerationRequest, *, cancelled: Callable[[], bool] = lambda: False) -> Iterator[Step]:
    """Turn noise into latents, one step at a time.

    Each step predicts x0 from x_t = alpha_t * x0 + sigma_t * eps and lets the scheduler go to the next noise
    level (Song et al. 2021, arXiv:2011.13456).  Guidance follows diffusers: uncond + scale * (cond - uncond)
    (Ho and Salimans 2022, arXiv:2207.12598).  The same seed gives what ``StableDiffusionPipeline`` gives.

    Args:
        model: what ``PipelineManager.lease`` yields.
        request: what to make; picture k draws from its own CPU generator with seed + k.
        cancelled: asked before each model call; when true, the generator ends without another step.

    Yields:
        A ``Step`` for each of the scheduler's timesteps.

    Raises:
        InvalidRequest: at the first ``next``, if the model cannot run this request.
    """
    check(model, request)
    device, scale = model.placement.device, request.sampling.guidance_scale
    scheduler = build(request.sampling.scheduler, model.scheduler_config)
    scheduler.set_timesteps(request.sampling.num_inference_steps, device=device)
    generators = [torch.Generator().manual_seed(seed) for seed in request.seeds]
    draws = {"generator": generators} if "generator" in inspect.signature(scheduler.step).parameters else {}

    guided = scale > 1
    prompts = [request.negative_prompt, request.prompt] if guided else [request.prompt]
    embeddings = model.encode_prompt(prompts).repeat_interleave(request.num_images, dim=0)

    # Drawn on the CPU in float32: a seed gives the same noise on every device.
    shape = model.latents.shape(request.num_images, request.width, request.height)
    x_t = randn_tensor(shape, generator=generators, device=torch.device(device)) * scheduler.init_noise_sigma
    for index, t in enumerate(scheduler.timesteps):
        if cancelled():
            return
        alpha_t, sigma_t = alpha_sigma(scheduler, t, index)
        x_in = scheduler.scale_model_input(torch.cat([x_t, x_t]) if guided else x_t, t)
        predictions = model.predict(x_in, t, embeddings)
        uncond, cond = predictions.chunk(2) if guided else (None, predictions)
        prediction = cond if uncond is None else uncond + scale * (cond - uncond)
        x0 = predict_x0(scheduler, prediction, t, x_t, index)
        x_next = scheduler.step(prediction, t, x_t, **draws, return_dict=False)[0]
        yield Step(index, len(scheduler.timesteps), float(t), sigma_t, alpha_t, x_t, x0, cond, uncond, x_next)
        x_t = x_next


def check(model: Any, request: GenerationRequest) -> None:
    """Raise InvalidRequest if the loaded model cannot run the request."""
    request.check_size(model.size_factor)
    if request.init is not None:
        raise InvalidRequest("init is set, but pictures cannot start from another picture yet; leave it out.")
    config, sampling = model.scheduler_config, request.sampling
    reason = why_not(
        sampling.scheduler,
        config.get("prediction_type", "epsilon"),
        config.get("rescale_betas_zero_snr", False),
        sampling.num_inference_steps,
    )
    if reason:
        raise InvalidRequest(reason)
