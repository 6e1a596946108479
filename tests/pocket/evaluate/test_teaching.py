"""Teaching pocket an invented shape: the short form of ``python -m pocket.evaluate.teaching``."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pipelines.models.manager import PipelineManager
from pipelines.training_sample.alignment import ALIGNMENTS, border, cut_out
from pocket.evaluate import invented, teaching
from pocket.world import plain
from pocket.world.grammar import article
from presets.catalogue import load

WORD = "drell"


def distance(pixels: np.ndarray, word: str, colour: str) -> float:
    """From the nearest alignment of a shape on a background."""
    shape = cut_out(invented.pixels(invented.picture(word, plain.COLOURS[colour])), plain.COLOURS[colour])
    return float(np.square(shape - cut_out(pixels, border(pixels), ALIGNMENTS)).sum(1).min())


def test_the_shapes_differ_from_each_other() -> None:
    white = plain.COLOURS["white"]
    for word in invented.SHAPES:
        pixels = invented.pixels(invented.picture(word, white))
        distances = {other: distance(pixels, other, "white") for other in invented.SHAPES}
        assert min(distances, key=lambda each: distances[each]) == word
        assert min(value for other, value in distances.items() if other != word) > 10 * (distances[word] + 1)


def test_a_shape_is_learnt_on_a_colour_that_it_was_not_taught_on(tmp_path: Path) -> None:
    colour = teaching.ASKED_ON[0]
    prompt = f"a {WORD} on {article(colour)} background"
    with PipelineManager(load(), device="cpu").lease(teaching.MODEL) as model:
        before = teaching.draw(model, prompt, 7)
        changed = (("batch", 4), ("own", 8), ("steps", 40))
        done = teaching.teach(model, WORD, tmp_path / "run-00001", preset="quick", changed=changed)
        assert done.state == "done" and done._training is not None
        after = teaching.draw(done._training.way.model, prompt, 7)
        unchanged = teaching.draw(model, prompt, 7)
    assert np.abs(unchanged.astype(int) - before).max() <= 1
    assert distance(after, WORD, colour) < 0.6 * distance(before, WORD, colour)
    assert background_of(after) == colour


def background_of(pixels: np.ndarray) -> str:
    """The named colour nearest to the border."""
    middle = np.array(border(pixels))
    return min(plain.COLOURS, key=lambda name: float(np.square(np.array(plain.COLOURS[name]) - middle).sum()))
