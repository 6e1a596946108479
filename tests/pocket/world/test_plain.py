"""The training data: captions, composition and the held-out pairs (no artwork package is needed)."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from pocket.paths import ROOT
from pocket.world import plain
from pocket.world.vocabulary import Concept, load_synonyms

CONCEPTS = [Concept("fox", "fox"), Concept("red apple", "red apple", ("apple",))]


@pytest.mark.parametrize(
    ("concept", "style", "colour", "expected"),
    [
        (0, None, "green", "a fox on a green background"),
        (1, "noto", "orange", "a noto emoji of a red apple on an orange background"),
    ],
)
def test_plain_captions(concept, style, colour, expected):
    assert plain.caption(CONCEPTS[concept], style, colour) == expected


def test_varied_captions_keep_the_colour_and_the_style():
    rng = np.random.default_rng(0)
    for _ in range(200):
        text = plain.caption(CONCEPTS[1], "twemoji", "sky blue", rng)
        assert "sky blue" in text and "twemoji" in text and "apple" in text


def test_composed_picture_has_its_background_at_the_border():
    art = Image.new("RGBa", (160, 160), (0, 0, 0, 0))
    art.paste((200, 10, 10, 255), (20, 20, 140, 140))
    rng = np.random.default_rng(1)
    for name, rgb in plain.COLOURS.items():
        pixels = plain.compose(art, name, rng)
        assert pixels.shape == (128, 128, 3) and pixels.dtype == np.uint8
        assert (pixels[0] == rgb).all() and (pixels[:, -1] == rgb).all()
        assert tuple(pixels[64, 64]) == (200, 10, 10)


def test_captions_of_sizes_and_of_two_things():
    fox, apple = CONCEPTS
    assert plain.caption(fox, None, "red", size="small") == "a small fox on a red background"
    assert plain.caption(fox, None, "orange", other=apple) == "a fox next to a red apple on an orange background"
    assert plain.caption(apple, None, "red", size="large") == "a large red apple on a red background"
    rng = np.random.default_rng(0)
    for _ in range(100):
        words = plain.caption(fox, None, "red", rng, size="large")
        assert any(word in words.split() for word in plain.SIZE_WORDS["large"])
        words = plain.caption(fox, "noto", "red", rng, other=apple)
        assert words.index("fox") < words.index("apple") and "noto" in words


def test_synonyms_come_into_captions():
    rng = np.random.default_rng(0)
    cat = Concept("cat", "cat face", (), ("kitten", "kitty"))
    captions = [plain.caption(cat, None, "red", rng) for _ in range(400)]
    assert 20 < sum("kitt" in text for text in captions) < 120
    assert any("cats" in text for text in captions)


def block() -> Image.Image:
    return Image.new("RGBa", (160, 160), (200, 10, 10, 255))


@pytest.mark.parametrize("word", list(plain.SIDES))
def test_size_words_set_the_scale(word):
    rng = np.random.default_rng(3)
    low, high = plain.SIDES[word]
    for _ in range(20):
        thing = (plain.compose(block(), "white", rng, word=word) != 255).any(2)
        side = thing.any(0).sum() / plain.SIZE
        assert low - 0.02 <= side <= high + 0.02 and thing.any(1).sum() == thing.any(0).sum()


def test_two_things_stand_side_by_side():
    rng = np.random.default_rng(4)
    blue = Image.new("RGBa", (160, 160), (10, 10, 200, 255))
    for _ in range(20):
        pixels = plain.compose(block(), "white", rng, other=blue)
        red, right = (pixels == (200, 10, 10)).all(2), (pixels == (10, 10, 200)).all(2)
        assert red.any() and right.any()
        assert np.flatnonzero(red.any(0)).max() < 64 <= np.flatnonzero(right.any(0)).min()


def test_every_synonym_belongs_to_one_concept_and_is_no_name():
    lines = (ROOT / "concepts.txt").read_text().splitlines()
    names = {line.partition(" = ")[0] for line in lines if line and line[0] != "#"}
    synonyms = load_synonyms()
    words = [word for found in synonyms.values() for word in found]
    assert len(names) >= 400 and set(synonyms) <= names
    assert len(words) == len(set(words)) and not set(words) & (names | set(plain.COLOURS))


def test_held_out_pairs_are_never_drawn():
    concepts = [Concept(f"thing {k}", f"thing {k}") for k in range(40)]
    held_out = set(plain.held_out_pairs(concepts))
    assert 0.05 < len(held_out) / (40 * len(plain.COLOURS)) < 0.15
    rng = np.random.default_rng(2)
    drawn = [plain.draw_sample(concepts, rng) for _ in range(2000)]
    assert not held_out & {(sample.concept, sample.colour) for sample in drawn}
    twos = [sample for sample in drawn if sample.other is not None]
    assert 0.06 < len(twos) / len(drawn) < 0.18 and all(sample.other != sample.concept for sample in twos)
    assert not held_out & {(sample.other, sample.colour) for sample in twos}
    never = {(s.concept, s.other, s.colour) for s in plain.held_out_twos(concepts, 500)}
    assert not never & {(sample.concept, sample.other, sample.colour) for sample in twos}
    assert {sample.size for sample in drawn if sample.other is None} == {None, "small", "large"}


def test_shipped_vocabulary_is_the_list_of_concepts():
    lines = (ROOT / "concepts.txt").read_text().splitlines()
    names = [line.partition(" = ")[0] for line in lines if line and not line.startswith("#")]
    shipped = json.loads((ROOT / "vocabulary.json").read_text())
    assert [word["name"] for word in shipped] == names
    assert len(names) == len(set(names)) >= 300
