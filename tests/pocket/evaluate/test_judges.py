"""The evaluation's judges, on artwork that the test draws itself."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageDraw

from pipelines.training_sample import alignment
from pocket.evaluate import nearest
from pocket.evaluate.evaluation import background_name, half, longer_side
from pocket.world import plain
from pocket.world.vocabulary import Concept

CONCEPTS = [Concept(name, name) for name in ("disc", "bar", "triangle")]


def drawing(name: str, ink: tuple[int, int, int]) -> Image.Image:
    art = Image.new("RGBA", (160, 160), (0, 0, 0, 0))
    pen = ImageDraw.Draw(art)
    if name == "disc":
        pen.ellipse((20, 20, 140, 140), ink)
    elif name == "bar":
        pen.rectangle((60, 10, 100, 150), ink)
    else:
        pen.polygon([(10, 150), (150, 150), (80, 10)], ink)
    return art.convert("RGBa")


INKS = {"fluent": (200, 30, 30), "noto": (30, 30, 30), "twemoji": (250, 250, 250)}


@pytest.fixture
def judge(monkeypatch: pytest.MonkeyPatch) -> nearest.Nearest:
    artwork = {style: [drawing(concept.name, ink) for concept in CONCEPTS] for style, ink in INKS.items()}
    monkeypatch.setattr(nearest, "fetch", lambda: None)
    monkeypatch.setattr(nearest, "load_artwork", lambda modules, concepts: artwork)
    return nearest.Nearest(CONCEPTS)


@pytest.mark.parametrize("word", list(plain.SIDES))
@pytest.mark.parametrize("style", list(INKS))
def test_the_nearest_render_is_found_at_every_size_and_place(judge: nearest.Nearest, style: str, word: str) -> None:
    rng = np.random.default_rng(0)
    for index, concept in enumerate(CONCEPTS):
        pixels = plain.compose(drawing(concept.name, INKS[style]), "teal", rng, word=word)
        assert judge.ranked(pixels, "teal")[0] == index
        assert judge.style_of(pixels, "teal", index) == style


def test_an_empty_picture_is_judged_too(judge: nearest.Nearest) -> None:
    assert len(judge.ranked(np.full((128, 128, 3), 255, np.uint8), "white")) == 3


def test_background_and_size_are_read_from_the_picture() -> None:
    rng = np.random.default_rng(0)
    for word, low, high in (("small", 0.2, 0.45), ("large", 0.8, 1.0)):
        pixels = plain.compose(drawing("triangle", (0, 0, 0)), "sky blue", rng, word=word)
        assert low < longer_side(pixels) < high and background_name(pixels) == "sky blue"


def test_halves_hold_one_thing_each(judge: nearest.Nearest) -> None:
    rng = np.random.default_rng(1)
    ink = INKS["noto"]
    pixels = plain.compose(drawing("disc", ink), "yellow", rng, other=drawing("bar", ink))
    assert [judge.ranked(half(pixels, k), "yellow")[0] for k in (0, 1)] == [0, 1]
    assert half(pixels, 0).shape == pixels.shape


def test_a_soft_edge_that_moves_the_box_does_not_change_the_verdict(judge: nearest.Nearest) -> None:
    pixels = plain.compose(drawing("triangle", INKS["noto"]), "teal", np.random.default_rng(0))
    left, _, right, bottom = alignment.box(pixels, alignment.border(pixels))
    clean = judge.distances(pixels, "teal").min()
    # A smear beside the thing: the box grows by 5% to one side.
    pixels[bottom - 4 : bottom, right : right + (right - left) // 20] = (30, 30, 30)
    unaligned = (
        np.square(judge._references(plain.COLOURS["teal"]) - alignment.cut_out(pixels, alignment.border(pixels)))
        .sum(1)
        .min()
    )
    assert CONCEPTS[judge.ranked(pixels, "teal")[0]].name == "triangle"
    assert clean <= judge.distances(pixels, "teal").min() < 0.7 * unaligned
