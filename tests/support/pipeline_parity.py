"""A pipeline of diffusers, run and compared with our loop step by step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from pipelines.events import Step
from pipelines.images.inpainting import load_source
from pipelines.images.uploads import UploadStore
from pipelines.models.families import loader
from pipelines.request import GenerationRequest, InitImage
from pipelines.sampling.denoise import denoise
from pipelines.trace.recorder import Recorder
from pipelines.trace.step_frames import step_frames
from pipelines.trace.trace import Trace
from tests.support.init_images import encode_source
from tests.support.paired_models import CPU, request
from tests.support.tiny_model import tiny_card

LIMIT = 1e-4


def theirs(pipe: Any, asked: GenerationRequest, **more: Any) -> tuple[list[torch.Tensor], torch.Tensor]:
    """Latents after every step, and the last ones, of diffusers' own pipeline."""
    steps: list[torch.Tensor] = []

    def keep(pipe: Any, index: int, t: Any, values: dict[str, Any]) -> dict[str, Any]:
        steps.append(values["latents"].clone())
        return {}

    pipe.set_progress_bar_config(disable=True)
    generators = [torch.Generator().manual_seed(seed) for seed in asked.seeds]
    output = pipe(
        asked.prompt,
        num_inference_steps=asked.sampling.num_inference_steps,
        guidance_scale=asked.sampling.guidance_scale,
        num_images_per_prompt=asked.num_images,
        generator=generators if len(generators) > 1 else generators[0],
        callback_on_step_end=keep,
        output_type="latent",
        **more,
    )
    return steps, output.images


def assert_same(ours: list[Step], steps: list[torch.Tensor], last: torch.Tensor, form: Any = lambda x: x) -> None:
    assert len(ours) == len(steps) == ours[0].total
    for step, x in zip(ours, [*steps[:-1], last], strict=True):
        assert form(step.x_next).shape == x.shape
        limit = LIMIT * max(1.0, float(x.abs().max()))
        assert float((form(step.x_next) - x).abs().max()) <= limit, step.index


def picture() -> Image.Image:
    values = np.random.default_rng(0).integers(0, 255, (32, 32, 3), np.uint8)
    return Image.fromarray(values).resize((8, 8)).resize((32, 32))


def load(folder: Path, family: str, **more: Any) -> Any:
    return loader(family)(tiny_card(folder, family=family, **more), CPU, lambda part, done, total: None)


def from_picture(
    model: Any, inputs: UploadStore, strength: float, **changes: Any
) -> tuple[GenerationRequest, list[Step]]:
    image = inputs.put(picture())
    init = InitImage(image=image, strength=strength)
    asked = request(width=32, height=32, **changes).model_copy(update={"init": init})
    return asked, list(denoise(model, asked, encode_source(model, load_source(asked, inputs))))


def record(model: Any, asked: GenerationRequest) -> tuple[Trace, list[Step]]:
    recorder, steps = Recorder("run", asked, 0.0), list(denoise(model, asked))
    for step in steps:
        frames = step_frames(model, step, asked.sampling.scheduler)
        recorder.add(step, frames.guess, frames.noisy)
    return recorder.finish(model, (), (), 1.0), steps
