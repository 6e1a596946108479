"""Training the tiny model, a slice at a time, so that the worker can do something else between two slices."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

import numpy as np
import torch

from pipelines.training.toy.denoisers import TIMESTEPS, Denoiser, IdealDenoiser, NoisePredictor, levels
from pipelines.training.toy.settings import NO_CLASS, PLANE, TrainingSettings
from pipelines.training.toy.shapes import make_dots

BATCH = 512
# The loss is shown for so many equal parts of the timesteps.
LOSS_LEVELS = 10
# Of the running mean of the loss: about the latest 50 steps.
MEMORY = 0.98
# Share of the batch that learns without its class, so that guidance has something to lead away from.
WITHOUT_CLASS = 0.2
# The field is drawn on a grid of GRID x GRID places, at these timesteps.
GRID = 13
FIELD_TIMESTEPS = (100, 300, 500, 700, 900)
# Dots from which the loss of the ideal denoiser is measured, at each level.
IDEAL_DOTS = 400

F = TypeVar("F", bound=Callable[..., Any])


def _with_gradients(function: F) -> F:
    """The worker answers in inference mode, whose tensors cannot learn."""

    @wraps(function)
    def outside(*args: Any, **kwargs: Any) -> Any:
        with torch.inference_mode(False), torch.enable_grad():
            return function(*args, **kwargs)

    return outside  # type: ignore[return-value]


class DotsTraining:
    """One training of the tiny model.

    It learns eps from x_t = alpha * x0 + sigma * eps, by |eps - eps(x_t, t)|^2 over all t alike (Ho et al. 2020,
    arXiv:2006.11239, equation 14).  For one thread at a time, but for ``stop``.

    Args:
        settings: what is learned and how fast.

    Attributes:
        step: training steps that are done.
        seconds: of the thread that they took.
        curve: mean loss after every slice.
    """

    @_with_gradients
    def __init__(self, settings: TrainingSettings) -> None:
        self.settings = settings
        self.dots = make_dots(settings.shape, settings.letter, settings.drawn)
        self._draws = torch.Generator().manual_seed(settings.seed)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed)
            self.network = NoisePredictor(len(self.dots.classes))
        self.ideal: Denoiser = IdealDenoiser(self.dots)
        self._points = torch.from_numpy(self.dots.points)
        self._labels = torch.from_numpy(self.dots.labels if self.dots.classes else 0 * self.dots.labels)
        self._optimizer = torch.optim.Adam(self.network.parameters(), settings.learning_rate)
        alpha, sigma = (torch.from_numpy(level).float() for level in levels(np.arange(TIMESTEPS)))
        self._alpha, self._sigma = alpha[:, None], sigma[:, None]
        self.step, self.seconds = 0, 0.0
        self._sums, self._counts = torch.zeros(LOSS_LEVELS), torch.zeros(LOSS_LEVELS)
        self.curve: list[float] = []
        self._stop = threading.Event()

    @property
    def done(self) -> bool:
        """Whether all steps are taken."""
        return self.step >= self.settings.steps

    def stop(self) -> None:
        """End the current slice after its step; safe from any thread."""
        self._stop.set()

    def go_on(self) -> None:
        """Let the next slice train again."""
        self._stop.clear()

    @property
    def stopped(self) -> bool:
        """Whether it was stopped."""
        return self._stop.is_set()

    @_with_gradients
    def train_for(self, seconds: float) -> None:
        """Take steps for so many seconds of this thread, at least one unless it is stopped or done."""
        began = time.thread_time()
        while not self.done and not self.stopped:
            self._take_step()
            if time.thread_time() - began >= seconds:
                break
        self.seconds += time.thread_time() - began
        seen = self._counts > 0
        if seen.any():
            self.curve.append(float((self._sums[seen] / self._counts[seen]).mean()))

    def loss(self) -> list[float | None]:
        """The latest loss at each part of the timesteps, little noise first; None where none was seen."""
        pairs = zip(self._sums.tolist(), self._counts.tolist(), strict=True)
        return [total / count if count > 0 else None for total, count in pairs]

    def ideal_loss(self) -> list[float]:
        """The loss of the best possible denoiser at each part of the timesteps: no training gets below."""
        rng = np.random.default_rng(0)
        chosen = rng.integers(0, len(self.dots.points), (LOSS_LEVELS, IDEAL_DOTS))
        eps = torch.from_numpy(rng.normal(size=(LOSS_LEVELS, IDEAL_DOTS, 2))).float()
        part = TIMESTEPS // LOSS_LEVELS
        t = torch.from_numpy(rng.integers(0, part, (LOSS_LEVELS, IDEAL_DOTS)) + part * np.arange(LOSS_LEVELS)[:, None])
        x_t = self._alpha[t] * self._points[chosen] + self._sigma[t] * eps
        found = self.ideal.noise(x_t.reshape(-1, 2), t.reshape(-1).float(), self._labels[chosen].reshape(-1))
        return [float(each) for each in (found.reshape(eps.shape) - eps).square().mean((1, 2))]

    @torch.no_grad()
    def field(self, denoiser: Denoiser, label: int = NO_CLASS) -> np.ndarray:
        """x0(x_t) - x_t on the grid: where a dot at each place is believed to come from, (levels, GRID^2, 2)."""
        axis = np.linspace(-PLANE, PLANE, GRID) * (GRID - 1) / GRID
        places = torch.from_numpy(np.stack(np.meshgrid(axis, axis), -1).reshape(-1, 2)).float()
        x_t = places.repeat(len(FIELD_TIMESTEPS), 1)
        t = torch.tensor(FIELD_TIMESTEPS).repeat_interleave(len(places))
        eps = denoiser.noise(x_t, t.float(), torch.full_like(t, label))
        x0 = (x_t - self._sigma[t] * eps) / self._alpha[t]
        found: np.ndarray = (x0 - x_t).reshape(len(FIELD_TIMESTEPS), -1, 2).numpy()
        return found

    def field_noise(self) -> list[float]:
        """The noise's share of the variance at the field's timesteps."""
        return [float(self._sigma[t, 0]) ** 2 for t in FIELD_TIMESTEPS]

    def _take_step(self) -> None:
        draws, settings = self._draws, self.settings
        rows = torch.randint(len(self._points), (BATCH,), generator=draws)
        t = torch.randint(TIMESTEPS, (BATCH,), generator=draws)
        eps = torch.randn(BATCH, 2, generator=draws)
        without = torch.rand(BATCH, generator=draws) < WITHOUT_CLASS
        x_t = self._alpha[t] * self._points[rows] + self._sigma[t] * eps
        errors = (
            (self.network(x_t, t.float(), self._labels[rows].masked_fill(without, NO_CLASS)) - eps).square().mean(1)
        )
        for group in self._optimizer.param_groups:
            group["lr"] = settings.learning_rate * 0.5 * (1 + math.cos(math.pi * self.step / settings.steps))
        self._optimizer.zero_grad()
        errors.mean().backward()
        self._optimizer.step()
        part = t * LOSS_LEVELS // TIMESTEPS
        self._sums = MEMORY * self._sums + torch.bincount(part, errors.detach(), LOSS_LEVELS)
        self._counts = MEMORY * self._counts + torch.bincount(part, minlength=LOSS_LEVELS)
        self.step += 1
