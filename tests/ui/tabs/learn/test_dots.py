"""Training the tiny model from the page: in turn, within bounds, and stopped."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipelines.events import Finished
from pipelines.jobs.local import LocalBackend
from pipelines.jobs.queue import GuestShare
from pipelines.jobs.users import User
from pipelines.training.toy import flow
from pipelines.training.toy.live import SLICE, LiveTraining
from pipelines.training.toy.settings import WORK_A_SECOND, TrainingSettings
from tests.support.toy_backend import ToyManager, ask, toy_denoise
from ui.tabs.learn.dots import watch

GUEST = User("guest")
LONG = TrainingSettings("moons", steps=6000)


@pytest.fixture
def make_backend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setattr("pipelines.sampling.denoise.denoise", toy_denoise)
    # Dots are sampled by the real loop, although a stand-in makes the pictures here.
    assert flow.denoise is not toy_denoise
    made: list[LocalBackend] = []

    def factory(**options: Any) -> LocalBackend:
        made.append(LocalBackend(ToyManager(), tmp_path / "pictures", threads=1, **options))  # type: ignore[arg-type]
        return made[-1]

    yield factory
    for backend in made:
        backend.close()


def test_it_is_watched_until_it_has_learned(make_backend: Any) -> None:
    live = LiveTraining("a", TrainingSettings("moons", steps=500))
    reports = list(watch(make_backend().queries, live))
    assert [each["state"] for each in reports[:-1]] == ["training"] * (len(reports) - 1)
    assert reports[-1]["state"] == "done" and reports[-1]["step"] == 500
    assert not live.running


def test_pause_ends_the_watching_and_what_was_learned_stays(make_backend: Any) -> None:
    queries, live = make_backend().queries, LiveTraining("a", LONG)
    watched = watch(queries, live)
    assert next(watched)["state"] == "training"
    live.pause()
    last = list(watched)[-1]
    assert last["state"] == "paused" and 0 < last["step"] < 6000
    live.go_on()
    assert next(watch(queries, live))["step"] > last["step"]


def test_a_page_that_goes_away_ends_its_training(make_backend: Any) -> None:
    live = LiveTraining("a", LONG)
    watched = watch(make_backend().queries, live)
    next(watched)
    assert live.running
    watched.close()
    assert not live.running


def test_a_picture_is_made_between_two_slices(make_backend: Any) -> None:
    backend = make_backend()
    live = LiveTraining("a", LONG)
    watched = watch(backend.queries.of(GUEST), live)
    next(watched)
    job = backend.submit(ask())
    while not job.done:
        assert next(watched)["state"] == "training"
    assert isinstance(list(job.events())[-1], Finished) and live.state == "training"


def test_it_counts_towards_a_guests_hour_and_says_when_that_is_used_up(make_backend: Any) -> None:
    slices = 3
    backend = make_backend(share=GuestShare(work=int(slices * SLICE * WORK_A_SECOND) + slices))
    live = LiveTraining("a", LONG)
    last = list(watch(backend.queries.of(GUEST), live))[-1]
    assert last["state"] == "paused" and "share of this hour" in last["problem"] and last["step"] > 0


def test_a_guests_training_ends_at_its_limit(make_backend: Any) -> None:
    live = LiveTraining("a", LONG, limit=0.2)
    last = list(watch(make_backend().queries.of(GUEST), live))[-1]
    assert last["state"] == "limit" and "ends after 15 s" in last["problem"] and last["step"] < 6000
