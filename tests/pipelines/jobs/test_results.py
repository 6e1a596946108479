"""The record of a run on disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from pipelines.events import Cancelled, Finished
from pipelines.images.png import read_request
from pipelines.jobs.backend import PictureFacts
from pipelines.jobs.messages import not_saved
from pipelines.jobs.users import User
from pipelines.request import GenerationRequest
from pipelines.trace.store import TraceStore
from tests.support.toy_backend import WAIT, Gate, ask, finish
from tests.support.waiting import wait_for


class Store:
    """A ``PictureStore`` that writes nothing."""

    def __init__(self, folder: Path) -> None:
        self._folder, self.full, self.problem, self.room = folder, False, "", 99
        self.kept: list[PictureFacts] = []
        self.runs: list[tuple[str, str]] = []

    def keep(self, picture: Image.Image, request: GenerationRequest, facts: PictureFacts) -> str:
        if self.full or len(self.kept) >= self.room:
            raise OSError(28, "No space left on device")
        self.kept.append(facts)
        return str(facts.seed)

    def path(self, entry_id: str) -> Path:
        return self._folder / f"{entry_id}.png"

    def started(self, run: str, request: GenerationRequest, user: User) -> None:
        self.runs.append(("started", run))

    def ended(self, run: str) -> None:
        self.runs.append(("ended", run))

    def complete(self, run: str, facts: Any) -> None:
        self.completed = (run, facts)


def test_a_trace_can_be_read_also_after_a_restart(make_backend: Any, tmp_path: Path) -> None:
    backend = make_backend()
    job = backend.submit(ask(num_images=2))
    seen = []
    for event in job.events():
        if isinstance(event, Finished):
            seen.append(backend.trace(job.id))  # there before the end is told
    (trace,) = seen
    assert trace.request == job.request and len(trace.steps) == 4 and len(trace.finals) == 2
    assert [len(row) for row in trace.frames] == [2] * 4
    again = TraceStore(tmp_path / "traces").get(job.id)
    assert again is not None and again.pictures == trace.pictures and again.finals == trace.finals
    assert backend.trace("nothing") is None


def test_a_cancelled_run_keeps_the_steps_so_far(make_backend: Any) -> None:
    gate = Gate(1)
    backend = make_backend(on_step=gate)
    job = backend.submit(ask())
    assert gate.reached.acquire(timeout=WAIT)
    job.cancel()
    gate.open.set()
    assert isinstance(list(job.events())[-1], Cancelled)
    trace = backend.trace(job.id)
    assert len(trace.steps) == 2 and trace.total == 4 and trace.finals == ()


def test_pictures_go_to_the_picture_store(make_backend: Any, tmp_path: Path) -> None:
    store = Store(tmp_path)
    job = make_backend(pictures=store).submit(ask(num_images=2))
    done = finish(job)[-1]
    assert [picture.path.name for picture in done.pictures] == ["7.png", "8.png"]
    assert [(facts.seed, facts.number, facts.run) for facts in store.kept] == [(7, 0, job.id), (8, 1, job.id)]
    made = store.kept[0].made
    assert made["device"] == "cpu" and made["engine"] == "torch" and made["libraries"]["torch"] and made["seconds"] >= 0
    assert not (tmp_path / "pictures").exists()
    wait_for(lambda: store.runs == [("started", job.id), ("ended", job.id)])


@pytest.mark.parametrize("prompt", ["crash", "memory"])
def test_a_failed_run_is_told_to_the_store_too(make_backend: Any, tmp_path: Path, prompt: str) -> None:
    store = Store(tmp_path)
    job = make_backend(pictures=store).submit(ask(prompt))
    finish(job)
    wait_for(lambda: store.runs == [("started", job.id), ("ended", job.id)])


def test_a_full_disk_leaves_the_pictures_on_the_page(make_backend: Any, tmp_path: Path) -> None:
    store = Store(tmp_path)
    backend = make_backend(pictures=store)
    store.full = True
    job = backend.submit(ask(num_images=2))
    done = finish(job)[-1]
    assert isinstance(done, Finished) and done.pictures == ()
    assert "No space left on device" in done.notes[0] and "save from the page" in done.notes[0]
    (tmp_path / "b.png").write_bytes(done.drafts[1])
    assert read_request(tmp_path / "b.png").sampling.seed == 8
    store.full = False
    assert len(finish(backend.submit(ask()))[-1].pictures) == 1


def test_what_was_saved_before_the_disk_was_full_is_said(make_backend: Any, tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.room = 1
    done = finish(make_backend(pictures=store).submit(ask(num_images=2)))[-1]
    assert isinstance(done, Finished) and len(done.drafts) == 2
    assert done.notes[0].startswith("Only the first picture could be saved") and "make room" in done.notes[0]


def test_the_remedy_fits_the_error() -> None:
    assert not_saved(OSError(28, "No space left on device"), 2).startswith("Only the first 2 pictures could be saved")
    assert not_saved(OSError(30, "Read-only file system")).endswith("and let this program write into the folder.")
    assert not_saved(OSError(2, "the data folder has vanished")).endswith("and bring the folder back.")


def test_a_picture_that_is_not_listed_is_said_on_its_run(make_backend: Any, tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.problem = "The picture is saved, but not listed."
    done = finish(make_backend(pictures=store).submit(ask()))[-1]
    assert isinstance(done, Finished) and done.notes[0] == store.problem and len(done.pictures) == 1
