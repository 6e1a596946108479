"""The evaluation of scenes: which prompts, and what counts as right."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import torch

from pocket.evaluate import attributes, figures
from pocket.world.captions import caption
from pocket.world.renderer import Renderer
from pocket.world.samples import Sample, is_held_out
from tests.support.toy_artwork import THINGS, Discs


@pytest.mark.parametrize("kind", figures.KINDS)
def test_prompts_of_every_kind_are_held_out_and_always_the_same(kind: str) -> None:
    samples = figures.held_out_samples(kind, THINGS, 30)
    assert samples == figures.held_out_samples(kind, THINGS, 30)
    assert all(is_held_out(sample, THINGS) for sample in samples)
    assert len({caption(sample, THINGS) for sample in samples}) > 15
    assert all(sample.plain for sample in samples) == (kind in ("plain", "small"))


def test_kinds_ask_for_what_they_are_named_after() -> None:
    drawn = {kind: figures.held_out_samples(kind, THINGS, 42) for kind in figures.KINDS}
    assert len({s.medium for s in drawn["scene"]}) == 7 and not any(s.plain for s in drawn["scene"])
    assert all(s.colour for s in drawn["colour"]) and all(s.size == "small" for s in drawn["small"])
    assert {s.count for s in drawn["count"]} == {1, 2, 3} and all(s.other is not None for s in drawn["pair"])


def test_right_and_wrong_answers() -> None:
    one, two = Sample(4, "sea", colour="red"), Sample(4, "sea", other=7, relation="above")
    answers = {"thing": [[4, 1], [7, 4]], "surroundings": ["sea", "sky"], "colour": ["red", None]}
    assert figures.is_right("thing", one, answers, 0) and not figures.is_right("thing", two, answers, 1)
    assert figures.is_right("both", two, answers, 1)
    assert figures.is_right("surroundings", one, answers, 0) and not figures.is_right("surroundings", two, answers, 1)
    assert figures.shares("colour", [one], answers) == {"thing": 1.0, "colour": 1.0}


def test_labels_of_pairs_have_no_count_and_two_things() -> None:
    samples = [Sample(0, "sea", count=3, colour="red"), Sample(1, "white", other=2, relation="above")]
    found = attributes.labels(samples, 4)
    assert found["thing"].tolist() == [[1, 0, 0, 0], [0, 0.5, 0.5, 0]]
    assert found["count"].tolist() == [2, -1]
    assert attributes.ANSWERS["colour"][found["colour"][0]] == "red"
    assert attributes.ANSWERS["surroundings"][found["surroundings"][1]] == "white"


PLACES = ("white", "black", "red", "space", "sea")


def test_the_judge_learns_and_is_read_again(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It learns from few pictures, each of which is drawn once: drawing takes longer than learning."""
    monkeypatch.setattr(attributes, "BATCH", 15)
    renderer, file = Renderer(Discs()), tmp_path / "judge.pt"
    monkeypatch.setattr(renderer, "draw", functools.cache(renderer.draw))
    samples = [Sample(0, where, k) for k, where in enumerate(PLACES * 3)]
    monkeypatch.setattr(attributes, "draw_any", lambda things, rng: samples[int(rng.integers(len(samples)))])
    pictures = np.stack([renderer.draw(sample) for sample in samples])
    # Processors round differently: where twenty batches are too few, some more are enough.
    for batches in (20, 40, 80, 160):
        file.unlink(missing_ok=True)
        judge = attributes.train(renderer, samples=15 * batches, checkpoint=file)
        answers = attributes.answer(judge, pictures)
        if figures.shares("plain", samples, answers)["surroundings"] > 0.6:
            break
    else:
        pytest.fail("the judge has learnt nothing")
    again = attributes.train(renderer, samples=0, checkpoint=file)
    assert attributes.answer(again, pictures) == answers


def test_reconstruction_is_measured_by_medium() -> None:
    class Exact:
        def encode(self, x):
            return type("Encoded", (), {"latents": x})

        def decode(self, z):
            return type("Decoded", (), {"sample": z + 0.02 * torch.ones_like(z)})

    found = figures.reconstruction(Exact(), Renderer(Discs()), 1)
    assert set(found) == set(attributes.ANSWERS["medium"]) and all(30 < value < 50 for value in found.values())
