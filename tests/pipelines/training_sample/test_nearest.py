"""The nearest renders of the artwork."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from pipelines.training_sample.nearest import NearestPictures
from pipelines.training_sample.recipe import Shown
from tests.support.toy_sample import toy_pictures


@pytest.mark.parametrize("style", ["fluent", "noto"])
@pytest.mark.parametrize("size", ["", "small"])
def test_a_drawing_is_found_wherever_it_stands(style: str, size: str) -> None:
    pictures = toy_pictures()
    finder = NearestPictures(pictures)
    for thing in range(4):
        pixels = pictures.compose(Shown(thing, style, "green", size), np.random.default_rng(thing))
        found = finder.find(pixels, 3, lambda work, size: work())
        assert (found[0].thing, found[0].style) == (pictures.recipe.names[thing], style)
        assert found[0].distance < 0.1 and found[0].distance <= found[1].distance <= found[2].distance
        assert found[0].picture.size == (64, 64)


def test_the_work_is_done_in_parts_and_once_for_a_background() -> None:
    pictures = toy_pictures()
    finder, sizes = NearestPictures(pictures), []

    def run(work, size: int):
        sizes.append(size)
        return work()

    pixels = pictures.compose(Shown(0, "", "green"), np.random.default_rng(0))
    finder.find(pixels, 1, run)
    assert len(sizes) == 3  # two styles, and the comparison
    finder.find(pixels, 1, run)
    assert len(sizes) == 4


def test_an_empty_picture_has_neighbours_too() -> None:
    found = NearestPictures(toy_pictures()).find(np.full((32, 48, 3), 200, np.uint8), 9, lambda work, size: work())
    assert len(found) == 8 and all(np.isfinite(one.distance) for one in found)


def test_one_callers_work_that_waits_holds_up_no_other() -> None:
    pictures, waits, go = toy_pictures(), threading.Event(), threading.Event()
    finder = NearestPictures(pictures)
    pixels = pictures.compose(Shown(0, "", "green"), np.random.default_rng(0))

    def late(work, size: int):
        waits.set()
        assert go.wait(60)
        return work()

    first = threading.Thread(target=lambda: finder.find(pixels, 1, late))
    first.start()
    assert waits.wait(60)
    assert finder.find(pixels, 1, lambda work, size: work())[0].thing == pictures.recipe.names[0]
    go.set()
    first.join(60)
