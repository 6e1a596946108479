"""What predicts the noise of dots: a small network that learns it, and the best possible one in closed form."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cache
from types import MappingProxyType
from typing import Any, Protocol

import numpy as np
import torch
from torch import nn

from pipelines.sampling.schedulers import build_scheduler
from pipelines.training.toy.shapes import Dots
from pipelines.training_sample.posterior import posterior

TIMESTEPS = 1000
# The noise schedule of Stable Diffusion 1 and 2 (Rombach et al. 2022, arXiv:2112.10752).
SCHEDULER_CONFIG: Mapping[str, Any] = MappingProxyType(
    {
        "_class_name": "DDPMScheduler",
        "num_train_timesteps": TIMESTEPS,
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "beta_schedule": "scaled_linear",
        "prediction_type": "epsilon",
        "timestep_spacing": "trailing",
        "clip_sample": False,
        "steps_offset": 1,
    }
)
HIDDEN = 128
# Waves over the plane that help a small network to bend (Tancik et al. 2020, arXiv:2006.10739).
WAVES = (1.0, 2.0, 4.0)
TIME_WAVES = 8
CLASS_NUMBERS = 8


class Denoiser(Protocol):
    """Predicts eps of x_t = alpha * x0 + sigma * eps."""

    def noise(self, x_t: torch.Tensor, t: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Noisy dots (m, 2), timesteps (m,), classes (m,) with 0 for none, to eps (m, 2)."""
        ...


@cache
def alpha_bars() -> np.ndarray:
    """alpha_bar of each training timestep, float64 (1000,)."""
    found: np.ndarray = build_scheduler("ddpm", SCHEDULER_CONFIG).alphas_cumprod.double().numpy()
    return found


def levels(t: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """alpha and sigma of timesteps; between two of them log(sigma / alpha) is interpolated, as diffusers does."""
    known = alpha_bars()
    ratio = np.exp(np.interp(t, np.arange(TIMESTEPS), 0.5 * np.log((1 - known) / known)))
    alpha = 1 / np.sqrt(1 + ratio * ratio)
    return alpha, ratio * alpha


class NoisePredictor(nn.Module):
    """eps(x_t, t, class): a perceptron of three hidden layers.

    Ho et al. 2020, arXiv:2006.11239, equation 14; class 0 stands for none (Ho and Salimans 2022, arXiv:2207.12598).

    Args:
        classes: number of classes, without the empty one.
    """

    waves: torch.Tensor
    time_waves: torch.Tensor

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.label = nn.Embedding(classes + 1, CLASS_NUMBERS)
        inputs = 2 + 4 * len(WAVES) + 2 * TIME_WAVES + CLASS_NUMBERS
        self.layers = nn.Sequential(
            nn.Linear(inputs, HIDDEN), nn.SiLU(),
            nn.Linear(HIDDEN, HIDDEN), nn.SiLU(),
            nn.Linear(HIDDEN, HIDDEN), nn.SiLU(),
            nn.Linear(HIDDEN, 2),
        )  # fmt: skip
        self.register_buffer("waves", torch.tensor(WAVES))
        self.register_buffer("time_waves", torch.arange(TIME_WAVES) * math.pi / 2 + math.pi / 2)

    def forward(self, x_t: torch.Tensor, t: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Noisy dots (m, 2), timesteps (m,), classes (m,) to eps (m, 2)."""
        places = (x_t[:, :, None] * self.waves).flatten(1)
        times = t[:, None] / TIMESTEPS * self.time_waves
        parts = [x_t, places.sin(), places.cos(), times.sin(), times.cos(), self.label(labels)]
        found: torch.Tensor = self.layers(torch.cat(parts, 1))
        return found

    def noise(self, x_t: torch.Tensor, t: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """As ``Denoiser``."""
        found: torch.Tensor = self(x_t, t, labels)
        return found


class IdealDenoiser:
    """eps* = (x_t - alpha E[x0 | x_t]) / sigma: for these dots no other prediction has a smaller mean squared error.

    Karras et al. 2022, arXiv:2206.00364, equation 57.

    Args:
        dots: x_i.
    """

    def __init__(self, dots: Dots) -> None:
        self._dots = dots

    def noise(self, x_t: torch.Tensor, t: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """As ``Denoiser``."""
        x, of = x_t.double().numpy(), labels.numpy()
        alpha, sigma = levels(t.double().numpy())
        found = np.empty_like(x)
        for label in np.unique(of):
            rows = of == label
            mean = posterior(x[rows], alpha[rows], sigma[rows], self._dots.of(int(label))).mean
            found[rows] = (x[rows] - alpha[rows, None] * mean) / sigma[rows, None]
        return torch.from_numpy(found).to(x_t.dtype)
