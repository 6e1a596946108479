"""What a client may ask of the tiny model."""

from __future__ import annotations

from typing import Any

import pytest

from pipelines.request import InvalidRequest
from pipelines.training.toy.settings import MAX_DRAWN, SamplingSettings, TrainingSettings, read_sampling, read_training


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"shape": "cube"}, "shape"),
        ({"shape": 3}, "shape"),
        ({"shape": ["moons"]}, "shape"),
        ({"shape": "letter", "letter": "AB"}, "letter"),
        ({"shape": "letter", "letter": ""}, "letter"),
        ({"learning_rate": 5}, "learning_rate"),
        ({"learning_rate": float("nan")}, "learning_rate"),
        ({"steps": 10**9}, "steps"),
        ({"steps": True}, "steps"),
        ({"shape": "drawn"}, "drawn"),
        ({"shape": "drawn", "drawn": [[0, 0]] * 50}, "drawn"),
        ({"shape": "drawn", "drawn": [[k / 10, float("inf")] for k in range(20)]}, "drawn"),
        ({"shape": "drawn", "drawn": [[k / 1000, 0] for k in range(MAX_DRAWN + 1)]}, "drawn"),
        ({"shape": "drawn", "drawn": [[0, 0, 0]] * 20}, "drawn"),
        ({"shape": "drawn", "drawn": {"a": 1}}, "drawn"),
    ],
)
def test_what_cannot_be_trained_is_refused_by_its_field(values: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidRequest) as problem:
        read_training(values)
    assert problem.value.field == field


def test_choices_are_read_and_the_rest_is_filled_in() -> None:
    assert read_training(None) == TrainingSettings()
    drawn = read_training({"shape": "drawn", "drawn": [[k / 10, 1] for k in range(12)], "steps": 500})
    assert len(drawn.drawn) == 12 and drawn.steps == 500
    chosen = read_sampling({"scheduler": "heun", "sampling_steps": 4, "guidance": 4, "label": 1}, 2)
    assert chosen == SamplingSettings("heun", 4, 4.0, 1)


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"scheduler": "flow_euler"}, "scheduler"),
        ({"scheduler": "own"}, "scheduler"),
        ({"sampling_steps": 3}, "sampling_steps"),
        ({"label": 1}, "label"),
        ({"label": -1}, "label"),
        ({"seed": -1}, "seed"),
    ],
)
def test_what_cannot_be_sampled_is_refused_by_its_field(values: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidRequest) as problem:
        read_sampling(values, 0)
    assert problem.value.field == field


def test_guidance_needs_a_class() -> None:
    assert read_sampling({"guidance": 8}, 2).guidance == 1.0


@pytest.mark.parametrize("huge", [10**309, -(10**399), 1e308])
def test_a_number_that_no_float_holds_is_refused_in_a_sentence(huge: float) -> None:
    places = [[k / 10, k / 10] for k in range(20)]
    with pytest.raises(InvalidRequest, match="cannot be read"):
        read_training({"shape": "drawn", "drawn": [*places, [huge, 0]]})
    for name in ("learning_rate", "steps"):
        with pytest.raises(InvalidRequest, match="not there"):
            read_training({name: huge})
