"""The learned denoiser of dots and the best possible one."""

from __future__ import annotations

import numpy as np
import torch

from pipelines.training.toy.denoisers import IdealDenoiser, NoisePredictor, alpha_bars, levels
from pipelines.training.toy.shapes import Dots, make_dots


def test_levels_are_those_of_the_schedule_and_lie_between_its_timesteps() -> None:
    alpha, sigma = levels(np.array([0, 500, 500.5, 501, 999]))
    assert np.allclose(alpha**2 + sigma**2, 1)
    assert np.allclose(alpha[[0, 1, 3, 4]] ** 2, alpha_bars()[[0, 500, 501, 999]])
    assert sigma[1] < sigma[2] < sigma[3]


def test_the_ideal_denoiser_of_one_dot_names_its_noise_exactly() -> None:
    dots = Dots(np.array([[0.5, -1.0]], np.float32), np.array([1]))
    t, eps = torch.tensor([0.0, 300.0, 999.0]), torch.tensor([[1.0, 2.0], [-0.5, 0.1], [0.0, 1.0]])
    alpha, sigma = (torch.from_numpy(each).float()[:, None] for each in levels(t.numpy()))
    x_t = alpha * torch.from_numpy(dots.points) + sigma * eps
    found = IdealDenoiser(dots).noise(x_t, t, torch.zeros(3, dtype=torch.long))
    assert torch.allclose(found, eps, atol=1e-3)


def test_the_ideal_denoiser_weighs_the_dots_of_the_class_alone() -> None:
    """E[x0 | x_t] by the formula, written out: sum of x_i exp(-|x - alpha x_i|^2 / (2 sigma^2)), normalised."""
    dots = make_dots("clouds")
    x, t = np.array([0.3, -0.2]), 600.0
    alpha, sigma = (float(each[0]) for each in levels(np.array([t])))
    for label in (0, 1, 2):
        points = dots.of(label).astype(np.float64)
        weights = np.exp(-np.square(x - alpha * points).sum(1) / (2 * sigma**2))
        wanted = (x - alpha * (weights[:, None] * points).sum(0) / weights.sum()) / sigma
        x_t = torch.from_numpy(x)[None].float()
        found = IdealDenoiser(dots).noise(x_t, torch.tensor([t]), torch.tensor([label]))
        assert np.allclose(found.numpy()[0], wanted, atol=1e-4), label


def test_the_network_reads_place_noise_level_and_class() -> None:
    network = NoisePredictor(2)
    x, t, label = torch.zeros(1, 2), torch.tensor([500.0]), torch.tensor([1])
    base = network.noise(x, t, label)
    assert base.shape == (1, 2)
    assert not torch.equal(base, network.noise(x + 1, t, label))
    assert not torch.equal(base, network.noise(x, t + 200, label))
    assert not torch.equal(base, network.noise(x, t, label + 1))
