"""A trace whose every number is known, and a backend that draws it without a model."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np
from PIL import Image

from pipelines.images.uploads import UploadStore, UserUploads
from pipelines.prompt import COMPEL
from pipelines.request import GenerationRequest, make_request
from pipelines.trace.trace import StepRecord, Trace

TIMES = (999.0, 800.0, 600.0, 400.0, 200.0, 50.0)


def levels(t: float) -> tuple[float, float]:
    """alpha and sigma at timestep t: a cosine schedule that ends in pure noise."""
    angle = t / 999 * math.pi / 2
    return max(math.cos(angle), 0.0) if t < 999 else 0.0, math.sin(angle)


def ask(**changes: Any) -> GenerationRequest:
    """A request of 6 steps, 32 px, guidance 4."""
    values = {
        "model": "tiny", "prompt": "a fox", "width": 32, "height": 32, "scheduler": "ddim", "num_inference_steps": 6,
        "guidance_scale": 4.0, "seed": 5,
    }  # fmt: skip
    return make_request(**{**values, **changes})


def draw(latents: np.ndarray) -> list[Image.Image]:
    """Latents (n, 3, h, w) as pictures of 8 h x 8 w pixels: the channels are the colours."""
    pixels = (np.clip(latents * 0.5 + 0.5, 0, 1) * 255).round().astype(np.uint8)
    return [Image.fromarray(one.transpose(1, 2, 0)).resize((32, 32), Image.Resampling.NEAREST) for one in pixels]


def jpeg(image: Image.Image) -> bytes:
    """A picture as JPEG."""
    file = io.BytesIO()
    image.save(file, "JPEG", quality=90)
    return file.getvalue()


def make_trace(trace_id: str = "one", done: int = len(TIMES), **changes: Any) -> Trace:
    """A run of ``done`` of 6 steps; v-prediction, 3 x 4 x 4 latents, halves that differ more the noisier it is."""
    request = ask(**changes)
    n, times = request.num_images, TIMES[:done]
    draws = np.random.default_rng(7)
    clean, noise = (draws.standard_normal((n, 3, 4, 4)).astype(np.float32) for _ in range(2))
    pull = draws.standard_normal((n, 3, 4, 4)).astype(np.float32)
    x_t, cond, uncond = [], [], []
    for t in times:
        alpha, sigma = levels(t)
        x_t.append(alpha * clean + sigma * noise)
        cond.append(alpha * noise - sigma * clean + np.float32(0.1 * sigma) * pull)
        uncond.append(alpha * noise - sigma * clean - np.float32(0.3 * sigma) * pull)
    guided = request.sampling.guidance_scale > 1
    bare = Trace(
        id=trace_id, request=request, created=0.0, total=len(TIMES), prediction_type="v_prediction",
        variance_exploding=False,
        steps=tuple(StepRecord(i, t, levels(t)[1], levels(t)[0]) for i, t in enumerate(times)),
        x_t=np.stack(x_t).astype(np.float32), cond=np.stack(cond).astype(np.float32),
        uncond=np.stack(uncond).astype(np.float32) if guided else None, final=clean, frames=(), pictures=(), finals=(),
        to_rgb=np.concatenate([np.eye(3), np.zeros((1, 3))]).astype(np.float32), seconds=0.6,
    )  # fmt: skip
    frames = tuple(tuple(jpeg(image) for image in draw(bare.x0(i))) for i in range(done))
    return Trace(**{**{name: getattr(bare, name) for name in bare.__dataclass_fields__}, "frames": frames})


@dataclass
class Painter:
    """Answers the looks of the panels with arithmetic; remembers what it was asked.

    ``problem`` is raised in place of every answer when it is set.
    """

    traces: dict[str, Trace]
    asked: list[str] = field(default_factory=list)
    problem: Exception | None = None

    @property
    def queries(self) -> Painter:
        """Itself: it has the methods of a backend's queries, too."""
        return self

    def _note(self, what: str) -> None:
        self.asked.append(what)
        if self.problem is not None:
            raise self.problem

    def decode(self, model: str, latents: np.ndarray, full: bool = False) -> list[Image.Image]:
        self._note(f"decode {len(latents)}")
        return draw(latents)

    def encode(self, model: str, picture: Image.Image) -> np.ndarray:
        self._note("encode")
        small = np.asarray(picture.resize((4, 4)), np.float32) / 127.5 - 1
        return small.transpose(2, 0, 1)[None]

    def forward_process(self, model: str, request: GenerationRequest, x0: np.ndarray, seed: int) -> Any:
        self._note(f"noised {seed}")
        noise = np.random.default_rng(seed).standard_normal(x0.shape).astype(np.float32)
        pairs = [levels(t) for t in TIMES]
        return SimpleNamespace(
            timesteps=list(TIMES),
            alpha=[alpha for alpha, _ in pairs],
            sigma=[sigma for _, sigma in pairs],
            x_t=np.stack([alpha * x0 + sigma * noise for alpha, sigma in pairs]).astype(np.float32),
        )

    def predict_x0(
        self, model: str, x_t: np.ndarray, timesteps: Sequence[float], prompt: str, syntax: str = COMPEL
    ) -> np.ndarray:
        """Right while there is little noise, grey beyond t = 500."""
        self._note(f"believe {prompt!r}")
        clean = next(iter(self.traces.values())).final[:1]
        return np.concatenate([clean if t < 500 else np.zeros_like(clean) for t in timesteps])


@dataclass
class Stand:
    """What the panels need of a page."""

    backend: Painter
    opened: Any = None
    blocks: Any = None
    inputs: UserUploads = field(default_factory=lambda: UploadStore("nowhere").of(None))

    @property
    def queries(self) -> Painter:
        return self.backend

    def trace(self, opened: Any) -> Trace | None:
        name = opened.get("id") if isinstance(opened, dict) else None
        return self.backend.traces.get(name)


def stand(**traces: Trace) -> Stand:
    """A page with these traces."""
    return Stand(Painter(traces or {"one": make_trace()}))
