"""Collects the steps of one run into a trace."""

from __future__ import annotations

from typing import Any

import numpy as np

from pipelines.events import Picture, Step
from pipelines.request import GenerationRequest
from pipelines.sampling.schedulers import SCHEDULERS, prediction_type_of
from pipelines.trace.trace import StepRecord, Trace


class Recorder:
    """Collects the steps of one run; costs a copy of four small arrays a step."""

    def __init__(self, trace_id: str, request: GenerationRequest, created: float) -> None:
        self._id, self._request, self._created = trace_id, request, created
        self._facts: list[StepRecord] = []
        self._x_t: list[np.ndarray] = []
        self._cond: list[np.ndarray] = []
        self._uncond: list[np.ndarray] = []
        self._frames: list[tuple[bytes, ...]] = []
        self._noisy: list[tuple[bytes, ...]] = []
        self._last: Step | None = None
        self._rough = False

    @property
    def request(self) -> GenerationRequest:
        """The request of the run."""
        return self._request

    @property
    def steps(self) -> int:
        """The number of recorded steps."""
        return len(self._facts)

    def add(self, step: Step, frames: tuple[bytes, ...], noisy: tuple[bytes, ...] = (), rough: bool = False) -> None:
        """Record a step with its JPEG previews: the guesses, and the noisy latents if they were drawn.

        ``rough`` says that they are only the linear map's, although the model could decode them.  A step without
        previews (its latents form no image) is left out.
        """
        if not frames:
            return
        self._facts.append(StepRecord(step.index, float(step.timestep), step.sigma, step.alpha))
        self._x_t.append(_array(step.x_t))
        if step.cond is not None:
            self._cond.append(_array(step.cond))
        if step.uncond is not None:
            self._uncond.append(_array(step.uncond))
        self._frames.append(frames)
        self._noisy.append(noisy)
        self._last, self._rough = step, self._rough or rough

    def finish(self, model: Any, pictures: tuple[Picture, ...], finals: tuple[bytes, ...], seconds: float) -> Trace:
        """The trace of what was added; at least one step must have been.

        Args:
            model: the loaded model (its scheduler's configuration, its colour map, its card).
            pictures: the stored pictures, none when the run was stopped.
            finals: each as small PNG or JPEG bytes.
            seconds: the run's length.
        """
        assert self._last is not None
        return Trace(
            id=self._id,
            request=self._request,
            created=self._created,
            total=self._last.total,
            prediction_type=prediction_type_of(model.scheduler_config),
            variance_exploding=SCHEDULERS[self._request.sampling.scheduler].variance_exploding,
            steps=tuple(self._facts),
            x_t=np.stack(self._x_t),
            cond=np.stack(self._cond) if self._cond else None,
            uncond=np.stack(self._uncond) if self._uncond else None,
            final=_array(self._last.x_next),
            frames=tuple(self._frames),
            noisy=tuple(self._noisy) if all(self._noisy) else (),
            frames_guidance=1.0 if self._uncond else self._request.sampling.guidance_scale,
            pictures=pictures,
            finals=finals,
            to_rgb=model.latents.to_rgb(),
            model_name=model.card.name,
            model_licence=model.card.licence,
            seconds=seconds,
            rough=self._rough,
        )


def _array(x: Any) -> np.ndarray:
    return x.detach().float().cpu().numpy().copy()
