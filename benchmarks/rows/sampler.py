"""One run in this process: rows 1 (against the networks alone), 2 (watched), 3 (recorded), 4 (the strip), 9 (Stop)."""

from __future__ import annotations

import random
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

from benchmarks.rows.results import Result, interleaved, percentile, ratio
from benchmarks.rows.workshop import STEPS, Seen, Workshop

# A new frame at least this often, and so many in a run.
FRAME_SECONDS, FRAMES = 0.1, 3
# What Stop may take: so many steps, or seconds where that is more.
STOP_STEPS, STOP_SECONDS = 1.5, 0.005


def networks(shop: Workshop, steps: int = STEPS) -> tuple[Callable[[], None], Callable[[], None]]:
    """The engine's own calls of a guided run and nothing else: all UNet calls, and one decoder call."""
    import torch

    from benchmarks.engines import inputs_of

    with shop.model() as model:
        asks = {name: _bare(call, inputs_of(model, rows)[name]) for name, call, rows in (
            ("unet", model._call, 2), ("decoder", model.latents.decoder, 1),
        )}  # fmt: skip

    @torch.inference_mode()
    def unet() -> None:
        for _ in range(steps):
            asks["unet"]()
        wait_for_gpu()

    @torch.inference_mode()
    def decoder() -> None:
        asks["decoder"]()
        wait_for_gpu()

    return unet, decoder


def _bare(call: Any, inputs: dict[str, Any]) -> Callable[[], Any]:
    """A network's compiled call for these inputs, where it is compiled."""
    from pipelines.models.openvino.engine import Network, _shapes

    if isinstance(call, Network) and (compiled := call._compiled(_shapes(inputs))) is not None:
        return lambda: compiled(inputs)
    return lambda: call(**inputs)


