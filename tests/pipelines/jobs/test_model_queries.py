"""Short questions to a model while jobs run."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipelines.events import Finished
from pipelines.jobs.backend import QueryFailed
from pipelines.jobs.local import LocalBackend
from pipelines.jobs.model_queries import LEAST_WORK
from pipelines.jobs.queue import GuestShare
from pipelines.jobs.users import OWNER, User
from pipelines.models.manager import PipelineManager
from pipelines.prompt import A1111
from pipelines.request import Control, InvalidRequest
from pipelines.sampling.schedulers import DIFFUSION_SCHEDULERS
from tests.support.tiny_model import tiny_card
from tests.support.toy_backend import WAIT, Gate, ask, finish
from tests.support.waiting import wait_for


def test_a_query_is_answered_between_two_steps_of_a_running_job(make_backend: Any) -> None:
    gate = Gate(1)
    backend = make_backend(on_step=gate)
    job = backend.submit(ask())
    assert gate.reached.acquire(timeout=WAIT)
    answers: list[Any] = []
    hooks = threading.Thread(
        target=lambda: answers.append(backend.queries.decode("toy", np.zeros((20, 4, 2, 2), np.float32)))
    )
    hooks.start()
    wait_for(lambda: backend._tasks._queries)
    gate.open.set()
    hooks.join(WAIT)
    assert len(answers[0]) == 20
    assert isinstance(list(job.events())[-1], Finished)


def test_a_failed_query_says_why_and_the_worker_goes_on(make_backend: Any) -> None:
    backend = make_backend()
    with pytest.raises(QueryFailed, match="check the folder"):
        backend.queries.decode("broken", np.zeros((1, 4, 2, 2), np.float32))
    with pytest.raises(QueryFailed, match="not here"):
        backend.queries.decode("unknown", np.zeros((1, 4, 2, 2), np.float32))
    with pytest.raises(QueryFailed, match="try again"):
        backend.queries.encode("toy", Image.new("RGB", (16, 16)))  # the toy cannot encode
    assert len(backend.queries.decode("toy", np.zeros((1, 4, 2, 2), np.float32))) == 1
    backend.close()
    with pytest.raises(QueryFailed, match="shutting down"):
        backend.queries.decode("toy", np.zeros((1, 4, 2, 2), np.float32))


@pytest.mark.parametrize("scheduler", DIFFUSION_SCHEDULERS)
def test_the_forward_process_starts_from_the_noise_of_the_run(
    tiny_folder: Path, tmp_path: Path, scheduler: str
) -> None:
    card = tiny_card(tiny_folder)
    backend = LocalBackend(PipelineManager([card], device="cpu"), tmp_path / "pictures", threads=1)
    try:
        request = ask(model="tiny", width=32, height=32, scheduler=scheduler, num_inference_steps=4)
        job = backend.submit(request)
        assert isinstance(list(job.events())[-1], Finished)
        trace = backend.trace(job.id)
        process = backend.queries.forward_process("tiny", request, trace.final[:1], request.sampling.seed)
        assert process.timesteps == [step.timestep for step in trace.steps]
        assert np.allclose(np.square(process.alpha) + np.square(process.sigma), 1)
        # At the first step hardly any picture is left: both are the same noise.
        noise = (process.x_t[0, 0] - process.alpha[0] * trace.final[0]) / process.sigma[0]
        began = trace.x_t[0, 0] / np.abs(trace.x_t[0]).max() * np.abs(noise).max()
        assert np.abs(noise - began).max() < 0.02
        x0 = backend.queries.predict_x0("tiny", process.x_t[:, 0], process.timesteps, "a fox")
        assert x0.shape == process.x_t[:, 0].shape and np.isfinite(x0).all()
    finally:
        backend.close()


GUEST = User("guest")


def asking(backend: Any, user: User, answers: list[Any]) -> threading.Thread:
    """A thread that looks at 20 pictures for a user."""
    latents = np.zeros((20, 4, 2, 2), np.float32)
    found = threading.Thread(target=lambda: answers.append(len(backend.queries.of(user).decode("toy", latents))))
    found.start()
    return found


@pytest.mark.parametrize(("runs", "interrupts"), [(OWNER, False), (GUEST, True), (User("other"), False)])
def test_a_guests_questions_wait_for_the_end_of_anothers_run(make_backend: Any, runs: User, interrupts: bool) -> None:
    gate, seen = Gate(1), []

    def on_step(job: Any, step: Any) -> None:
        gate(job, step)
        if interrupts and step.index > 1:
            wait_for(lambda: answers or backend._tasks.jobs.queries())  # its thread asks in several parts
        seen.append(len(answers))

    answers: list[Any] = []
    backend = make_backend(on_step=on_step)
    job = backend.submit(ask(num_inference_steps=12), runs)
    assert gate.reached.acquire(timeout=WAIT)
    looking = asking(backend, GUEST, answers)
    wait_for(lambda: backend._tasks.jobs.queries())
    gate.open.set()
    assert isinstance(list(job.events())[-1], Finished)
    looking.join(WAIT)
    assert answers == [20] and (max(seen) == 1) == interrupts


def test_questions_are_bounded_in_pixels(make_backend: Any) -> None:
    backend, asked = make_backend(), []
    queries = backend.queries.of(GUEST)
    take = backend._tasks.add_query
    backend._tasks.add_query = lambda query: (asked.append(query), take(query))
    queries.decode("toy", np.zeros((9, 4, 64, 64), np.float32))
    queries.decode("toy", np.zeros((3, 4, 256, 256), np.float32))
    assert [query.work for query in asked] == [8 * 512**2 // 4, 512**2 // 4, *[2048**2 // 4] * 3]
    assert all(query.user is GUEST for query in asked)
    with pytest.raises(QueryFailed, match="too much to draw"):
        queries.decode("toy", np.zeros((33, 1, 256, 256), np.float32))


def test_a_guest_that_has_used_its_share_may_not_look_either(make_backend: Any) -> None:
    backend = make_backend(share=GuestShare(work=512**2))
    latents = np.zeros((4, 4, 64, 64), np.float32)
    assert len(backend.queries.of(GUEST).decode("toy", latents)) == 4
    with pytest.raises(QueryFailed, match="share of this hour"):
        backend.queries.of(GUEST).decode("toy", latents[:1])
    assert len(backend.queries.decode("toy", latents)) == 4


def test_control_maps_are_made_by_the_worker_in_turn(make_backend: Any) -> None:
    backend, threads = make_backend(), []
    backend.adapters.control_map = lambda *_: threads.append(threading.current_thread().name)
    of_owner, own = (inputs.put(Image.new("RGB", (8, 8), name)) for inputs, name in (
        (backend.inputs.of(None), "red"), (backend.inputs.of(GUEST.guest), "blue")
    ))  # fmt: skip
    backend.queries.of(GUEST).control_map(Control(net="x", image=own), 64, 64)
    with pytest.raises(InvalidRequest, match="is not here any more"):
        backend.queries.of(GUEST).control_map(Control(net="x", image=of_owner), 64, 64)
    assert threads == ["playground-worker-0"]

    def refuse(*_: Any) -> None:
        raise InvalidRequest("controls", "no such map")

    backend.adapters.control_map = refuse
    with pytest.raises(InvalidRequest, match="no such map"):
        backend.queries.control_map(Control(net="x", image="0" * 32), 64, 64)
    backend = make_backend(share=GuestShare(work=512**2 - 1))
    own = backend.inputs.of(GUEST.guest).put(Image.new("RGB", (8, 8)))
    with pytest.raises(QueryFailed, match="share of this hour"):
        backend.queries.of(GUEST).control_map(Control(net="x", image=own), 512, 512)


def test_no_question_of_a_guest_is_for_nothing(make_backend: Any) -> None:
    backend = make_backend(share=GuestShare(work=2 * LEAST_WORK))
    queries = backend.queries.of(GUEST)
    for _ in range(2):
        assert queries.ask("toy", lambda model: "answer") == "answer"
    with pytest.raises(QueryFailed, match="share of this hour"):
        queries.ask("toy", lambda model: "answer")


@pytest.mark.parametrize(("user", "begins"), [(GUEST, 2), (OWNER, 1)])
def test_a_guests_long_answer_gives_way_to_the_owner(make_backend: Any, user: User, begins: int) -> None:
    order: list[str] = []
    started, go = threading.Event(), threading.Event()

    def in_parts(model: Any) -> Any:
        order.append("begins")
        for _ in range(3):
            started.set()
            assert go.wait(WAIT)
            yield
        order.append("ends")
        return "answer"

    backend, answers = make_backend(on_step=lambda job, step: order.append("owner")), []
    asking = threading.Thread(target=lambda: answers.append(backend.queries.of(user).ask("toy", in_parts, 100)))
    asking.start()
    assert started.wait(WAIT)
    job = backend.submit(ask())
    go.set()
    finish(job)
    asking.join(WAIT)
    assert answers == ["answer"] and order.count("begins") == begins and order.count("owner") == 4
    assert (order.index("ends") < order.index("owner")) == (user is OWNER)
    assert len(backend._tasks.jobs._spent.get(user.id, ())) == (user is GUEST), "it is charged once"


def test_a_long_answer_ends_with_the_program(make_backend: Any) -> None:
    backend, started, go, problems = make_backend(), threading.Event(), threading.Event(), []

    def in_parts(model: Any) -> Any:
        while True:
            started.set()
            assert go.wait(WAIT)
            yield

    def look() -> None:
        try:
            backend.queries.of(GUEST).ask("toy", in_parts)
        except QueryFailed as problem:
            problems.append(str(problem))

    asking = threading.Thread(target=look)
    asking.start()
    assert started.wait(WAIT)
    threading.Timer(0.1, go.set).start()
    backend.close()
    asking.join(WAIT)
    assert len(problems) == 1 and "shutting down" in problems[0]


def test_blocked_words_are_looked_for_in_what_a_question_reads(make_backend: Any) -> None:
    backend = make_backend()
    backend.blocked.write("gore")
    for prompt in ("[fox:gore:100]", "[fox:g:100]ore", "gore"):
        with pytest.raises(QueryFailed, match="does not allow"):
            backend.queries.predict_x0("toy", np.zeros((1, 4, 2, 2), np.float32), [900.0], prompt, A1111)
    run = ask("[g:x:10][x:or:0.5]e", num_inference_steps=20, prompt_syntax=A1111)
    assert finish(backend.submit(run))
    few = run.model_copy(update={"sampling": run.sampling.model_copy(update={"num_inference_steps": 8})})
    with pytest.raises(QueryFailed, match="does not allow"):
        backend.queries.seed_runs(few)
