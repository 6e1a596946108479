"""Each medium changes a picture in its own way and keeps its shape."""

from __future__ import annotations

import numpy as np
import pytest

from pocket.world.media import MEDIA
from pocket.world.renderer import Renderer
from pocket.world.samples import Sample
from tests.support.toy_artwork import Discs


@pytest.fixture(scope="module")
def drawn() -> dict[str, list[np.ndarray]]:
    renderer = Renderer(Discs())
    return {name: [renderer.draw(Sample(0, "meadow", seed, medium=name)) for seed in range(4)] for name in MEDIA}


def saturation(pixels: np.ndarray) -> float:
    return float((pixels.max(2).astype(int) - pixels.min(2)).mean())


def test_every_medium_has_its_own_words_and_a_picture_of_the_same_shape(drawn) -> None:
    said = [word for medium in MEDIA.values() for word in (*medium.openings, *medium.tags)]
    assert len({*MEDIA}) >= 7 and all(medium.openings and medium.tags for medium in MEDIA.values())
    assert len({tuple(medium.tags) for medium in MEDIA.values()}) == len(MEDIA) and said
    for pictures in drawn.values():
        assert all(p.shape == (256, 256, 3) and p.dtype == np.uint8 for p in pictures)


def test_flat_is_as_drawn(drawn) -> None:
    assert max(len(np.unique(p.reshape(-1, 3), axis=0)) for p in drawn["flat"]) < 6000


def test_watercolor_leaves_white_paper_at_the_rim(drawn) -> None:
    for pixels in drawn["watercolor"]:
        assert pixels[0].mean() > 245 and pixels[:, 0].mean() > 245 and pixels[100:156, 100:156].mean() < 235


def test_pencil_is_grey_and_light(drawn) -> None:
    for pixels in drawn["pencil"]:
        assert saturation(pixels) < 6 and pixels.mean() > 120 and pixels.min() < 110


def test_pixel_art_has_square_pixels_in_few_colours(drawn) -> None:
    for pixels in drawn["pixel art"]:
        rows = (np.diff(pixels.astype(int), axis=0) != 0).any((1, 2))
        assert rows.sum() <= 42 and len(np.unique(pixels.reshape(-1, 3), axis=0)) <= 28


def test_neon_glows_in_the_dark(drawn) -> None:
    for pixels in drawn["neon"]:
        assert np.median(pixels) < 40 and pixels.max() > 220


def test_oil_is_made_of_strokes_of_colours_that_were_there(drawn) -> None:
    for oil, flat in zip(drawn["oil"], drawn["flat"], strict=True):
        assert np.abs(oil.mean((0, 1)) - flat.mean((0, 1))).max() < 12
        roughness = [np.abs(np.diff(p[128:].astype(int), axis=1)).mean() for p in (oil, flat)]
        assert roughness[0] > 1.2 * roughness[1]


def test_paper_things_have_a_white_rim(drawn) -> None:
    renderer = Renderer(Discs())
    for seed in range(3):
        cut, flat = (renderer.draw(Sample(0, "blue", seed, medium=name)) for name in ("paper", "flat"))
        white = (cut > 235).all(2)
        assert 300 < white.sum() < 4000 and not (flat > 235).all(2).any()
