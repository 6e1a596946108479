"""The record of one generation: every denoising step, so that it can be replayed and inspected without the model.

The arrays are NumPy, float32, on the CPU.  x_t is kept in full precision and x0 is computed from it: that takes as
many bytes as both of them in half precision, and the guided x0 comes out exact for any guidance scale.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

from pipelines.events import Picture
from pipelines.request import GenerationRequest
from pipelines.sampling.schedulers import SCHEDULERS, noise_from_prediction, x0_from_prediction

# What a trace may hold besides the latents: the model's predictions, both halves of guidance, attention maps.
TraceData = Literal["predictions", "guidance", "attention"]


class TraceError(ValueError):
    """A trace that cannot be read; the message is one plain sentence."""


@dataclass(frozen=True)
class StepRecord:
    """One step in numbers.

    Attributes:
        index: from 0.
        timestep: the scheduler's timestep, 0 to 999.
        sigma, alpha: noise and signal level, alpha^2 + sigma^2 = 1 (flow matching: alpha + sigma = 1).
    """

    index: int
    timestep: float
    sigma: float
    alpha: float

    @property
    def alpha_bar(self) -> float:
        """The signal's share of the mix, alpha^2 / (alpha^2 + sigma^2).

        That is alpha^2 (Ho et al. 2020, arXiv:2006.11239, equation 4) except for flow matching, where the two levels
        and not their squares add up to 1.
        """
        return signal_share(self.alpha, self.sigma)

    @property
    def snr(self) -> float:
        """Signal-to-noise ratio (alpha / sigma)^2; infinite without noise."""
        return (self.alpha / self.sigma) ** 2 if self.sigma else math.inf


def signal_share(alpha: float, sigma: float) -> float:
    """The signal's share of a mix of signal and noise, by power, 0 to 1."""
    return alpha**2 / (alpha**2 + sigma**2)


