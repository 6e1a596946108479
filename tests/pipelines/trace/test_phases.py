"""Phases follow the distances of a trace's own x0 to its last one."""

from __future__ import annotations

import numpy as np

from pipelines.trace.phases import block_average, find_phases
from pipelines.trace.trace import StepRecord, Trace
from tests.support.recorded_runs import ask, record


def walk(coarse: list[float], fine: list[float]) -> Trace:
    """A trace whose x0s have this coarse and this fine part left to go at each step (prediction type sample)."""
    checks = np.indices((8, 8)).sum(0) % 2 * 2.0 - 1
    x0 = np.array([c + f * checks for c, f in zip(coarse, fine, strict=True)], np.float32)[:, None, None]
    steps = tuple(StepRecord(i, 900.0 - i, 0.6, 0.8) for i in range(len(coarse)))
    return Trace(
        "walk", ask(width=64, height=64), 0.0, len(coarse), "sample", False, steps, x0, x0, None, x0[-1], (), (), (),
        np.zeros((2, 3), np.float32),
    )  # fmt: skip


def test_phases_follow_the_traces_own_figures() -> None:
    early = walk([1, 0.1, 0, 0, 0, 0], [1, 1, 0.8, 0.5, 0.2, 0])
    late = walk([1, 1, 0.9, 0.8, 0.1, 0], [1, 1, 0.8, 0.5, 0.2, 0])
    assert [phase.name for phase in find_phases(early, 0)] == ["Finding the layout", *["Detail"] * 4, "Finishing"]
    assert [phase.name for phase in find_phases(late, 0)] == [*["Finding the layout"] * 4, "Detail", "Finishing"]
    assert "90% of the way" in find_phases(early, 0)[1].words and "20% of the way" in find_phases(late, 0)[3].words
    assert block_average(early.x0s[:, 0]).shape == (6, 1, 4, 4)
    assert {phase.name for phase in find_phases(walk([0, 0], [0, 0]), 0)} == {"Finishing"}


def test_a_single_step_has_one_phase(epsilon) -> None:
    assert len(find_phases(record(epsilon, ask(num_inference_steps=1))[1], 0)) == 1
