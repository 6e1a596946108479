"""Forks through the backend: the recorded steps are taken over or made again; never another user's."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from history.store import History
from pipelines.events import Finished, Preview
from pipelines.jobs.local import LocalBackend
from pipelines.jobs.users import OWNER, User
from pipelines.models.manager import PipelineManager
from pipelines.request import Fork, InvalidRequest, replaced
from pipelines.trace.forks import MADE_AGAIN, fork_of
from pipelines.trace.serialization import save_trace
from tests.support.recorded_runs import ask
from tests.support.tiny_model import make_tiny_model, tiny_card

GUEST, OTHER = User("guest-1", owner=False), User("guest-2", owner=False)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def history(tmp_path: Path) -> Any:
    made = History(tmp_path)
    made.open(background=False)
    yield made
    made.close()


@pytest.fixture
def backend(folder: Path, tmp_path: Path, history: History) -> Any:
    manager = PipelineManager([tiny_card(folder)])
    made = LocalBackend(manager, tmp_path / "pictures", threads=1, pictures=history)
    yield made
    made.close()


def finish(job: Any) -> tuple[list[Any], Finished]:
    *before, last = job.events()
    assert isinstance(last, Finished), last
    return before, last


def pixels(done: Finished) -> np.ndarray:
    return np.asarray(Image.open(done.pictures[0].path).convert("RGB"))


def test_a_fork_is_the_originals_end_a_child_in_the_history_and_a_whole_run_on_the_timeline(
    backend: LocalBackend, history: History
) -> None:
    first = backend.submit(ask(scheduler="dpmpp_2m_sde", num_inference_steps=6))
    _, original = finish(first)
    trace = backend.trace(first.id)
    assert trace is not None
    same = backend.submit(fork_of(trace, 3))
    events, done = finish(same)
    assert done.notes == () and np.array_equal(pixels(done), pixels(original))
    assert [event.index for event in events if isinstance(event, Preview)] == list(range(6))
    again = backend.trace(same.id)
    assert again is not None and np.array_equal(again.x_t, trace.x_t) and again.frames == trace.frames
    other = backend.submit(fork_of(again, 4, prompt="a red apple", guidance_scale=7.0))
    _, changed = finish(other)
    assert not np.array_equal(pixels(changed), pixels(original))
    entries = [Path(one.pictures[0].path).stem for one in (original, done, changed)]
    family = history.family(OWNER, entries[1])
    assert {(link.parent, link.child, link.kind) for link in family.links} == {
        (entries[0], entries[1], "fork"),
        (entries[1], entries[2], "fork"),
    }


def test_without_the_record_the_steps_are_made_again_and_that_is_said(backend: LocalBackend) -> None:
    request = ask(scheduler="unipc", num_inference_steps=6)
    first = backend.submit(request)
    _, original = finish(first)
    trace = backend.trace(first.id)
    assert trace is not None
    for path in Path(backend._traces.folder).glob(f"{first.id}.*"):
        os.unlink(path)
    backend._traces._in_memory.clear()
    del trace
    backend._traces._in_use.clear()
    asked = fork_of_request(request, first.id, 3)
    _, done = finish(backend.submit(asked))
    assert done.notes == (MADE_AGAIN,) and np.array_equal(pixels(done), pixels(original))


def fork_of_request(request: Any, run: str, step: int) -> Any:
    return replaced(request, fork=Fork(run=run, step=step, original=request))


def test_a_fork_of_the_run_that_comes_with_a_model_takes_its_record_over(folder: Path, tmp_path: Path) -> None:
    recording = tmp_path / "comes" / "along"
    backend = LocalBackend(PipelineManager([tiny_card(folder, recording=str(recording))]), tmp_path / "p", threads=1)
    try:
        request = ask(num_inference_steps=4)
        job = backend.submit(request)
        finish(job)
        trace = backend.trace(job.id)
        assert trace is not None
        _, before = finish(backend.submit(fork_of_request(request, recording.name, 2), GUEST))
        save_trace(replace(trace, id=recording.name), recording.parent)
        _, after = finish(backend.submit(fork_of_request(request, recording.name, 2), GUEST))
        assert before.notes == (MADE_AGAIN,) and after.notes == ()
    finally:
        backend.close()


def test_a_guests_fork_reads_no_run_of_another(backend: LocalBackend) -> None:
    request = ask(num_inference_steps=6)
    job = backend.submit(request, GUEST)
    finish(job)
    assert backend.trace(job.id, GUEST) is not None and backend.trace(job.id, OTHER) is None
    _, own = finish(backend.submit(fork_of_request(request, job.id, 3), GUEST))
    assert own.notes == ()
    # Another guest that knows the id gets what it could make by itself.
    _, others = finish(backend.submit(fork_of_request(request, job.id, 3), OTHER))
    assert others.notes == (MADE_AGAIN,)


def test_a_file_names_no_run(backend: LocalBackend) -> None:
    job = backend.submit(ask(num_inference_steps=4))
    finish(job)
    trace = backend.trace(job.id)
    assert trace is not None
    fork = backend.submit(fork_of(trace, 2, prompt="a fox"))
    _, done = finish(fork)
    data = Path(done.pictures[0].path).read_bytes()
    assert job.id.encode() not in data and fork.id.encode() not in data


def test_the_originals_words_are_checked_too(backend: LocalBackend) -> None:
    backend.blocked.path.write_text("ogre\n", encoding="utf-8")
    with pytest.raises(InvalidRequest, match="ogre"):
        backend.submit(fork_of_request(ask(prompt="an ogre", num_inference_steps=4), "", 2))
    with pytest.raises(InvalidRequest, match="ogre"):
        backend.submit(ask(prompt="an og[re|re]", prompt_syntax="a1111"))
