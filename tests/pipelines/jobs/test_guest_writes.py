"""What guests' runs write, and that it cannot push out what the owner has."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipelines.events import Finished
from pipelines.jobs.backend import QueueFull
from pipelines.jobs.guest_writes import uploads_of
from pipelines.jobs.users import OWNER, User
from pipelines.request import Control, ImagePrompt, InitImage
from pipelines.system.guest_bytes import GuestBytes
from pipelines.trace.store import TraceStore
from tests.support.toy_backend import Gate, ask

A, B = User("a"), User("b")


def run(backend: Any, request: Any, user: User) -> Finished:
    job = backend.submit(request, user)
    last = list(job.events())[-1]
    assert isinstance(last, Finished), last
    return last


def limit(backend: Any, each: int, free: int = 10**12) -> None:
    backend.guest_bytes._each, backend.guest_bytes._free = each, lambda _: free


def unchanged(backend: Any, user: User, side: int = 64, **changes: Any) -> Any:
    """A request that runs no step: the source is the picture."""
    noise = np.random.default_rng(1).integers(0, 256, (side, side, 3), dtype=np.uint8)
    name = backend.inputs.of(user.guest).put(Image.fromarray(noise))
    return ask(width=side, height=side, init=InitImage(image=name, strength=0.0), **changes)


def test_pictures_without_a_step_are_charged_too(make_backend: Any, tmp_path: Path) -> None:
    backend = make_backend()
    limit(backend, 5 * 64 * 64 * 3)
    for _ in range(3):
        run(backend, unchanged(backend, A), A)
    with pytest.raises(QueueFull, match="used up this hour's space"):
        backend.submit(unchanged(backend, A, num_images=2), A)
    run(backend, unchanged(backend, OWNER, num_images=8), OWNER)
    assert len(list((tmp_path / "pictures").glob("*.png"))) == 3 + 8


def test_claims_are_settled_by_what_was_written(make_backend: Any) -> None:
    """Flat pictures of a few hundred bytes, of which a claim counts every pixel; a stopped run writes nothing."""
    gate = Gate(1)
    backend = make_backend(on_step=gate)
    limit(backend, 3 * 512 * 512 * 3)
    job = backend.submit(ask(width=512, height=512, num_images=3), A)
    assert gate.reached.acquire(timeout=20)
    with pytest.raises(QueueFull, match="space for pictures"):
        backend.submit(ask(), A)
    job.cancel()
    gate.open.set()
    list(job.events())
    for _ in range(6):
        run(backend, ask(width=512, height=512, num_images=2), A)


def test_guests_make_nothing_while_the_disk_is_nearly_full(make_backend: Any) -> None:
    backend = make_backend()
    limit(backend, 10**9, free=10**9)
    with pytest.raises(QueueFull, match="disk is nearly full"):
        backend.submit(ask(), A)
    run(backend, ask(), OWNER)


def test_a_full_queue_gives_the_claim_back(make_backend: Any) -> None:
    gate = Gate(1)
    backend = make_backend(on_step=gate)
    limit(backend, 10 * 16 * 16 * 3)
    jobs = [backend.submit(ask(), A)]
    assert gate.reached.acquire(timeout=20)
    jobs += [backend.submit(ask(), A) for _ in range(3)]
    for _ in range(30):
        with pytest.raises(QueueFull, match="are waiting already"):
            backend.submit(ask(), A)
    gate.open.set()
    assert all(isinstance(list(job.events())[-1], Finished) for job in jobs)


def test_guests_cannot_push_the_owners_traces_out(make_backend: Any, tmp_path: Path) -> None:
    traces = TraceStore(tmp_path / "traces", memory_bytes=1, disk_bytes=60_000)
    backend = make_backend(traces=traces)
    own = backend.submit(ask(), OWNER)
    list(own.events())
    backend._guest_traces._disk_bytes = 20_000
    jobs = []
    for k in range(12):
        jobs.append(backend.submit(ask(prompt=str(k)), User(str(k % 3))))
        list(jobs[-1].events())
    assert backend.trace(own.id).request.prompt == "a fox"
    folders = [traces.folder, traces.folder / "guests"]
    assert [len(list(folder.glob("*.safetensors"))) < 12 for folder in folders] == [True, True]
    assert sum(path.stat().st_size for path in folders[1].glob("*.safetensors")) <= 40_000
    # Its own guest still finds the newest, another does not.
    assert backend.trace(jobs[-1].id, jobs[-1].user).request.prompt == "11"
    assert backend.trace(jobs[-1].id, User("x")) is None


def test_a_trace_that_may_not_be_written_is_in_memory(make_backend: Any, tmp_path: Path) -> None:
    backend = make_backend()
    backend._runner.results._trace_bytes = GuestBytes(tmp_path, 10, 10)
    job = backend.submit(ask(), A)
    list(job.events())
    assert backend.trace(job.id, A) is not None
    assert not list((tmp_path / "traces").rglob("*.safetensors"))


def test_every_upload_of_a_request_is_kept() -> None:
    names = [f"{k:032x}" for k in range(5)]
    request = ask(
        init=InitImage(image=names[0], strength=0.5, mask=names[1]),
        controls=tuple(Control(net="x", image=name) for name in names[2:4]),
        reference=ImagePrompt(adapter="x", image=names[4]),
    )
    assert uploads_of(request) == names
    assert uploads_of(ask()) == []


def test_a_guests_trace_that_is_too_large_to_open_is_not_kept(
    make_backend: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipelines.jobs.results.MAX_GUEST_TRACE", 1)
    backend = make_backend()
    for user in (A, OWNER):
        job = backend.submit(ask(), user)
        list(job.events())
        assert (backend.trace(job.id) is None) == (user is A)
