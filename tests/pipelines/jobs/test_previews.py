"""The JPEGs of each step."""

from __future__ import annotations

import io
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from PIL import Image

from pipelines.events import Preview, Step
from pipelines.jobs.previews import StepFrames, hide_withheld, step_frames
from pipelines.model import Placement
from tests.support.toy_backend import ask, finish


def test_previews_are_small_jpegs_one_per_picture(make_backend: Any) -> None:
    previews = [e for e in finish(make_backend().submit(ask(num_images=2))) if isinstance(e, Preview)]
    assert all(len(preview.frames) == 2 for preview in previews)
    image = Image.open(io.BytesIO(previews[0].frames[0]))
    assert image.format == "JPEG"
    assert max(image.size) == 256
    assert previews[-1].seconds_left == 0
    assert all(len(preview.noisy) == 2 and 0 <= preview.noise <= 1 for preview in previews)


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


def test_a_withheld_picture_is_black_in_both_views() -> None:
    event = hide_withheld(Preview(0, 1, 0.0, 0.0, (b"a", b"b"), (b"c", b"d"), 1.0), (True, False))
    assert event.frames[1] == b"b" and event.noisy[1] == b"d"
    assert shown(event.frames[0]) == shown(event.noisy[0]) == 0
