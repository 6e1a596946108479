"""Attention maps of a recorded run: sums, batches, and what cannot be shown."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pipelines.request import InvalidRequest
from pipelines.trace.words.attention import (
    MIXED,
    OWN_LOOP,
    attention_maps,
    batches,
    grid,
    head_maps,
    scaled,
    unavailable,
)
from tests.support.pipeline_parity import load
from tests.support.recorded_runs import ask, fork, record
from tests.support.tiny_model import make_tiny_model


@pytest.fixture(autouse=True)
def _no_gradients() -> Any:
    with torch.inference_mode():
        yield


def test_the_mean_over_layers_and_heads_is_that_of_the_heads(epsilon: Any) -> None:
    _, trace = record(epsilon, ask())
    found = attention_maps(epsilon, trace, 0, (3,))
    size = found.size
    each = [head_maps(epsilon, trace, 0, 3, name)[1] for name, at, _ in found.layers if at == size]
    assert np.allclose(found.maps[size][0], np.concatenate(each).mean(0), atol=1e-6)
    assert found.heads[size] == sum(len(one) for one in each)
    assert len(found.maps) > 1 and found.combined().shape == (1, len(found.words), *size)


def test_batches_change_nothing_and_follow_each_other(epsilon: Any) -> None:
    _, trace = record(epsilon, ask(num_images=2))
    whole = attention_maps(epsilon, trace, 1, (0, 1, 2))
    parts = attention_maps(epsilon, trace, 1, (0,)).followed_by(attention_maps(epsilon, trace, 1, (1, 2)))
    assert parts.steps == whole.steps == (0, 1, 2)
    assert np.allclose(parts.combined(), whole.combined(), atol=1e-5)
    other = attention_maps(epsilon, trace, 0, (0, 1, 2))
    assert not np.allclose(other.combined(), whole.combined(), atol=1e-3)


@pytest.mark.parametrize(
    ("k", "fields"),
    [
        (0, {"negative_prompt": "[red|blue] bus"}),
        (1, {"num_images": 2, "prompt": "[cat:dog:0.5]", "prompts": ("[cat:dog:0.5]", "a fox")}),
    ],
)
def test_a_picture_whose_own_prompt_stays_has_maps(epsilon: Any, k: int, fields: dict[str, Any]) -> None:
    _, trace = record(epsilon, ask(prompt_syntax="a1111", **fields))
    found = attention_maps(epsilon, trace, k, (1, 2))
    assert found.difference < 1e-3 and "fox" in [word.text for word in found.words]


def test_the_first_steps_of_a_fork_read_the_prompt_that_they_had(epsilon: Any) -> None:
    _, original = record(epsilon, ask(prompt="a red fox", num_inference_steps=4, scheduler="euler"))
    _, trace = fork(epsilon, original, 2, prompt="two blue foxes", guidance_scale=1.0, scheduler="ddim")
    assert list(batches(trace, range(4), 8)) == [(0, 1), (2, 3)]
    parts = [attention_maps(epsilon, trace, 0, batch) for batch in batches(trace, range(4), 8)]
    found = parts[0].followed_by(parts[1])
    # The predictions are the recorded ones, which they are only with the prompt of each step.
    assert found.difference < 1e-4
    names = [word.text for word in found.words]
    assert names == ["two", "blue", "foxes", "a", "red", "fox", "start", "end"]
    assert found.read == (frozenset(range(3, 8)),) * 2 + (frozenset((0, 1, 2, 6, 7)),) * 2
    shares = found.combined()
    assert np.allclose(shares.sum(1), 1, atol=1e-4) and not shares[:2, :3].any() and not shares[2:, 3:6].any()
    own = attention_maps(epsilon, original, 0, (0, 1)).combined()
    assert np.allclose(shares[:2, 3:], own, atol=1e-5)
    words, _ = head_maps(epsilon, trace, 0, 1, found.layers[0][0])
    assert [word.text for word in words] == ["a", "red", "fox", "start", "end"]


def test_steps_with_controlnets_are_computed_one_by_one(epsilon: Any) -> None:
    _, trace = record(epsilon, ask())
    assert list(batches(trace, range(5), 2)) == [(0, 1), (2, 3), (4,)]
    controlled = replace(trace, request=trace.request.model_copy(update={"controls": ("a map",)}))
    assert list(batches(controlled, range(2), 8)) == [(0,), (1,)]


def test_another_model_is_noticed(epsilon: Any, tmp_path: Path) -> None:
    _, trace = record(epsilon, ask())
    other = load(make_tiny_model(tmp_path, seed=9), "stable_diffusion")
    assert attention_maps(epsilon, trace, 0, (1,)).difference < 1e-4
    assert attention_maps(other, trace, 0, (1,)).difference > 0.05


def test_a_picture_between_two_prompts_has_no_words(epsilon: Any) -> None:
    asked = ask(num_images=3, interpolation={"prompt": "red"})
    _, trace = record(epsilon, asked)
    assert [unavailable(trace, k) for k in range(3)] == ["", MIXED, ""]
    assert attention_maps(epsilon, trace, 2, (0,)).words[0].text == "red"
    with pytest.raises(InvalidRequest, match="blends two prompts"):
        attention_maps(epsilon, trace, 1, (0,))
    assert unavailable(replace(trace, cond=None, uncond=None), 0) == OWN_LOOP


def test_words_beyond_the_window_are_named(epsilon: Any) -> None:
    _, trace = record(epsilon, ask(prompt="abcdefghij " * 7 + "a red fox", num_inference_steps=2))
    assert attention_maps(epsilon, trace, 0, (0,)).unread == "fox"


def test_an_inpainting_model_says_that_it_cannot(epsilon: Any, tmp_path: Path) -> None:
    _, trace = record(epsilon, ask())
    model = load(make_tiny_model(tmp_path, inpaint=True), "stable_diffusion")
    with pytest.raises(InvalidRequest, match="inpainting"):
        attention_maps(model, trace, 0, (0,))


def test_the_size_of_a_map_follows_from_that_of_the_latents() -> None:
    assert grid(96, (8, 12)) == (8, 12) and grid(24, (8, 12)) == (4, 6) and grid(6, (8, 12)) == (2, 3)
    assert grid(15, (9, 5)) == (5, 3)
    with pytest.raises(InvalidRequest):
        grid(7, (8, 8))
    assert np.allclose(scaled(np.full((2, 3, 4), 0.25), (6, 8)), 0.25)
