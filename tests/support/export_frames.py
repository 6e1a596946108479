"""A trace and frames to export, made without a model."""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image

from pipelines.request import make_request
from pipelines.trace.trace import StepRecord, Trace


def make_trace(steps: int = 6, **changes: Any) -> Trace:
    values = {
        "model": "tiny", "prompt": "a fox", "negative_prompt": "blurry", "width": 32, "height": 32,
        "scheduler": "ddim", "num_inference_steps": steps, "guidance_scale": 3.0, "seed": 5, "num_images": 2,
    }  # fmt: skip
    request = make_request(**{**values, **changes})
    facts = tuple(StepRecord(i, 900.0 - i, 0.8, 0.6) for i in range(steps))
    x = np.zeros((steps, 2, 4, 4, 4), np.float32)
    return Trace(
        "run", request, 0.0, steps, "epsilon", False, facts, x, x, None, x[-1], (), (), (), np.zeros((5, 3)), "Tiny",
    )  # fmt: skip


def shades(steps: int = 6, size: tuple[int, int] = (128, 128)) -> list[Image.Image]:
    """Plain greys that grow brighter."""
    return [Image.new("RGB", size, (level,) * 3) for level in np.linspace(20, 235, steps).astype(int).tolist()]


def noise(steps: int, side: int) -> list[Image.Image]:
    draws = np.random.default_rng(0)
    return [Image.fromarray(draws.integers(0, 256, (side, side, 3), np.uint8)) for _ in range(steps)]
