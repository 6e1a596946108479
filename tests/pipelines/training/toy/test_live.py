"""Trainings that users watch."""

from __future__ import annotations

import json
from typing import Any

from pipelines.training.toy.live import FLOW_EVERY, LIVE_STATES, SHOWN_DOTS, SLICE, LiveTraining, LiveTrainings, Report
from pipelines.training.toy.settings import SamplingSettings, TrainingSettings
from pipelines.training.toy.training import FIELD_TIMESTEPS, GRID, LOSS_LEVELS

SHORT = TrainingSettings("moons", steps=500)


def ended(parts: Report) -> dict[str, Any]:
    """The report at the end of all parts."""
    while True:
        try:
            next(parts)
        except StopIteration as end:
            return end.value


def test_every_report_is_whole_and_is_json() -> None:
    live = LiveTraining("a", SHORT)
    assert live.state == "waiting"
    for _ in range(FLOW_EVERY + 1):
        report = ended(live.slice())
        json.loads(json.dumps(report, allow_nan=False))
        assert report["state"] == "training" and 0 < report["step"] < 500 and report["steps"] == 500
        assert len(report["dots"]) == 2 * SHOWN_DOTS and len(report["ideal_loss"]) == len(report["loss"]) == LOSS_LEVELS
        assert len(report["field"]) == len(report["ideal"]["field"]) == 2 * GRID * GRID * len(FIELD_TIMESTEPS)
        assert len(report["flow"]["states"]) == len(report["flow"]["noise"]) <= LIVE_STATES
    while live.state == "training":
        report = ended(live.slice())
    assert report["state"] == "done" and len(report["flow"]["states"]) == 13
    assert report["flow"]["far"] < 0.5


def test_it_is_sampled_as_the_user_wants_also_before_it_has_learned() -> None:
    live = LiveTraining("a", SHORT)
    live.pause()
    live.sampling = SamplingSettings("heun", 25, 4.0, 1)
    report = ended(live.sample())
    # Two model calls a step, but for the last.
    assert len(report["flow"]["states"]) == len(report["ideal"]["states"]) == 50
    assert report["state"] == "paused" and report["step"] == 0 and report["ideal"]["far"] < report["flow"]["far"]
    # A pause that came before the first slice holds.
    assert ended(live.slice())["step"] == 0
    live.go_on()
    assert ended(live.slice())["step"] > 0


def test_a_limit_in_seconds_ends_it() -> None:
    live = LiveTraining("a", TrainingSettings("moons", steps=6000), limit=0.25)
    for _ in range(10):
        report = ended(live.slice())
    # What is drawn between the steps counts, too.
    assert report["state"] == "limit" and 0 < report["seconds"] < live.spent and live.spent >= 0.25
    assert ended(live.slice())["step"] == report["step"] < 6000


def test_a_user_has_one_training_and_sees_no_other() -> None:
    trainings = LiveTrainings()
    first = trainings.begin("a", SHORT)
    assert trainings.get("a", first.name) is first
    assert trainings.get("b", first.name) is None and trainings.get("a", None) is None
    second = trainings.begin("a", SHORT)
    assert first.state == "paused" and trainings.get("a", first.name) is None
    assert trainings.get("a", second.name) is second and second.name != first.name


def test_what_takes_long_comes_in_parts_and_counts_as_such() -> None:
    live = LiveTraining("a", SHORT)
    plain = live.seconds(trains=True)
    assert SLICE < plain < 3 * SLICE
    live.sampling = SamplingSettings("heun", 50, 8.0, 1)
    # Two calls a step, with and without the class, of the network and of the ideal denoiser.
    first = live.seconds(trains=False)
    assert first > 5 * plain
    parts = live.sample()
    assert sum(1 for _ in parts) == 2 * 99
    assert live.seconds(trains=False) < first / 4
    # One that gave way begins again, and learns on.
    interrupted = live.slice()
    next(interrupted)
    step = live._training.step
    interrupted.close()
    assert ended(live.slice())["step"] > step > 0
