"""The tiny model learns, slice by slice."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from pipelines.training.toy.settings import TrainingSettings
from pipelines.training.toy.training import FIELD_TIMESTEPS, GRID, LOSS_LEVELS, DotsTraining


def test_what_is_learned_comes_near_the_best_possible(trained: Callable[[str], DotsTraining]) -> None:
    training = trained("moons")
    learned, ideal = np.array(training.loss(), float), np.array(training.ideal_loss())
    assert len(learned) == len(ideal) == LOSS_LEVELS
    # The more noise there is, the easier it is to tell.
    assert ideal[0] > 0.5 > 0.1 > ideal[-1]
    assert (learned > ideal - 0.1).all() and np.abs(learned - ideal).mean() < 0.1
    best, found = (training.field(each) for each in (training.ideal, training.network))
    assert best.shape == found.shape == (len(FIELD_TIMESTEPS), GRID * GRID, 2)
    middle = FIELD_TIMESTEPS.index(500)
    assert np.corrcoef(best[middle].ravel(), found[middle].ravel())[0, 1] > 0.95


def test_the_loss_falls_and_the_curve_says_so() -> None:
    training = DotsTraining(TrainingSettings("moons", steps=500))
    assert training.loss() == [None] * LOSS_LEVELS and training.curve == []
    training.train_for(0)
    assert training.step == 1 and training.seconds > 0
    while not training.done:
        training.train_for(0.02)
    assert training.step == 500 and training.curve[-1] < training.curve[0]


def test_it_learns_in_the_workers_inference_mode_and_the_same_each_time() -> None:
    losses = []
    for _ in range(2):
        with torch.inference_mode():
            training = DotsTraining(TrainingSettings("spiral", steps=500))
            for _ in range(3):
                training.train_for(0)
            losses.append(training.loss())
    assert losses[0] == losses[1]


def test_it_stops_at_once_and_goes_on_where_it_was() -> None:
    training = DotsTraining(TrainingSettings("moons", steps=500))
    training.train_for(0)
    training.stop()
    training.train_for(60)
    assert training.step == 1
    training.go_on()
    training.train_for(0)
    assert training.step == 2


def test_a_learning_rate_that_is_too_high_ends_without_numbers_that_cannot_be_shown() -> None:
    training = DotsTraining(TrainingSettings("moons", learning_rate=0.1, steps=500))
    while not training.done:
        training.train_for(5)
    assert training.curve[-1] > 0.05
