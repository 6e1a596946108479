"""The store keeps traces in memory and on disk, both bounded."""

from __future__ import annotations

import dataclasses
import gc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from pipelines.trace.serialization import save_trace
from pipelines.trace.store import TraceStore
from tests.support.recorded_runs import ask, record


def test_the_store_keeps_the_recently_used_in_memory_and_all_on_disk(epsilon, tmp_path: Path) -> None:
    _, trace = record(epsilon, ask())
    store = TraceStore(tmp_path, memory_bytes=2 * trace.nbytes)
    runs = [dataclasses.replace(trace, id=name) for name in "abc"]
    store.put(runs[0])
    store.put(runs[1])
    assert store.get("a") is runs[0]
    store.put(runs[2])  # pushes out b, which was used longest ago
    assert store.get("a") is runs[0] and store.get("c") is runs[2]
    # What is in use elsewhere is shared; else it comes from the disk.
    assert store.get("b") is runs[1]
    del runs[1]
    store.get("a"), store.get("c")
    gc.collect()
    assert store.get("b").x_t is not trace.x_t and np.array_equal(store.get("b").x_t, trace.x_t)
    assert store.get("d") is None


def test_the_store_drops_the_oldest_files(epsilon, tmp_path: Path) -> None:
    import os

    _, trace = record(epsilon, ask())
    save_trace(trace, tmp_path / "size")
    size = (tmp_path / "size" / "run.safetensors").stat().st_size
    store = TraceStore(tmp_path, memory_bytes=1, disk_bytes=2 * size)
    for age, name in enumerate("abc"):
        store.put(dataclasses.replace(trace, id=name))
        os.utime(tmp_path / f"{name}.safetensors", (age, age))
    assert sorted(path.name for path in tmp_path.glob("*.*")) == [
        "b.json", "b.safetensors", "c.json", "c.safetensors",
    ]  # fmt: skip


def test_a_full_disk_costs_the_file_alone(epsilon, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    _, trace = record(epsilon, ask())
    store = TraceStore(tmp_path / "file")
    store.put(trace)
    assert store.get("run") is trace


def test_threads_that_open_a_trace_share_it(epsilon, tmp_path: Path) -> None:
    _, trace = record(epsilon, ask())
    TraceStore(tmp_path).put(trace)
    store = TraceStore(tmp_path, memory_bytes=1)
    other = dataclasses.replace(trace, id="other")
    store.put(other)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda k: store.get(trace.id if k % 2 else "other"), range(40)))
    assert len({id(one) for one in found}) == 2
