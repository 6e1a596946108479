"""Loading models: progress, failures, downloads, cancelling."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pipelines.events import Cancelled, Failed, Finished, Loading, Queued
from pipelines.model import LoadStopped
from tests.support.toy_backend import WAIT, ToyManager, ToyModel, ask, finish


def test_cancel_while_loading_ends_the_job_at_once(make_backend: Any) -> None:
    manager = ToyManager()
    manager.gate.clear()
    backend = make_backend(manager)
    job = backend.submit(ask())
    assert manager.loading.wait(WAIT)
    assert backend.status().text == "Loading toy: 0 of 2 parts"
    job.cancel()
    assert job.poll()[-1] == Cancelled(0)
    assert backend.status().queue == 0
    manager.gate.set()
    assert isinstance(finish(backend.submit(ask()))[-1], Finished)


def test_a_model_that_does_not_load_fails_only_its_job(make_backend: Any) -> None:
    backend = make_backend()
    last = finish(backend.submit(ask(model="broken")))[-1]
    assert isinstance(last, Failed)
    assert "No such file" in last.message
    assert isinstance(finish(backend.submit(ask()))[-1], Finished)


def test_warm_up_loads_once_and_a_waiting_job_gets_its_progress(make_backend: Any) -> None:
    manager = ToyManager()
    manager.gate.clear()
    backend = make_backend(manager)
    assert backend.status().state == "cold"
    backend.warm_up("toy")
    assert manager.loading.wait(WAIT)
    backend.warm_up("toy")
    assert backend.status().state == "loading"
    job = backend.submit(ask())
    assert job.poll() == [Queued(0), Loading("toy", "unet", 0, 2)]
    manager.gate.set()
    assert isinstance(finish(job)[-1], Finished)
    assert backend.status().state == "ready"


def test_a_failed_warm_up_sets_the_status(make_backend: Any) -> None:
    backend = make_backend()
    backend.warm_up("unknown")
    backend.warm_up("broken")
    with backend._tasks.changed:
        assert backend._tasks.changed.wait_for(lambda: backend.status().state == "failed", WAIT)
    assert backend.status().text.startswith("Reading or writing a file failed (No such file or directory)")
    assert isinstance(finish(backend.submit(ask()))[-1], Finished)


class DownloadingManager(ToyManager):
    """Downloads until the gate opens or the load is cancelled."""

    @contextmanager
    def lease(
        self, model_id: str, report: Any = None, cancelled: Any = None, fallbacks: Any = None
    ) -> Iterator[ToyModel]:
        report("Downloading Toy: 0.5 GB of 4.0 GB", 500_000_000, 4_000_000_000)
        self.loading.set()
        while not self.gate.wait(0.001):
            if cancelled():
                raise LoadStopped
        self.model = self.model or ToyModel()
        yield self.model


def test_a_download_is_reported_and_stops_when_no_job_needs_it(make_backend: Any) -> None:
    manager = DownloadingManager()
    manager.gate.clear()
    backend = make_backend(manager)
    job = backend.submit(ask())
    assert manager.loading.wait(WAIT)
    assert backend.status().text == "Downloading Toy: 0.5 GB of 4.0 GB"
    assert job.poll()[-1] == Loading("toy", "Downloading Toy: 0.5 GB of 4.0 GB", 500_000_000, 4_000_000_000)
    other = backend.submit(ask())
    job.cancel()  # the other one waits for the same model
    manager.gate.set()
    assert isinstance(finish(other)[-1], Finished)
    manager.gate.clear()
    manager.loading.clear()
    alone = backend.submit(ask())
    assert manager.loading.wait(WAIT)
    alone.cancel()
    assert finish(alone)[-1] == Cancelled(0)
    with backend._tasks.changed:
        assert backend._tasks.changed.wait_for(lambda: backend.status().state == "cold", WAIT)
    manager.loading.clear()
    third = backend.submit(ask())
    assert manager.loading.wait(WAIT)  # the worker is free again
    manager.gate.set()
    assert isinstance(finish(third)[-1], Finished)
    assert backend.status().state == "ready"
