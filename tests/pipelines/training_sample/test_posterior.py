"""The posterior mean against the formula written out in double precision, at every noise level."""

from __future__ import annotations

import numpy as np
import pytest

from pipelines.training_sample import posterior as module
from pipelines.training_sample.posterior import posterior

RNG = np.random.default_rng(0)
PICTURES = RNG.standard_normal((700, 48)).astype(np.float16)


def brute_force(x_t: np.ndarray, alpha: float, sigma: float) -> np.ndarray:
    """sum_i w_i x_i for one x_t, differences first and in long doubles."""
    pictures = PICTURES.astype(np.longdouble)
    squares = np.square(x_t.astype(np.longdouble) - np.longdouble(alpha) * pictures).sum(1)
    weights = np.exp(-(squares - squares.min()) / (2 * np.longdouble(sigma) ** 2))
    return (weights / weights.sum() @ pictures).astype(np.float64)


@pytest.mark.parametrize("sigma", [0.9999999, 0.99, 0.7, 0.3, 0.05, 1e-3, 1e-5])
def test_the_mean_is_the_formulas(sigma: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CHUNK", 64)  # of which 700 is no multiple
    alpha = (1 - sigma**2) ** 0.5
    x_t = (alpha * PICTURES[:5] + sigma * RNG.standard_normal((5, 48))).astype(np.float32)
    found = posterior(x_t, np.full(5, alpha), np.full(5, sigma), PICTURES)
    expected = np.stack([brute_force(one, alpha, sigma) for one in x_t])
    np.testing.assert_allclose(found.mean, expected, atol=2e-6)
    assert np.isfinite(found.effective).all() and (found.effective >= 1 - 1e-9).all()


def test_without_noise_it_is_the_nearest_picture_and_without_signal_the_mean_of_all() -> None:
    x_t = PICTURES[[3, 3, 4]].astype(np.float32) + np.float32(0.01)
    found = posterior(x_t, np.array([1.0, 1.0, 0.0]), np.array([0.0, 1e-200, 1.0]), PICTURES)
    np.testing.assert_array_equal(found.mean[:2], np.repeat(PICTURES[3:4].astype(np.float32), 2, 0))
    np.testing.assert_allclose(found.mean[2], PICTURES.astype(np.float64).mean(0), atol=1e-6)
    assert list(found.nearest[:2]) == [3, 3] and list(found.weight[:2]) == [1.0, 1.0]
    assert found.effective[2] == pytest.approx(len(PICTURES))


def test_equal_pictures_share_the_weight() -> None:
    twice = np.concatenate([PICTURES[:3], PICTURES[:1]])
    found = posterior(PICTURES[:1].astype(np.float32), np.ones(1), np.zeros(1), twice)
    assert found.weight[0] == pytest.approx(0.5) and found.effective[0] == pytest.approx(2.0)
