"""The map's bounds and its value."""

from __future__ import annotations

import pytest

from pipelines.trace import trajectories
from tests.support.known_trace import make_trace
from ui.inspector.origins.trajectory_map import Way, within_bounds


def test_the_map_holds_as_many_ways_as_memory_allows(monkeypatch: pytest.MonkeyPatch) -> None:
    way = trajectories.of_trace(make_trace(), 0)
    ways = [Way("own", "this run", way), *(Way("seed", f"seed {k}", way) for k in range(5))]
    assert within_bounds(ways) == ways
    monkeypatch.setattr(trajectories, "MAX_NUMBERS", 3 * (way.x_t.size + way.x0.size))
    assert within_bounds(ways) == ways[:3]
    monkeypatch.setattr(trajectories, "MAX_NUMBERS", 1)
    assert within_bounds(ways) == ways[:1]
