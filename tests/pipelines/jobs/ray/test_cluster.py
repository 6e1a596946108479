"""A real Ray on this computer, on loopback: the same pictures, stops, killed replicas, scaling, and no orphans.

`make test-ray` installs Ray and runs these; without Ray they are left out.
"""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Iterator
from typing import Any

import numpy as np
import psutil
import pytest
from PIL import Image

pytest.importorskip("ray")

from pipelines.events import Cancelled, Finished, Preview
from pipelines.jobs.local import LocalBackend
from pipelines.jobs.ray.backend import RayBackend
from pipelines.jobs.ray.cluster import ClusterSettings
from pipelines.jobs.ray.remote import MADE_AGAIN
from pipelines.models.manager import PipelineManager
from tests.support.recorded_runs import ask
from tests.support.tiny_model import make_tiny_model, tiny_card
from tests.support.waiting import wait_for

# The long form is in `make soak`.
KILLS = int(os.environ.get("PLAYGROUND_KILLS", "2"))
LONG = 150
# Starting a replica imports torch, which takes long on a busy machine.
START_SECONDS = 300.0


@pytest.fixture(scope="module")
def cards(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    folder = make_tiny_model(tmp_path_factory.mktemp("tiny"))
    return [tiny_card(folder), tiny_card(folder, id="other", name="Other")]


@pytest.fixture(scope="module")
def far(cards: list[Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[RayBackend]:
    settings = ClusterSettings(replicas=(0, 2), idle_seconds=2.0)
    made = RayBackend(PipelineManager(cards, "cpu"), tmp_path_factory.mktemp("far") / "pictures", settings, threads=1)
    yield made
    made.close()
    wait_for(lambda: not ray_processes(), START_SECONDS)


@pytest.fixture(scope="module")
def here(cards: list[Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalBackend]:
    made = LocalBackend(PipelineManager(cards, "cpu"), tmp_path_factory.mktemp("here") / "pictures", threads=1)
    yield made
    made.close()


def ray_processes() -> list[psutil.Process]:
    """What Ray has started for this test."""
    children = psutil.Process().children(recursive=True)
    return [one for one in children if any(word in _name(one) for word in ("ray::", "raylet", "gcs_server"))]


def _name(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline()) if process.status() != psutil.STATUS_ZOMBIE else ""
    except psutil.Error:
        return ""


def finished(job: Any) -> Finished:
    *_, last = job.events()
    assert isinstance(last, Finished), last
    return last


def pixels(done: Finished) -> list[np.ndarray]:
    return [np.asarray(Image.open(one.path).convert("RGB")) for one in done.pictures]


def replicas() -> list[psutil.Process]:
    return [one for one in ray_processes() if "ray::ServeReplica" in _name(one)]


def test_replicas_come_from_none_and_make_the_same_pictures(far: RayBackend, here: LocalBackend) -> None:
    requests = [ask(num_images=2), ask(scheduler="lcm", num_inference_steps=4, guidance_scale=1.0), ask(model="other")]
    for request in requests:
        job = far.submit(request)
        with job.watching():
            remote = finished(job)
        assert all(
            np.array_equal(a, b) for a, b in zip(pixels(remote), pixels(finished(here.submit(request))), strict=True)
        )
        total = request.sampling.num_inference_steps
        assert {event.index for event in job.poll() if isinstance(event, Preview)} == set(range(total))
        trace = far.trace(job.id)
        assert trace is not None and len(trace.steps) == total
    assert replicas()


def test_every_port_of_ray_is_on_loopback(far: RayBackend) -> None:
    finished(far.submit(ask()))
    open_ports = [
        (_name(process)[:40], found.laddr.ip)
        for process in ray_processes()
        for found in process.net_connections(kind="inet")
        if found.status == psutil.CONN_LISTEN
    ]
    assert open_ports and {ip for _, ip in open_ports} <= {"127.0.0.1", "::1", "::ffff:127.0.0.1"}, open_ports


def test_a_query_is_answered_by_a_replica(far: RayBackend) -> None:
    (image,) = far.queries.decode("tiny", np.zeros((1, 4, 4, 4), np.float32))
    assert image.size == (32, 32)
    assert far.queries.words.text_layers("tiny") > 0


def test_stop_ends_a_run_between_two_steps(far: RayBackend) -> None:
    job = far.submit(ask(num_inference_steps=LONG))
    wait_for(lambda: job.at[0] > 1, START_SECONDS)
    job.cancel()
    *_, last = job.events()
    assert isinstance(last, Cancelled) and 1 < last.steps_done < LONG


def test_a_killed_replica_changes_nothing_but_a_note(far: RayBackend, here: LocalBackend) -> None:
    request = ask(num_inference_steps=LONG)
    whole, draw = pixels(finished(here.submit(request))), random.Random(30)
    for _ in range(KILLS):
        step = draw.randrange(1, LONG // 3)
        job = far.submit(request)
        wait_for(lambda job=job, step=step: job.at[0] >= step, START_SECONDS)
        worker = next(worker for worker in far._workers if far._tasks.running.get(worker.number) is job)
        os.kill(int(worker.runner.replica.rpartition(":")[2]), signal.SIGKILL)
        done = finished(job)
        assert done.notes[:1] == (MADE_AGAIN,)
        assert np.array_equal(pixels(done)[0], whole[0]) and len(done.pictures) == 1


def test_replicas_that_are_not_needed_end(far: RayBackend) -> None:
    finished(far.submit(ask()))
    wait_for(lambda: not replicas(), START_SECONDS)
    finished(far.submit(ask()))
