"""The page's sentences about time, queue and cost, and what it knows of a model's words."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

from pipelines.cards import ModelCard
from pipelines.request import GenerationRequest
from pipelines.trace import Trace, TraceError

ROOT = Path(__file__).resolve().parent.parent
log = logging.getLogger(__name__)

# What the embedded model's captions name; "surprise me" draws from these.
BACKGROUNDS = (
    "white", "black", "grey", "red", "orange", "yellow", "green", "blue", "sky blue", "purple", "pink", "brown", "teal",
)  # fmt: skip


def seconds(value: float) -> str:
    """A length of time as people say it: "0.4 s", "12 s", "3 min"."""
    if value < 10:
        return f"{value:.1f} s"
    return f"{value:.0f} s" if value < 100 else f"{value / 60:.0f} min"


def ordinal(number: int) -> str:
    """1st, 2nd, 3rd, 4th, 11th."""
    ending = "th" if 10 <= number % 100 <= 20 else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"


def queued(ahead: int) -> str:
    """Where a waiting job stands."""
    if ahead <= 0:
        return "Queued, next in line"
    runs = "1 picture is made" if ahead == 1 else f"{ahead} pictures are made"
    return f"Queued, {ordinal(ahead + 1)} in line: {runs} before yours"


def mixed(request: GenerationRequest, k: int) -> tuple[int, float] | None:
    """The seed that picture k's noise goes towards, and how far (0 to 1); None where its noise is that of one seed."""
    variation, blend = request.variation, request.interpolation
    if variation is not None:
        return variation.seed + k, variation.strength
    if blend is not None and blend.seed is not None:
        return blend.seed, k / (request.num_images - 1)
    return None


def worn(request: GenerationRequest) -> str:
    """The LoRAs of a run with their weights: "ink 0.8, clay 1"; "" without any."""
    return ", ".join(f"{lora.name} {lora.weight:g}" for lora in request.loras)


def heading(request: GenerationRequest) -> str:
    """What a run is called: its prompt, and the LoRAs behind it; "" where there is neither."""
    loras = worn(request)
    return " \u00b7 ".join(part for part in (request.prompt, loras and f"LoRA {loras}") if part)


def cost(card: ModelCard) -> str:
    """What the quality choices cost, compared with each other."""
    steps = {name: quality.num_inference_steps for name, quality in card.qualities.items()}
    low, high = min(steps, key=steps.__getitem__), max(steps, key=steps.__getitem__)
    if low == high:
        return "Time grows with the number of steps."
    ratio = steps[high] / steps[low]
    times = f"{ratio:.0f}" if ratio >= 2 else f"{ratio:.1f}"
    return f"More steps, more detail: {high} takes about {times} times as long as {low}."


def _load(path: str) -> Any:
    """A bundled JSON file, or None when it is not there or not readable: the page works without."""
    if not path:
        return None
    try:
        return json.loads((ROOT / path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        log.info("%s is left out of the page: %s", path, error)
        return None


def recording(card: ModelCard) -> Trace | None:
    """The card's recorded run, or None when there is none."""
    if not card.recording:
        return None
    path = ROOT / card.recording
    try:
        trace = Trace.load(path.parent, path.name)
    except TraceError as error:
        log.info("%s is left out of the page: %s", card.recording, error)
        return None
    return trace if trace.steps and trace.finals else None


def vocabulary(card: ModelCard) -> list[dict[str, Any]]:
    """The words that the model knows: ``[{"name": ..., "tags": [...]}]``; empty for models without a limit."""
    found = _load(card.vocabulary)
    return [word for word in found if isinstance(word, dict) and "name" in word] if isinstance(found, list) else []


def neighbours(card: ModelCard) -> dict[str, Any] | None:
    """What is near to words that the model has not learned (``ui.hints``); None for models without a limit."""
    found = _load(card.neighbours)
    kinds = {"names": list, "colours": list, "plain": str, "strange": str, "near": dict}
    whole = isinstance(found, dict) and all(isinstance(found.get(name), kind) for name, kind in kinds.items())
    return found if whole else None


def loading(model: str, part: str, done: int, total: int) -> str:
    """How far the loading of a model is."""
    return f"Loading {model}: {done} of {total} parts, next {part}"
