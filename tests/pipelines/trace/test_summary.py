"""Recorded runs in a list: newest first, from disk and memory, damaged ones left out."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path

import pytest

from pipelines.trace.serialization import load_trace
from pipelines.trace.store import TraceStore
from pipelines.trace.summary import read_summary, summarise
from pipelines.trace.trace import TraceError
from tests.support.known_trace import make_trace


def stored(store: TraceStore, name: str, seconds: float, on_disk: bool = True) -> None:
    """Put a trace into a store as if it had been written then."""
    store.put(dataclasses.replace(make_trace(), id=name, created=seconds), on_disk)
    if on_disk:
        os.utime(store.folder / f"{name}.json", (seconds, seconds))


def test_a_summary_from_the_file_is_that_of_the_trace(tmp_path: Path):
    store = TraceStore(tmp_path)
    trace = make_trace()
    store.put(trace)
    assert read_summary(tmp_path, trace.id) == summarise(trace)
    stopped = dataclasses.replace(trace, id="stopped", finals=(), pictures=())
    store.put(stopped)
    assert read_summary(tmp_path, "stopped").image == trace.frames[-1][0]


def test_the_latest_come_first_and_only_those_that_are_allowed(tmp_path: Path):
    store = TraceStore(tmp_path)
    for seconds, name in enumerate(("one", "two", "other", "three"), start=100):
        stored(store, name, seconds)
    stored(store, "unwritten", 102.5, on_disk=False)
    found = store.recent(lambda name: name != "other", 3)
    assert [run.id for run in found] == ["three", "unwritten", "two"]
    assert [run.id for run in TraceStore(tmp_path).recent(lambda name: True, 9)] == ["three", "other", "two", "one"]


def test_a_damaged_record_is_left_out(tmp_path: Path):
    store = TraceStore(tmp_path)
    for seconds, name in enumerate(("one", "two", "three"), start=100):
        stored(store, name, seconds)
    (tmp_path / "two.safetensors").write_bytes(b"nothing")
    (tmp_path / "three.json").write_text("[" * 5000)
    assert [run.id for run in TraceStore(tmp_path).recent(lambda name: True, 9)] == ["one"]
    with pytest.raises(TraceError):
        read_summary(tmp_path, "gone")


@pytest.mark.parametrize(
    "changes",
    [{"created": None}, {"created": "x"}, {"created": float("nan")}, {"total": float("inf")}, {"total": []},
     {"steps": 3}, {"request": None}, {"request": [[]]}],
)  # fmt: skip
def test_a_record_of_other_values_is_left_out(tmp_path: Path, changes: dict[str, object]):
    store = TraceStore(tmp_path)
    for seconds, name in enumerate(("one", "two"), start=100):
        stored(store, name, seconds)
    path = tmp_path / "two.json"
    for text in (
        json.dumps({**json.loads(path.read_text()), **changes}),
        json.dumps([]),
        "{}",
        '{"created": ' + "[" * 100_000,
        "1e999",
    ):
        path.write_text(text)
        assert [run.id for run in TraceStore(tmp_path).recent(lambda name: True, 9)] == ["one"]
        with pytest.raises(TraceError):
            read_summary(tmp_path, "two")
        if "created" not in changes and "total" not in changes:
            with pytest.raises(TraceError):
                load_trace(tmp_path, "two")
