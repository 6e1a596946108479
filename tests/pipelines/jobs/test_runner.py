"""One generation, from the request to the files."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipelines.events import Announced, Cancelled, Decoding, Failed, Finished, Loading, Preview, Queued, Step
from pipelines.grid.plan import Grid, GridAxis
from pipelines.images.png import read_request
from pipelines.jobs.job import Job
from pipelines.jobs.local import LocalBackend
from pipelines.jobs.previews import preview_jpeg
from pipelines.jobs.users import User
from pipelines.models.manager import PipelineManager
from pipelines.request import make_request
from pipelines.sampling.latents import LatentFormat
from pipelines.trace.forks import fork_of
from presets.catalogue import card_for
from tests.support.toy_backend import WAIT, Gate, ToyManager, ask, finish
from tests.support.waiting import wait_for


def test_events_of_a_job_from_the_queue_to_the_file(make_backend: Any) -> None:
    events = finish(make_backend().submit(ask(num_images=2)))
    # The picture comes first, and then the frames of its steps.
    assert [type(e) for e in events] == [Queued, Loading, Loading, Decoding, Announced, *[Preview] * 4, Finished]
    assert events[0] == Queued(0) and events[4].finished == events[-1]
    assert events[1] == Loading("toy", "unet", 0, 2)
    assert [(e.index, e.total) for e in events if isinstance(e, Preview)] == [(k, 4) for k in range(4)]
    assert [picture.seed for picture in events[-1].pictures] == [7, 8]
    for picture in events[-1].pictures:
        assert read_request(picture.path) == ask(seed=picture.seed)


def test_cancel_stops_before_the_next_call_and_decodes_nothing(make_backend: Any, tmp_path: Path) -> None:
    gate, manager = Gate(1), ToyManager()
    backend = make_backend(manager, on_step=gate)
    job = backend.submit(ask())
    assert gate.reached.acquire(timeout=WAIT)
    job.cancel()
    job.cancel()
    gate.open.set()
    events = finish(job)
    assert events[-1] == Cancelled(2)
    assert not [e for e in events if isinstance(e, Decoding)]
    assert manager.model is not None
    assert manager.model.latents.decoded == 0
    assert list((tmp_path / "pictures").glob("*")) == []
    assert isinstance(finish(backend.submit(ask()))[-1], Finished)


def test_a_page_that_watches_sees_rough_steps_at_once_and_decoded_ones_after_the_picture(make_backend: Any) -> None:
    gate, job = Gate(2), None
    backend = make_backend(on_step=gate)
    job = backend.submit(ask())
    with job.watching():
        assert gate.reached.acquire(timeout=WAIT)
        while sum(isinstance(e, Preview) for e in job.poll()) < 3:  # while the sampler is held
            assert job.wait_for_event(len(job.poll()), WAIT)
        live = [e for e in job.poll() if isinstance(e, Preview)]
        assert [e.index for e in live] == [0, 1, 2] and all(e.rough == ("noisy", "guess") for e in live)
        gate.open.set()
        events = finish(job)
    after = [e for e in events[[type(e) for e in events].index(Announced) :] if isinstance(e, Preview)]
    assert {e.index for e in after} == {0, 1, 2, 3} and not any(e.rough for e in after[-4:])
    # The stage's own view is whole before the other one is decoded.
    assert [e.index for e in after if e.rough == ("guess",)] == [0, 1, 2, 3]
    assert not any(e.frames for e in events if isinstance(e, Preview) and e.rough)  # better ones have replaced them


@pytest.mark.parametrize("watched", [True, False])
def test_a_run_that_is_stopped_keeps_rough_steps(make_backend: Any, watched: bool) -> None:
    gate = Gate(1)
    backend = make_backend(on_step=gate)
    job = backend.submit(ask())
    with job.watching() if watched else nullcontext():
        assert gate.reached.acquire(timeout=WAIT)
        job.cancel()
        gate.open.set()
        events = finish(job)
    assert events[-1] == Cancelled(2)
    assert [e.index for e in events if isinstance(e, Preview)] == ([0, 1] if watched else [])
    trace = backend.trace(job.id)
    assert trace.rough and len(trace.frames) == len(trace.noisy) == 2
    assert not backend.trace(_finished(backend)).rough


def _finished(backend: LocalBackend) -> str:
    job = backend.submit(ask())
    assert isinstance(finish(job)[-1], Finished)
    return job.id


def test_cancel_at_the_last_step_decodes_nothing(make_backend: Any) -> None:
    gate = Gate(3)
    job = make_backend(on_step=gate).submit(ask())
    assert gate.reached.acquire(timeout=WAIT)
    job.cancel()
    gate.open.set()
    assert finish(job)[-1] == Cancelled(4)


def test_an_on_step_hook_that_raises_does_not_stop_the_worker(make_backend: Any) -> None:
    calls = []

    def hook(job: Job, step: Step) -> None:
        calls.append(step.index)
        if len(calls) == 1:
            raise SystemError

    backend = make_backend(on_step=hook)
    assert isinstance(finish(backend.submit(ask()))[-1], Failed)
    assert isinstance(finish(backend.submit(ask()))[-1], Finished)


def test_a_real_model_from_the_request_to_the_file(tiny_folder: Path, tmp_path: Path) -> None:
    card = card_for(str(tiny_folder), [])
    backend = LocalBackend(PipelineManager([card], device="cpu"), tmp_path, threads=1)
    try:
        values = {"model": card.id, "width": 32, "height": 32, "scheduler": "dpmpp_2m", "guidance_scale": 2.0}
        request = make_request(prompt="x " * 90, num_inference_steps=3, seed=1, num_images=2, **values)
        events = finish(backend.submit(request))
        found = [type(e) for e in events if not isinstance(e, Queued | Loading)]
        assert found == [Decoding, Announced, *[Preview] * 3, Finished]
        assert [(e.done, e.total) for e in events if isinstance(e, Loading)] == [(k, 5) for k in range(6)]
        assert [Image.open(picture.path).size for picture in events[-1].pictures] == [(32, 32)] * 2
        assert "did not see" in events[-1].notes[0]
        assert backend.status().text == f"{card.id} on CPU, ready"
        again = finish(backend.submit(request.model_copy(update={"num_images": 1})))[-1]
        # Some processors multiply a batch of two in another order than one picture.
        two, one = (np.asarray(Image.open(done.pictures[0].path), np.int16) for done in (events[-1], again))
        assert np.abs(two - one).max() <= 1
    finally:
        backend.close()


def _look(backend: LocalBackend, gate: Gate, *asked: Any) -> list[Any]:
    """What is known of running jobs at the step at which the gate holds one."""
    with ThreadPoolExecutor(len(asked)) as threads:
        looks = [threads.submit(backend.steps_so_far, *one) for one in asked]
        wait_for(lambda: len(backend._tasks._queries) + len(backend._tasks.jobs.queries()) == len(asked))
        gate.open.set()
        return [look.result(WAIT) for look in looks]


def test_the_steps_of_a_running_job_are_known_as_they_are_made(tiny_folder: Path, tmp_path: Path) -> None:
    card, gate = card_for(str(tiny_folder), []), Gate(2)
    backend = LocalBackend(PipelineManager([card], device="cpu"), tmp_path / "pictures", threads=1, on_step=gate)
    try:
        values = {"model": card.id, "width": 32, "height": 32, "scheduler": "heun", "guidance_scale": 2.0}
        request = make_request(prompt="a fox", num_inference_steps=4, seed=1, num_images=2, **values)
        assert backend.steps_so_far(["none"]) == [None]
        job = backend.submit(request)
        assert gate.reached.acquire(timeout=WAIT)
        stranger = User("stranger", owner=False)
        assert backend.steps_so_far([job.id], stranger) == [None]
        (found,) = _look(backend, gate, ([job.id, "none"],))
        assert isinstance(finish(job)[-1], Finished)
        so_far, trace = found[0], backend.trace(job.id)
        assert found[1] is None and so_far.steps == trace.steps[:3] and so_far.total == trace.total
        for name in ("x_t", "cond", "uncond"):
            np.testing.assert_array_equal(getattr(so_far, name), getattr(trace, name)[:3])
        np.testing.assert_array_equal(so_far.final, trace.x_t[3])
        assert not so_far.frames and not so_far.finals
        assert backend.steps_so_far([job.id]) == [None]  # it is done: ``trace`` has the steps
        # A fork has the steps that it has taken over.
        gate = backend._runner.on_step = Gate(4)
        fork = backend.submit(fork_of(trace, 3, prompt="an owl"))
        assert gate.reached.acquire(timeout=WAIT)
        ((so_far,),) = _look(backend, gate, ([fork.id],))
        assert isinstance(finish(fork)[-1], Finished)
        assert [step.index for step in so_far.steps] == [0, 1, 2, 3, 4]
        np.testing.assert_array_equal(so_far.x_t, backend.trace(fork.id).x_t[:5])
    finally:
        gate.open.set()
        backend.close()


def test_a_guest_looks_at_its_own_running_job(make_backend: Any) -> None:
    gate, guest = Gate(1), User("guest", owner=False)
    backend = make_backend(on_step=gate)
    job = backend.submit(ask(), guest)
    assert gate.reached.acquire(timeout=WAIT)
    ((so_far,), (hers,)) = _look(backend, gate, ([job.id], guest), ([job.id],))
    assert isinstance(finish(job)[-1], Finished)
    # The owner is answered first, each of them between two steps.
    assert (len(hers.steps), len(so_far.steps)) == (2, 3)


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The shapes of the latents that previews are decoded of."""
    found, plain = [], LatentFormat._preview

    def count(latents: LatentFormat, x: Any) -> Any:
        found.append(x.shape)
        return plain(latents, x)

    monkeypatch.setattr(LatentFormat, "_preview", count)
    return found


