"""The whole page on a tiny random-weight model, with a gate that holds the sampler at a chosen step."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gradio as gr

from history.store import History
from pipelines.cards import ModelCard
from pipelines.events import Step
from pipelines.hub.hub import Hub
from pipelines.jobs.job import Job
from pipelines.jobs.local import LocalBackend
from pipelines.jobs.users import OWNER, User
from pipelines.models.manager import PipelineManager
from pipelines.request import GenerationRequest
from presets.library import ModelLibrary
from presets.user_models import UserModels
from ui.page import build, launch_options
from ui.server.access import Access
from ui.server.sharing import Sharing
from ui.server.timeouts import guard_connections

# How long a test waits at most, however slow the machine is.
WAIT_SECONDS = 180


@dataclass
class Gate:
    """Lets every job run to step ``limit`` (from 0) and holds it there until the gate is opened."""

    limit: int | None = None
    reached: dict[str, int] = field(default_factory=dict)
    _moved: threading.Condition = field(default_factory=threading.Condition)

    def __call__(self, job: Job, step: Step) -> None:
        with self._moved:
            self.reached[job.id] = step.index
            self._moved.notify_all()
            self._moved.wait_for(lambda: job.cancelled or self.limit is None or step.index < self.limit, WAIT_SECONDS)

    def hold_at(self, index: int) -> None:
        """Hold jobs after step ``index``."""
        with self._moved:
            self.limit = index
            self._moved.notify_all()

    def open(self) -> None:
        """Let everything run."""
        with self._moved:
            self.limit = None
            self._moved.notify_all()

    def nudge_until_over(self, job: Job) -> None:
        """Let a job that is held notice that it was cancelled."""
        while not job.wait_for_event(len(job.poll()), 0.02) or not job.done:
            with self._moved:
                self._moved.notify_all()

    def wait_for(self, index: int, jobs: int = 1) -> None:
        """Wait until so many jobs have made step ``index``."""
        with self._moved:
            met = self._moved.wait_for(lambda: sum(i >= index for i in self.reached.values()) >= jobs, WAIT_SECONDS)
        assert met, f"no job reached step {index}: {self.reached}"


class Recorded(LocalBackend):
    """The real backend; remembers its jobs so that a test leaves none behind."""

    jobs: list[Job]

    def submit(self, request: GenerationRequest, user: User = OWNER, **more: Any) -> Job:
        job = super().submit(request, user, **more)
        self.jobs.append(job)
        return job


@dataclass
class Site:
    """A served page."""

    url: str
    backend: Recorded
    gate: Gate
    pictures: Path
    demo: gr.Blocks
    history: History

    def settle(self) -> None:
        """Stop every job and wait for its end."""
        for job in self.backend.jobs:
            job.cancel()
        self.gate.open()
        for job in self.backend.jobs:
            assert list(job.events())
        self.backend.jobs.clear()
        self.gate.reached.clear()


def tiny_card(folder: Path, **changes: Any) -> ModelCard:
    """A card for the tiny model: 64 px, draft, balanced and fine of 4, 8 and 12 steps."""
    steps = {"draft": 4, "balanced": 8, "fine": 12}
    values: dict[str, Any] = {
        "id": "tiny",
        "name": "Tiny",
        "source": str(folder),
        "licence": "none",
        "about": "A model with random weights for tests.",
        "width": 64,
        "height": 64,
        "guidance_scale": 4.0,
        "prediction_type": "v_prediction",
        "qualities": {name: {"scheduler": "euler", "num_inference_steps": n} for name, n in steps.items()},
        "prompts": ("a red apple on a yellow background", "a fox on a green background"),
    }
    return ModelCard(**{**values, **changes})


@contextmanager
def served(
    cards: list[ModelCard],
    pictures: Path,
    gate: Gate | None = None,
    hub: Hub | None = None,
    user_models: UserModels | None = None,
    manages: bool = True,
    access: Access | None = None,
    sharing: Sharing | None = None,
) -> Iterator[Site]:
    """Serve the page on a free port for as long as the context lasts."""
    gate = gate or Gate()
    manager = PipelineManager(cards, device="cpu", hub=hub, fetches=())
    pictures.parent.mkdir(parents=True, exist_ok=True)
    history = History(pictures.parent)
    history.open(background=False)
    stores = {"pictures": history, "archive": history.strips}
    backend = Recorded(manager, pictures, on_step=gate, threads=1, adapter_dirs=[pictures.parent / "loras"], **stores)
    backend.jobs = []
    library = ModelLibrary(manager, backend, hub, user_models, manages)
    demo = build(backend, library, cards[0].id, pictures, sharing, history)
    try:
        _, url, _ = demo.launch(server_name="127.0.0.1", **launch_options(access, history))
        guard_connections(demo.server)
        yield Site(url, backend, gate, pictures, demo, history)
    finally:
        gate.open()
        backend.close()
        history.close()
        demo.close()
