"""What each step of a run asks of a graphics card, counted on the pretend GPU: every wait stalls a real one."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.gpu import pretend_gpu
from benchmarks.gpu.graphics_cards import PretendMachine
from benchmarks.gpu.pretend_memory import Counts

MET, MISSED = "met", "missed"
# Computes in float32, as the pretend GPU does quickest.
CARD = "GTX 1060"
# More than a quick run has: its previews are made after the run.
STEPS = 10
PREVIEW_SIDE = 256
COUNTED = ("scalar_syncs", "blocking_copies", "uploads", "copied_bytes")


def row(what: str, measured: float, at_most: float) -> dict[str, Any]:
    """A figure, the most that it may be, and whether it is."""
    return {"what": what, "measured": measured, "at_most": at_most, "result": MET if measured <= at_most else MISSED}


def counters(model_name: str, cards: Iterable[Any] = (), steps: int = STEPS) -> list[dict[str, Any]]:
    """Rows of the most in any step but the first, in a guided run of one picture with live previews and recording.

    The first step encodes the prompt.  The predictions cross after the last one, as the whole run's in one go.

    Args:
        model_name: id of a card.
        cards: that has it; by default the catalogue.
        steps: of the run.
    """
    counted = _counted(model_name, cards, steps)
    latents = max(size for size in counted.latents)
    most = {name: max(getattr(counts, name) for counts in counted.steps[1:]) for name in COUNTED}
    # Predictions with the prompt and without, the latents that are decoded, with those after the last step, and bytes
    # of colours.
    after = (2 * steps + 1) * latents + 3 * counted.pixels
    small = 3 * min(counted.pixels, PREVIEW_SIDE**2)
    return [
        row("scalar syncs a step", most["scalar_syncs"], 0),
        row("blocking copies to the host a step", most["blocking_copies"], 0),
        row("blocking copies to the card a step", most["uploads"], 0),
        row("bytes copied to the host a step (the latents, one small picture)", most["copied_bytes"], latents + small),
        row("bytes copied after the last step (predictions, the picture)", counted.after.copied_bytes, after),
    ]


@dataclass
class _Counted:
    """The counts of each step and after the last, the bytes of its latents, and the pixels of the picture."""

    steps: list[Counts]
    after: Counts
    latents: list[int]
    pixels: int


def _counted(model_name: str, cards: Iterable[Any], steps: int) -> _Counted:
    import torch

    from pipelines.jobs.local import LocalBackend
    from pipelines.models.manager import PipelineManager
    from pipelines.request import make_request
    from presets.catalogue import load

    manager = PipelineManager(cards or load(), machine=PretendMachine(CARD))
    card = manager.cards[model_name]
    # The first run finds the colours of the latents.
    requests = [
        make_request(
            model=model_name, prompt="a house", width=card.width, height=card.height, scheduler="ddim",
            num_inference_steps=n, guidance_scale=max(2.0, card.guidance_scale), seed=1,
        )
        for n in (1, steps)
    ]  # fmt: skip
    found: list[Counts] = []
    latents: list[int] = []

    def count(job: Any, step: Any) -> None:
        found.append(gpu.counts)
        latents.append(step.x_t.nbytes)
        gpu.counts = Counts()

    with tempfile.TemporaryDirectory() as folder, pretend_gpu.use() as gpu:
        backend = LocalBackend(manager, Path(folder) / "pictures", on_step=count, threads=torch.get_num_threads())
        try:
            for request in requests:
                found.clear()
                latents.clear()
                *_, last = backend.submit(request).events()
        finally:
            backend.close()
        after = gpu.counts
    if len(found) != steps:
        raise RuntimeError(f"The run ended after {len(found)} of {steps} steps: {getattr(last, 'message', last)}")
    return _Counted(found, after, latents, card.width * card.height)
