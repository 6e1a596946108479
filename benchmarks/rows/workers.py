"""What a second worker of this machine brings."""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.rows.program import card_of
from benchmarks.rows.results import Result, interleaved
from benchmarks.rows.workshop import Bench, Workshop

# Pictures of a measurement; even, so that two workers make as many each.
PICTURES = 8
MORE_PICTURES = 1.6


@contextmanager
def _workers(bench: Bench, count: int) -> Iterator[Workshop]:
    """A backend with so many workers of one CPU thread each, all with the model in memory and compiled."""
    from pipelines.jobs.local import LocalBackend
    from pipelines.models.manager import PipelineManager

    card = card_of(bench)
    place: dict[str, Any] = {"engine": "openvino", "engine_dir": bench.compiled} if bench.compiled else {}
    with tempfile.TemporaryDirectory() as folder:
        managers: list[PipelineManager] = []
        for _ in range(count):
            sibling = managers[0] if managers else None
            managers.append(PipelineManager([card], "cpu", sibling=sibling, managers=count, **place))
        backend = LocalBackend(managers[0], Path(folder) / "pictures", threads=1, others=managers[1:])
        shop = Workshop(bench, card, backend, managers[0])
        try:
            for _ in range(3):  # loaded, compiled, and as it is from then on
                _make(shop)
                for manager in managers:
                    with manager.lease(card.id) as model:
                        engine = getattr(model, "engine", None)
                        assert engine is None or engine.wait(600)
            yield shop
        finally:
            backend.close()


def _make(shop: Workshop) -> None:
    """Make some pictures that no page watches."""
    jobs = [shop.backend.submit(shop.request(), watched=False) for _ in range(PICTURES)]
    for job in jobs:
        *_, last = job.events()
        if type(last).__name__ != "Finished":
            raise RuntimeError(f"A picture ended with {last}")


def second_worker(bench: Bench) -> Iterator[Result]:
    """Row 20: pictures of two CPU workers of one thread each, over those of one."""
    with _workers(bench, 1) as one, _workers(bench, 2) as two:
        rounds = max(3, bench.rounds // 3)
        times = interleaved({"one": lambda: _make(one), "two": lambda: _make(two)}, rounds)
    ratios = sorted(alone / both for alone, both in zip(times["one"], times["two"], strict=True))
    facts = {f"{name}_s": round(statistics.median(found), 2) for name, found in times.items()}
    yield Result(
        20, "pictures of two workers of one thread each / of one", round(statistics.median(ratios), 3),
        round(ratios[0], 3), MORE_PICTURES, at_least=True, facts={**facts, "pictures": PICTURES},
    )  # fmt: skip
