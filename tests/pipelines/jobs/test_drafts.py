"""Drafts: the newest wins, no other job waits for them, and a kept one becomes an ordinary picture."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from pipelines.events import Cancelled, Decoding, Finished, Loading, Preview, Queued, Step
from pipelines.images.png import read_request
from pipelines.jobs import drafts as drafts
from pipelines.jobs.backend import KeepFailed, QueueFull
from pipelines.jobs.drafts import DraftSession
from pipelines.jobs.job import Job
from pipelines.jobs.local import LocalBackend
from pipelines.jobs.results import PictureFolder
from pipelines.jobs.users import User
from tests.support.toy_backend import WAIT, ToyManager, ask, finish, toy_denoise


class StepGate:
    """Lets a given number of steps through; the others wait."""

    def __init__(self) -> None:
        self.held, self.left, self.moved = 0, 0, threading.Condition()
        self.open = False

    def __call__(self, job: Job, step: Step) -> None:
        with self.moved:
            self.held += 1
            self.moved.notify_all()
            assert self.moved.wait_for(lambda: self.open or self.left > 0, WAIT)
            self.left -= 1
            self.held -= 1
            self.moved.notify_all()

    def let(self, steps: int) -> None:
        """Let so many steps through, and wait until the next one is here."""
        with self.moved:
            self.left += steps
            self.moved.notify_all()
            assert self.moved.wait_for(lambda: not self.left and self.held, WAIT)

    def open_up(self) -> None:
        with self.moved:
            self.open = True
            self.moved.notify_all()


@pytest.fixture
def gate() -> StepGate:
    return StepGate()


@pytest.fixture
def backend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gate: StepGate) -> Iterator[LocalBackend]:
    monkeypatch.setattr("pipelines.sampling.denoise.denoise", toy_denoise)
    found = LocalBackend(ToyManager(), tmp_path / "pictures", threads=1, on_step=gate)
    yield found
    gate.open_up()
    found.close()


def saved_files(backend: LocalBackend) -> list[Path]:
    return sorted((backend.blocked.path.parent / "pictures").glob("*.png"))


def draft(backend: LocalBackend, prompt: str = "a fox", **more: Any) -> Job:
    return backend.submit(ask(prompt), draft=True, **more)


# -- the backend ---------------------------------------------------------------------------------------------------


def test_a_draft_is_shown_and_not_saved(backend: LocalBackend, gate: StepGate) -> None:
    gate.open_up()
    job = draft(backend)
    events = finish(job)
    assert [type(e) for e in events] == [Queued, Loading, Loading, *[Preview] * 4, Decoding, Finished]
    assert not any(e.frames for e in events if isinstance(e, Preview))
    assert events[-1].pictures == () and saved_files(backend) == []
    picture = Image.open(io.BytesIO(events[-1].drafts[0]))
    assert (picture.size, picture.getpixel((0, 0))) == ((16, 16), (0, 0, 255))
    assert "trainedAlgorithmicMedia" in picture.info["XML:com.adobe.xmp"]
    assert backend.trace(job.id) is None


def test_a_kept_draft_is_a_picture_like_any_other(backend: LocalBackend, gate: StepGate) -> None:
    gate.open_up()
    job = draft(backend)
    finish(job)
    ordinary = backend.submit(ask())
    finish(ordinary)
    backend.keep(job)
    backend.keep(job)
    (kept,), (other,) = job.poll()[-1].pictures, ordinary.poll()[-1].pictures
    assert saved_files(backend) == sorted([kept.path, other.path])
    assert read_request(kept.path) == read_request(other.path) == ask()
    assert [type(e) for e in job.poll()] == [Queued, Loading, Loading, Decoding, *[Preview] * 4, Finished]
    for one in (job, ordinary):  # a draft that is kept has no rough frames
        assert all(len(e.frames) == 1 for e in one.poll() if isinstance(e, Preview))
    mine, theirs = backend.trace(job.id), backend.trace(ordinary.id)
    assert (mine.request, len(mine.steps), mine.pictures) == (ask(), 4, (kept,))
    assert mine.frames == theirs.frames and mine.finals == theirs.finals
    assert not job.draft and backend.find(job.id) is job


def test_a_running_draft_that_is_kept_is_saved_when_it_is_done(backend: LocalBackend, gate: StepGate) -> None:
    job = draft(backend)
    gate.let(2)
    backend.keep(job)
    other = backend.submit(ask("later"))  # makes no draft of it end
    gate.open_up()
    end = finish(job)[-1]
    assert [p.path for p in end.pictures] == saved_files(backend)[:1] and not end.drafts
    assert backend.trace(job.id) is not None and finish(other)


def test_nothing_waits_for_a_draft(backend: LocalBackend, gate: StepGate) -> None:
    guest = User("guest")
    running, waiting = draft(backend), draft(backend, "a whale")
    gate.let(1)
    assert backend.status().queue == 0
    real = backend.submit(ask("real"), guest)
    assert running.cancelled and not waiting.done
    assert backend.status().queue == 1
    gate.open_up()
    assert isinstance(finish(running)[-1], Cancelled) and running.poll()[-1].steps_done == 2
    assert isinstance(finish(waiting)[-1], Finished) and real.done


def test_a_cancelled_draft_cannot_be_kept(backend: LocalBackend, gate: StepGate) -> None:
    job = draft(backend)
    gate.let(1)
    job.cancel()
    gate.open_up()
    finish(job)
    with pytest.raises(KeepFailed, match="press Generate to make it"):
        backend.keep(job)
    assert saved_files(backend) == []


def test_a_full_disk_is_reported_and_the_draft_can_be_kept_later(
    backend: LocalBackend, gate: StepGate, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate.open_up()
    job = draft(backend)
    finish(job)

    def full(*_: Any) -> Path:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(PictureFolder, "keep", full)
        with pytest.raises(KeepFailed, match="No space left on device"):
            backend.keep(job)
    backend.keep(job)
    assert len(saved_files(backend)) == 1


def test_drafts_are_forgotten_sooner_than_other_jobs(backend: LocalBackend, gate: StepGate) -> None:
    gate.open_up()
    picture = backend.submit(ask())
    finish(picture)
    jobs = [draft(backend, f"a fox {k}") for k in range(9)]
    for job in jobs:
        finish(job)
    finish(backend.submit(ask()))
    assert backend.find(jobs[0].id) is None and backend.find(jobs[-1].id) is jobs[-1]
    assert backend.find(picture.id) is picture


def test_guests_cannot_submit_drafts(backend: LocalBackend) -> None:
    with pytest.raises(QueueFull, match="Only the owner"):
        backend.submit(ask(), User("guest"), draft=True)
    assert backend.status().queue == 0


# -- the drafts of a page ------------------------------------------------------------------------------------------


def test_the_newest_draft_replaces_the_waiting_one(backend: LocalBackend, gate: StepGate) -> None:
    session = DraftSession(backend)
    first = session.submit(ask("a"))
    gate.let(2)  # three of four steps: worth finishing
    later = [session.submit(ask("a" * k)) for k in range(2, 30)]
    assert not first.cancelled and len(backend._tasks.jobs) == 1
    assert all(isinstance(job.poll()[-1], Cancelled) for job in later[:-1])
    assert session.is_newest(later[-1]) and not session.is_newest(first)
    gate.open_up()
    assert isinstance(finish(first)[-1], Finished) and isinstance(finish(later[-1])[-1], Finished)


def test_a_draft_below_half_is_cancelled_but_not_twice_in_a_row(backend: LocalBackend, gate: StepGate) -> None:
    session = DraftSession(backend)
    first = session.submit(ask("a"))
    gate.let(0)
    second = session.submit(ask("ab"))
    assert first.cancelled
    gate.let(1)
    third = session.submit(ask("abc"))
    assert not second.cancelled
    session.submit(ask("abcd"))
    assert not second.cancelled and isinstance(third.poll()[-1], Cancelled)
    gate.open_up()
    assert isinstance(finish(second)[-1], Finished)
    session.record_duration(second)
    assert not session._cancelled_running


def test_the_same_request_is_not_drafted_twice(backend: LocalBackend, gate: StepGate) -> None:
    gate.open_up()
    session = DraftSession(backend)
    job = session.submit(ask(num_images=4))
    assert job.request == ask() and session.submit(ask()) is None and session.submit(ask(num_images=2)) is None
    finish(job)
    assert session.stop(ask()) is job is session.stop(ask()) and session.stop() is job
    assert session.submit(ask()) is None
    assert session.stop(ask(num_images=4)) is None  # another run, whose first picture need not be drawn again
    assert session.submit(ask()) is None and session.submit(ask("other")) is not None


def test_generate_with_another_request_cancels_the_drafts(backend: LocalBackend, gate: StepGate) -> None:
    session = DraftSession(backend)
    first, second = session.submit(ask("a")), None
    gate.let(2)
    second = session.submit(ask("b"))
    assert session.stop(ask("c")) is None
    assert first.cancelled and isinstance(second.poll()[-1], Cancelled)
    assert session.resubmit(second) is None


def test_a_draft_cancelled_for_another_job_is_resubmitted(backend: LocalBackend, gate: StepGate) -> None:
    session = DraftSession(backend)
    job = session.submit(ask("a"))
    gate.let(1)
    real = backend.submit(ask("real"), User("guest"))
    gate.open_up()
    finish(job), finish(real)
    other = session.resubmit(job)
    assert other.request == job.request and isinstance(finish(other)[-1], Finished)
    assert session.resubmit(other) is None


def test_the_pause_ends_with_a_newer_draft(
    backend: LocalBackend, gate: StepGate, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate.open_up()
    session = DraftSession(backend)
    job = session.submit(ask("a"))
    monkeypatch.setattr(drafts, "PAUSE_SECONDS", 0.0)
    assert session.wait_for_pause(job)
    monkeypatch.setattr(drafts, "PAUSE_SECONDS", WAIT)
    answers: list[bool] = []
    waiter = threading.Thread(target=lambda: answers.append(session.wait_for_pause(job)))
    waiter.start()
    session.submit(ask("b"))
    waiter.join(WAIT)
    assert answers == [False]


def over(seconds: float, loaded: bool = False) -> Job:
    """A draft that took so long."""
    job = Job(ask(), draft=True)
    if loaded:
        job.emit(Loading("toy", "unet", 0, 2))
    job.emit(Finished(ask(), (), seconds))
    return job


@pytest.mark.parametrize(
    ("took", "slow"),
    [
        ([], 0.0),
        ([0.2, 0.9], 0.0),
        ([2.0], 0.0),  # once is an accident
        ([2.0, 0.4], 0.0),
        ([1.2, 1.6], 1.6),
        ([0.2, 1.2, 1.6], 1.6),
        ([3.5], 3.5),
    ],
)
def test_slow_drafts_are_measured(backend: LocalBackend, took: list[float], slow: float) -> None:
    session = DraftSession(backend)
    session.record_duration(over(60.0, loaded=True))
    for seconds in took:
        session.record_duration(over(seconds))
    assert session.slow_seconds() == slow
    session.reset_timing()
    assert session.slow_seconds() == 0.0


def test_a_draft_that_does_not_end_is_too_slow(
    backend: LocalBackend, gate: StepGate, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = DraftSession(backend)
    job = session.submit(ask())
    gate.let(0)
    assert not session.is_too_slow(job)
    monkeypatch.setattr(drafts, "SLOW_SECONDS", 1e-6)
    assert session.is_too_slow(job)
    job.cancel()
    gate.open_up()
    finish(job)
    session.record_duration(job)
    assert session.slow_seconds() > 0 and not session.is_too_slow(job)
