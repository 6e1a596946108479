"""What is left of a timeline whose trace is dropped."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from history.search import Filters
from history.store import History
from history.strips import MAX_BYTES, strip_of
from pipelines.events import Picture
from pipelines.jobs.users import OWNER
from pipelines.trace.store import TraceStore
from pipelines.trace.trace import StepRecord, Trace
from tests.support.history_entries import ask

Make = Callable[..., str]


def trace(name: str, steps: int = 25, count: int = 1, side: tuple[int, int] = (64, 64), seed: int = 0) -> Trace:
    dice = np.random.default_rng(seed)

    def frame() -> bytes:
        file = io.BytesIO()
        Image.fromarray(dice.integers(0, 255, (side[1], side[0], 3), np.uint8)).save(file, "JPEG", quality=95)
        return file.getvalue()

    latents = np.zeros((steps, count, 4, 8, 8), np.float32)
    records = tuple(StepRecord(k, 999.0 - k, 0.5, 0.5) for k in range(steps))
    return Trace(
        id=name, request=ask(num_images=count), created=1.0, total=steps, prediction_type="epsilon",
        variance_exploding=False, steps=records, x_t=latents, cond=latents, uncond=None,
        final=np.zeros((count, 4, 8, 8), np.float32),
        frames=tuple(tuple(frame() for _ in range(count)) for _ in range(steps)),
        pictures=tuple(Picture(Path(f"{k}.png"), k) for k in range(count)), finals=(b"",) * count,
        to_rgb=np.zeros((5, 3), np.float32),
    )  # fmt: skip


SHAPES = [(1, (64, 64)), (2, (64, 64)), (25, (300, 40)), (25, (40, 300)), (150, (256, 256))]


@pytest.mark.parametrize(("steps", "side"), SHAPES)
def test_a_strip_is_small_and_says_which_steps_it_shows(steps: int, side: tuple[int, int]) -> None:
    data = strip_of(trace("t", steps, side=side), 0)
    assert len(data) <= MAX_BYTES
    with Image.open(io.BytesIO(data)) as strip:
        about = json.loads(strip.info["comment"])
        strip.load()
    assert about["total"] == steps and about["frames"] == len(about["steps"]) == min(steps, 8)
    assert about["steps"][0] == 0 and about["steps"][-1] == steps - 1


def test_a_run_without_steps_has_no_strip() -> None:
    with pytest.raises(ValueError, match="no strip"):
        strip_of(trace("t", 0), 0)


def test_dropped_traces_leave_strips_and_those_of_favourites_go_last(
    history: History, make: Make, tmp_path: Path
) -> None:
    entries = {run: [make(run, run=run, number=k, num_images=2) for k in range(2)] for run in ("one", "two", "three")}
    history.set_favourite(OWNER, [entries["one"][1]], True)
    store = TraceStore(tmp_path / "traces", disk_bytes=1, archive=history.strips)
    size = 0
    for run in entries:
        store._disk_bytes = 10**9
        store.put(trace(run, count=2))
        size = max(size, sum(path.stat().st_size for path in (tmp_path / "traces").glob("*.safetensors")))
    store._disk_bytes = size * 2 // 3
    store.put(trace("unknown", 1))
    there = {path.stem for path in (tmp_path / "traces").glob("*.safetensors")}
    assert {"one", "unknown"} <= there and "two" not in there
    found = history.detail(OWNER, entries["two"][1])
    assert found is not None and found.strip is not None and found.strip.stat().st_size <= MAX_BYTES
    kept = history.detail(OWNER, entries["one"][1])
    assert kept is not None and kept.strip is None
    history.bin.delete(OWNER, entries["two"])
    assert history.bin.empty(OWNER) == 2 and not found.strip.exists()
    assert history.catalogue.page(OWNER, Filters(in_bin=True)).entries == ()


def test_a_trace_without_an_entry_or_that_cannot_be_written_costs_nothing_else(
    history: History, make: Make, tmp_path: Path
) -> None:
    history.strips.dropping(trace("nobody"))
    assert not (tmp_path / "strips").exists()
    make(run="one")
    (tmp_path / "strips").write_text("a file in the way")
    history.strips.dropping(trace("one"))


def test_a_trace_that_is_never_written_leaves_its_strip_at_once(
    history: History, make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    store = TraceStore(tmp_path / "traces", archive=history.strips)
    for run in ("quota", "full", "kept"):
        make(run=run)
    store.put(trace("quota"), on_disk=False)
    store.put(trace("kept"))
    monkeypatch.setattr("pipelines.trace.store.save_trace", full)
    store.put(trace("full"))
    assert {path.stem for path in (tmp_path / "strips").iterdir()} == {"quota-0", "full-0"}
