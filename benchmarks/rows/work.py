"""More work at once: rows 10 (four users), 11 (a batch), 13 (what more steps and more pictures cost)."""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from benchmarks.rows.results import Result, interleaved, percentile, ratio
from benchmarks.rows.workshop import Workshop

USERS, JOBS = 4, 6
BATCH = 8
STEP_COUNTS, PICTURE_COUNTS = (16, 32, 64), (1, 4, 8)
PICTURE_STEPS = 8


def users(shop: Workshop) -> Iterator[Result]:
    """Row 10: each user asks for the next picture when the one before is there."""
    waits: list[float] = []
    at_once, serial = [], []
    for k in range(max(2, shop.bench.rounds // 5) + 1):
        both = crowd(shop, USERS), crowd(shop, 1, USERS * JOBS)
        if k:  # the first round warms up
            at_once.append(both[0][0])
            serial.append(both[1][0])
            waits += both[0][1]
    least = 1.3 if shop.bench.on_gpu else 1.0
    # As many pictures in both: the throughputs are as the times the other way round.
    yield ratio(10, f"throughput of {USERS} users at once / of one", serial, at_once, least, at_least=True)
    middle, worst = statistics.median(waits), percentile(waits, 0.95)
    facts = {"wait_ms_p50": round(1000 * middle, 1), "wait_ms_p95": round(1000 * worst, 1)}
    yield Result(10, "their wait, p95 / p50", round(worst / middle, 3), None, 1.5, facts=facts)


def crowd(shop: Workshop, users: int, jobs: int = JOBS) -> tuple[float, list[float]]:
    """Seconds in which so many users get so many pictures each, and the waits for each."""
    from pipelines.events import Announced
    from pipelines.jobs.users import User

    waits: list[float] = []

    def use(user: Any) -> None:
        for request in [shop.request() for _ in range(jobs)]:
            started = time.perf_counter()
            for event in shop.backend.submit(request, user).events():
                if isinstance(event, Announced):
                    waits.append(time.perf_counter() - started)
                    break

    threads = [threading.Thread(target=use, args=(User(f"user{k}", unmetered=True),)) for k in range(users)]
    started = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return time.perf_counter() - started, waits


def batch(shop: Workshop) -> Iterator[Result]:
    """Row 11."""
    shop.ready(num_images=BATCH)

    def one_by_one() -> float:
        return sum(shop.until_picture(shop.request()) for _ in range(BATCH))

    times = interleaved(
        {"batch": lambda: shop.until_picture(shop.request(num_images=BATCH)), "one": one_by_one},
        max(3, shop.bench.rounds // 3),
    )
    yield ratio(
        11, f"{BATCH} pictures in one batch / {BATCH} times one", times["batch"], times["one"],
        0.3 if shop.bench.on_gpu else 0.8,
    )  # fmt: skip


def growth(shop: Workshop) -> Iterator[Result]:
    """Row 13: the slope of a straight line through the medians, ours over bare diffusers'."""
    pipe = bare_pipeline(shop)

    def ours(steps: int, pictures: int) -> Callable[[], float]:
        return lambda: shop.until_picture(shop.request(steps, num_images=pictures))

    def theirs(steps: int, pictures: int) -> Callable[[], None]:
        return lambda: pipe(steps, pictures)

    for what, cases in (
        (f"each further step, {', '.join(map(str, STEP_COUNTS))} steps", [(steps, 1) for steps in STEP_COUNTS]),
        (f"each further picture, {', '.join(map(str, PICTURE_COUNTS))} of {PICTURE_STEPS} steps",
         [(PICTURE_STEPS, pictures) for pictures in PICTURE_COUNTS]),
    ):  # fmt: skip
        sides = {"ours": ours, "theirs": theirs}
        times = interleaved(
            {f"{side} {case}": make(*case) for case in cases for side, make in sides.items()},
            max(3, shop.bench.rounds // 5),
        )
        varied = 0 if cases[0][1] == cases[-1][1] else 1
        slopes = {side: _slopes([case[varied] for case in cases], [times[f"{side} {case}"] for case in cases])
                  for side in sides}  # fmt: skip
        yield ratio(13, f"{what}: slope / bare diffusers' slope", slopes["ours"], slopes["theirs"], 0.4)


def _slopes(counts: list[int], times: list[list[float]]) -> list[float]:
    """Of the straight line of least squares, in each round."""
    return [statistics.linear_regression(counts, seconds).slope for seconds in zip(*times, strict=True)]


def bare_pipeline(shop: Workshop) -> Callable[[int, int], None]:
    """diffusers' own pipeline of the same model: steps and pictures to a call."""
    import torch
    from diffusers import DDIMScheduler, StableDiffusionPipeline

    card = shop.card
    pipe = StableDiffusionPipeline.from_pretrained(card.source, use_safetensors=True).to(shop.bench.device)
    pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config)
    pipe.set_progress_bar_config(disable=True)

    def call(steps: int, pictures: int) -> None:
        pipe(
            card.prompts[0], width=card.width, height=card.height, num_inference_steps=steps,
            guidance_scale=card.guidance_scale, num_images_per_prompt=pictures,
            generator=torch.Generator().manual_seed(1),
        )  # fmt: skip

    return call
