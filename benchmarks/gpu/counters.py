"""What each step of a run asks of a graphics card, counted on the pretend GPU: every wait stalls a real one."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
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

    The first step encodes the prompt.

    Args:
        model_name: id of a card.
        cards: that has it; by default the catalogue.
        steps: of the run.
    """
    counted = _counted(model_name, cards, steps)
    latents = max(size for _, size in counted)
    # What is recorded: x_t and both predictions.  What is shown, small: the guess and the noisy latents, between which
    # the page switches at any time.
    most_bytes = 3 * latents + 2 * 3 * PREVIEW_SIDE**2
    most = {name: max(getattr(counts, name) for counts, _ in counted) for name in COUNTED}
    return [
        row("scalar syncs a step", most["scalar_syncs"], 0),
        row("blocking copies to the host a step", most["blocking_copies"], 0),
        row("blocking copies to the card a step", most["uploads"], 0),
        row("bytes copied to the host a step (three latents, two small pictures)", most["copied_bytes"], most_bytes),
    ]


def _counted(model_name: str, cards: Iterable[Any], steps: int) -> list[tuple[Counts, int]]:
    """The counts of each step but the first, and the bytes of its latents."""
    import torch

    from pipelines.jobs.local import LocalBackend
    from pipelines.models.manager import PipelineManager
    from pipelines.request import make_request
    from presets.catalogue import load

    manager = PipelineManager(cards or load(), machine=PretendMachine(CARD))
    card = manager.cards[model_name]
    request = make_request(
        model=model_name, prompt="a house", width=card.width, height=card.height, scheduler="ddim",
        num_inference_steps=steps, guidance_scale=max(2.0, card.guidance_scale), seed=1,
    )  # fmt: skip
    found: list[tuple[Counts, int]] = []

    def count(job: Any, step: Any) -> None:
        found.append((gpu.counts, step.x_t.nbytes))
        gpu.counts = Counts()

    with tempfile.TemporaryDirectory() as folder, pretend_gpu.use() as gpu:
        backend = LocalBackend(manager, Path(folder) / "pictures", on_step=count, threads=torch.get_num_threads())
        try:
            *_, last = backend.submit(request).events()
        finally:
            backend.close()
    if len(found) != steps:
        raise RuntimeError(f"The run ended after {len(found)} of {steps} steps: {getattr(last, 'message', last)}")
    return found[1:]
