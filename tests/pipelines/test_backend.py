"""The worker: order, previews, cancelling, failing and going on. No sleeps: gates hold the sampler."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from pipelines.backend import Job, LocalBackend, LookFailed, QueueFull, default_threads
from pipelines.cards import ModelCard, Quality
from pipelines.device import Placement
from pipelines.events import Cancelled, Decoding, Failed, Finished, Loading, Preview, Queued, Step
from pipelines.line import Share
from pipelines.manager import LoadStopped, PipelineManager
from pipelines.pictures import read_request
from pipelines.request import GenerationRequest, InvalidRequest, make_request
from pipelines.schedulers import DIFFUSION
from pipelines.trace import TraceStore
from pipelines.visitors import OWNER, Visitor
from presets.catalogue import card_for
from tests.tiny import tiny_card

WAIT = 20.0
CARD = ModelCard(
    id="toy",
    name="Toy",
    source="/nowhere",
    licence="none",
    about="",
    prediction_type="epsilon",
    qualities={"balanced": Quality(scheduler="ddim", num_inference_steps=4)},
)


class ToyLatents:
    decoded = 0

    def preview(self, latents: torch.Tensor) -> list[Image.Image]:
        return [Image.new("RGB", (300, 400), "red") for _ in latents]

    def decode(self, latents: torch.Tensor) -> list[Image.Image]:
        self.decoded += 1
        return [Image.new("RGB", (16, 16), "blue") for _ in latents]

    def to_rgb(self) -> np.ndarray:
        return np.zeros((5, 3), np.float32)


class ToyModel:
    def __init__(self) -> None:
        self.card, self.placement, self.latents = CARD, Placement("cpu", "float32", "sdpa"), ToyLatents()
        self.scheduler_config = {"prediction_type": "epsilon"}
        self.guides_itself = self.weighs = False
        self.safety = "none"

    def unsafe(self, images: list[Image.Image]) -> tuple[bool, ...]:
        return (False,) * len(images)

    def wear(self, loras: object) -> None:
        pass

    def follow(self, picture: object) -> None:
        pass

    def control(self, controls: object) -> None:
        pass

    def learn(self, words: object) -> None:
        pass

    def unread(self, prompt: str) -> str:
        return " ".join(prompt.split()[3:])


class ToyManager:
    """Loads in two parts, the first time; ``gate`` holds the loading."""

    def __init__(self) -> None:
        self.cards = {"toy": CARD, "broken": CARD.model_copy(update={"id": "broken"})}
        self.model: ToyModel | None = None
        self.loading = threading.Event()
        self.gate = threading.Event()
        self.gate.set()

    def at_hand(self, model_id: str) -> bool:
        return True

    def remembered(self, model_id: str, pixels: int) -> tuple[str, ...]:
        return ()

    def lower(self, model_id: str, stage: str, rows: int) -> None:
        return None

    def restore(self, model_id: str) -> None:
        pass

    @contextmanager
    def lease(
        self, model_id: str, report: Callable[[str, int, int], None] | None = None, *more: Any
    ) -> Iterator[ToyModel]:
        if model_id == "broken":
            raise OSError(2, "No such file or directory")
        if self.model is None:
            for done, part in enumerate(("unet", "vae")):
                if report:
                    report(part, done, 2)
                self.loading.set()
                assert self.gate.wait(WAIT)
            self.model = ToyModel()
        yield self.model


def toy_denoise(
    model: Any, request: GenerationRequest, start: Any = None, *, cancelled: Callable[[], bool] = bool
) -> Iterator[Step]:
    """As many steps as asked for; prompts make it misbehave."""
    x = torch.zeros(request.num_images, 4, 2, 2)
    total = request.sampling.num_inference_steps
    for index in range(total):
        if cancelled():
            return
        if request.prompt == "crash" and index == 1:
            raise ValueError("secret /path/to/things")
        if request.prompt == "memory" and index == 1:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
        after = x * torch.nan if request.prompt == "nan" else x
        yield Step(index, total, 999.0 - index, 0.5, 0.5, x, x, x, None, after)


class Gate:
    """Holds every job at a step until it is opened, and says when a job is there."""

    def __init__(self, at: int) -> None:
        self.at, self.reached, self.open = at, threading.Semaphore(0), threading.Event()

    def __call__(self, job: Job, step: Step) -> None:
        if step.index == self.at and not self.open.is_set():
            self.reached.release()
            assert self.open.wait(WAIT)


def ask(prompt: str = "a fox", **changes: Any) -> GenerationRequest:
    values = {
        "model": "toy",
        "prompt": prompt,
        "width": 16,
        "height": 16,
        "scheduler": "ddim",
        "num_inference_steps": 4,
        "guidance_scale": 4.0,
        "seed": 7,
    }
    return make_request(**{**values, **changes})


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., LocalBackend]]:
    monkeypatch.setattr("pipelines.denoise.denoise", toy_denoise)
    made: list[LocalBackend] = []

    def factory(manager: Any = None, **options: Any) -> LocalBackend:
        made.append(LocalBackend(manager or ToyManager(), tmp_path / "pictures", threads=1, **options))
        return made[-1]

    yield factory
    for backend in made:
        if isinstance(backend._on_step, Gate):
            backend._on_step.open.set()
        backend._manager.gate.set()
        backend.close()


def finish(job: Job) -> list[Any]:
    """All events of a job that must end by itself."""
    start = 0
    while not job.done:
        assert job.wait_more(start, WAIT), "the job does not go on"
        start = len(job.poll())
    return list(job.events())


def test_a_job_tells_its_way_from_the_queue_to_the_file(make: Any) -> None:
    events = finish(make().submit(ask(num_images=2)))
    assert [type(e) for e in events] == [Queued, Loading, Loading, *[Preview] * 4, Decoding, Finished]
    assert events[0] == Queued(0)
    assert events[1] == Loading("toy", "unet", 0, 2)
    assert [(e.index, e.total) for e in events if isinstance(e, Preview)] == [(k, 4) for k in range(4)]
    assert [picture.seed for picture in events[-1].pictures] == [7, 8]
    for picture in events[-1].pictures:
        assert read_request(picture.path) == ask(seed=picture.seed)


def test_previews_are_small_jpegs_one_a_picture(make: Any) -> None:
    previews = [e for e in finish(make().submit(ask(num_images=2))) if isinstance(e, Preview)]
    assert all(len(preview.frames) == 2 for preview in previews)
    image = Image.open(io.BytesIO(previews[0].frames[0]))
    assert image.format == "JPEG"
    assert max(image.size) == 256
    assert previews[-1].seconds_left == 0


def test_words_that_the_model_does_not_read_are_named(make: Any) -> None:
    done = finish(make().submit(ask("one two three four five")))[-1]
    assert done.notes == ('The prompt is longer than the model reads; it did not see: "four five".',)


def test_events_can_be_watched_again_from_any_number(make: Any) -> None:
    job = make().submit(ask())
    events = finish(job)
    assert list(job.events(3)) == events[3:]
    assert job.poll(len(events)) == []
    assert list(job.events(len(events))) == []


def test_the_queue_moves_and_tells_everyone(make: Any) -> None:
    gate = Gate(0)
    backend = make(on_step=gate)
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


def test_cancel_stops_before_the_next_call_and_decodes_nothing(make: Any, tmp_path: Path) -> None:
    gate, manager = Gate(1), ToyManager()
    backend = make(manager, on_step=gate)
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


def test_cancel_at_the_last_step_decodes_nothing(make: Any) -> None:
    gate = Gate(3)
    job = make(on_step=gate).submit(ask())
    assert gate.reached.acquire(timeout=WAIT)
    job.cancel()
    gate.open.set()
    assert finish(job)[-1] == Cancelled(4)


def test_cancel_while_loading_ends_the_job_at_once(make: Any) -> None:
    manager = ToyManager()
    manager.gate.clear()
    backend = make(manager)
    job = backend.submit(ask())
    assert manager.loading.wait(WAIT)
    assert backend.status().text == "Loading toy: 0 of 2 parts"
    job.cancel()
    assert job.poll()[-1] == Cancelled(0)
    assert backend.status().queue == 0
    manager.gate.set()
    assert isinstance(finish(backend.submit(ask()))[-1], Finished)


def test_one_stops_and_the_other_finishes(make: Any) -> None:
    gate = Gate(1)
    backend = make(on_step=gate)
    first, second = backend.submit(ask()), backend.submit(ask())
    assert gate.reached.acquire(timeout=WAIT)
    first.cancel()
    gate.open.set()
    assert isinstance(finish(first)[-1], Cancelled)
    assert isinstance(finish(second)[-1], Finished)


@pytest.mark.parametrize(
    ("prompt", "words"),
    [
        ("crash", "Something went wrong with toy"),
        ("memory", "not enough memory for 1 x 16 x 16 pixels"),
        ("nan", "overflowed"),
    ],
)
def test_a_failure_is_one_sentence_and_the_next_job_runs(make: Any, prompt: str, words: str) -> None:
    backend = make()
    last = finish(backend.submit(ask(prompt)))[-1]
    assert isinstance(last, Failed)
    assert words in last.message
    assert "secret" not in last.message
    assert isinstance(finish(backend.submit(ask()))[-1], Finished)
    assert backend.status().text == "toy on CPU, ready"


def test_a_preview_hook_that_raises_does_not_stop_the_worker(make: Any) -> None:
    calls = []

    def hook(job: Job, step: Step) -> None:
        calls.append(step.index)
        if len(calls) == 1:
            raise SystemError

    backend = make(on_step=hook)
    assert isinstance(finish(backend.submit(ask()))[-1], Failed)
    assert isinstance(finish(backend.submit(ask()))[-1], Finished)


def test_a_model_that_does_not_load_fails_its_job_only(make: Any) -> None:
    backend = make()
    last = finish(backend.submit(ask(model="broken")))[-1]
    assert isinstance(last, Failed)
    assert "No such file" in last.message
    assert isinstance(finish(backend.submit(ask()))[-1], Finished)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model": "/etc"}, "model '/etc' is unknown; allowed: broken, toy."),
        ({"scheduler": "magic"}, "scheduler 'magic' is unknown; allowed: ddim, ddpm"),
        ({"width": 20}, "width is 20; for toy it must be a multiple of 8."),
        ({"scheduler": "lcm", "num_inference_steps": 51}, "50"),
    ],
)
def test_what_can_never_run_is_refused_before_it_is_queued(make: Any, changes: dict[str, Any], words: str) -> None:
    backend = make()
    with pytest.raises(InvalidRequest) as caught:
        backend.submit(ask(**changes))
    assert words in str(caught.value)
    assert backend.status().state == "cold"


def test_a_full_queue_says_so(make: Any) -> None:
    gate = Gate(0)
    backend = make(on_step=gate, queue_limit=2)
    backend.submit(ask())
    assert gate.reached.acquire(timeout=WAIT)
    waiting = [backend.submit(ask()), backend.submit(ask())]
    with pytest.raises(QueueFull, match="2 pictures are waiting already"):
        backend.submit(ask())
    waiting[0].cancel()
    backend.submit(ask())


def test_jobs_are_found_again_until_newer_ones_push_them_out(make: Any) -> None:
    backend = make(keep=2)
    jobs = []
    for _ in range(4):
        jobs.append(backend.submit(ask()))
        finish(jobs[-1])
    backend.submit(ask())
    assert [backend.find(job.id) for job in jobs] == [None, None, jobs[2], jobs[3]]
    assert backend.find("guess") is None
    assert len({job.id for job in jobs}) == 4
    assert all(len(job.id) >= 20 for job in jobs)


def test_warm_up_loads_once_and_a_job_that_waits_for_it_is_told(make: Any) -> None:
    manager = ToyManager()
    manager.gate.clear()
    backend = make(manager)
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


def test_a_warm_up_that_fails_says_so(make: Any) -> None:
    backend = make()
    backend.warm_up("unknown")
    backend.warm_up("broken")
    with backend._changed:
        assert backend._changed.wait_for(lambda: backend.status().state == "failed", WAIT)
    assert backend.status().text.startswith("Reading or writing a file failed (No such file or directory)")
    assert isinstance(finish(backend.submit(ask()))[-1], Finished)


def test_closing_ends_every_job(make: Any) -> None:
    gate = Gate(1)
    backend = make(on_step=gate)
    jobs = [backend.submit(ask()), backend.submit(ask())]
    assert gate.reached.acquire(timeout=WAIT)
    opener = threading.Timer(0.05, gate.open.set)
    opener.start()
    backend.close()
    assert [type(finish(job)[-1]) for job in jobs] == [Cancelled, Cancelled]
    with pytest.raises(QueueFull, match="shutting down"):
        backend.submit(ask())


def test_watchers_in_many_threads_see_the_same(make: Any) -> None:
    gate = Gate(2)
    job = make(on_step=gate).submit(ask())
    seen: list[list[Any]] = []
    watchers = [threading.Thread(target=lambda: seen.append(list(job.events()))) for _ in range(8)]
    for watcher in watchers:
        watcher.start()
    gate.open.set()
    for watcher in watchers:
        watcher.join(WAIT)
    assert len(seen) == 8
    assert all(events == seen[0] for events in seen)


def test_the_real_thing_from_the_request_to_the_file(tiny_folder: Path, tmp_path: Path) -> None:
    card = card_for(str(tiny_folder), [])
    backend = LocalBackend(PipelineManager([card], device="cpu"), tmp_path, threads=1)
    try:
        values = {"model": card.id, "width": 32, "height": 32, "scheduler": "dpmpp_2m", "guidance_scale": 2.0}
        request = make_request(prompt="x " * 90, num_inference_steps=3, seed=1, num_images=2, **values)
        events = finish(backend.submit(request))
        assert [type(e) for e in events if not isinstance(e, Queued | Loading)] == [*[Preview] * 3, Decoding, Finished]
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


def test_a_finished_run_can_be_looked_into_also_after_a_restart(make: Any, tmp_path: Path) -> None:
    backend = make()
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


def test_a_stopped_run_keeps_the_steps_that_were_made(make: Any) -> None:
    gate = Gate(1)
    backend = make(on_step=gate)
    job = backend.submit(ask())
    assert gate.reached.acquire(timeout=WAIT)
    job.cancel()
    gate.open.set()
    assert isinstance(list(job.events())[-1], Cancelled)
    trace = backend.trace(job.id)
    assert len(trace.steps) == 2 and trace.total == 4 and trace.finals == ()


def test_a_look_is_answered_between_two_steps_of_a_running_job(make: Any) -> None:
    gate = Gate(1)
    backend = make(on_step=gate)
    job = backend.submit(ask())
    assert gate.reached.acquire(timeout=WAIT)
    answers: list[Any] = []
    asking = threading.Thread(target=lambda: answers.append(backend.decode("toy", np.zeros((20, 4, 2, 2), np.float32))))
    asking.start()
    while not backend._looks:
        threading.Event().wait(0.001)
    gate.open.set()
    asking.join(WAIT)
    assert len(answers[0]) == 20
    assert isinstance(list(job.events())[-1], Finished)


def test_a_look_that_fails_says_so_and_the_worker_goes_on(make: Any) -> None:
    backend = make()
    with pytest.raises(LookFailed, match="check the folder"):
        backend.decode("broken", np.zeros((1, 4, 2, 2), np.float32))
    with pytest.raises(LookFailed, match="not here"):
        backend.decode("unknown", np.zeros((1, 4, 2, 2), np.float32))
    with pytest.raises(LookFailed, match="try again"):
        backend.encode("toy", Image.new("RGB", (16, 16)))  # the toy cannot encode
    assert len(backend.decode("toy", np.zeros((1, 4, 2, 2), np.float32))) == 1
    backend.close()
    with pytest.raises(LookFailed, match="shutting down"):
        backend.decode("toy", np.zeros((1, 4, 2, 2), np.float32))


@pytest.mark.parametrize("scheduler", DIFFUSION)
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
        noised = backend.noised("tiny", request, trace.final[:1], request.sampling.seed)
        assert noised.timesteps == [step.timestep for step in trace.steps]
        assert np.allclose(np.square(noised.alpha) + np.square(noised.sigma), 1)
        # At the first step hardly any picture is left: both are the same noise.
        noise = (noised.x_t[0, 0] - noised.alpha[0] * trace.final[0]) / noised.sigma[0]
        began = trace.x_t[0, 0] / np.abs(trace.x_t[0]).max() * np.abs(noise).max()
        assert np.abs(noise - began).max() < 0.02
        believed = backend.believe("tiny", noised.x_t[:, 0], noised.timesteps, "a fox")
        assert believed.shape == noised.x_t[:, 0].shape and np.isfinite(believed).all()
    finally:
        backend.close()


class FarManager(ToyManager):
    """Fetches for as long as somebody waits."""

    @contextmanager
    def lease(self, model_id: str, report: Any = None, cancelled: Any = None, rungs: Any = None) -> Iterator[ToyModel]:
        report("Downloading Toy: 0.5 GB of 4.0 GB", 500_000_000, 4_000_000_000)
        self.loading.set()
        while not self.gate.wait(0.001):
            if cancelled():
                raise LoadStopped
        self.model = self.model or ToyModel()
        yield self.model


def test_a_download_is_told_and_ends_when_nobody_waits_for_it(make: Any) -> None:
    manager = FarManager()
    manager.gate.clear()
    backend = make(manager)
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
    with backend._changed:
        assert backend._changed.wait_for(lambda: backend.status().state == "cold", WAIT)
    manager.loading.clear()
    third = backend.submit(ask())
    assert manager.loading.wait(WAIT)  # the worker is free again
    manager.gate.set()
    assert isinstance(finish(third)[-1], Finished)
    assert backend.status().state == "ready"


def test_threads_are_few() -> None:
    assert 1 <= default_threads() <= 4


# -- guests ------------------------------------------------------------------------------------------------------------


def test_guests_find_their_own_jobs_and_traces_alone(make: Any) -> None:
    backend, anna, bert = make(), Visitor("anna"), Visitor("bert")
    hers, mine = backend.submit(ask(), anna), backend.submit(ask())
    assert isinstance(list(hers.events())[-1], Finished) and isinstance(list(mine.events())[-1], Finished)
    for of, seen in ((anna, True), (bert, False), (OWNER, True)):
        assert (backend.find(hers.id, of) is hers) == seen
        assert (backend.trace(hers.id, of) is not None) == seen
    for guest in (anna, bert):
        assert backend.find(mine.id, guest) is None and backend.trace(mine.id, guest) is None


def test_an_owner_who_comes_late_waits_for_the_one_that_runs(make: Any) -> None:
    gate = threading.Event()
    backend = make(on_step=lambda job, step: gate.wait(WAIT), share=Share(waiting=3))
    order: list[str] = []
    jobs = [backend.submit(ask(), Visitor(str(k % 5))) for k in range(10)]
    mine = backend.submit(ask())
    watchers = [threading.Thread(target=lambda job=job, name=name: (list(job.events()), order.append(name)))
                for name, job in (*((str(k), job) for k, job in enumerate(jobs)), ("owner", mine))]  # fmt: skip
    for watcher in watchers:
        watcher.start()
    gate.set()
    for watcher in watchers:
        watcher.join(WAIT)
    assert order.index("owner") <= 1 and len(order) == 11
