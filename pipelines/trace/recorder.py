"""Collects the steps of one run into a trace."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import replace
from typing import Any

import numpy as np

from pipelines.events import Picture, Step
from pipelines.request import GenerationRequest
from pipelines.sampling.schedulers import SCHEDULERS, prediction_type_of
from pipelines.trace.trace import StepRecord, Trace


class Recorder:
    """Collects the steps of one run; costs a copy of four small arrays a step.

    Attributes:
        frames_seconds: how long frames took that were made after the pictures; set before ``finish``.
    """

    frames_seconds = 0.0

    def __init__(self, trace_id: str, request: GenerationRequest, created: float) -> None:
        self._id, self._request, self._created = trace_id, request, created
        self._facts: list[StepRecord] = []
        self._x_t: list[np.ndarray] = []
        self._cond: list[np.ndarray] = []
        self._uncond: list[np.ndarray | None] = []
        self._frames: list[tuple[bytes, ...]] = []
        self._noisy: list[tuple[bytes, ...]] = []
        self._last: Step | None = None
        self._rough = False

    def begin_with(self, trace: Trace, steps: int) -> None:
        """Take over the first steps of the run that this one forks from."""
        # Its frames stand for steps that are not decoded again.
        self._rough = self._rough or (trace.rough and steps > 0)
        for i in range(steps):
            self._facts.append(trace.steps[i])
            self._x_t.append(trace.x_t[i])
            if trace.cond is not None:
                self._cond.append(trace.cond[i])
            self._uncond.append(None if trace.uncond is None else trace.uncond[i])
            self._frames.append(trace.frames[i])
            self._noisy.append(trace.noisy[i] if trace.noisy else ())

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
        self._x_t.append(as_array(step.x_t))
        if step.cond is not None:
            self._cond.append(as_array(step.cond))
        self._uncond.append(None if step.uncond is None else as_array(step.uncond))
        self._frames.append(frames)
        self._noisy.append(noisy)
        self._rough = self._rough or rough
        self._last = step if self._last is None or step.index > self._last.index else self._last

    def _in_order(self) -> None:
        """Steps that no page watched were added last."""
        order = sorted(range(len(self._facts)), key=lambda k: self._facts[k].index)
        rows: Any
        for rows in (self._facts, self._x_t, self._cond, self._uncond, self._frames, self._noisy):
            rows[:] = [rows[k] for k in order if rows]

    def finish(self, model: Any, pictures: tuple[Picture, ...], finals: tuple[bytes, ...], seconds: float) -> Trace:
        """The trace of what was added; at least one step must have been.

        Args:
            model: the loaded model (its scheduler's configuration, its colour map, its card).
            pictures: the stored pictures, none when the run was stopped.
            finals: each as small PNG or JPEG bytes.
            seconds: the run's length.
        """
        self._in_order()
        found = self._trace(prediction_type_of(model.scheduler_config))
        return replace(
            found,
            frames=tuple(self._frames),
            noisy=tuple(self._noisy) if all(self._noisy) else (),
            frames_guidance=self._request.sampling.guidance_scale if found.uncond is None else 1.0,
            pictures=pictures,
            finals=finals,
            to_rgb=model.latents.to_rgb(),
            model_name=model.card.name,
            model_licence=model.card.licence,
            seconds=seconds,
            rough=self._rough,
            frames_seconds=self.frames_seconds,
        )

    def so_far(self, unrecorded: Sequence[Step], prediction_type: str) -> Trace | None:
        """The trace of what was added and of some more steps, without frames and pictures; None before the first.

        Another thread may add steps meanwhile.
        """
        found, rows = copy(self), len(self._noisy)
        for name in ("_facts", "_x_t", "_cond", "_uncond", "_frames", "_noisy"):
            setattr(found, name, getattr(self, name)[:rows])
        for step in unrecorded:
            found.add(step, (b"",))
        if found._last is None or not found._facts:
            return None
        found._in_order()
        return found._trace(prediction_type)

    def _trace(self, prediction_type: str) -> Trace:
        """What the latents alone say."""
        assert self._last is not None
        return Trace(
            id=self._id,
            request=self._request,
            created=self._created,
            total=self._last.total,
            prediction_type=prediction_type,
            variance_exploding=SCHEDULERS[self._request.sampling.scheduler].variance_exploding,
            steps=tuple(self._facts),
            x_t=np.stack(self._x_t),
            cond=np.stack(self._cond) if self._cond else None,
            uncond=self._unconditional(),
            final=as_array(self._last.x_next),
            frames=(),
            pictures=(),
            finals=(),
            to_rgb=np.zeros((self._x_t[0].shape[1] + 1, 3), np.float32),
        )

    def _unconditional(self) -> np.ndarray | None:
        """The unconditional predictions; in a fork that turns guidance on or off, the others stand in for them."""
        if all(each is None for each in self._uncond):
            return None
        pairs = zip(self._uncond, self._cond, strict=True)
        return np.stack([cond if uncond is None else uncond for uncond, cond in pairs])


def as_array(x: Any) -> np.ndarray:
    """A copy of a tensor as float32 on the CPU."""
    return x.detach().float().cpu().numpy().copy()
