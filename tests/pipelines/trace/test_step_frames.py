"""A step as small JPEGs, and how a GPU hands them over."""

from __future__ import annotations

import io
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks.gpu import pretend_gpu
from pipelines.events import Preview, Step
from pipelines.model import Placement
from pipelines.sampling.planes import pack, unpack
from pipelines.trace.step_frames import StepFrames, preview_jpeg, step_frames


class Channels:
    """Latents as pictures of one pixel, whose grey is 100 times the latent."""

    def preview(self, latents: torch.Tensor) -> list[Image.Image]:
        return [Image.new("L", (8, 8), round(100 * float(one.mean()))).convert("RGB") for one in latents]


def shown(frame: bytes) -> int:
    return int(Image.open(io.BytesIO(frame)).getpixel((4, 4))[0])


def of(alpha: float, sigma: float, x_t: float, cond: float, uncond: float | None, scheduler: str) -> StepFrames:
    """The frames of a step whose latents are all the same number; the model predicts the picture itself."""
    x0 = cond if uncond is None else uncond + 4 * (cond - uncond)
    values = [torch.full((1, 1, 2, 2), one) for one in (x_t, x0, cond)]
    more = None if uncond is None else torch.full((1, 1, 2, 2), uncond)
    step = Step(0, 4, 999.0, sigma, alpha, *values, more, values[0])
    config, placement = {"prediction_type": "sample"}, Placement("cpu", "float32", "sdpa")
    model: Any = SimpleNamespace(latents=Channels(), scheduler_config=config, placement=placement)
    return step_frames(model, step, scheduler)


def test_the_guess_is_the_prompts_own_answer_without_guidance() -> None:
    frames = of(0.6, 0.8, 0.5, 0.9, 0.7, "ddim")
    assert (shown(frames.guess[0]), shown(frames.noisy[0])) == (90, 50)
    assert shown(of(0.6, 0.8, 0.5, 0.9, None, "ddim").guess[0]) == 90


def test_noisy_latents_in_a_samplers_own_scale_are_brought_back() -> None:
    assert shown(of(0.5, 0.87, 2.0, 0.9, 0.7, "euler").noisy[0]) == 100
    assert shown(of(0.5, 0.87, 2.0, 0.9, 0.7, "ddim").noisy[0]) == 200


def test_the_share_of_noise_is_counted_by_power() -> None:
    values = [torch.zeros(1, 1, 2, 2)] * 3
    step = Step(3, 4, 100.0, 0.6, 0.8, *values, None, values[0])
    event = StepFrames((b"guess",), (b"noisy",)).preview(step, 1.5)
    assert event == Preview(3, 4, 100.0, 1.5, (b"guess",), (b"noisy",), pytest.approx(0.36))


def pixels(image: Image.Image) -> np.ndarray:
    return np.asarray(image.convert("RGB"), np.int16)


@pytest.mark.parametrize("size", [(256, 192), (13, 7), (1, 1)])
def test_a_jpeg_of_planes_is_that_of_the_picture_and_two_cross_in_the_bytes_of_one(size: tuple[int, int]) -> None:
    width, height = size
    coarse = np.random.default_rng(0).integers(0, 255, (5, 6, 3), np.uint8)
    image = Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)
    both = np.stack([np.asarray(image), np.asarray(image)[::-1]])
    with pretend_gpu.use() as gpu:
        there = pack(torch.from_numpy(both).to(pretend_gpu.NAME))
        assert gpu.counts.copies == gpu.counts.scalar_syncs == 0
        planes = there.cpu().numpy()
    assert planes.nbytes == 2 * (width * height + 2 * ((width + 1) // 2) * ((height + 1) // 2))
    for one, wanted in zip(planes, both, strict=True):
        ours, theirs = (
            Image.open(io.BytesIO(preview_jpeg(each)))
            for each in (unpack(one, *size), Image.fromarray(np.ascontiguousarray(wanted)))
        )
        apart = np.abs(pixels(ours) - pixels(theirs))
        # Where a value is rounded the other way, JPEG may round a whole block's colour the other way.
        assert ours.size == size and apart.mean() <= 1 and apart.max() <= 16
