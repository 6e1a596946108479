"""Work that runs out of memory is tried again in a way that needs less."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

from pipelines.jobs.loader import free_memory
from pipelines.jobs.messages import OutOfFallbacks
from pipelines.models import oom_fallback
from pipelines.models.oom_fallback import OVERFLOW, out_of_memory

if TYPE_CHECKING:
    from pipelines.model import Model
    from pipelines.models.manager import PipelineManager
    from pipelines.request import GenerationRequest

log = logging.getLogger(__name__)
T = TypeVar("T")


class OomRetry:
    """A leased model; work that runs out of memory is repeated with the next fallback.

    Attributes:
        model: with the fallbacks that are active now.
        activated: names of the fallbacks that this run has activated.
    """

    def __init__(
        self, manager: PipelineManager, request: GenerationRequest, model: Model, fallbacks: Sequence[str]
    ) -> None:
        self._manager, self._request, self._initial = manager, request, fallbacks
        self.model = model
        self.activated: list[str] = []

    def __call__(self, stage: str, work: Callable[[Model], T]) -> T:
        """What ``work`` returns for the model, with a wider autoencoder if that overflows; raises OutOfFallbacks."""
        from pipelines.sampling.latents import AutoencoderOverflow

        while True:
            done, overflowed = None, False
            try:
                done = _unless_out_of_memory(work, self.model)
            except AutoencoderOverflow:
                overflowed = True
            if done is not None:
                return done[0]
            if overflowed and (wider := _unless_out_of_memory(self._widen, self.model)) is not None:
                if wider[0] is None:
                    raise AutoencoderOverflow
                self.model = wider[0]
                continue
            # Only here, outside of the attempt, are its tensors without references.
            free_memory()
            self._activate_next(stage)

    def _widen(self, model: Model) -> Model | None:
        """The model with an autoencoder in float32; None if it was."""
        found = self._manager.apply_next_fallback(self._request.model, OVERFLOW, 1)
        return found[0] if found else None

    def remember(self) -> None:
        """Have the next run of this size begin with these fallbacks."""
        if self.activated:
            self._manager.remember_fallbacks(
                self._request.model, pixels_of(self._request), (*self._initial, *self.activated)
            )

    def _activate_next(self, stage: str) -> None:
        found = self._manager.apply_next_fallback(self._request.model, stage, _rows(self.model, self._request))
        if found is None:
            raise OutOfFallbacks(", ".join(oom_fallback.words(self.model.placement.fallbacks)))
        self.model, name = found
        if not name:
            return  # idle models were on the card
        self.activated.append(name)
        log.warning("Memory ran out (%s); going on with %s", stage, name)


def _unless_out_of_memory(work: Callable[[Model], T], model: Model) -> tuple[T] | None:
    """What the work returns, in a tuple; None if memory ran out."""
    try:
        return (work(model),)
    except Exception as error:
        if not out_of_memory(error):
            raise
    return None


def pixels_of(request: GenerationRequest) -> int:
    return request.width * request.height * request.num_images


def _rows(model: Model, request: GenerationRequest) -> int:
    """Batch size of the denoiser: guidance doubles it."""
    return request.num_images * (1 if model.guidance_embedded or request.sampling.guidance_scale <= 1 else 2)


def applicable(request: GenerationRequest, fallbacks: Sequence[str]) -> tuple[str, ...]:
    """Without those that change nothing for this request."""
    single = request.num_images == 1 and request.sampling.guidance_scale <= 1
    return tuple(name for name in fallbacks if not (single and name == "one"))
