"""Questions about words to a backend: with the run's own adapters, between jobs, counted towards a guest's share."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipelines.events import Finished
from pipelines.jobs.backend import QueryFailed
from pipelines.jobs.local import LocalBackend
from pipelines.jobs.model_queries import LEAST_WORK
from pipelines.jobs.queue import GuestShare, ModelQuery
from pipelines.jobs.users import User
from pipelines.models.manager import PipelineManager
from pipelines.request import Control, ImagePrompt
from tests.support.pipeline_parity import load
from tests.support.recorded_runs import ask
from tests.support.tiny_controlnets import make_controlnet
from tests.support.tiny_ip_adapters import make_adapter
from tests.support.tiny_loras import make_lora
from tests.support.tiny_model import make_tiny_model, tiny_card
from tests.support.toy_backend import WAIT, Gate


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("added")
    model = make_tiny_model(root / "model")
    unet = load(model, "stable_diffusion").denoiser
    make_lora(model, "stable_diffusion", root / "loras" / "ink.safetensors", 3)
    make_controlnet(unet, root / "controlnets" / "edges")
    make_adapter(unet, root / "ip_adapters" / "face.safetensors")
    return root


@pytest.fixture(scope="module")
def backend(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalBackend]:
    made = backend_of(folder, tmp_path_factory.mktemp("data"))
    yield made
    made.close()


def backend_of(folder: Path, data: Path, **options: Any) -> LocalBackend:
    manager = PipelineManager([tiny_card(folder / "model")], device="cpu")
    dirs = [folder / name for name in ("loras", "controlnets", "ip_adapters")]
    return LocalBackend(manager, data / "pictures", threads=1, adapter_dirs=dirs, **options)


def run(backend: LocalBackend, request: Any) -> Any:
    job = backend.submit(request)
    last = list(job.events())[-1]
    assert isinstance(last, Finished), last
    return backend.trace(job.id)


def picture(seed: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 255, (32, 32, 3), np.uint8))


@pytest.mark.parametrize("added", ["lora", "control", "reference"])
def test_the_run_s_own_adapters_are_put_on_again(backend: LocalBackend, added: str) -> None:
    key = backend.inputs.put(picture(1))
    changes: dict[str, Any] = {
        "lora": {"prompt": "<lora:ink:1> a fox"},
        "control": {"controls": (Control(net="edges", image=key, end=0.5),)},
        "reference": {"reference": ImagePrompt(adapter="face", image=key, weight=1.0)},
    }[added]
    prompt = changes.pop("prompt", "a fox")
    trace = run(backend, ask(prompt=prompt).model_copy(update=changes))
    plain = run(backend, ask(seed=4))
    found = backend.queries.words.attention(trace, 0, range(5))
    assert found.steps == tuple(range(5)) and found.difference < 1e-4
    # They are taken off again: the plain run's attention is what it was.
    assert backend.queries.words.attention(plain, 0, [2]).difference < 1e-4
    backend.queries.decode("tiny", trace.final)
    assert backend.queries.words.heads(trace, 0, 1, found.layers[0][0])[1].shape[1] == len(found.words)


def test_a_missing_adapter_is_said(folder: Path, tmp_path: Path, backend: LocalBackend) -> None:
    trace = run(backend, ask(prompt="<lora:ink:1> a fox", num_inference_steps=2))
    bare = LocalBackend(PipelineManager([tiny_card(folder / "model")], device="cpu"), tmp_path / "pictures", threads=1)
    try:
        with pytest.raises(QueryFailed, match="ink"):
            bare.queries.words.attention(trace, 0, [0])
    finally:
        bare.close()


def test_a_picture_from_part_of_the_encoder(backend: LocalBackend) -> None:
    words = backend.queries.words
    assert words.text_layers("tiny") == 2
    request = ask(num_inference_steps=2)
    whole, cut = words.draw(request, 1.0), words.draw(request, 0.5)
    assert whole.size == (32, 32) and not np.array_equal(np.asarray(whole), np.asarray(cut))


def test_it_waits_for_the_end_of_a_job_and_counts(folder: Path, tmp_path: Path) -> None:
    gate, order = Gate(1), []
    share = GuestShare(work=LEAST_WORK)
    backend = backend_of(
        folder, tmp_path, on_step=lambda job, step: (gate(job, step), order.append(step.index)), share=share
    )
    gate.open.set()
    guest = User("guest")
    try:
        trace = run(backend, ask())
        gate.open.clear()
        order.clear()
        job = backend.submit(ask())
        assert gate.reached.acquire(timeout=WAIT)
        answers: list[Any] = []
        asking = threading.Thread(
            target=lambda: answers.append((backend.queries.words.attention(trace, 0, [0]), len(order)))
        )
        asking.start()
        gate.open.set()
        assert isinstance(list(job.events())[-1], Finished)
        asking.join(WAIT)
        assert answers[0][1] == 5  # every step of the job came first
        backend.queries.of(guest).words.attention(trace, 0, range(5))
        with pytest.raises(QueryFailed, match="share of this hour"):
            backend.queries.of(guest).words.attention(trace, 0, range(5))
    finally:
        gate.open.set()
        backend.close()
    assert not ModelQuery("tiny", lambda model: None, alone=True).may_interrupt("tiny", guest)