def test_a_grid_decodes_no_guess_that_is_a_picture_and_each_noise_once(
    tiny_folder: Path, tmp_path: Path, decoded: list[Any]
) -> None:
    card, steps = card_for(str(tiny_folder), []), 2
    backend = LocalBackend(PipelineManager([card], device="cpu"), tmp_path / "pictures", threads=1)
    base = make_request(
        model=card.id, prompt="a fox", width=32, height=32, scheduler="ddim", num_inference_steps=steps,
        guidance_scale=1.0, seed=5,
    )  # fmt: skip
    seeds, prompts = GridAxis(setting="seed", values=("1", "2")), GridAxis(setting="prompt", values=("a fox", "an owl"))
    try:
        cells = Grid(request=base, x=seeds, y=prompts).cells()
        assert all(isinstance(finish(backend.submit(cell.request))[-1], Finished) for cell in cells)
        # Two views a step, less the last guess of each cell, and the noise of a seed beyond its first cell.
        assert len(decoded) == len(cells) * 2 * steps - len(cells) - (len(cells) - len(seeds.values))
    finally:
        backend.close()


def test_no_frame_is_decoded_that_was_decoded_before(tiny_folder: Path, tmp_path: Path, decoded: list[Any]) -> None:
    card = card_for(str(tiny_folder), [])
    backend = LocalBackend(PipelineManager([card], device="cpu"), tmp_path / "pictures", threads=1)
    values = {"model": card.id, "width": 32, "height": 32, "scheduler": "ddim", "num_inference_steps": 3, "seed": 5}
    try:
        counts, frames, pictures = [], [], []
        for changes in ({}, {"prompt": "an owl"}, {"seed": 6}, {"guidance_scale": 4.0}):
            decoded.clear()
            request = make_request(**{"prompt": "a fox", "guidance_scale": 1.0, **values, **changes})
            job = backend.submit(request)
            done = finish(job)[-1]
            assert isinstance(done, Finished)
            frames.append(backend.trace(job.id))
            pictures.append(Image.open(done.pictures[0].path))
            counts.append(len(decoded))
        # The last guess is the picture, and the noise is that of the first run; with guidance the guess is another one.
        assert counts == [5, 4, 5, 5]
        assert frames[0].noisy[0] == frames[1].noisy[0] == frames[3].noisy[0] != frames[2].noisy[0]
        for trace, picture in zip(frames[:3], pictures, strict=False):
            assert trace.frames[-1] == (preview_jpeg(picture.copy()),)
        assert frames[3].frames[-1] != (preview_jpeg(pictures[3].copy()),)
    finally:
        backend.close()
