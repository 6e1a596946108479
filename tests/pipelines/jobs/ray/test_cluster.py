"""A real Ray on this computer, on loopback: the same pictures, stops, killed replicas, scaling, and no orphans.

`make test-ray` installs Ray and runs these; without Ray they are left out.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from PIL import Image

# Not imported here: Ray reads its settings when it is.
if find_spec("ray") is None:
    pytest.skip("Ray is not installed", allow_module_level=True)

from pipelines.events import Cancelled, Finished, Preview
from pipelines.jobs.local import LocalBackend
from pipelines.jobs.ray.backend import RayBackend
from pipelines.jobs.ray.cluster import ClusterSettings
from pipelines.jobs.ray.remote import MADE_AGAIN
from pipelines.models.manager import PipelineManager
from pipelines.request import InitImage, Lora
from tests.support.recorded_runs import ask
from tests.support.tiny_loras import make_lora
from tests.support.tiny_model import make_tiny_model, tiny_card
from tests.support.waiting import wait_for

# The long form is in `make soak`.
KILLS = int(os.environ.get("PLAYGROUND_KILLS", "2"))
LONG = 150
# Starting a replica imports torch, which takes long on a busy machine.
START_SECONDS = 300.0


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def options(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    loras = tmp_path_factory.mktemp("loras")
    make_lora(folder, "stable_diffusion", loras / "bold.safetensors", 3)
    return {"threads": 1, "adapter_dirs": [loras]}


def manager(folder: Path) -> PipelineManager:
    return PipelineManager([tiny_card(folder), tiny_card(folder, id="other", name="Other")], "cpu")


@pytest.fixture(scope="module")
def far(folder: Path, options: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RayBackend]:
    settings = ClusterSettings(replicas=(0, 2), idle_seconds=15.0)
    made = RayBackend(manager(folder), tmp_path_factory.mktemp("far") / "pictures", settings, **options)
    yield made
    made.close()
    wait_for(lambda: not ray_processes(), START_SECONDS)
    assert not Path(made.cluster._folder).exists()


@pytest.fixture(scope="module")
def here(folder: Path, options: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalBackend]:
    made = LocalBackend(manager(folder), tmp_path_factory.mktemp("here") / "pictures", **options)
    yield made
    made.close()


def requests(backend: Any) -> dict[str, Any]:
    image = backend.inputs.put(noise((32, 32, 3)))
    hole = backend.inputs.put(Image.fromarray(np.pad(np.full((16, 16), 255, np.uint8), 8)))
    return {
        "text-to-image": ask(num_images=2),
        "turbo": ask(scheduler="lcm", num_inference_steps=4, guidance_scale=1.0),
        "another model": ask(model="other"),
        "image-to-image": ask(init=InitImage(image=image, strength=0.6)),
        "inpainting": ask(init=InitImage(image=image, mask=hole, strength=0.8)),
        "LoRA": ask(loras=(Lora(name="bold", weight=0.8),)),
    }


def noise(shape: tuple[int, ...]) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8))


def ray_processes() -> list[psutil.Process]:
    """What Ray has started for this test."""
    children = psutil.Process().children(recursive=True)
    return [one for one in children if any(word in _name(one) for word in ("ray::", "ray-", "site-packages/ray/"))]


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
    for name, request in requests(far).items():
        job = far.submit(request)
        with job.watching():
            remote = finished(job)
        local = finished(here.submit(requests(here)[name]))
        assert all(np.array_equal(a, b) for a, b in zip(pixels(remote), pixels(local), strict=True)), name
        seen = {event.index for event in job.poll() if isinstance(event, Preview)}
        trace = far.trace(job.id)
        assert trace is not None and seen == set(range(request.steps_run)) == set(range(len(trace.steps)))
    assert replicas()


def test_every_port_of_ray_is_on_loopback(far: RayBackend) -> None:
    finished(far.submit(ask()))
    open_ports = [
        (_name(process), found.laddr.ip)
        for process in (psutil.Process(), *ray_processes())
        for found in process.net_connections(kind="inet")
        if found.status == psutil.CONN_LISTEN
    ]
    names = " ".join(name for name, _ in open_ports)
    assert all(word in names for word in ("gcs_server", "raylet", "ray::ServeReplica")), "none is overlooked"
    here = ("127.0.0.1", "::1", "::ffff:127.0.0.1")
    assert [port for port in open_ports if port[1] not in here] == []


def test_the_cluster_answers_only_those_with_its_token(far: RayBackend) -> None:
    import ray

    finished(far.submit(ask()))
    address = ray.get_runtime_context().gcs_address
    join = f"import ray; ray.init(address={address!r}, logging_level='ERROR'); print(ray.cluster_resources())"
    told = {}
    for token in (os.environ["RAY_AUTH_TOKEN"], "0" * 64):
        made = subprocess.run(
            [sys.executable, "-c", join], env={**os.environ, "RAY_AUTH_TOKEN": token}, capture_output=True, text=True
        )
        told[token] = "CPU" in made.stdout
    assert list(told.values()) == [True, False]


def test_the_folder_of_the_cluster_is_for_this_user_alone(far: RayBackend) -> None:
    finished(far.submit(ask()))
    folder = Path(far.cluster._folder)
    assert (folder / "r" / "session_latest").exists()
    assert folder.stat().st_mode & 0o077 == 0


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
    job = far.submit(ask())
    job.cancel()
    *_, last = job.events()
    assert last == Cancelled(0), "it does not wait for a replica"
    finished(far.submit(ask()))
