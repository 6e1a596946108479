"""Training the tiny model from the page: in turn, within bounds, and stopped."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipelines.events import Finished
from pipelines.jobs.local import LocalBackend
from pipelines.jobs.queue import GuestShare
from pipelines.jobs.users import OWNER, User
from pipelines.training.toy import flow
from pipelines.training.toy.live import KEPT, SLICE, LiveTraining
from pipelines.training.toy.settings import GUEST_SECONDS, WORK_A_SECOND, SamplingSettings, TrainingSettings
from tests.support.toy_backend import WAIT, ToyManager, ask, finish, toy_denoise
from ui.tabs.learn.dots import Trainings, asked, watch

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


def test_a_guests_samples_give_way_to_the_owner_and_are_charged_as_what_they_are(make_backend: Any) -> None:
    begun, go = threading.Event(), threading.Event()
    live = LiveTraining("a", LONG)
    live.sampling = SamplingSettings("heun", 50, 8.0, 1)
    order: list[str] = []

    def held() -> Any:
        parts = LiveTraining.sample(live)
        while True:
            try:
                next(parts)
            except StopIteration as end:
                order.append("guest")
                return end.value
            begun.set()
            assert go.wait(WAIT)
            yield

    live.sample = held  # type: ignore[method-assign]
    backend = make_backend(on_step=lambda job, step: order.append("owner"))
    asking = threading.Thread(target=lambda: asked(backend.queries.of(GUEST), live, trains=False))
    asking.start()
    assert begun.wait(WAIT)
    job = backend.submit(ask())
    go.set()
    finish(job)
    asking.join(3 * WAIT)
    assert order[0] == "owner" and order[-1] == "guest"
    (spent,) = backend._tasks.jobs._spent[GUEST.id]
    assert spent[2] > 10 * SLICE * WORK_A_SECOND


def test_two_calls_do_not_train_one_model_at_once(make_backend: Any) -> None:
    queries, live = make_backend().queries, LiveTraining("a", LONG)
    first = watch(queries, live)
    next(first)
    assert list(watch(queries, live)) == []
    first.close()
    assert next(watch(queries, live))["state"] == "training"


def test_guests_cannot_push_the_owners_training_out(monkeypatch: pytest.MonkeyPatch) -> None:
    trainings, now = Trainings(), [OWNER]
    monkeypatch.setattr("ui.tabs.learn.dots.current_user", lambda: now[0])
    own = trainings.begin(LONG)
    assert own.limit is None
    for k in range(2 * KEPT):
        now[0] = User(f"guest {k}")
        assert trainings.begin(LONG).limit == GUEST_SECONDS and trainings.get(own.name) is not own
    now[0] = OWNER
    assert trainings.get(own.name) is own
