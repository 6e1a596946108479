"""Several workers of one machine: equal pictures, batches that they share, failures of one, and memory of all."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipelines.events import Cancelled, Finished, Preview
from pipelines.jobs.backend import BackendStatus
from pipelines.jobs.devices import batches
from pipelines.jobs.devices.workers import status_of
from pipelines.jobs.local import LocalBackend
from pipelines.models.manager import ModelBusy, PipelineManager
from pipelines.request import GenerationRequest
from tests.support.recorded_runs import ask
from tests.support.tiny_model import make_tiny_model, tiny_card
from tests.support.toy_backend import WAIT, Gate
from tests.support.waiting import wait_for


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def make(folder: Path, tmp_path: Path) -> Any:
    made: list[LocalBackend] = []

    def backend(workers: int = 2, device: str = "cpu", **options: Any) -> LocalBackend:
        first = PipelineManager([tiny_card(folder)], "cpu", managers=workers)
        others = [PipelineManager((), device, sibling=first, managers=workers) for _ in range(workers - 1)]
        made.append(LocalBackend(first, tmp_path / str(len(made)) / "pictures", others=others, **options))
        return made[-1]

    yield backend
    for each in made:
        if isinstance(each._runner.on_step, Gate):
            each._runner.on_step.open.set()
        each.close()


def finished(job: Any) -> Finished:
    *_, last = job.events()
    assert isinstance(last, Finished), last
    return last


def pixels(done: Finished) -> list[np.ndarray]:
    return [np.asarray(Image.open(picture.path).convert("RGB")) for picture in done.pictures]


def load_everywhere(backend: LocalBackend) -> None:
    """Have every worker load the model, and wait until all are free again."""
    gate = threading.Barrier(len(backend._workers))
    backend._runner.on_step = None
    for worker in backend._workers:
        worker.runner.on_step = lambda job, step: gate.wait(WAIT) if step.index == 0 else None  # type: ignore[assignment]
    jobs = [backend.submit(ask(seed=k)) for k in range(len(backend._workers))]
    for job in jobs:
        finished(job)
    for worker in backend._workers:
        worker.runner.on_step = None
    wait_for(lambda: len(backend._tasks.homes.free) == len(backend._workers))


def test_a_grid_spreads_over_all_workers_and_its_pictures_are_those_of_one(make: Any) -> None:
    one, two = make(1, threads=1), make(2)
    load_everywhere(two)
    requests = [ask(seed=seed) for seed in range(6)]
    alone = [pixels(finished(job)) for job in [one.submit(request) for request in requests]]
    spread = [pixels(finished(job)) for job in [two.submit(request) for request in requests]]
    assert all(np.array_equal(a[0], b[0]) for a, b in zip(alone, spread, strict=True))
    assert two.status().state == "ready" and (two.status().queue, two.status().workers) == (0, 2)


@pytest.mark.parametrize(
    "changes",
    [
        {"scheduler": "euler_a"},
        {"prompts": ("a fox", "an owl", "a cat"), "prompt": "a fox"},
        {"guidance_scale": 1.0},
    ],
)
def test_a_batch_that_two_workers_share_is_the_batch_of_one(
    make: Any, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any]
) -> None:
    shares: list[int] = []
    put = batches.BatchPart.put
    monkeypatch.setattr(
        batches.BatchPart, "put", lambda part, step: (shares.append(step.x_t.shape[0]), put(part, step))[1]
    )
    one, two = make(1, threads=1), make(2)
    load_everywhere(two)
    request: GenerationRequest = ask(num_images=3, **changes)
    whole, shared = one.submit(request), two.submit(request)
    alone, spread = finished(whole), finished(shared)
    assert shares and set(shares) == {2}, "the other worker has made two of the three"
    assert [picture.seed for picture in spread.pictures] == list(request.seeds)
    for a, b in zip(pixels(alone), pixels(spread), strict=True):
        # A convolution rounds by the size of its batch.
        assert np.abs(a.astype(int) - b).max() <= 1
    traces = one.trace(whole.id), two.trace(shared.id)
    assert traces[0].x_t.shape == traces[1].x_t.shape
    assert np.allclose(traces[0].x_t, traces[1].x_t, atol=1e-4)
    frames = [event for event in shared.poll() if isinstance(event, Preview) and event.frames]
    assert {len(event.frames) for event in frames} == {3}


def test_a_batch_goes_on_where_the_other_worker_fails(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    two = make(2)
    load_everywhere(two)
    put, count = batches.BatchPart.put, []

    def fails(part: Any, step: Any) -> bool:
        count.append(step.index)
        if step.index == 2:
            raise MemoryError
        return put(part, step)

    monkeypatch.setattr(batches.BatchPart, "put", fails)
    shared = finished(two.submit(ask(num_images=2)))
    assert count == [0, 1, 2]
    monkeypatch.undo()
    singles = [finished(two.submit(ask(seed=seed))) for seed in ask(num_images=2).seeds]
    for a, b in zip(pixels(shared), [pixels(each)[0] for each in singles], strict=True):
        assert np.abs(a.astype(int) - b).max() <= 1


def test_a_shared_batch_is_stopped_on_both(make: Any) -> None:
    gate = Gate(1)
    two = make(2)
    load_everywhere(two)
    two._workers[0].runner.on_step = two._workers[1].runner.on_step = gate
    job = two.submit(ask(num_images=2))
    assert gate.reached.acquire(timeout=WAIT)
    job.cancel()
    gate.open.set()
    *_, last = job.events()
    assert last == Cancelled(2)
    wait_for(lambda: len(two._tasks.homes.free) == 2)


def test_a_worker_without_its_device_leaves_and_the_others_do_its_jobs(make: Any) -> None:
    two = make(2, device="cuda:7")
    jobs = [two.submit(ask(seed=k)) for k in range(4)]
    assert all(finished(job).pictures for job in jobs)
    wait_for(lambda: two._tasks.homes.single or two.submit(ask()).events())
    assert "no cuda:7 device" in (two.status().card_problem or "")


def test_a_model_is_unloaded_everywhere_unless_one_uses_it(make: Any) -> None:
    two = make(2)
    load_everywhere(two)
    gate = Gate(0)
    for worker in two._workers:
        worker.runner.on_step = gate
    job = two.submit(ask())
    assert gate.reached.acquire(timeout=WAIT)
    with pytest.raises(ModelBusy):
        two.unload("tiny")
    gate.open.set()
    finished(job)
    wait_for(lambda: len(two._tasks.homes.free) == 2)
    two.unload("tiny")
    assert [worker.manager.loaded for worker in two._workers] == [(), ()]
    assert two.status().state == "cold"


def test_the_states_of_several_workers_are_told_as_one() -> None:
    cold, ready = BackendStatus("cold", "", "No model"), BackendStatus("ready", "a", "a on cpu, ready")
    other, loading = BackendStatus("ready", "b", "b on cuda:1, ready"), BackendStatus("loading", "c", "Loading c")
    failed = BackendStatus("failed", "d", "d failed")
    assert status_of([cold, ready]) == ready
    assert status_of([ready, ready]).text == "a on cpu, ready"
    assert status_of([ready, other]).text == "a on cpu, ready; b on cuda:1, ready"
    assert status_of([ready, loading, failed]) is loading
    assert status_of([ready, failed]) is failed
    assert status_of([cold, cold]) is cold


def test_workers_that_load_at_the_same_time_get_whole_networks(make: Any) -> None:
    for _ in range(3):  # which threads meet is chance
        backend = make(4)
        jobs = [backend.submit(ask(seed=k)) for k in range(4)]
        assert all(finished(job).pictures for job in jobs)
