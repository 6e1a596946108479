"""Jobs on replicas, without Ray: equal pictures, stops, lost replicas, drafts, and what is sent once."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipelines.events import Announced, Cancelled, Failed, Finished, Preview
from pipelines.images.png import read_request
from pipelines.jobs.local import LocalBackend
from pipelines.jobs.ray import backend as ray_backend
from pipelines.jobs.ray import protocol
from pipelines.jobs.ray.backend import RayBackend
from pipelines.jobs.ray.remote import LOST_TWICE, MADE_AGAIN, NO_FRAMES
from pipelines.jobs.users import User
from pipelines.models.manager import PipelineManager
from pipelines.request import InitImage, Lora
from pipelines.trace.forks import fork_of
from tests.support.near_cluster import NearCluster
from tests.support.recorded_runs import ask
from tests.support.tiny_loras import make_lora
from tests.support.tiny_model import make_tiny_model, tiny_card

STEPS = 6
# The long form is in `make soak`.
KILLS = int(os.environ.get("PLAYGROUND_KILLS", "2"))
GUEST = User("guest-1")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def loras(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("loras")
    make_lora(folder, "stable_diffusion", found / "bold.safetensors", 3)
    return found


@pytest.fixture(scope="module")
def pair(folder: Path, loras: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Any, Any, NearCluster]]:
    """A local backend and one with two replicas, and the cluster."""
    near = NearCluster()
    data = tmp_path_factory.mktemp("data")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ray_backend, "Cluster", lambda settings: near)
        options: dict[str, Any] = {"threads": 1, "adapter_dirs": [loras]}
        far = RayBackend(PipelineManager([tiny_card(folder)], "cpu"), data / "far" / "pictures", **options)
    here = LocalBackend(PipelineManager([tiny_card(folder)], "cpu"), data / "here" / "pictures", **options)
    yield here, far, near
    here.close()
    far.close()


@pytest.fixture(autouse=True)
def nothing_is_lost(pair: Any) -> None:
    pair[2].lost = lambda chunk: False


def picture(seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (32, 32, 3), dtype=np.uint8))


def mask() -> Image.Image:
    found = Image.new("L", (32, 32))
    found.paste(255, (5, 9, 21, 30))
    return found


def finished(job: Any) -> Finished:
    *_, last = job.events()
    assert isinstance(last, Finished), last
    return last


def pixels(done: Finished) -> list[np.ndarray]:
    return [np.asarray(Image.open(one.path).convert("RGB")) for one in done.pictures]


def in_order_and_once(job: Any) -> bool:
    """Whether the page has seen all steps, forwards and none twice before the picture: decoded frames follow it."""
    events = job.poll()
    end = next(k for k, event in enumerate(events) if isinstance(event, Announced | Finished | Cancelled | Failed))
    before = [event.index for event in events[:end] if isinstance(event, Preview)]
    seen = {event.index for event in events if isinstance(event, Preview)}
    return bool(before) and before == sorted(set(before)) and seen == set(range(STEPS))


def kinds(backend: Any) -> dict[str, Any]:
    image, hole = backend.inputs.put(picture()), backend.inputs.put(mask())
    return {
        "text-to-image": ask(num_images=2),
        "image-to-image": ask(init=InitImage(image=image, strength=0.6)),
        "inpainting": ask(init=InitImage(image=image, mask=hole, strength=0.8)),
        "lora": ask(loras=(Lora(name="bold", weight=0.8),)),
        "turbo": ask(scheduler="lcm", num_inference_steps=4, guidance_scale=1.0),
        "stochastic": ask(scheduler="euler_a"),
    }


@pytest.mark.parametrize("kind", ["text-to-image", "image-to-image", "inpainting", "lora", "turbo", "stochastic"])
def test_a_picture_of_a_replica_is_that_of_this_computer(pair: Any, kind: str) -> None:
    here, far, _ = pair
    jobs = [backend.submit(kinds(backend)[kind]) for backend in (here, far)]
    local, remote = (finished(job) for job in jobs)
    assert all(np.array_equal(a, b) for a, b in zip(pixels(local), pixels(remote), strict=True))
    assert len(remote.pictures) == jobs[0].request.num_images and remote.notes == local.notes
    assert read_request(remote.pictures[0].path).sampling == jobs[1].request.sampling
    assert [event for event in jobs[1].poll() if isinstance(event, Announced)]
    traces = [backend.trace(job.id) for backend, job in zip((here, far), jobs, strict=True)]
    assert np.array_equal(traces[0].x_t, traces[1].x_t) and traces[1].id == jobs[1].id
    assert [one.path for one in traces[1].pictures] == [one.path for one in remote.pictures]


def test_the_steps_come_in_order_and_once(pair: Any) -> None:
    _, far, _ = pair
    job = far.submit(ask(num_inference_steps=STEPS))
    with job.watching():
        finished(job)
    assert in_order_and_once(job)
    assert job.at == (STEPS, STEPS)


def test_what_is_sent_is_sent_once(pair: Any) -> None:
    _, far, near = pair
    near.sent.clear()
    image = far.inputs.put(picture(7))
    for seed in (1, 2, 3):
        finished(far.submit(ask(init=InitImage(image=image, strength=0.5), seed=seed)))
    assert near.sent == [image]
    assert "/" not in repr({**near.messages[-1], "card": "", "signals": ""})


def test_stop_lands_between_two_steps_and_leaves_the_record(pair: Any) -> None:
    _, far, near = pair
    job = far.submit(ask(num_inference_steps=150))
    near.lost = lambda chunk: job.cancel() or False
    *_, last = job.events()
    assert isinstance(last, Cancelled) and last.steps_done < 150
    trace = far.trace(job.id)
    assert trace is None or len(trace.steps) == last.steps_done


def test_a_lost_replica_changes_nothing_but_a_note(pair: Any) -> None:
    here, far, near = pair
    whole = pixels(finished(here.submit(ask(num_inference_steps=STEPS))))
    draw = random.Random(30)
    for _ in range(KILLS):
        step, before = draw.randrange(STEPS), len(list(far._runner.results._pictures._folder.glob("*.png")))
        left = [step]

        def lost(chunk: list[dict[str, Any]], left: list[int] = left) -> bool:
            if left and any(one["kind"] == "preview" and one["index"] >= left[0] for one in chunk):
                left.clear()
                return True
            return False

        near.lost = lost
        job = far.submit(ask(num_inference_steps=STEPS))
        with job.watching():
            done = finished(job)
        assert not left and done.notes[0] == MADE_AGAIN
        assert np.array_equal(pixels(done)[0], whole[0])
        assert in_order_and_once(job)
        assert len(list(done.pictures[0].path.parent.glob("*.png"))) == before + 1, "nothing is kept twice"


def test_a_run_whose_replicas_are_lost_twice_fails_with_a_sentence(pair: Any) -> None:
    _, far, near = pair
    near.lost = lambda chunk: True
    *_, last = far.submit(ask()).events()
    assert last == Failed(LOST_TWICE)


def test_pictures_that_are_saved_are_not_made_again(pair: Any) -> None:
    _, far, near = pair
    near.lost = lambda chunk: chunk[-1]["kind"] == "finished" and all(one["kind"] != "announced" for one in chunk)
    sent = len(near.messages)
    done = finished(far.submit(ask(num_inference_steps=STEPS, num_images=2)))
    assert len(near.messages) == sent + 1 and len(done.pictures) == 2
    assert done.notes in ((), (NO_FRAMES,))


def test_a_stopped_run_whose_replica_is_lost_is_not_made_again(pair: Any) -> None:
    _, far, near = pair
    job = far.submit(ask(num_inference_steps=STEPS))
    near.lost = lambda chunk: job.cancel() or True
    *_, last = job.events()
    assert isinstance(last, Cancelled)


def test_another_version_is_refused_in_one_sentence(pair: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    _, far, _ = pair
    monkeypatch.setattr("pipelines.jobs.ray.remote.protocol", NewerProtocol())
    *_, last = far.submit(ask()).events()
    assert isinstance(last, Failed) and "install the same version on all machines" in last.message


class NewerProtocol:
    PROTOCOL = protocol.PROTOCOL + 1

    def __getattr__(self, name: str) -> Any:
        return getattr(protocol, name)


def test_a_draft_is_kept_with_the_pixels_of_the_replica(pair: Any) -> None:
    here, far, _ = pair
    job = far.submit(ask(), draft=True)
    done = finished(job)
    assert done.drafts and not done.pictures
    far.keep(job)
    kept = job.poll()[-1]
    assert np.array_equal(pixels(kept)[0], pixels(finished(here.submit(ask())))[0])


def test_a_fork_leaves_the_recorded_run_on_another_machine(pair: Any) -> None:
    here, far, _ = pair
    results = []
    for backend in (here, far):
        run = backend.submit(ask(num_inference_steps=STEPS))
        finished(run)
        trace = backend.trace(run.id)
        results.append(pixels(finished(backend.submit(fork_of(trace, 3, prompt="an owl"))))[0])
    assert np.array_equal(*results)


def test_a_guests_run_is_the_guests(pair: Any) -> None:
    _, far, _ = pair
    before = far.guest_pictures
    job = far.submit(ask(), GUEST)
    finished(job)
    assert far.guest_pictures == before + 1
    assert far.trace(job.id, GUEST) is not None and far.trace(job.id, User("other")) is None


def test_a_model_is_loaded_and_unloaded_on_the_replicas(pair: Any) -> None:
    _, far, near = pair
    far._workers[0].loader.warm_up("tiny")
    assert far.status().state == "ready" and "tiny" in near.replicas[0]._manager.loaded
    far.unload("tiny")
    assert [replica._manager.loaded for replica in near.replicas] == [(), ()]
    assert far._manager.loaded == ()