@dataclass(frozen=True, eq=False)
class Trace:
    """The recorded steps of one generation of n pictures with s steps.

    Attributes:
        id: the job's.
        request: what was asked for.
        created: seconds since the epoch.
        total: the scheduler's timesteps; a stopped run has fewer steps.
        prediction_type: epsilon, v_prediction, sample, flow_prediction, or own for a pipeline that runs its own loop:
            of such a run only the latents are known, and the latents after a step stand for its x0.
        variance_exploding: whether x_t is x0 + sigma * eps (the sampler's own scale), not alpha * x0 + sigma * eps.
        steps: the numbers of each step.
        x_t, cond, uncond: (s, n, c, h, w); ``uncond`` is None without guidance, both are None for an own loop.
        final: the latents after the last step, (n, c, h, w).
        frames: JPEG of the model's guess (x0), [step][picture].
        noisy: JPEG of the decoded x_t, [step][picture]; empty if they were not drawn during the run.
        frames_guidance: the guidance scale of ``frames``; a guided run shows its guesses without guidance, 1.
        pictures: the stored files; empty when stopped.
        finals: each finished image as a small PNG or JPEG, so that a trace replays after the file was deleted.
        to_rgb: linear map from latents to RGB in [-1, 1], (c + 1, 3); the last row is added.
        model_name, model_licence: for the credits.
        seconds: how long the generation took on this computer; 0 if that is not known.
        frames_seconds: how long its frames took after the pictures were there; 0 if they were made while it ran.
        rough: whether some of the frames are only the linear map's: the run was stopped before they were decoded.
    """

    id: str
    request: GenerationRequest
    created: float
    total: int
    prediction_type: str
    variance_exploding: bool
    steps: tuple[StepRecord, ...]
    x_t: np.ndarray
    cond: np.ndarray | None
    uncond: np.ndarray | None
    final: np.ndarray
    frames: tuple[tuple[bytes, ...], ...]
    pictures: tuple[Picture, ...]
    finals: tuple[bytes, ...]
    to_rgb: np.ndarray
    model_name: str = ""
    model_licence: str = ""
    seconds: float = 0.0
    noisy: tuple[tuple[bytes, ...], ...] = ()
    frames_guidance: float = 1.0
    rough: bool = False
    frames_seconds: float = 0.0

    def variance_preserving(self, i: int) -> np.ndarray:
        """alpha * x0 + sigma * eps: x_t of step i, (n, c, h, w), rescaled if the sampler is variance exploding."""
        exploding, at = self.variance_exploding, self.request.at_step(i)
        if at is not self.request and at.sampling.scheduler in SCHEDULERS:  # the first steps of a fork
            exploding = SCHEDULERS[at.sampling.scheduler].variance_exploding
        return self.steps[i].alpha * self.x_t[i] if exploding else self.x_t[i]

    def prediction(self, i: int, g: float | None = None) -> np.ndarray:
        """The model's output at step i under guidance g: uncond + g * (cond - uncond), (n, c, h, w).

        Args:
            i: the step, from 0.
            g: None means the run's own; 0 is the unconditional (or negative) half alone, 1 the conditional half.
        """
        if self.cond is None:
            raise TraceError("This model runs its own loop, so its predictions were not recorded.")
        if self.uncond is None:
            return self.cond[i]
        g = self.request.at_step(i).sampling.guidance_scale if g is None else g
        return self.uncond[i] + np.float32(g) * (self.cond[i] - self.uncond[i])

    def x0(self, i: int, g: float | None = None) -> np.ndarray:
        """The predicted x0 at step i under guidance g, as latents (n, c, h, w)."""
        if self.cond is None:
            return self.x_t[i + 1] if i + 1 < len(self.steps) else self.final
        facts = self.steps[i]
        return x0_from_prediction(
            self.prediction_type, self.prediction(i, g), self.variance_preserving(i), facts.alpha, facts.sigma
        )

    def guess(self, i: int) -> np.ndarray:
        """The model's guess for the prompt at step i: x0 without guidance, as latents (n, c, h, w)."""
        return self.x0(i, 1.0)

    def noise(self, i: int) -> np.ndarray:
        """The noise that the model predicts at step i, (n, c, h, w)."""
        facts = self.steps[i]
        return noise_from_prediction(
            self.prediction_type, self.prediction(i), self.variance_preserving(i), facts.alpha, facts.sigma
        )

    def guidance(self, i: int) -> np.ndarray | None:
        """cond - uncond at step i, (n, c, h, w); None without guidance."""
        return None if self.uncond is None or self.cond is None else self.cond[i] - self.uncond[i]

    @cached_property
    def x0s(self) -> np.ndarray:
        """x0 of every step under the run's own guidance, (s, n, c, h, w)."""
        return np.stack([self.x0(i) for i in range(len(self.steps))])

    def change(self, i: int, k: int) -> float:
        """RMS of x0(i) - x0(i - 1) of image k, in latents: how far x0 moved since the step before; 0 at the first."""
        if i == 0:
            return 0.0
        return float(np.sqrt(np.mean(np.square(self.x0s[i, k] - self.x0s[i - 1, k]))))

    def cumulative_change(self, k: int) -> list[float]:
        """Share of all change of image k that has happened after each step, 0 to 1."""
        done = np.cumsum([self.change(i, k) for i in range(len(self.steps))])
        total = done[-1] if len(done) else 0.0
        return [float(x / total) for x in done] if total > 0 else [1.0] * len(done)

    def loudest_step(self, k: int) -> int:
        """The step at which the guess for image k changes most from the step before, RMS over the latents."""
        guesses = np.stack([self.guess(i)[k] for i in range(len(self.steps))])
        moved = np.square(np.diff(guesses, axis=0)).mean(axis=(1, 2, 3))
        return int(np.argmax(moved)) + 1 if len(moved) and np.isfinite(moved).all() else 0

    @property
    def seconds_a_step(self) -> float:
        """How long one step of those took that this run made itself; 0 if that is not known."""
        return self.seconds / max(len(self.steps) - self.taken_over, 1)

    @property
    def seconds_whole(self) -> float:
        """About how long the run with its frames would have taken had it not been stopped; of a fork, its own steps."""
        return self.seconds_a_step * max(self.total - self.taken_over, 1) + self.frames_seconds

    @property
    def taken_over(self) -> int:
        """Steps of the run that a fork left."""
        return self.request.fork.step if self.request.fork else 0

    @property
    def final_gap(self) -> float:
        """Largest difference between the last x0 and the final latents: some samplers do not end at their last x0."""
        return float(np.max(np.abs(self.x0s[-1] - self.final))) if self.steps else 0.0

    @property
    def provides(self) -> frozenset[TraceData]:
        """What was recorded besides the latents; a lens shows up where this covers its ``needs``."""
        found: set[TraceData] = set()
        if self.cond is not None:
            found.add("predictions")
            if self.uncond is not None:
                found.add("guidance")
        return frozenset(found)

    @property
    def nbytes(self) -> int:
        """Bytes in memory."""
        arrays = [self.x_t, self.final, self.to_rgb, *(a for a in (self.cond, self.uncond) if a is not None)]
        pictures = [*(jpeg for row in (*self.frames, *self.noisy) for jpeg in row), *self.finals]
        return sum(array.nbytes for array in arrays) + sum(len(data) for data in pictures)
