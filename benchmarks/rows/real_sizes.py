"""Architectures of real size with random weights: row 14."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.random_models import FILES, MODELS, random_model
from benchmarks.rows.results import Result, interleaved, ratio
from benchmarks.rows.workshop import Bench, Workshop, open_workshop

# On a CPU a step of SDXL takes seconds, so pictures and runs are small.
CPU_SIDE, CPU_STEPS, CPU_ROUNDS = 256, 3, 2
GPU_SIDE, GPU_STEPS, GPU_ROUNDS = 512, 20, 4
# Memory that a model needs besides its files' size in half precision, which a CPU doubles.
SPARE_BYTES = 2_000_000_000


def real_sizes(bench: Bench) -> Iterator[Result]:
    """Row 14: our whole run, watched and recorded, against diffusers' own pipeline over the same networks."""
    import psutil

    for name in MODELS:
        what = f"{name}, random weights: our run with previews and trace / diffusers' plain"
        needed = FILES[name] * (1 if bench.on_gpu else 3) + SPARE_BYTES
        if psutil.virtual_memory().available < needed:
            yield Result(14, what, None, None, 1.03, problem=f"it needs {needed / 1e9:.0f} GB of free memory")
            continue
        yield _one(bench, name, what)


def _one(bench: Bench, name: str, what: str) -> Result:
    from presets.catalogue import card_for, load

    side, steps, rounds = (GPU_SIDE, GPU_STEPS, GPU_ROUNDS) if bench.on_gpu else (CPU_SIDE, CPU_STEPS, CPU_ROUNDS)
    with tempfile.TemporaryDirectory() as folder:
        source = random_model(name, Path(folder))
        changes = {"id": name, "width": side, "height": side, "guidance_scale": 5.0}
        card = card_for(str(source), load()).model_copy(update=changes)
        with open_workshop(Bench(name, rounds, bench.device), card) as shop:
            theirs = plain_pipeline(shop, name)
            times = interleaved(
                {
                    "ours": lambda: shop.until_picture(shop.request(steps), watched=True),
                    "theirs": lambda: theirs(shop.request(steps)),
                },
                rounds,
            )
    return ratio(14, what, times["ours"], times["theirs"], 1.03, side=side, steps=steps)


def plain_pipeline(shop: Workshop, name: str) -> Any:
    """diffusers' own pipeline over the loaded parts, as a call that takes a request."""
    import diffusers
    import torch

    from benchmarks.real_size import pipeline_of

    with shop.model() as model:
        pipe = pipeline_of(MODELS[name], model.parts, model.scheduler_config)
    pipe.scheduler = diffusers.DDIMScheduler.from_config(pipe.scheduler.config)
    pipe.set_progress_bar_config(disable=True)

    def call(request: Any) -> None:
        sampling = request.sampling
        pipe(
            request.prompt, width=request.width, height=request.height, guidance_scale=sampling.guidance_scale,
            num_inference_steps=sampling.num_inference_steps, generator=torch.Generator().manual_seed(request.seeds[0]),
        )  # fmt: skip

    return call
