"""The dots that the tiny model learns."""

from __future__ import annotations

import numpy as np
import pytest

from pipelines.training.toy.shapes import DOTS, DRAWN, SHAPES, make_dots


@pytest.mark.parametrize("shape", SHAPES)
def test_a_shape_has_mean_0_and_variance_1_and_is_the_same_each_time(shape: str) -> None:
    dots = make_dots(shape)
    assert dots.points.shape == (DOTS, 2) and np.allclose(dots.points.mean(0), 0, atol=1e-5)
    assert abs(float(dots.points.std()) - 1) < 1e-3
    assert np.array_equal(dots.points, make_dots(shape).points)
    assert set(dots.labels) == ({1, 2} if dots.classes else {1})
    assert sum(len(dots.of(k)) for k in (1, 2)) == DOTS == len(dots.of(0))


def test_letters_differ_and_a_line_is_followed() -> None:
    assert not np.array_equal(make_dots("letter", "L").points, make_dots("letter", "O").points)
    line = [(x / 10, 0.0) for x in range(-10, 11)]
    dots = make_dots(DRAWN, drawn=line)
    assert np.ptp(dots.points[:, 0]) > 5 * np.ptp(dots.points[:, 1])
