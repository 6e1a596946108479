"""Models of real size with random weights: our loop against diffusers' own pipeline, and what memory they take.

    python -m benchmarks.real_size [--model sd15|sdxl] [--size 512] [--steps 8] [--rounds 3]

The architectures are Stable Diffusion 1.5's (860 M parameters in the UNet) and XL's (2.6 B); speed does not depend on
what the weights are.  On an NVIDIA GPU it also compares SDPA with xformers, and measures the peak of each rung of the
ladder.  Prints JSON; a ratio above 1 means that the playground takes longer.
"""

from __future__ import annotations

import argparse
import inspect
import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.random_models import MODELS, random_model
from benchmarks.rows.results import alternate

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")


def measure(name: str, size: int, steps: int, rounds: int) -> dict[str, Any]:
    """Everything that this machine can tell."""
    import torch

    from pipelines.jobs.local import default_threads
    from pipelines.models.manager import PipelineManager
    from pipelines.request import make_request
    from presets.catalogue import card_for, load

    torch.set_num_threads(default_threads())
    with tempfile.TemporaryDirectory() as folder:
        source = random_model(name, Path(folder))
        card = card_for(str(source), load()).model_copy(update={"id": name})
        request = make_request(
            model=name, prompt="a house", width=size, height=size, scheduler="ddim", num_inference_steps=steps,
            guidance_scale=5.0, seed=1,
        )  # fmt: skip
        manager = PipelineManager([card])
        ahead = manager.check(name, size=(size, size))
        start = time.perf_counter()
        with manager.lease(name) as model:
            found = {
                "model": name,
                "parameters": sum(p.numel() for p in model.denoiser.parameters()),
                "device": str(model.placement),
                "dtype": model.placement.dtype,
                "size": size,
                "steps": steps,
                "load_seconds": round(time.perf_counter() - start, 2),
                "weights_gb": round(model.size_bytes / 1e9, 3),
                "weights_foretold_gb": round(ahead.weights / 1e9, 3),
                "activations_foretold_gb": round(ahead.activations / 1e9, 3),
                **rates(name, model, request, rounds),
            }
        if torch.cuda.is_available():
            found |= attentions(card, request, rounds) | peaks(manager, name, request)
    return found


def rates(name: str, model: Any, request: Any, rounds: int) -> dict[str, Any]:
    """The step rate of our loop over that of diffusers' own pipeline, over the same networks."""
    import diffusers
    import torch

    pipe = pipeline_of(MODELS[name], model.parts, model.scheduler_config)
    pipe.scheduler = diffusers.DDIMScheduler.from_config(pipe.scheduler.config)
    pipe.set_progress_bar_config(disable=True)
    sampling = request.sampling

    def theirs() -> None:
        pipe(
            request.prompt, width=request.width, height=request.height, guidance_scale=sampling.guidance_scale,
            num_inference_steps=sampling.num_inference_steps, generator=torch.Generator().manual_seed(1),
            output_type="latent",
        )  # fmt: skip
        wait()

    seconds = alternate({"theirs": theirs, "ours": lambda: run(model, request)}, rounds)
    return {
        "diffusers_steps_per_second": round(sampling.num_inference_steps / seconds["theirs"], 3),
        "our_rate_over_theirs": round(seconds["theirs"] / seconds["ours"], 3),
    }


def pipeline_of(class_name: str, parts: dict[str, Any], scheduler_config: dict[str, Any]) -> Any:
    """A pipeline of diffusers over the same parts; nothing is copied."""
    import diffusers

    from pipelines.sampling.schedulers import FLOW_PREDICTION, build_scheduler, prediction_type_of

    flow = prediction_type_of(scheduler_config) == FLOW_PREDICTION
    cls = getattr(diffusers, class_name)
    given = {**parts, "scheduler": build_scheduler("flow_euler" if flow else "ddim", scheduler_config)}
    given["requires_safety_checker"] = False
    names = inspect.signature(cls.__init__).parameters
    needed = [name for name, p in names.items() if p.default is inspect.Parameter.empty and name != "self"]
    return cls(**{name: given.get(name) for name in names if name in needed or name in given})


def run(model: Any, request: Any) -> None:
    """Our loop, without a decoded picture."""
    from pipelines.sampling.denoise import denoise

    for _ in denoise(model, request):
        pass
    wait()


def wait() -> None:
    """Let a GPU finish what it was asked for."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.synchronize()


def attentions(card: Any, request: Any, rounds: int) -> dict[str, Any]:
    """Seconds of a run with xformers over seconds with SDPA."""
    from pipelines.models.manager import PipelineManager

    runs: dict[str, Callable[[], None]] = {}
    notes = ""
    for attention in ("sdpa", "xformers"):
        lease = PipelineManager([card], attention=attention).lease(card.id)
        model = lease.__enter__()  # both stay loaded until the program ends
        notes = model.placement.note
        runs[attention] = lambda model=model: run(model, request)
    if notes:
        return {"xformers_seconds_over_sdpa": None, "xformers_note": notes}
    seconds = alternate(runs, rounds)
    return {"xformers_seconds_over_sdpa": round(seconds["xformers"] / seconds["sdpa"], 3)}


def peaks(manager: Any, name: str, request: Any) -> dict[str, Any]:
    """The most graphics memory that a whole picture takes on each rung of the ladder, the ones before included."""
    import torch

    from pipelines.models.oom_fallback import FALLBACKS
    from pipelines.sampling.denoise import denoise

    found, rungs = {}, []
    for rung in ["none", *(rung.name for rung in FALLBACKS)]:
        rungs += [rung] if rung != "none" else []
        manager.unload(name)
        torch.cuda.reset_peak_memory_stats()
        started = time.perf_counter()
        with manager.lease(name, fallbacks=tuple(rungs)) as model:
            for step in denoise(model, request):
                last = step.x_next
            model.latents.decode(last)
        seconds = time.perf_counter() - started
        found[rung] = {"peak_gb": round(torch.cuda.max_memory_allocated() / 1e9, 2), "seconds": round(seconds, 2)}
    return {"ladder": found}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", choices=MODELS, default="sd15")
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    print(json.dumps(measure(options.model, options.size, options.steps, options.rounds), indent=2))


if __name__ == "__main__":
    main()
