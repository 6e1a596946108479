"""``make bench``: ratios against what a user would otherwise run, measured in one run on one machine.

    python -m benchmarks.run [--model FOLDER_OR_ID] [--steps 25] [--rounds 5] [--entries 100000]

Prints JSON; a ratio above 1 means that the playground takes longer.  Also what each step asks of a graphics
card, counted on the pretend GPU, with its targets; and the history at so many entries, with the
targets that it misses.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")


def alternate(candidates: dict[str, Callable[[], Any]], rounds: int) -> dict[str, float]:
    """Median seconds of each candidate; they take turns, so that a busy machine slows all alike."""
    times: dict[str, list[float]] = {name: [] for name in candidates}
    for k in range(rounds + 1):
        for name, run in candidates.items():
            start = time.perf_counter()
            run()
            if k:  # the first round warms up
                times[name].append(time.perf_counter() - start)
    return {name: statistics.median(seconds) for name, seconds in times.items()}


def measure(model_name: str, steps: int, rounds: int) -> dict[str, Any]:
    """Our loop, with and without live previews, against diffusers' pipeline on the same weights and threads."""
    import torch
    from diffusers import DDIMScheduler, StableDiffusionPipeline

    from benchmarks.gpu.counters import counters
    from pipelines.jobs.local import default_threads
    from pipelines.models.manager import PipelineManager
    from pipelines.request import make_request
    from pipelines.sampling.denoise import denoise
    from presets.catalogue import card_for, load

    torch.set_num_threads(default_threads())
    cards = load()
    card = card_for(model_name, cards)
    pipeline = StableDiffusionPipeline.from_pretrained(card.source, use_safetensors=True)
    pipeline.scheduler = DDIMScheduler.from_config(pipeline.scheduler.config)
    pipeline.set_progress_bar_config(disable=True)
    prompt = card.prompts[0] if card.prompts else "a house"
    request = make_request(
        model=card.id,
        prompt=prompt,
        width=card.width,
        height=card.height,
        scheduler="ddim",
        num_inference_steps=steps,
        guidance_scale=card.guidance_scale,
        seed=1,
    )

    def theirs() -> None:
        pipeline(
            prompt,
            width=card.width,
            height=card.height,
            num_inference_steps=steps,
            guidance_scale=card.guidance_scale,
            generator=torch.Generator().manual_seed(1),
        )

    with PipelineManager([*cards, card], device="cpu").lease(card.id) as model:

        def ours(previews: bool) -> None:
            for step in denoise(model, request):
                if previews:
                    model.latents.preview(step.x0)
            model.latents.decode(step.x_next)

        seconds = alternate(
            {"diffusers": theirs, "loop": lambda: ours(False), "loop_with_previews": lambda: ours(True)}, rounds
        )
        overhead = recording_overhead(model, request, rounds)
    return {
        "steps": steps,
        "diffusers_seconds": round(seconds["diffusers"], 3),
        "loop_ratio": round(seconds["loop"] / seconds["diffusers"], 3),
        "loop_with_previews_ratio": round(seconds["loop_with_previews"] / seconds["diffusers"], 3),
        **overhead,
        "graphics_card": counters(card.id, [*cards, card]),
    }


def recording_overhead(model: Any, request: Any, rounds: int) -> dict[str, float]:
    """What keeping the trace adds to a generation with previews: time of the recorder and the store against the rest.

    Both are timed within the same generations, since the difference between two runs is below the machine's noise.
    """
    from pipelines.images.provenance import xmp_packet
    from pipelines.jobs.previews import final_bytes, step_frames
    from pipelines.sampling.denoise import denoise
    from pipelines.trace.recorder import Recorder
    from pipelines.trace.store import TraceStore

    shares, per_step = [], 0.0
    with tempfile.TemporaryDirectory() as folder:
        store = TraceStore(folder)
        for k in range(rounds + 1):
            spent, start = 0.0, time.perf_counter()
            recorder = Recorder(f"run{k}", request, 0.0)
            for step in denoise(model, request):
                frames = step_frames(model, step, request.sampling.scheduler)
                before = time.perf_counter()
                recorder.add(step, frames.guess, frames.noisy)
                spent += time.perf_counter() - before
            images = model.latents.decode(step.x_next)
            before = time.perf_counter()
            trace = recorder.finish(model, (), tuple(final_bytes(image, xmp_packet(request)) for image in images), 0.0)
            store.put(trace)
            end = time.perf_counter()
            spent += end - before
            if k:  # the first round warms up
                shares.append(spent / (end - start - spent))
                per_step = trace.nbytes / len(trace.steps)
    return {"recording_overhead": round(statistics.median(shares), 4), "trace_bytes_per_step": round(per_step)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="pocket")
    parser.add_argument("--steps", type=int, default=25)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--entries", type=int, default=100_000, help="of the history; 0 leaves it out")
    options = parser.parse_args()
    found = measure(options.model, options.steps, options.rounds)
    if options.entries:
        from benchmarks.history import everything

        found["history"] = everything(options.entries, options.entries, 3 * options.rounds)
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
