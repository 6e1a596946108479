"""Pictures of samples: where things are, how large, in which colours, and that a seed draws the same again."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from pocket.world.colours import BACKGROUNDS
from pocket.world.renderer import PLAIN_SIDES, SCENE_SIDES, Renderer, pair, row
from pocket.world.samples import RELATIONS, Sample, draw_sample
from pocket.world.scenes import SCENES
from tests.support.toy_artwork import INK, THINGS, Discs


@pytest.fixture(scope="module")
def renderer() -> Renderer:
    return Renderer(Discs())


def inked(pixels: np.ndarray) -> np.ndarray:
    """Where the disc's colour is, (h, w)."""
    return np.abs(pixels.astype(int) - INK).max(2) < 12


def box(mask: np.ndarray) -> tuple[float, float, float, float]:
    """Left, top, right, bottom as shares of the picture."""
    columns, rows = (np.flatnonzero(mask.any(axis)) / len(mask) for axis in (0, 1))
    return columns[0], rows[0], columns[-1], rows[-1]


def test_a_sample_is_always_drawn_the_same(renderer: Renderer) -> None:
    rng = np.random.default_rng(0)
    for _ in range(6):
        sample = draw_sample(THINGS, rng)
        assert (renderer.draw(sample) == renderer.draw(sample)).all()
    assert (renderer.draw(sample) != renderer.draw(replace(sample, seed=sample.seed + 1))).any()


@pytest.mark.parametrize("background", ["white", "teal", "sky blue"])
def test_plain_backgrounds_are_plain(renderer: Renderer, background: str) -> None:
    pixels = renderer.draw(Sample(0, background, 3))
    assert pixels.shape == (256, 256, 3) and pixels.dtype == np.uint8
    assert (pixels[0] == BACKGROUNDS[background]).all() and (pixels[:, -1] == BACKGROUNDS[background]).all()


@pytest.mark.parametrize("size", [None, "small", "large"])
@pytest.mark.parametrize("where", ["white", "sky"])
def test_size_words_set_the_size(renderer: Renderer, where: str, size: str | None) -> None:
    low, high = (PLAIN_SIDES if where == "white" else SCENE_SIDES)[size]
    for seed in range(5):
        left, top, right, bottom = box(inked(renderer.draw(Sample(0, where, seed, size=size))))
        assert low - 0.03 < max(right - left, bottom - top) < high + 0.03


@pytest.mark.parametrize("count", [1, 2, 3])
def test_so_many_things_are_drawn_apart(renderer: Renderer, count: int) -> None:
    from scipy import ndimage

    for seed in range(5):
        mask = (renderer.draw(Sample(0, "white", seed, count=count)) != 255).any(2)
        assert ndimage.label(mask)[1] == count


def test_things_stand_on_the_ground() -> None:
    rng = np.random.default_rng(1)
    for name, scene in SCENES.items():
        for size in SCENE_SIDES:
            (place,) = row(Sample(0, name, size=size), False, rng)
            assert place.floats == (scene.ground is None)
            if not place.floats:
                assert scene.ground[0] - 0.03 <= place.y <= 0.98 and place.y - place.side > 0


@pytest.mark.parametrize("where", ["white", "meadow"])
@pytest.mark.parametrize("relation", RELATIONS)
def test_pairs_are_placed_as_the_relation_says(where: str, relation: str) -> None:
    rng = np.random.default_rng(2)
    for _ in range(20):
        one, two = pair(Sample(0, where, other=1, relation=relation), rng)
        middles = [place.y - (0 if place.floats else place.side / 2) for place in (one, two)]
        if relation == "next to":
            assert one.x + one.side / 2 < two.x - two.side / 2 + 0.05
        elif relation in ("above", "below"):
            assert (middles[0] < middles[1]) == (relation == "above")
        else:
            assert (one.side < two.side) == (relation == "in front of")


def test_what_flies_is_in_the_air(renderer: Renderer) -> None:
    assert THINGS[3].name == "cloud"
    for seed in range(5):
        _, top, _, bottom = box(inked(renderer.draw(Sample(3, "meadow", seed))))
        assert (top + bottom) / 2 < 0.55


def test_what_stands_behind_is_hidden(renderer: Renderer) -> None:
    front = renderer.draw(Sample(0, "white", 4, colour="blue", other=1, relation="in front of"))
    back = renderer.draw(Sample(0, "white", 4, colour="blue", other=1, relation="behind"))
    blue = [(p[..., 2].astype(int) - p[..., 0] > 80).sum() for p in (front, back)]
    ink = [inked(p).sum() for p in (front, back)]
    assert blue[0] < blue[1] and ink[0] > ink[1]


def test_night_dims_things(renderer: Renderer) -> None:
    day, night = (renderer.draw(Sample(0, where, 1)) for where in ("meadow", "night"))
    assert inked(day).sum() > 500 and inked(night).sum() == 0


def test_a_picture_takes_few_milliseconds(renderer: Renderer) -> None:
    import time

    rng = np.random.default_rng(5)
    samples = [draw_sample(THINGS, rng) for _ in range(60)]
    for sample in samples:
        renderer.draw(sample)
    begin = time.process_time()
    for sample in samples:
        renderer.draw(sample)
    assert (time.process_time() - begin) / len(samples) < 0.1


def test_thumbnails_keep_the_scene(renderer: Renderer) -> None:
    """Two drawings of a scene are nearer to each other, in coarse colours, than to most other scenes."""

    def coarse(name: str, seed: int) -> np.ndarray:
        small = Image.fromarray(renderer.draw(Sample(0, name, seed, size="small"))).resize((6, 6), Image.Resampling.BOX)
        return np.asarray(small, np.float32).ravel()

    means = {name: np.mean([coarse(name, seed) for seed in range(6)], axis=0) for name in SCENES}
    right = 0
    for name in SCENES:
        for seed in range(10, 14):
            seen = coarse(name, seed)
            right += min(means, key=lambda other: np.square(means[other] - seen).sum()) == name
    assert right / (4 * len(SCENES)) > 0.7
