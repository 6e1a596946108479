"""The released weights' training sample: drawn as training drew."""

from __future__ import annotations

import json

import numpy as np

from pipelines.training_sample.pictures import SamplePictures, premultiplied
from pipelines.training_sample.recipe import held_out
from pocket.paths import ROOT
from pocket.world import plain
from pocket.world.artwork import STYLES
from pocket.world.samples import ALWAYS_HELD_OUT, HELD_OUT
from pocket.world.training_sample import COUNT, FILE, recipe
from pocket.world.vocabulary import Concept
from tests.support.toy_artwork import THINGS, disc

MAX_BYTES = 1_200_000


def test_a_picture_is_the_one_that_training_draws_from_the_same_numbers() -> None:
    pieces = np.stack([np.roll(disc(), 3 * k, 1) for k in range(len(THINGS))])
    art = {style: np.roll(pieces, place, 2) for place, style in enumerate(STYLES)}
    pictures = SamplePictures(recipe(THINGS), art)
    layers = {style: [premultiplied(one) for one in rows] for style, rows in art.items()}
    for seed in range(60):
        ours, theirs = np.random.default_rng(seed), np.random.default_rng(seed)
        shown, sample = pictures.recipe.draw(ours), plain.draw_sample(THINGS, theirs)
        assert (shown.thing, shown.style or None, shown.colour) == (sample.concept, sample.style, sample.colour)
        assert (shown.size or None, shown.other) == (sample.size, sample.other)
        style = layers[sample.style or "fluent"]
        other = None if sample.other is None else style[sample.other]
        expected = plain.compose(style[sample.concept], sample.colour, theirs, word=sample.size, other=other)
        np.testing.assert_array_equal(pictures.compose(shown, ours), expected)
        names = [THINGS[i] for i in (sample.concept, sample.other) if i is not None]
        assert pictures.recipe.caption(shown) == plain.caption(
            names[0], sample.style, sample.colour, size=sample.size, other=(*names, None)[1]
        )


def test_the_file_is_the_released_weights() -> None:
    pictures = SamplePictures.open(FILE)
    names = [word["name"] for word in json.loads((ROOT / "vocabulary.json").read_text())]
    assert list(pictures.recipe.names) == names and pictures.recipe.count == COUNT
    concepts = [Concept(name, name, (), pictures.recipe.synonyms.get(name, ())) for name in names]
    assert pictures.recipe == recipe(concepts)
    assert FILE.stat().st_size <= MAX_BYTES
    _, pixels = pictures.draw(0)
    assert pixels.shape == (128, 128, 3) and pixels.std() > 5
    assert FILE.name in (ROOT.parent / "NOTICE").read_text()


def test_what_training_never_showed_is_what_the_list_of_held_out_pairs_has() -> None:
    listed = json.loads(HELD_OUT.read_text())["thing x surroundings"]
    for name in SamplePictures.open(FILE).recipe.names:
        # The examples of the article are held out of the next world alone.
        known = {colour for colour in listed.get(name, ()) if (name, colour) not in ALWAYS_HELD_OUT}
        found = {colour for colour in plain.COLOURS if held_out([name], colour)}
        assert name not in listed or found == known & set(plain.COLOURS)
