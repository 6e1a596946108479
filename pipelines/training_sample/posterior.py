"""The exact denoiser of a finite set of pictures (Kamb and Ganguli 2024, arXiv:2412.20292, equation 3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np

# Latents that are turned into double precision at once.
CHUNK = 1024


@dataclass(frozen=True, eq=False)
class Posterior:
    """What is known of x0 at each of s noisy latents.

    Attributes:
        mean: E[x0 | x_t], float32 (s, d).
        nearest: the picture with the most weight, (s,).
        weight: of that picture, (s,), 0 to 1.
        effective: about how many pictures share the weight, 1 / sum(w^2), (s,).
    """

    mean: np.ndarray
    nearest: np.ndarray
    weight: np.ndarray
    effective: np.ndarray


def posterior(x_t: np.ndarray, alpha: np.ndarray, sigma: np.ndarray, pictures: np.ndarray) -> Posterior:
    """E[x0 | x_t] = sum_i w_i x_i, w = softmax_i(-||x_t - alpha x_i||^2 / (2 sigma^2)).

    Without noise the weight is that of the nearest pictures alone, without signal all weights are equal.

    Args:
        x_t: alpha * x0 + sigma * eps, (s, d).
        alpha, sigma: signal and noise level of each, (s,); sigma may be 0.
        pictures: x_i, of any float type, (n, d), n at least 1.
    """
    x_t, alpha, sigma = (np.asarray(a, np.float64) for a in (x_t, alpha, sigma))
    weights = _weights(_squares(x_t, alpha, pictures), sigma)
    mean = np.zeros((len(x_t), pictures.shape[1]))
    for start in range(0, len(pictures), CHUNK):
        mean += weights[:, start : start + CHUNK] @ np.asarray(pictures[start : start + CHUNK], np.float64)
    nearest = weights.argmax(1)
    return Posterior(
        mean.astype(np.float32),
        nearest,
        weights[np.arange(len(weights)), nearest],
        1 / np.square(weights).sum(1),
    )


def joined(parts: Sequence[Posterior]) -> Posterior:
    """The steps of some posteriors one after the other."""
    names = [each.name for each in fields(Posterior)]
    return Posterior(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


def _squares(x_t: np.ndarray, alpha: np.ndarray, pictures: np.ndarray) -> np.ndarray:
    """||x_t - alpha x_i||^2 without ||x_t||^2, which all pictures share, float64 (s, n)."""
    found = np.empty((len(x_t), len(pictures)))
    for start in range(0, len(pictures), CHUNK):
        few = np.asarray(pictures[start : start + CHUNK], np.float64)
        along, sizes = x_t @ few.T, np.square(few).sum(1)
        found[:, start : start + CHUNK] = alpha[:, None] * (alpha[:, None] * sizes - 2 * along)
    return found


def _weights(squares: np.ndarray, sigma: np.ndarray) -> np.ndarray:
    """softmax(-squares / (2 sigma^2)) of each row, from the smallest on so that nothing overflows."""
    beyond = squares - squares.min(1, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        exponents = np.where(beyond > 0, beyond / (2 * np.square(sigma[:, None])), 0.0)
    weights = np.exp(-exponents)
    return weights / weights.sum(1, keepdims=True)
