"""Traces of real runs of a tiny model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipelines.events import Picture
from pipelines.request import make_request
from pipelines.sampling.denoise import denoise
from pipelines.trace.forks import fork_of, recording_of
from pipelines.trace.recorder import Recorder
from pipelines.trace.trace import Trace


def ask(**changes: Any):
    values = {
        "model": "tiny", "prompt": "a fox", "width": 32, "height": 32, "scheduler": "ddim", "num_inference_steps": 5,
        "guidance_scale": 4.0, "seed": 3,
    }  # fmt: skip
    return make_request(**{**values, **changes})


def record(model: Any, request: Any, name: str = "run", left: Trace | None = None) -> tuple[list[Any], Trace]:
    recorder = Recorder(name, request, 12.5)
    if left is not None:
        recorder.begin_with(left, request.fork.step)
    recording = recording_of(left, request.fork) if left is not None else None
    steps = list(denoise(model, request, recording=recording))
    for step in steps:
        recorder.add(step, tuple(f"jpeg {step.index} {k}".encode() for k in range(request.num_images)))
    pictures = tuple(Picture(Path(f"/pictures/{seed}.png"), seed) for seed in request.seeds)
    return steps, recorder.finish(model, pictures, tuple(b"png %d" % seed for seed in request.seeds), 1.5)


def fork(model: Any, original: Trace, step: int, **changes: Any) -> tuple[list[Any], Trace]:
    return record(model, fork_of(original, step, **changes), "fork", original)


def returned(parts: Any) -> Any:
    """What a generator returns at its end."""
    while True:
        try:
            next(parts)
        except StopIteration as end:
            return end.value
