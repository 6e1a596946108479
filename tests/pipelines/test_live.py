"""Drafts: the newest wins, nothing else ever waits for them, and what is kept is an ordinary picture."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from pipelines import live as lives
from pipelines.backend import Job, KeepFailed, LocalBackend, QueueFull
from pipelines.events import Cancelled, Decoding, Finished, Loading, Picture, Preview, Queued, Step
from pipelines.live import Live
from pipelines.pictures import read_request
from pipelines.visitors import Visitor
from tests.pipelines.test_backend import WAIT, ToyManager, ask, finish, toy_denoise


class Turnstile:
    """Lets steps through by number; everybody else waits."""

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

    def free(self) -> None:
        with self.moved:
            self.open = True
            self.moved.notify_all()


@pytest.fixture
def gate() -> Turnstile:
    return Turnstile()


@pytest.fixture
def backend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gate: Turnstile) -> Iterator[LocalBackend]:
    monkeypatch.setattr("pipelines.denoise.denoise", toy_denoise)
    found = LocalBackend(ToyManager(), tmp_path / "pictures", threads=1, on_step=gate)
    yield found
    gate.free()
    found.close()


def stored(backend: LocalBackend) -> list[Path]:
    return sorted(backend._pictures_dir.glob("*.png"))


def draft(backend: LocalBackend, prompt: str = "a fox", **more: Any) -> Job:
    return backend.submit(ask(prompt), draft=True, **more)


# -- the backend ---------------------------------------------------------------------------------------------------


def test_a_draft_is_shown_and_not_stored(backend: LocalBackend, gate: Turnstile) -> None:
    gate.free()
    job = draft(backend)
    events = finish(job)
    assert [type(e) for e in events] == [Queued, Loading, Loading, *[Preview] * 4, Decoding, Finished]
    assert not any(e.frames for e in events if isinstance(e, Preview))
    assert events[-1].pictures == () and stored(backend) == []
    picture = Image.open(io.BytesIO(events[-1].drafts[0]))
    assert (picture.size, picture.getpixel((0, 0))) == ((16, 16), (0, 0, 255))
    assert "trainedAlgorithmicMedia" in picture.info["XML:com.adobe.xmp"]
    assert backend.trace(job.id) is None


def test_a_kept_draft_is_a_picture_like_any_other(backend: LocalBackend, gate: Turnstile) -> None:
    gate.free()
    job = draft(backend)
    finish(job)
    plain = backend.submit(ask())
    finish(plain)
    backend.keep(job)
    backend.keep(job)
    (kept,), (other,) = job.poll()[-1].pictures, plain.poll()[-1].pictures
    assert stored(backend) == sorted([kept.path, other.path])
    assert read_request(kept.path) == read_request(other.path) == ask()
    assert [type(e) for e in job.poll()] == [Queued, Loading, Loading, Decoding, *[Preview] * 4, Finished]
    for one in (job, plain):
        assert all(len(e.frames) == 1 for e in one.poll() if isinstance(e, Preview))
    mine, theirs = backend.trace(job.id), backend.trace(plain.id)
    assert (mine.request, len(mine.steps), mine.pictures) == (ask(), 4, (kept,))
    assert mine.frames == theirs.frames and mine.finals == theirs.finals
    assert not job.draft and backend.find(job.id) is job


def test_a_draft_that_is_kept_on_its_way_is_stored_when_it_is_done(backend: LocalBackend, gate: Turnstile) -> None:
    job = draft(backend)
    gate.let(2)
    backend.keep(job)
    other = backend.submit(ask("later"))  # makes no draft of it end
    gate.free()
    end = finish(job)[-1]
    assert [p.path for p in end.pictures] == stored(backend)[:1] and not end.drafts
    assert backend.trace(job.id) is not None and finish(other)


def test_nothing_waits_for_a_draft(backend: LocalBackend, gate: Turnstile) -> None:
    guest = Visitor("guest")
    running, waiting = draft(backend), draft(backend, "a whale")
    gate.let(1)
    assert backend.status().queue == 0
    real = backend.submit(ask("real"), guest)
    assert running.cancelled and not waiting.done
    assert backend.status().queue == 1
    gate.free()
    assert isinstance(finish(running)[-1], Cancelled) and running.poll()[-1].steps_done == 2
    assert isinstance(finish(waiting)[-1], Finished) and real.done


def test_a_draft_that_was_stopped_cannot_be_kept(backend: LocalBackend, gate: Turnstile) -> None:
    job = draft(backend)
    gate.let(1)
    job.cancel()
    gate.free()
    finish(job)
    with pytest.raises(KeepFailed, match="press Generate to make it"):
        backend.keep(job)
    assert stored(backend) == []


def test_a_full_disk_is_told_and_the_draft_can_be_kept_later(
    backend: LocalBackend, gate: Turnstile, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate.free()
    job = draft(backend)
    finish(job)

    def full(*_: Any) -> tuple[Picture, ...]:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(backend, "_save", full)
        with pytest.raises(KeepFailed, match="No space left on device"):
            backend.keep(job)
    backend.keep(job)
    assert len(stored(backend)) == 1


def test_drafts_are_forgotten_long_before_pictures_are(backend: LocalBackend, gate: Turnstile) -> None:
    gate.free()
    picture = backend.submit(ask())
    finish(picture)
    jobs = [draft(backend, f"a fox {k}") for k in range(9)]
    for job in jobs:
        finish(job)
    finish(backend.submit(ask()))
    assert backend.find(jobs[0].id) is None and backend.find(jobs[-1].id) is jobs[-1]
    assert backend.find(picture.id) is picture


def test_guests_have_no_drafts(backend: LocalBackend) -> None:
    with pytest.raises(QueueFull, match="Only the owner"):
        backend.submit(ask(), Visitor("guest"), draft=True)
    assert backend.status().queue == 0


# -- the drafts of a page ------------------------------------------------------------------------------------------


def test_the_newest_takes_the_place_of_the_one_that_waits(backend: LocalBackend, gate: Turnstile) -> None:
    live = Live(backend)
    first = live.ask(ask("a"))
    gate.let(2)  # three of four steps: worth the wait
    later = [live.ask(ask("a" * k)) for k in range(2, 30)]
    assert not first.cancelled and len(backend._waiting) == 1
    assert all(isinstance(job.poll()[-1], Cancelled) for job in later[:-1])
    assert live.is_newest(later[-1]) and not live.is_newest(first)
    gate.free()
    assert isinstance(finish(first)[-1], Finished) and isinstance(finish(later[-1])[-1], Finished)


def test_what_has_hardly_begun_is_stopped_but_not_twice_in_a_row(backend: LocalBackend, gate: Turnstile) -> None:
    live = Live(backend)
    first = live.ask(ask("a"))
    gate.let(0)
    second = live.ask(ask("ab"))
    assert first.cancelled
    gate.let(1)
    third = live.ask(ask("abc"))
    assert not second.cancelled
    live.ask(ask("abcd"))
    assert not second.cancelled and isinstance(third.poll()[-1], Cancelled)
    gate.free()
    assert isinstance(finish(second)[-1], Finished)
    live.took(second)
    assert not live._spares


def test_the_same_again_is_not_drawn_again(backend: LocalBackend, gate: Turnstile) -> None:
    gate.free()
    live = Live(backend)
    job = live.ask(ask(num_images=4))
    assert job.request == ask() and live.ask(ask()) is None and live.ask(ask(num_images=2)) is None
    finish(job)
    assert live.leave(ask()) is job is live.leave(ask()) and live.leave() is job
    assert live.ask(ask()) is None
    assert live.leave(ask(num_images=4)) is None  # another run, whose first picture need not be drawn again
    assert live.ask(ask()) is None and live.ask(ask("other")) is not None


def test_generate_with_another_wish_stops_the_drafts(backend: LocalBackend, gate: Turnstile) -> None:
    live = Live(backend)
    first, second = live.ask(ask("a")), None
    gate.let(2)
    second = live.ask(ask("b"))
    assert live.leave(ask("c")) is None
    assert first.cancelled and isinstance(second.poll()[-1], Cancelled)
    assert live.again(second) is None


def test_a_draft_that_made_room_is_drawn_again(backend: LocalBackend, gate: Turnstile) -> None:
    live = Live(backend)
    job = live.ask(ask("a"))
    gate.let(1)
    real = backend.submit(ask("real"), Visitor("guest"))
    gate.free()
    finish(job), finish(real)
    other = live.again(job)
    assert other.request == job.request and isinstance(finish(other)[-1], Finished)
    assert live.again(other) is None


def test_a_pause_ends_as_soon_as_there_is_something_newer(
    backend: LocalBackend, gate: Turnstile, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate.free()
    live = Live(backend)
    job = live.ask(ask("a"))
    monkeypatch.setattr(lives, "PAUSE_SECONDS", 0.0)
    assert live.rests(job)
    monkeypatch.setattr(lives, "PAUSE_SECONDS", WAIT)
    answers: list[bool] = []
    waiter = threading.Thread(target=lambda: answers.append(live.rests(job)))
    waiter.start()
    live.ask(ask("b"))
    waiter.join(WAIT)
    assert answers == [False]


def over(seconds: float, loaded: bool = False) -> Job:
    """A draft that took so long."""
    job = Job(ask(), draft=True)
    if loaded:
        job._tell(Loading("toy", "unet", 0, 2))
    job._tell(Finished(ask(), (), seconds))
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
def test_slowness_is_measured(backend: LocalBackend, took: list[float], slow: float) -> None:
    live = Live(backend)
    live.took(over(60.0, loaded=True))
    for seconds in took:
        live.took(over(seconds))
    assert live.slow() == slow
    live.begin()
    assert live.slow() == 0.0


def test_a_draft_that_does_not_end_is_late(
    backend: LocalBackend, gate: Turnstile, monkeypatch: pytest.MonkeyPatch
) -> None:
    live = Live(backend)
    job = live.ask(ask())
    gate.let(0)
    assert not live.late(job)
    monkeypatch.setattr(lives, "SLOW_SECONDS", 1e-6)
    assert live.late(job)
    job.cancel()
    gate.free()
    finish(job)
    live.took(job)
    assert live.slow() > 0 and not live.late(job)
