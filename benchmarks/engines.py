"""What a small model's networks take on a CPU, by engine and threads, and what that makes of a picture of few steps.

    python -m benchmarks.engines [--model pocket-turbo] [--rounds 15] [--inductor]

Prints JSON, then the table of ``RESULTS.md``.  Engines that are not installed are left out; ``--inductor`` compiles
with torch.compile besides, which needs a C++ compiler and minutes.  The times to be ready are those of a first start,
and of one with a warm cache where there is one.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from benchmarks.rows.results import alternate

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
WAIT = 600.0
STEPS = (1, 4)
# The run that few steps are measured against: diffusers' own pipeline with guidance.
THEIR_STEPS = 25

# A network that is asked: inputs by name to a tensor.
Ask = Callable[..., Any]


def inputs_of(model: Any, rows: int) -> dict[str, dict[str, Any]]:
    """Inputs of the UNet and of the decoder for pictures of the card's size."""
    import torch

    draw = torch.Generator().manual_seed(0)
    latents = torch.randn(model.latents.shape(rows, model.card.width, model.card.height), generator=draw)
    told = model.encode_prompt(["a house"] * rows).prompt_embeds
    unet = {"sample": latents, "timestep": torch.full((rows,), 500.0), "encoder_hidden_states": told}
    return {"unet": unet, "decoder": {"latents": latents}}


# -- engines: each gives the two networks, and the seconds until they were ready -----------------------------------


def eager(model: Any, threads: int) -> tuple[dict[str, Ask], dict[str, float]]:
    return {"unet": model._call, "decoder": model.latents.decoder}, {}


def channels_last(model: Any, threads: int) -> tuple[dict[str, Ask], dict[str, float]]:
    """The same in the other memory layout."""
    import copy

    import torch

    unet, vae = (copy.deepcopy(part).to(memory_format=torch.channels_last) for part in (model.unet, model.latents.vae))
    return {
        "unet": lambda **inputs: unet(**inputs, return_dict=False)[0],
        "decoder": lambda latents: vae.decode(latents, return_dict=False)[0],
    }, {}


def inductor(model: Any, threads: int) -> tuple[dict[str, Ask], dict[str, float]]:
    import copy

    import torch

    started = time.perf_counter()
    unet, vae = copy.deepcopy(model.unet), copy.deepcopy(model.latents.vae)
    unet.compile(dynamic=False)
    decode = torch.compile(lambda latents: vae.decode(latents, return_dict=False)[0], dynamic=False)
    asks = {"unet": lambda **inputs: unet(**inputs, return_dict=False)[0], "decoder": decode}
    with torch.inference_mode():
        for rows in (1, 2):
            for name, inputs in inputs_of(model, rows).items():
                asks[name](**inputs)
    return asks, {"first": time.perf_counter() - started}


def onnx(model: Any, threads: int) -> tuple[dict[str, Ask], dict[str, float]]:
    """ONNX Runtime, by PyTorch's own export of the static shapes."""
    import onnxruntime
    import torch

    from pipelines.models.openvino.convert import KINDS

    started, sessions = time.perf_counter(), {}
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    for rows in (1, 2):
        for kind, inputs in inputs_of(model, rows).items():
            network = KINDS[kind][0](model.unet if kind == "unet" else model.latents.vae).eval()
            file = io.BytesIO()
            with torch.no_grad():
                torch.onnx.export(
                    network, (), file, kwargs=inputs, input_names=list(inputs), dynamo=True, verbose=False
                )
            sessions[kind, rows] = onnxruntime.InferenceSession(file.getvalue(), options, ["CPUExecutionProvider"])

    def ask(kind: str) -> Ask:
        def run(**inputs: Any) -> Any:
            arrays = {name: value.contiguous().numpy() for name, value in inputs.items()}
            return torch.from_numpy(sessions[kind, len(next(iter(arrays.values())))].run(None, arrays)[0])

        return run

    return {"unet": ask("unet"), "decoder": ask("decoder")}, {"first": time.perf_counter() - started}


