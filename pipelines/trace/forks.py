"""The steps of a run that leaves another one: the recorded ones, or those made again, and then its own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, Any

from pipelines.events import Step
from pipelines.request import GenerationRequest, InvalidRequest, make_request
from pipelines.system.paths import PROJECT
from pipelines.system.text import shorten
from pipelines.trace.serialization import load_trace
from pipelines.trace.trace import TraceError

if TYPE_CHECKING:
    import torch

    from pipelines.cards import ModelCard
    from pipelines.model import Model
    from pipelines.request import Fork
    from pipelines.sampling.forks import Recording
    from pipelines.sampling.image_to_image import InitLatents
    from pipelines.trace.trace import Trace

NOT_EXACT = (
    "The steps before the fork could not be repeated exactly, so this run goes on from the recorded latents: with "
    "nothing changed it would be close to the original, not equal to it."
)
MADE_AGAIN = "The steps before the fork were made again: their record is not kept here."


def recorded(trace: Trace | None, request: GenerationRequest) -> Trace | None:
    """The trace, if it holds the steps that a fork begins with; else None."""
    fork = request.fork
    if fork is None or trace is None or trace.cond is None or beginning(trace.request, fork.step) != fork.original:
        return None
    return trace if len(trace.steps) > fork.step else None


def recording_with(cards: Iterable[ModelCard], run: str) -> Trace | None:
    """The recorded run of this name that comes with one of the models, or None."""
    paths = [PROJECT / card.recording for card in cards if card.recording]
    path = next((path for path in paths if path.name == run), None)
    try:
        return load_trace(path.parent, path.name) if path else None
    except TraceError:
        return None


def beginning(request: GenerationRequest, steps: int) -> GenerationRequest:
    """What the first steps of a run follow: its request or, of a fork, that of the run which it left later."""
    while request.fork is not None and steps <= request.fork.step:
        request = request.fork.original
    return request


def recording_of(trace: Trace, fork: Fork) -> Recording:
    """What the loop needs of a trace, for a run that leaves it."""
    from pipelines.sampling.forks import Recording

    assert trace.cond is not None
    # A fork that is left where it began: the latents there are recorded as its own sampler scales them.
    x_t = trace.x_t if trace.request == fork.original else trace.x_t[: fork.step]
    return Recording(x_t, trace.cond, trace.uncond)


def fork_steps(
    model: Model,
    request: GenerationRequest,
    init: InitLatents | None,
    apply: Callable[[Model, GenerationRequest], None],
    cancelled: Callable[[], bool],
) -> Iterator[Step]:
    """All steps of a fork whose original has no trace: those of the original are made again.

    Args:
        model: leased, with the adapters of ``request``.
        request: a fork, or any other request.
        init: latents of the init image, or None.
        apply: applies the adapters of a request to the model.
        cancelled: as for ``denoise``.
    """
    from pipelines.sampling.denoise import denoise
    from pipelines.sampling.forks import Recording

    fork = request.fork
    if fork is None:
        yield from denoise(model, request, init, cancelled=cancelled)
        return
    # They stay where they are: to copy them would make each step wait for a GPU.
    x_t: list[torch.Tensor] = []
    cond: list[torch.Tensor] = []
    uncond: list[torch.Tensor] = []
    if fork.step:
        apply(model, fork.original)
    for step in islice(fork_steps(model, fork.original, init, apply, cancelled), fork.step):
        assert step.cond is not None
        x_t.append(step.x_t)
        cond.append(step.cond)
        uncond.append(step.cond if step.uncond is None else step.uncond)
        yield replace(step, scheduler=step.scheduler or fork.original.sampling.scheduler)
    if cancelled():
        return
    apply(model, request)
    yield from denoise(model, request, init, recording=Recording(x_t, cond, uncond), cancelled=cancelled)


def fork_of(trace: Trace, step: int, noise_seed: int | None = None, **changes: Any) -> GenerationRequest:
    """The request of a run that leaves a recorded one at a step.

    Args:
        trace: of the other run.
        step: how many of its steps are kept, from 0.
        noise_seed: of new noise from there on, or None.
        changes: prompt, negative_prompt, scheduler, guidance_scale; what is None or left out stays.  A prompt names its
            LoRAs, ``<lora:name:0.8>``; without a new prompt they stay.  What stays is what the run ended with.

    Raises:
        InvalidRequest: with one sentence.
    """
    original = trace.request
    if trace.cond is None:
        raise InvalidRequest("fork.run", "This model runs a loop of its own, which cannot be left at a step.")
    if isinstance(step, bool) or not isinstance(step, int) or not 0 <= step < len(trace.steps):
        most = len(trace.steps) - 1
        shown = shorten(repr(step))
        raise InvalidRequest("fork.step", f"step is {shown}; this run can be left after 0 to {most} of its steps.")
    given = {name: value for name, value in changes.items() if value is not None}
    names = GenerationRequest.model_fields.keys() - {"sampling", "fork"}
    kept = {name: getattr(original, name) for name in names}
    if "prompt" in given:
        kept |= {"prompts": (), "loras": (), "typed": None}
    fork = {"run": trace.id, "step": step, "original": beginning(original, step), "seed": noise_seed}
    return make_request(**{**kept, **dict(original.sampling), **given}, fork=fork)
