"""One tiny model, loaded by us and by diffusers, to be compared step by step."""

from __future__ import annotations

import inspect
from itertools import pairwise
from pathlib import Path
from typing import Any

import diffusers
import torch

from pipelines.events import Step
from pipelines.model import Placement
from pipelines.models.families.stable_diffusion import load
from pipelines.request import GenerationRequest, make_request
from pipelines.sampling.denoise import denoise
from pipelines.sampling.schedulers import PREDICTION_TYPES, incompatibility
from tests.support.tiny_model import make_tiny_model, tiny_card

CPU = Placement("cpu", "float32", "sdpa")
# Said here a second time, in diffusers' words: the table under test must not check itself.
THEIRS: dict[str, tuple[str, dict[str, Any]]] = {
    "ddpm": ("DDPMScheduler", {}),
    "ddim": ("DDIMScheduler", {}),
    "pndm": ("PNDMScheduler", {"skip_prk_steps": True}),
    "euler": ("EulerDiscreteScheduler", {}),
    "euler_a": ("EulerAncestralDiscreteScheduler", {}),
    "heun": ("HeunDiscreteScheduler", {}),
    "dpmpp_2m": ("DPMSolverMultistepScheduler", {}),
    "dpmpp_2m_sde": ("DPMSolverMultistepScheduler", {"algorithm_type": "sde-dpmsolver++"}),
    "dpmpp_2m_karras": ("DPMSolverMultistepScheduler", {"use_karras_sigmas": True}),
    "dpm2_karras": ("KDPM2DiscreteScheduler", {"use_karras_sigmas": True}),
    "unipc": ("UniPCMultistepScheduler", {}),
    "lms": ("LMSDiscreteScheduler", {}),
    "deis": ("DEISMultistepScheduler", {}),
    "lcm": ("LCMScheduler", {}),
}
PAIRS = [(name, kind) for name in THEIRS for kind in PREDICTION_TYPES if not incompatibility(name, kind, False)]


class Twins:
    """One tiny model, loaded by us and by diffusers."""

    def __init__(self, folder: Path, **options: Any) -> None:
        make_tiny_model(folder, **options)
        self.model = load(tiny_card(folder), CPU, lambda part, done, total: None)
        self.pipe = diffusers.StableDiffusionPipeline.from_pretrained(folder)
        self.pipe.set_progress_bar_config(disable=True)
        self.config = dict(self.pipe.scheduler.config)

    def theirs(self, request: GenerationRequest, pipe: Any = None, **more: Any) -> tuple[list[torch.Tensor], Any]:
        """Latents after every step and the output of the pipeline."""
        name, options = THEIRS[request.sampling.scheduler]
        pipe = pipe or self.pipe
        pipe.scheduler = getattr(diffusers, name).from_config({**self.config, **options})
        if "width" in inspect.signature(pipe.__call__).parameters:
            more |= {"width": request.width, "height": request.height}
        steps: list[torch.Tensor] = []

        def keep(pipe: Any, index: int, t: Any, values: dict[str, Any]) -> dict[str, Any]:
            steps.append(values["latents"].clone())
            return {}

        generators = [torch.Generator().manual_seed(seed) for seed in request.seeds]
        output = pipe(
            request.prompt,
            negative_prompt=request.negative_prompt,
            num_inference_steps=request.sampling.num_inference_steps,
            guidance_scale=request.sampling.guidance_scale,
            num_images_per_prompt=request.num_images,
            generator=generators[0] if len(generators) == 1 else generators,
            callback_on_step_end=keep,
            **more,
        )
        return steps, output

    def assert_same(self, request: GenerationRequest) -> None:
        same(list(denoise(self.model, request)), *self.theirs(request, output_type="latent"))


def same(ours: list[Step], theirs: list[torch.Tensor], output: Any) -> None:
    """Every step is theirs, to 1e-4 of the largest latent."""
    assert [step.index for step in ours] == list(range(len(theirs)))
    assert {step.total for step in ours} == {len(theirs)}
    for step, x_next in zip(ours, [*theirs[:-1], output.images], strict=True):
        assert step.x_next.shape == x_next.shape
        limit = 1e-4 * max(1.0, float(x_next.abs().max()))
        assert float((step.x_next - x_next).abs().max()) <= limit, step.index
    for before, after in pairwise(ours):
        assert after.x_t is before.x_next


def request(**changes: Any) -> GenerationRequest:
    values: dict[str, Any] = {
        "model": "tiny",
        "prompt": "a red apple",
        "negative_prompt": "dull",
        "width": 32,
        "height": 40,
        "scheduler": "ddim",
        "num_inference_steps": 5,
        "guidance_scale": 4.0,
        "seed": 11,
    }
    return make_request(**{**values, **changes})