def openvino(model: Any, threads: int) -> tuple[dict[str, Ask], dict[str, float]]:
    """The playground's own way, ``pipelines.models.openvino.engine``; ready first without and then with its cache."""
    from pipelines.models.openvino.engine import Engine

    seconds = {}
    with tempfile.TemporaryDirectory() as folder:
        for start in ("first", "later"):
            started = time.perf_counter()
            engine = Engine(Path(folder), threads)
            unet = engine.network("unet", model.unet, model._call)
            decoder = engine.network("decoder", model.latents.vae, model.latents.decoder)
            unet.request(**{name: tuple(value.shape) for name, value in inputs_of(model, 1)["unet"].items()})
            decoder.request(latents=tuple(inputs_of(model, 1)["decoder"]["latents"].shape))
            assert engine.wait(WAIT) and engine.ready
            seconds[start] = time.perf_counter() - started
        for name, inputs in inputs_of(model, 2).items():
            network = unet if name == "unet" else decoder
            network.request(**{key: tuple(value.shape) for key, value in inputs.items()})
        assert engine.wait(WAIT)
    return {"unet": unet, "decoder": decoder, "kept": engine}, seconds  # type: ignore[dict-item]


def smaller_decoder(model: Any, threads: int) -> tuple[dict[str, Ask], dict[str, float]]:
    """OpenVINO with a decoder of half the width, to see what training one would win: its weights are random."""
    import copy

    from diffusers import AutoencoderTiny

    shape = {name: value for name, value in model.latents.vae.config.items() if not name.startswith("_")}
    halved = tuple(width // 2 for width in shape["decoder_block_out_channels"])
    vae = AutoencoderTiny.from_config({**shape, "decoder_block_out_channels": halved}).eval().requires_grad_(False)
    small = copy.copy(model)
    small.latents = type(model.latents)(vae)
    return openvino(small, threads)[0], {}


def engines(with_inductor: bool) -> dict[str, Callable[[Any, int], Any]]:
    """Those that are there."""
    found = {"eager": eager, "eager, channels_last": channels_last}
    found |= {"torch.compile": inductor} if with_inductor else {}
    found |= {"ONNX Runtime": onnx} if find_spec("onnxruntime") and find_spec("onnxscript") else {}
    if find_spec("openvino"):
        found |= {"OpenVINO": openvino, "OpenVINO, a decoder of half the width": smaller_decoder}
    return found


# -- calls -----------------------------------------------------------------------------------------------------


def calls(model: Any, rounds: int, with_inductor: bool) -> Iterator[dict[str, Any]]:
    """One row an engine and number of threads: ms a call, seconds to be ready, largest difference from eager."""
    import torch

    for name, make in engines(with_inductor).items():
        for threads in (1, 2):
            torch.set_num_threads(threads)
            try:
                asks, seconds = make(model, threads)
            except Exception as error:
                yield {"engine": name, "threads": threads, "problem": f"{type(error).__name__}: {str(error)[:120]}"}
                continue
            yield {
                "engine": name,
                "threads": threads,
                **_timed(model, asks, rounds),
                **{f"ready_{start}_s": round(took, 1) for start, took in seconds.items()},
            }


def _timed(model: Any, asks: dict[str, Ask], rounds: int) -> dict[str, float]:
    import torch

    found: dict[str, float] = {}
    worst = 0.0
    with torch.inference_mode():
        for rows in (1, 2):
            for name, inputs in inputs_of(model, rows).items():
                wanted = eager(model, 0)[0][name](**inputs)
                worst = max(worst, float((asks[name](**inputs) - wanted).abs().max()))
                found[f"{name}_{rows}_ms"] = _median_ms(lambda name=name, inputs=inputs: asks[name](**inputs), rounds)
    return {**found, "largest_difference": worst}


def _median_ms(run: Callable[[], Any], rounds: int) -> float:
    times = []
    for k in range(rounds + 2):
        start = time.perf_counter()
        run()
        if k > 1:  # the first two warm up
            times.append(time.perf_counter() - start)
    return round(statistics.median(times) * 1000, 2)


# -- pictures --------------------------------------------------------------------------------------------------


@contextmanager
def backend_of(card: Any, engine: str) -> Iterator[Any]:
    """A backend of this engine that has everything ready."""
    from pipelines.jobs.local import LocalBackend
    from pipelines.models.manager import PipelineManager

    with tempfile.TemporaryDirectory() as folder:
        manager = PipelineManager([card], device="cpu", engine=engine, engine_dir=Path(folder) / "compiled")
        backend = LocalBackend(manager, Path(folder) / "pictures")
        try:
            for _ in range(2):
                shown(backend, card, 4, 1)
                with manager.lease(card.id) as model:
                    assert model.engine is None or model.engine.wait(WAIT)
            yield backend
        finally:
            backend.close()


def shown(backend: Any, card: Any, steps: int, seed: int) -> float:
    """Seconds from asking for a picture to the event that shows it, its file being on the disk by then.

    Each seed has a prompt of its own, so that the text encoder is asked as after a click on new words.
    """
    from pipelines.events import Announced
    from pipelines.request import make_request

    prompt = f"{card.prompts[0] if card.prompts else 'a house'} {seed}"
    request = make_request(
        model=card.id, prompt=prompt, width=card.width, height=card.height,
        scheduler="lcm", num_inference_steps=steps, guidance_scale=1.0, seed=seed,
    )  # fmt: skip
    started, took = time.perf_counter(), 0.0
    for event in backend.submit(request).events():
        if isinstance(event, Announced):
            took = time.perf_counter() - started
    return took


def pictures(card: Any, rounds: int) -> dict[str, Any]:
    """Pictures of few steps through the backend, against guided steps of diffusers' own pipeline in the same run."""
    import torch
    from diffusers import DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel

    from pipelines.jobs.local import default_threads

    torch.set_num_threads(default_threads())
    # A card that takes parts of another model lies in two folders, which diffusers' pipeline does not know.
    own = {"unet": UNet2DConditionModel.from_pretrained(card.source, subfolder="unet")} if card.rest else {}
    pipeline = StableDiffusionPipeline.from_pretrained(card.rest or card.source, use_safetensors=True, **own)
    pipeline.scheduler = DDIMScheduler.from_config(pipeline.scheduler.config)
    pipeline.set_progress_bar_config(disable=True)

    def theirs() -> None:
        pipeline("a house", width=card.width, height=card.height, num_inference_steps=THEIR_STEPS,
                 guidance_scale=4.0, generator=torch.Generator().manual_seed(1))  # fmt: skip

    names = ["torch", *(["openvino"] if find_spec("openvino") else [])]
    seconds: dict[str, list[float]] = {}
    with backend_of(card, names[0]) as plain, backend_of(card, names[-1]) as quick:
        pairs = [("torch", plain), ("openvino", quick)][: len(names)]
        candidates: dict[str, Callable[[], Any]] = {"diffusers": theirs}
        for name, backend in pairs:
            for steps in STEPS:
                key = f"{name}_{steps}"
                candidates[key] = lambda key=key, backend=backend, steps=steps: seconds.setdefault(key, []).append(
                    shown(backend, card, steps, len(seconds.get(key, ())))
                )
        base = alternate(candidates, rounds)["diffusers"]
    found: dict[str, Any] = {"threads": default_threads(), f"diffusers_{THEIR_STEPS}_guided_ms": round(base * 1000)}
    for key, times in seconds.items():
        median = statistics.median(times[1:])
        found |= {f"{key}_ms": round(median * 1000, 1), f"{key}_ratio": round(base / median, 1)}
    return found


# -- telling ---------------------------------------------------------------------------------------------------


def machine() -> str:
    """The processor's name."""
    with open("/proc/cpuinfo") as file:
        names = [line.split(":", 1)[1].strip() for line in file if line.startswith("model name")]
    return f"{names[0]} x {len(names)}" if names else platform.processor()


COLUMNS = {
    "engine": "engine",
    "threads": "threads",
    "unet_1_ms": "UNet, 1 row",
    "unet_2_ms": "2 rows",
    "decoder_1_ms": "decoder, 1 picture",
    "decoder_2_ms": "2 pictures",
    "largest_difference": "largest difference from eager",
    "ready_first_s": "ready, first start (s)",
    "ready_later_s": "later (s)",
}


def table(rows: list[dict[str, Any]]) -> str:
    """The calls in Markdown."""
    lines = ["| " + " | ".join(COLUMNS.values()) + " |", "|" + " --- |" * len(COLUMNS)]
    for row in rows:
        cells = [row.get(name, row.get("problem", "") if name == "unet_1_ms" else "") for name in COLUMNS]
        small = [isinstance(cell, float) and 0 < cell < 1e-2 for cell in cells]
        lines.append(f"| {' | '.join(f'{c:.0e}' if tiny else str(c) for c, tiny in zip(cells, small, strict=True))} |")
    return "\n".join(lines)


def main() -> None:
    from pipelines.models.manager import PipelineManager
    from presets.catalogue import card_for, load

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="pocket-turbo")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--inductor", action="store_true")
    options = parser.parse_args()
    card = card_for(options.model, load())
    drawn = pictures(card, options.rounds)
    with PipelineManager([card], device="cpu").lease(card.id) as model:
        rows = list(calls(model, options.rounds, options.inductor))
    print(json.dumps({"machine": machine(), "pictures": drawn, "calls": rows}, indent=2))
    print(table(rows))


if __name__ == "__main__":
    main()
