"""The map's bounds and its value."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from pipelines.jobs.backend import QueryFailed
from pipelines.jobs.job import Job
from pipelines.trace import trajectories
from pipelines.trace.trace import Trace
from tests.support.known_trace import ask, make_trace
from ui.inspector.origins import trajectory_map
from ui.inspector.origins.trajectory_map import Way, live_value, within_bounds


def test_the_map_holds_as_many_ways_as_memory_allows(monkeypatch: pytest.MonkeyPatch) -> None:
    way = trajectories.of_trace(make_trace(), 0)
    ways = [Way("own", "this run", way), *(Way("seed", f"seed {k}", way) for k in range(5))]
    assert within_bounds(ways) == ways
    monkeypatch.setattr(trajectories, "MAX_NUMBERS", 3 * (way.x_t.size + way.x0.size))
    assert within_bounds(ways) == ways[:3]
    monkeypatch.setattr(trajectories, "MAX_NUMBERS", 1)
    assert within_bounds(ways) == ways[:1]


def page_with(so_far: Any, **more: Any) -> Any:
    def steps_so_far(jobs: list[str], user: Any) -> list[Trace | None]:
        if isinstance(so_far, Exception):
            raise so_far
        return [so_far for _ in jobs]

    backend = SimpleNamespace(steps_so_far=steps_so_far)
    return SimpleNamespace(**{"backend": backend, "bundled_trace": None, "trace": lambda opened: None, **more})


def test_the_map_of_a_running_job_holds_the_steps_made_by_now() -> None:
    job, trace = Job(ask()), make_trace(done=4)
    value = live_value(page_with(trace), job, 0)
    (way,) = value["ways"]
    assert (value["key"], value["state"], value["why"]) == (f"{job.id}:0", "running", "")
    assert (value["made"], value["steps"]) == (4, 6) and "of the variance" in value["variance"]
    flat = trajectories.plane([trajectories.of_trace(trace, 0)])[1][0]
    np.testing.assert_allclose(way["x_t"], flat.x_t, atol=1e-3)
    assert way["picture"] == "" and way["kind"] == "own"
    assert len(way["x_t"]) == 4 == len(way["noise"]) and way["noise"][0] == 1 > way["noise"][1]
    # Before its first step, and where the worker has too much to do.
    assert live_value(page_with(None), job, 0) == trajectory_map.running_value(job, 0)
    busy = live_value(page_with(QueryFailed("Busy; try again.")), job, 0)
    assert busy["state"] == "running" and busy["why"] == "Busy; try again."


@pytest.mark.parametrize("bundled", [False, True])
def test_the_map_of_a_running_fork_holds_the_run_that_it_leaves(bundled: bool) -> None:
    original = replace(make_trace("left"), finals=(b"a picture",))
    fork = make_trace(done=4, fork={"run": "left", "step": 2, "original": original.request.model_dump()})
    kept = {} if bundled else {"left": original}
    page = page_with(fork, bundled_trace=original if bundled else None, trace=lambda opened: kept.get(opened["id"]))
    own, left = live_value(page, Job(fork.request), 0)["ways"]
    assert (own["kind"], left["kind"]) == ("own", "relative") and left["picture"]
    # Both have the first steps in common.
    np.testing.assert_array_equal(own["x_t"][:2], left["x_t"][:2])


def test_what_the_worker_did_not_answer_is_asked_for_once_more(monkeypatch: pytest.MonkeyPatch) -> None:
    def busy(*_: Any) -> Any:
        raise QueryFailed("Busy; try again.")

    page: Any = SimpleNamespace(queries=SimpleNamespace(seed_runs=busy), card=lambda model: "a card")
    trace = make_trace()
    monkeypatch.setattr(trajectory_map, "own_ways", busy)
    (value,) = trajectory_map.first_values(page, trace, 0)
    assert (value["state"], value["why"], value["next"]["label"]) == ("failed", "Busy; try again.", "Try again")
    # The button for other seeds stays.
    monkeypatch.setattr(trajectory_map, "own_ways", lambda *_: [])
    monkeypatch.setattr(trajectory_map, "map_or_nothing", lambda *_: {"key": "one:0"})
    monkeypatch.setattr(trajectory_map.seed_runs, "affordable", lambda *_: ([trace.request], 2.0))
    (value,) = trajectory_map.with_seeds(page, trace, 0)
    assert value["why"] == "Busy; try again." and value["offer"].startswith("Add ")
