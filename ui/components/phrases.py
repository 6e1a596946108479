"""The page's sentences about time, queue and cost, and a model's vocabulary."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

from pipelines.cards import ModelCard
from pipelines.request import GenerationRequest
from pipelines.sampling.schedulers import SCHEDULERS
from pipelines.system.bounded_json import read_json_file
from pipelines.system.paths import PROJECT
from pipelines.trace.lens_files import LENSES_SUFFIX, load_lenses
from pipelines.trace.serialization import load_trace
from pipelines.trace.trace import Trace, TraceError
from ui.components.data_uri import data_uri

log = logging.getLogger(__name__)


def seconds(value: float) -> str:
    """A duration: "0.4 s", "12 s", "3 min"."""
    if value < 10:
        return f"{value:.1f} s"
    return f"{value:.0f} s" if value < 100 else f"{value / 60:.0f} min"


def ordinal(number: int) -> str:
    """1st, 2nd, 3rd, 4th, 11th."""
    ending = "th" if 10 <= number % 100 <= 20 else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"


def queued(ahead: int) -> str:
    """A waiting job's position in the queue."""
    if ahead <= 0:
        return "Queued, next in line"
    runs = "1 picture is made" if ahead == 1 else f"{ahead} pictures are made"
    return f"Queued, {ordinal(ahead + 1)} in line: {runs} before yours"


def noise_blend(request: GenerationRequest, k: int) -> tuple[int, float] | None:
    """The seed that picture k's noise goes towards, and how far (0 to 1); None where its noise is that of one seed."""
    variation, blend = request.variation, request.interpolation
    if variation is not None:
        return variation.seed + k, variation.strength
    if blend is not None and blend.seed is not None:
        return blend.seed, k / (request.num_images - 1)
    return None


def loras_used(request: GenerationRequest) -> str:
    """The LoRAs of a run with their weights: "ink 0.8, clay 1"; "" without any."""
    return ", ".join(f"{lora.name} {lora.weight:g}" for lora in request.loras)


def fork_changes(request: GenerationRequest) -> str:
    """What a fork changed: "another prompt and guidance 7"; "nothing changed" if it is the original's end."""
    fork, new, found = request.fork, request.sampling, []
    if fork is None:
        return ""
    old = fork.original
    found += ["another prompt"] * ((request.prompt, request.prompts) != (old.prompt, old.prompts))
    found += ["another negative prompt"] * (request.negative_prompt != old.negative_prompt)
    found += [f"guidance {new.guidance_scale:g}"] * (new.guidance_scale != old.sampling.guidance_scale)
    found += [f"sampler {label_of(new.scheduler)}"] * (new.scheduler != old.sampling.scheduler)
    found += [f"LoRA {loras_used(request) or 'none'}"] * (request.loras != old.loras)
    found += ["new noise"] * (fork.seed is not None)
    return " and ".join(filter(None, (", ".join(found[:-1]), *found[-1:]))) or "nothing changed"


def label_of(scheduler: str) -> str:
    """What the page calls a scheduler."""
    return SCHEDULERS[scheduler].label if scheduler in SCHEDULERS else scheduler


def heading(request: GenerationRequest) -> str:
    """A run's title: its prompt and its LoRAs; "" without either."""
    loras = loras_used(request)
    return " \u00b7 ".join(part for part in (request.prompt, loras and f"LoRA {loras}") if part)


def cost(card: ModelCard) -> str:
    """How long the quality choices take, compared with each other."""
    steps = {name: quality.num_inference_steps for name, quality in card.qualities.items()}
    low, high = min(steps, key=steps.__getitem__), max(steps, key=steps.__getitem__)
    if low == high:
        return "Time grows with the number of steps."
    ratio = steps[high] / steps[low]
    times = f"{ratio:.0f}" if ratio >= 2 else f"{ratio:.1f}"
    return f"More steps, more detail: {high} takes about {times} times as long as {low}."


def _load(path: str) -> Any:
    """A bundled JSON file, or None if it is missing or unreadable: the page works without it."""
    if not path:
        return None
    try:
        return read_json_file(PROJECT / path)
    except (OSError, ValueError) as error:
        log.info("%s is left out of the page: %s", path, error)
        return None


def recording(card: ModelCard) -> Trace | None:
    """The card's recorded run, or None when there is none; its time is that of another computer and is left out."""
    if not card.recording:
        return None
    path = PROJECT / card.recording
    try:
        trace = load_trace(path.parent, path.name)
    except TraceError as error:
        log.info("%s is left out of the page: %s", card.recording, error)
        return None
    return replace(trace, seconds=0.0) if trace.steps and trace.finals else None


def ready_lenses(card: ModelCard, trace: Trace | None) -> dict[tuple[str, int, str], list[str]]:
    """The ready-made lenses of the card's recorded run, for ``FrameCache``; {} where none fit."""
    if trace is None:
        return {}
    try:
        found = load_lenses(trace, PROJECT / f"{card.recording}{LENSES_SUFFIX}")
    except TraceError as error:
        log.info("%s", error)
        return {}
    return {(trace.id, 0, name): [data_uri(frame) for frame in frames] for name, frames in found.items()}


def vocabulary(card: ModelCard) -> list[dict[str, Any]]:
    """The words that the model knows: ``[{"name": ..., "tags": [...]}]``; empty for models without a limit."""
    found = _load(card.vocabulary)
    return [word for word in found if isinstance(word, dict) and "name" in word] if isinstance(found, list) else []


def neighbours(card: ModelCard) -> dict[str, Any] | None:
    """The nearest known words to words that the model has not learned; None for models without a limit."""
    found = _load(card.neighbours)
    kinds = {"names": list, "colours": list, "plain": str, "strange": str, "near": dict}
    whole = isinstance(found, dict) and all(isinstance(found.get(name), kind) for name, kind in kinds.items())
    return found if whole else None


def loading(model: str, part: str, done: int, total: int) -> str:
    """The progress of loading a model."""
    return f"Loading {model}: {done} of {total} parts, next {part}"