def wait_for_gpu() -> None:
    """Let a GPU finish what it was asked for."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.synchronize()


def against_the_networks(shop: Workshop) -> Iterator[Result]:
    """Row 1."""
    unet, decoder = networks(shop)

    def alone() -> None:
        unet()
        decoder()

    times = interleaved({"ours": lambda: shop.until_picture(shop.request()), "alone": alone}, shop.bench.rounds)
    what = f"submit to finished picture, {STEPS} guided steps, every step kept / the engine's own calls"
    yield ratio(1, what, times["ours"], times["alone"], 1.5)


def watched(shop: Workshop) -> Iterator[Result]:
    """Row 2."""
    frames: list[tuple[int, float]] = []

    def looked_at() -> float:
        seen = shop.run(shop.request(), watched=True)
        fewest, gap = live_frames(seen)
        frames.append((fewest, gap / FRAME_SECONDS))
        return _until_picture(seen)

    times = interleaved({"watched": looked_at, "alone": lambda: shop.until_picture(shop.request())}, shop.bench.rounds)
    fewest, gap = min(count for count, _ in frames[1:]), percentile([most for _, most in frames[1:]], 0.95)
    problem = "" if fewest >= FRAMES and gap <= 1 else f"{fewest} new frames, {gap:.1f} times 100 ms without one"
    yield ratio(
        2, "the same with live previews / without", times["watched"], times["alone"], 1.10, problem=problem,
        fewest_frames=fewest, longest_time_between_frames_over_100_ms_p95=round(gap, 2),
    )  # fmt: skip


def live_frames(seen: Seen) -> tuple[int, float]:
    """How many steps were shown before the picture was decoded, and the longest time without a new one."""
    from pipelines.events import Decoding, Preview

    at = [when for when, event in seen.events if isinstance(event, Preview) and event.frames]
    end = next(when for when, event in seen.events if isinstance(event, Decoding))
    live = [when for when in at if when <= end]
    return len(live), max(b - a for a, b in pairwise((seen.started, *live, end)))


def _until_picture(seen: Seen) -> float:
    from pipelines.events import Announced

    return seen.until(Announced)


def recorded(shop: Workshop) -> Iterator[Result]:
    """Row 3: both are timed within the same runs, since the difference between two runs is below the noise."""
    from pipelines.images.provenance import xmp_packet
    from pipelines.jobs.previews import final_bytes
    from pipelines.sampling.denoise import denoise
    from pipelines.trace.recorder import Recorder
    from pipelines.trace.step_frames import step_frames
    from pipelines.trace.store import TraceStore

    whole, rest, size = [], [], 0.0
    with tempfile.TemporaryDirectory() as folder, shop.model() as model:
        store = TraceStore(folder)
        for k in range(shop.bench.rounds + 1):
            request = shop.request()
            started, spent = time.perf_counter(), 0.0
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
            ended = time.perf_counter()
            if k:  # the first round warms up
                whole.append(ended - started)
                rest.append(ended - started - (spent + ended - before))
                size = trace.nbytes / len(trace.steps)
    yield ratio(3, "recorded as a trace / not", whole, rest, 1.03, bytes_a_step=round(size))


def strip(shop: Workshop) -> Iterator[Result]:
    """Row 4."""
    _, decoder = networks(shop)
    times = interleaved(
        {"strip": lambda: until_strip(shop.run(shop.request(), watched=True)), "decoder": decoder}, shop.bench.rounds
    )
    what = f"from the picture to all frames of one view, {STEPS} steps / one decoder call"
    yield ratio(4, what, times["strip"], times["decoder"], 26)
    yield Result(4, "the same with a preview decoder of half the width", None, None, 10, problem="there is none")


def until_strip(seen: Seen) -> float:
    """Seconds from the picture to the event that completes the decoded noisy latents, which the stage shows."""
    from pipelines.events import Announced, Preview

    there: set[int] = set()
    picture = next(when for when, event in seen.events if isinstance(event, Announced))
    for when, event in seen.events:
        if isinstance(event, Preview) and event.noisy and "noisy" not in event.rough:
            there.add(event.index)
            if len(there) == event.total:
                return max(when - picture, 1e-9)
    raise RuntimeError("The strip was never whole")


def stopped(shop: Workshop) -> Iterator[Result]:
    """Row 9: from Stop to the event that the sampler is idle, over what it may take."""
    chance, waits, steps, late = random.Random(0), [], [], 0
    with shop.model() as model:
        plain = model.latents.decoder
    calls: list[float] = []

    def counted(**inputs: Any) -> Any:
        calls.append(time.perf_counter())
        return plain(**inputs)

    model.latents.decoder = counted
    try:
        for _ in range(4 * shop.bench.rounds):
            wait, step, decodes = stop_once(shop, chance.uniform(0.2, 0.8), calls)
            waits.append(wait)
            steps.append(step)
            late += decodes
    finally:
        model.latents.decoder = plain
    step = statistics.median(steps)
    allowed = max(STOP_STEPS * step, STOP_SECONDS)
    yield Result(
        9, "Stop to an idle sampler, p95 / 1.5 steps or 5 ms", round(percentile(waits, 0.95) / allowed, 3),
        round(max(waits) / allowed, 3), 1.0, facts={"step_ms": round(1000 * step, 2), "decodes_after": late,
        "stop_ms_median": round(1000 * statistics.median(waits), 2)},
        problem=f"{late} decoder calls after Stop" if late else "",
    )  # fmt: skip


def stop_once(shop: Workshop, share: float, calls: list[float]) -> tuple[float, float, int]:
    """Seconds from Stop to the end of a watched run, seconds of a step before, and decoder calls after."""
    from pipelines.events import Cancelled

    job = shop.backend.submit(shop.request(2 * STEPS))
    with job.watching():
        while job.progress < 0.1:
            time.sleep(0.0005)
        began, before = time.perf_counter(), job.at[0]
        while job.progress < share:
            time.sleep(0.0005)
        asked = time.perf_counter()
        step = (asked - began) / max(1, job.at[0] - before)
        job.cancel()
        *_, last = job.events()
        ended = time.perf_counter()
    if not isinstance(last, Cancelled):
        raise RuntimeError(f"The run ended with {last}")
    job.wait_until_recorded(60)
    return ended - asked, step, sum(call > asked for call in calls)
