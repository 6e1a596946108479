"""Killed at random moments of writing: nothing that was announced is lost, nothing half-written is shown."""

from __future__ import annotations

import os
from pathlib import Path

from benchmarks.soak.history_kills import run_history_kills

# ``make soak`` does 200.
KILLS = int(os.environ.get("PLAYGROUND_HISTORY_KILLS", "4"))


def test_kills_lose_nothing_and_leave_nothing_half_written(tmp_path: Path) -> None:
    assert run_history_kills(tmp_path / "data", KILLS, seed=3) == []
