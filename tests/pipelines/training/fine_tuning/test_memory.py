"""Memory foretold: counted without computing, and what makes a training fit."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from pipelines.request import InvalidRequest
from pipelines.training.fine_tuning.lora import LoraWay
from pipelines.training.fine_tuning.memory import bytes_a_row, fit, foretell
from pipelines.training.fine_tuning.settings import TeachingSettings, TrainingPlan

SETTINGS = TeachingSettings("tiny", "zorp", ("a zorp",) * 3)


def test_what_a_step_keeps_of_a_picture_is_what_autograd_keeps(small: Any) -> None:
    way = LoraWay(small, SETTINGS, TrainingPlan(rank=2))
    kept: dict[int, int] = {}
    held = []

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        held.append(tensor)
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    def real(rows: int) -> int:
        kept.clear()
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
            way.predict(torch.zeros(rows, 4, 4, 4), torch.zeros(rows, dtype=torch.long), ["a zorp"] * rows)
        return sum(kept.values())

    assert bytes_a_row(way) == pytest.approx(real(3) - real(2), rel=0.05)
    assert foretell(small, way, 4).rows == 4


def test_what_does_not_fit_is_computed_again_or_in_parts_or_refused() -> None:
    assert (fit(100, 10, 2000, 8).rows, fit(100, 10, 2000, 8).checkpointing) == (8, False)
    assert (fit(100, 10, 500, 8).rows, fit(100, 10, 500, 8).checkpointing) == (8, True)
    assert (fit(100, 10, 200, 8).rows, fit(100, 10, 200, 8).checkpointing) == (4, True)
    with pytest.raises(InvalidRequest, match="close other programs"):
        fit(100, 10, 20, 8)
