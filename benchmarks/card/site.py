"""What every section is given: the device, the random models, and how large the runs are."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.card.device import MeasuredDevice
from benchmarks.random_models import MODELS


@dataclass(frozen=True)
class Site:
    """What sections measure, and how much of it.

    Attributes:
        folder: where the random models are.
        device: to be measured.
        tiny: whether the models are tiny ones.
        models: names of random models.
        sizes: of pictures, in pixels.
        batches: pictures at once.
        steps: of each run.
        limits: GB of memory that the card is bounded to.
    """

    folder: Path
    device: MeasuredDevice = field(default_factory=MeasuredDevice)
    tiny: bool = False
    models: tuple[str, ...] = tuple(MODELS)
    sizes: tuple[int, ...] = (512, 1024)
    batches: tuple[int, ...] = (1, 4)
    steps: int = 8
    limits: tuple[float, ...] = (6, 8, 12, 24)

    def card(self, name: str) -> Any:
        """The model card of a random model.  Raises FileNotFoundError without it."""
        from presets.catalogue import card_for, load

        source = self.folder / name
        if not source.is_dir():
            raise FileNotFoundError(f"the random model {name} was not made")
        return card_for(str(source), load()).model_copy(update={"id": name})

    def pocket(self) -> Any:
        """The model card of pocket; at tiny size that of a random model, made for pictures of the first size."""
        from presets.catalogue import card_for, load

        if not self.tiny:
            return card_for("pocket", load())
        return self.card("sd15").model_copy(update={"width": self.sizes[0], "height": self.sizes[0]})

    def manager(self, card: Any, limit: int | None = None, **options: Any) -> Any:
        """A manager with this model alone; see ``PipelineManager``."""
        from pipelines.models.manager import PipelineManager

        machine = self.device.machine(limit)
        return PipelineManager([card], device=self.device.name, machine=machine, **options)

    def request(self, name: str, size: int, batch: int = 1, **changes: Any) -> Any:
        """A guided run."""
        from pipelines.request import make_request

        values = {"model": name, "prompt": "a house", "width": size, "height": size, "num_images": batch, "seed": 1}
        values |= {"scheduler": "ddim", "num_inference_steps": self.steps, "guidance_scale": 5.0}
        return make_request(**{**values, **changes})

    def largest(self, name: str) -> int:
        """The side of the pictures that a model is made for."""
        return self.sizes[0] if name == "sd15" else self.sizes[-1]


def sampled(model: Any, request: Any, decode: bool = True) -> Any:
    """The final latents of a plain run, on the CPU; nothing is previewed or recorded."""
    from pipelines.sampling.denoise import denoise

    last = None
    for step in denoise(model, request):
        last = step.x_next
    assert last is not None
    if decode:
        model.latents.decode(last)
    return last.float().cpu()


def run_job(manager: Any, request: Any, on_step: Callable[[Any, Any], None] | None = None) -> tuple[Any, bool]:
    """The last event of a run as the page has it, with previews and recording, and whether its trace was written."""
    import tempfile

    import torch

    from pipelines.jobs.local import LocalBackend

    with tempfile.TemporaryDirectory() as folder:
        backend = LocalBackend(manager, Path(folder) / "pictures", on_step=on_step, threads=torch.get_num_threads())
        try:
            job = backend.submit(request)
            *_, last = job.events()
            return last, backend.trace(job.id) is not None
        finally:
            backend.close()


def difference(ours: Any, theirs: Any) -> float | str:
    """The largest difference of two tensors, relative to the largest number of the second, or to 1.

    "not finite" where one of them is not all numbers: JSON has no word for that.
    """
    found = float((ours - theirs).abs().max()) / max(1.0, float(theirs.abs().max()))
    return float(f"{found:.3g}") if math.isfinite(found) else "not finite"
