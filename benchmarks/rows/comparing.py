"""Looking at why a picture is as it is: rows 15 (attention, off), 16 (a grid), 17 (a fork)."""

from __future__ import annotations

import statistics
import time
from collections import deque
from collections.abc import Iterator
from typing import Any

from benchmarks.rows.program import TURBO, TURBO_STEPS, card_of
from benchmarks.rows.results import Result, interleaved, percentile, ratio
from benchmarks.rows.workshop import STEPS, Bench, Workshop, open_workshop

# What a run may cost more after its model's attention was read.
ATTENTION_TARGET = 1.03
# A grid of so many pictures a side, the seconds that it may take, and the jobs that wait at once, as on the page.
SIDE, GRID_SECONDS, AHEAD = 5, 4.0, 2
# A fork may take so many times what its remaining steps cost, and so many seconds.
FORK_SHARE, FORK_SECONDS = 1.2, 0.05
# Steps that a fork keeps.
KEPT = (5, 12, 20)


def attention_off(bench: Bench) -> Iterator[Result]:
    """Row 15: a run of a model whose attention was just read, over one of a model whose attention never was."""
    with open_workshop(bench) as never, open_workshop(bench) as used:
        run = used.backend.submit(used.request())
        list(run.events())
        trace = used.backend.trace(run.id)
        assert trace is not None
        maps = used.backend.queries.words.attention(trace, 0, range(len(trace.steps)))

        def after() -> float:
            used.backend.queries.words.attention(trace, 0, (0,))
            used.run(used.request(2))
            return used.until_picture(used.request())

        def before() -> float:
            never.run(never.request(2))
            return never.until_picture(never.request())

        times = interleaved({"after": after, "before": before}, 2 * bench.rounds)
    what = f"a run after its model's attention was read / before, {STEPS} steps"
    yield ratio(15, what, times["after"], times["before"], ATTENTION_TARGET, layers=len(maps.layers))


def grid(bench: Bench) -> Iterator[Result]:
    """Row 16: from asking for a grid of turbo pictures until every strip is whole."""
    with open_workshop(bench, card_of(bench, TURBO)) as shop:
        for _ in range(3):
            shop.run(turbo_request(shop))
        made = [make_grid(shop) for _ in range(max(3, bench.rounds // 3))]
    seconds, pictures, rough = (list(each) for each in zip(*made, strict=True))
    yield Result(
        16, f"seconds of a grid of {SIDE} x {SIDE} turbo pictures, {TURBO_STEPS} steps, strips whole",
        round(statistics.median(seconds), 3), round(percentile(seconds, 0.95), 3), GRID_SECONDS,
        facts={"last_picture_s": round(statistics.median(pictures), 3)},
        problem=f"{sum(rough)} strips were not whole" if any(rough) else "",
    )  # fmt: skip


def turbo_request(shop: Workshop) -> Any:
    """One picture of turbo in four steps."""
    return shop.request(TURBO_STEPS, scheduler="lcm", guidance_scale=1.0)


def make_grid(shop: Workshop) -> tuple[float, float, int]:
    """Seconds until all strips of a grid are whole, until its last picture, and the strips that were not."""
    from pipelines.events import Announced, Finished
    from pipelines.grid.plan import Grid, GridAxis

    request = turbo_request(shop)
    seeds = tuple(str(request.sampling.seed + k) for k in range(SIDE))
    first = request.prompt.split()[0]
    words = tuple(f"{first}\0{word}" for word in (first, "one", "two", "three", "four"))
    plan = Grid(request=request, x=GridAxis(setting="seed", values=seeds), y=GridAxis(setting="words", values=words))
    waiting, running, rough, last = deque(plan.cells()), deque[Any](), 0, 0.0
    started = time.perf_counter()
    while waiting or running:
        while waiting and len(running) < AHEAD:
            running.append(shop.backend.submit(waiting.popleft().request, watched=False))
        job = running.popleft()
        event = None
        for event in job.events():
            if isinstance(event, Announced):
                last = time.perf_counter() - started
        if not isinstance(event, Finished):
            raise RuntimeError(f"A picture of the grid ended with {event}")
        trace = shop.backend.trace(job.id)
        rough += trace is None or trace.rough or len(trace.noisy) != TURBO_STEPS
    return time.perf_counter() - started, last, rough


def forked(shop: Workshop) -> Iterator[Result]:
    """Row 17: a fork with another prompt, over what it may take for its remaining steps."""
    from pipelines.trace.forks import fork_of

    for scheduler in ("ddim", "dpmpp_2m"):
        run = shop.backend.submit(shop.request(scheduler=scheduler))
        list(run.events())
        trace = shop.backend.trace(run.id)
        assert trace is not None
        for kept in KEPT:

            def fork(kept: int = kept, trace: Any = trace) -> float:
                return shop.until_picture(fork_of(trace, kept, prompt=f"{trace.request.prompt}, small"))

            def rest(kept: int = kept, scheduler: str = scheduler) -> float:
                return shop.until_picture(shop.request(STEPS - kept, scheduler=scheduler))

            times = interleaved({"fork": fork, "rest": rest}, max(5, shop.bench.rounds // 2))
            allowed = [FORK_SHARE * one + FORK_SECONDS for one in times["rest"]]
            what = f"a fork after {kept} of {STEPS} steps, {scheduler} / 1.2 x a run of {STEPS - kept} steps + 50 ms"
            rest_ms = round(1000 * statistics.median(times["rest"]), 1)
            yield ratio(17, what, times["fork"], allowed, 1.0, rest_ms=rest_ms)
