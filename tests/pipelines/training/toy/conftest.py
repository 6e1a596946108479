"""Trained tiny models, one for each shape that is asked for."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import pytest

from pipelines.training.toy.settings import TrainingSettings
from pipelines.training.toy.training import DotsTraining


@pytest.fixture(scope="package")
def trained() -> Callable[[str], DotsTraining]:
    @cache
    def make(shape: str) -> DotsTraining:
        training = DotsTraining(TrainingSettings(shape, steps=2000))
        while not training.done:
            training.train_for(5)
        return training

    return make
