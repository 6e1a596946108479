"""The figures of a long run."""

from __future__ import annotations

import os
from collections import Counter

from benchmarks.soak.load import Memory, engine_of, percentiles
from benchmarks.soak.record import Record


def test_memory_is_told_from_the_start_to_the_end_and_grows_after_the_warm_up_only() -> None:
    sizes = [400, *[500 + 10 * k for k in range(30)], *[1000] * 30, 1500, *[1100] * 29]
    memory = Memory(0, [(max(0, k - 1), size << 20) for k, size in enumerate(sizes)])
    found = memory.figures(90.0)
    told = [found[f"memory_{name}_mb"] for name in ("start", "warm", "peak", "end")]
    assert told == [400, 1000, 1500, 1100] and found["memory_growth_percent"] == 10.0


def test_memory_of_a_process_is_sampled() -> None:
    memory = Memory(os.getpid())
    memory.sample()
    assert memory.figures(1.0)["memory_start_mb"] > 5


def test_a_process_without_openvinos_library_computes_with_torch(monkeypatch) -> None:
    import psutil

    class Process:
        def __init__(self, pid: int) -> None:
            self.path = "/lib/libopenvino_intel_cpu_plugin.so" if pid else "/lib/libtorch.so"

        def memory_maps(self) -> list[Process]:
            return [self]

    monkeypatch.setattr(psutil, "Process", Process)
    assert [engine_of(pid) for pid in (0, 1)] == ["torch", "openvino"]


def test_what_another_process_recorded_is_added() -> None:
    here, there = Record(), Record(announced=["a.png"], faults=["x"], hung=["y"])
    for record in (here, there, there):
        record.count(200)
        record.did("attack")
    here.add(there.to_json())
    assert (here.statuses, here.done) == (Counter({200: 3}), Counter({"attack": 3}))
    assert (here.announced, here.faults, here.hung) == (["a.png"], ["x"], ["y"])


def test_percentiles_of_few_measurements_are_told() -> None:
    assert percentiles([]) == {"p50": None, "p95": None}
    assert percentiles([2.0]) == {"p50": 2.0, "p95": 2.0}
    assert percentiles([float(k) for k in range(1, 100)]) == {"p50": 50.0, "p95": 95.0}
