"""The backend of this machine: order of jobs, what is refused, whose jobs are whose, closing."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from PIL import Image

from pipelines.events import Cancelled, Finished, Queued
from pipelines.jobs.backend import QueueFull
from pipelines.jobs.local import default_threads
from pipelines.jobs.queue import GuestShare
from pipelines.jobs.users import OWNER, User
from pipelines.request import Control, Fork, ImagePrompt, InitImage, InvalidRequest
from tests.support.toy_backend import WAIT, Gate, ask, finish


def test_jobs_get_their_new_positions_as_the_queue_moves(make_backend: Any) -> None:
    gate = Gate(0)
    backend = make_backend(on_step=gate)
    first = backend.submit(ask())
    assert gate.reached.acquire(timeout=WAIT)
    second, third = backend.submit(ask()), backend.submit(ask())
    assert backend.status().queue == 3
    assert third.poll() == [Queued(2)]
    second.cancel()
    assert second.poll()[-1] == Cancelled(0)
    assert third.poll()[-1] == Queued(1)
    gate.open.set()
    assert isinstance(finish(first)[-1], Finished)
    assert isinstance(finish(third)[-1], Finished)
    assert backend.status().queue == 0


def test_one_job_is_cancelled_and_the_next_finishes(make_backend: Any) -> None:
    gate = Gate(1)
    backend = make_backend(on_step=gate)
    first, second = backend.submit(ask()), backend.submit(ask())
    assert gate.reached.acquire(timeout=WAIT)
    first.cancel()
    gate.open.set()
    assert isinstance(finish(first)[-1], Cancelled)
    assert isinstance(finish(second)[-1], Finished)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model": "/etc"}, "model '/etc' is unknown; allowed: broken, toy."),
        ({"scheduler": "magic"}, "scheduler 'magic' is unknown; allowed: ddim, ddpm"),
        ({"width": 20}, "width is 20; for toy it must be a multiple of 8."),
        ({"scheduler": "lcm", "num_inference_steps": 51}, "50"),
    ],
)
def test_an_impossible_request_is_refused_before_it_is_queued(
    make_backend: Any, changes: dict[str, Any], words: str
) -> None:
    backend = make_backend()
    with pytest.raises(InvalidRequest) as caught:
        backend.submit(ask(**changes))
    assert words in str(caught.value)
    assert backend.status().state == "cold"


def test_a_full_queue_refuses_jobs(make_backend: Any) -> None:
    gate = Gate(0)
    backend = make_backend(on_step=gate, queue_limit=2)
    backend.submit(ask())
    assert gate.reached.acquire(timeout=WAIT)
    waiting = [backend.submit(ask()), backend.submit(ask())]
    with pytest.raises(QueueFull, match="2 pictures are waiting already"):
        backend.submit(ask())
    waiting[0].cancel()
    backend.submit(ask())


def test_the_oldest_finished_jobs_are_forgotten(make_backend: Any) -> None:
    backend = make_backend(keep=2)
    jobs = []
    for _ in range(4):
        jobs.append(backend.submit(ask()))
        finish(jobs[-1])
    backend.submit(ask())
    assert [backend.find(job.id) for job in jobs] == [None, None, jobs[2], jobs[3]]
    assert backend.find("guess") is None
    assert len({job.id for job in jobs}) == 4
    assert all(len(job.id) >= 20 for job in jobs)


def test_closing_ends_every_job(make_backend: Any) -> None:
    gate = Gate(1)
    backend = make_backend(on_step=gate)
    jobs = [backend.submit(ask()), backend.submit(ask())]
    assert gate.reached.acquire(timeout=WAIT)
    opener = threading.Timer(0.05, gate.open.set)
    opener.start()
    backend.close()
    assert [type(finish(job)[-1]) for job in jobs] == [Cancelled, Cancelled]
    with pytest.raises(QueueFull, match="shutting down"):
        backend.submit(ask())


def test_threads_are_few() -> None:
    assert 1 <= default_threads() <= 4


def test_guests_find_only_their_own_jobs_and_traces(make_backend: Any) -> None:
    backend, anna, bert = make_backend(), User("anna"), User("bert")
    hers, mine = backend.submit(ask(), anna), backend.submit(ask())
    assert isinstance(list(hers.events())[-1], Finished) and isinstance(list(mine.events())[-1], Finished)
    for of, seen in ((anna, True), (bert, False), (OWNER, True)):
        assert (backend.find(hers.id, of) is hers) == seen
        assert (backend.trace(hers.id, of) is not None) == seen
    for guest in (anna, bert):
        assert backend.find(mine.id, guest) is None and backend.trace(mine.id, guest) is None
    # Each lists its own runs, the owner not those of guests.
    listed = {of: [run.id for run in backend.runs(9, of)] for of in (OWNER, anna, bert)}
    assert listed == {OWNER: [mine.id], anna: [hers.id], bert: []}


def test_the_owner_waits_only_for_the_running_job(make_backend: Any) -> None:
    gate = threading.Event()
    backend = make_backend(on_step=lambda job, step: gate.wait(WAIT), share=GuestShare(waiting=3))
    order: list[str] = []
    jobs = [backend.submit(ask(), User(str(k % 5))) for k in range(10)]
    mine = backend.submit(ask())
    watchers = [threading.Thread(target=lambda job=job, name=name: (list(job.events()), order.append(name)))
                for name, job in (*((str(k), job) for k, job in enumerate(jobs)), ("owner", mine))]  # fmt: skip
    for watcher in watchers:
        watcher.start()
    gate.set()
    for watcher in watchers:
        watcher.join(WAIT)
    assert order.index("owner") <= 1 and len(order) == 11


def test_guests_cannot_push_the_owners_jobs_out(make_backend: Any) -> None:
    backend = make_backend(keep=2)
    own = backend.submit(ask())
    finish(own)
    jobs = [backend.submit(ask(), User(str(k))) for k in range(5)]
    for job in jobs:
        finish(job)
    last = backend.submit(ask(), User("last"))
    finish(last)
    assert backend.find(own.id) is own and backend.find(last.id) is last
    assert backend.find(jobs[0].id) is None


@pytest.mark.parametrize(
    ("prompt", "field"),
    [("()1.3", "prompt"), ("a", "negative_prompt"), ("((((((masterpiece)))))), (red)1.2 fox", "")],
)
def test_weights_that_cannot_be_read_are_refused_before_a_job_waits(make_backend: Any, prompt: str, field: str) -> None:
    request = ask(prompt).model_copy(update={"negative_prompt": "()1.3" if field == "negative_prompt" else ""})
    if not field:
        make_backend().submit(request)
        return
    with pytest.raises(InvalidRequest, match=f"^{field} gives a weight to brackets") as caught:
        make_backend().submit(request)
    assert caught.value.field == field


@pytest.mark.parametrize("part", ["init", "mask", "control", "reference", "fork"])
def test_a_guests_request_may_name_its_own_pictures_alone(make_backend: Any, part: str) -> None:
    """A comparison, a replay and a fork name pictures by ids, which stand in every file that was given away."""
    backend, guest = make_backend(), User("guest")
    secret = backend.inputs.put(Image.new("RGB", (64, 64), "red"))
    own = backend.inputs.of("guest").put(Image.new("RGB", (64, 64), "blue"))
    backend.adapters.check = lambda *_: None

    def request(name: str) -> Any:
        init = InitImage(image=name if part == "init" else own, mask=name if part == "mask" else None, strength=0)
        more = {
            "init": {"init": init},
            "mask": {"init": init},
            "control": {"controls": (Control(net="x", image=name),)},
            "reference": {"reference": ImagePrompt(adapter="x", image=name)},
            "fork": {"init": InitImage(image=name, strength=0.5)},
        }[part]
        found = ask(width=64, height=64).model_copy(update=more)
        return ask().model_copy(update={"fork": Fork(run="r", step=1, original=found)}) if part == "fork" else found

    with pytest.raises(InvalidRequest, match="is not here any more"):
        backend.submit(request(secret), guest)
    backend._check(request(own), guest) if part != "mask" else None
    backend._check(request(secret), OWNER) if part != "mask" else None
