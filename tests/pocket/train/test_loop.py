"""What the trainers share."""

from __future__ import annotations

import pytest

from pocket.train import loop


def test_time_in_which_training_was_stopped_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(loop.time, "monotonic", lambda: now[0])
    clock = loop.Clock(0)
    now[0] += 36
    assert clock.lap() == pytest.approx(0.01)
    now[0] += 7200
    assert clock.lap() == pytest.approx(loop.LONGEST_STEP / 3600)
    now[0] += 36
    assert clock.lap() == pytest.approx(0.01), "it goes on from the present"
