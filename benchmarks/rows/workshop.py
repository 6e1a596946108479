"""A backend with everything ready, in this process, and what is asked of it."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

WAIT = 600.0
STEPS = 25


@dataclass(frozen=True)
class Bench:
    """How the rows measure.

    Attributes:
        model: id of a card.
        rounds: of each pair.
        device: as in ``PipelineManager``.
        compiled: folder for converted networks, which all backends share; None uses PyTorch alone.
    """

    model: str = "pocket"
    rounds: int = 15
    device: str = "cpu"
    compiled: Path | None = None

    @property
    def on_gpu(self) -> bool:
        """Whether a graphics card computes."""
        return self.device != "cpu"


@dataclass
class Seen:
    """When the events of a job came, seconds of ``time.perf_counter``.

    Attributes:
        started: before it was submitted.
        events: each with its time.
    """

    started: float
    events: list[tuple[float, Any]] = field(default_factory=list)

    def until(self, kind: type) -> float:
        """Seconds from the start to the first event of a kind; raises RuntimeError with what came instead."""
        for at, event in self.events:
            if isinstance(event, kind):
                return at - self.started
        raise RuntimeError(f"The run ended with {self.events[-1][1]}")


class Workshop:
    """A backend and a request's settings.

    Args:
        bench: how to measure.
        card: of the model.
        backend, manager: that run it.
    """

    def __init__(self, bench: Bench, card: Any, backend: Any, manager: Any) -> None:
        self.bench, self.card, self.backend, self.manager = bench, card, backend, manager
        self._seed = 0

    def request(self, steps: int = STEPS, **changes: Any) -> Any:
        """A request with a seed of its own."""
        from pipelines.request import make_request

        self._seed += 1
        values = {
            "model": self.card.id, "prompt": self.card.prompts[0] if self.card.prompts else "a house",
            "width": self.card.width, "height": self.card.height, "scheduler": "ddim", "seed": self._seed,
            "num_inference_steps": steps, "guidance_scale": self.card.guidance_scale,
        }  # fmt: skip
        return make_request(**{**values, **changes})

    def run(self, request: Any, watched: bool = False) -> Seen:
        """Submit a request and follow it to its end."""
        seen = Seen(time.perf_counter())
        job = self.backend.submit(request)
        with job.watching() if watched else nullcontext():
            for event in job.events():
                seen.events.append((time.perf_counter(), event))
        return seen

    def until_picture(self, request: Any, watched: bool = False) -> float:
        """Seconds from asking for a picture to its being stored and announced; what follows is waited for, too."""
        from pipelines.events import Announced

        return self.run(request, watched).until(Announced)

    @contextmanager
    def model(self) -> Iterator[Any]:
        """The loaded model."""
        with self.manager.lease(self.card.id) as model:
            yield model

    def ready(self, **changes: Any) -> None:
        """Run until the networks are compiled for these settings."""
        for _ in range(2):
            self.run(self.request(2, **changes))
            with self.model() as model:
                engine = getattr(model, "engine", None)
                assert engine is None or engine.wait(WAIT)


@contextmanager
def open_workshop(bench: Bench, card: Any = None, **options: Any) -> Iterator[Workshop]:
    """A backend in a temporary folder, its networks compiled for one picture.

    Args:
        bench: how to measure.
        card: of the model; by default the bench's, from the catalogue.
        options: of ``PipelineManager``.
    """
    import torch

    from pipelines.jobs.local import LocalBackend, default_threads
    from pipelines.models.manager import PipelineManager
    from presets.catalogue import card_for, load

    torch.set_num_threads(default_threads())
    card = card or card_for(bench.model, load())
    with tempfile.TemporaryDirectory() as folder:
        place: dict[str, Any] = {"engine": "openvino", "engine_dir": bench.compiled} if bench.compiled else {}
        manager = PipelineManager([card], device=bench.device, **{**place, **options})
        backend = LocalBackend(manager, Path(folder) / "pictures")
        try:
            shop = Workshop(bench, card, backend, manager)
            shop.ready()
            yield shop
        finally:
            backend.close()


def has_openvino() -> bool:
    """Whether OpenVINO is installed."""
    from importlib.util import find_spec

    return find_spec("openvino") is not None
