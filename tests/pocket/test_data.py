"""The training data: captions, composition and the held-out pairs (no artwork package is needed)."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from pocket import data

CONCEPTS = [data.Concept("fox", "fox"), data.Concept("red apple", "red apple", ("apple",))]


@pytest.mark.parametrize(
    ("concept", "style", "colour", "expected"),
    [
        (0, None, "green", "a fox on a green background"),
        (1, "noto", "orange", "a noto emoji of a red apple on an orange background"),
    ],
)
def test_plain_captions(concept, style, colour, expected):
    assert data.caption(CONCEPTS[concept], style, colour) == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [("axe", "an axe"), ("grapes", "grapes"), ("unicorn", "a unicorn"), ("bus", "a bus"), ("glass", "a glass")],
)
def test_article(name, expected):
    assert data.article(name) == expected


def test_varied_captions_keep_the_colour_and_the_style():
    rng = np.random.default_rng(0)
    for _ in range(200):
        text = data.caption(CONCEPTS[1], "twemoji", "sky blue", rng)
        assert "sky blue" in text and "twemoji" in text and "apple" in text


def test_composed_picture_has_its_background_at_the_border():
    art = Image.new("RGBa", (160, 160), (0, 0, 0, 0))
    art.paste((200, 10, 10, 255), (20, 20, 140, 140))
    rng = np.random.default_rng(1)
    for name, rgb in data.COLOURS.items():
        pixels = data.compose(art, name, rng)
        assert pixels.shape == (128, 128, 3) and pixels.dtype == np.uint8
        assert (pixels[0] == rgb).all() and (pixels[:, -1] == rgb).all()
        assert tuple(pixels[64, 64]) == (200, 10, 10)


def test_held_out_pairs_are_never_drawn():
    concepts = [data.Concept(f"thing {k}", f"thing {k}") for k in range(40)]
    held_out = set(data.held_out_pairs(concepts))
    assert 0.05 < len(held_out) / (40 * len(data.COLOURS)) < 0.15
    rng = np.random.default_rng(2)
    drawn = [data.draw_sample(concepts, rng) for _ in range(2000)]
    assert not held_out & {(sample.concept, sample.colour) for sample in drawn}


def test_shipped_vocabulary_is_the_list_of_concepts():
    lines = (data.ROOT / "concepts.txt").read_text().splitlines()
    names = [line.partition(" = ")[0] for line in lines if line and not line.startswith("#")]
    shipped = json.loads((data.ROOT / "vocabulary.json").read_text())
    assert [word["name"] for word in shipped] == names
    assert len(names) == len(set(names)) >= 300
