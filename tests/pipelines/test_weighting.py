"""Weights in prompts: the compel library's own wrappers of the same model are the measure."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from compel import CompelForSD, CompelForSDXL

from pipelines.families import loader
from pipelines.families.weighting import plain, weighted
from tests.tiny import make_tiny_model, tiny_card
from tests.tiny_families import make
from tests.twins import CPU

PROMPT = "a (red)1.4 fox, (dull)0.5 and (bright)++"


@pytest.mark.parametrize(
    ("prompt", "words"),
    [
        ("a fox (red)", None),
        ("a (red)1.4 fox", "a red fox"),
        ("a (red fox)++ at (night)-", "a red fox at night"),
        ("(:) a smile", None),
        ("c++ and t-shirts", None),
    ],
)
def test_weights_are_told_from_brackets(prompt: str, words: str | None) -> None:
    assert weighted(prompt) == (words is not None)
    assert plain(prompt) == (words or prompt)


def load(folder: Path, family: str) -> Any:
    return loader(family)(tiny_card(folder, family=family), CPU, lambda *args: None)


def test_sd_reads_what_compel_reads(tmp_path: Path) -> None:
    folder = make_tiny_model(tmp_path)
    model = load(folder, "stable_diffusion")
    theirs = CompelForSD(diffusers.StableDiffusionPipeline.from_pretrained(folder))(PROMPT).embeds
    ours = model.encode_prompt([PROMPT]).tokens
    torch.testing.assert_close(ours, theirs)
    assert not torch.allclose(ours, model.encode_prompt([plain(PROMPT)]).tokens, atol=1e-2)


def test_xl_reads_what_compel_reads(tmp_path: Path) -> None:
    folder = make("stable_diffusion_xl", tmp_path)
    theirs = CompelForSDXL(diffusers.StableDiffusionXLPipeline.from_pretrained(folder))(PROMPT)
    ours = load(folder, "stable_diffusion_xl").encode_prompt([PROMPT])
    torch.testing.assert_close(ours.tokens, theirs.embeds)
    torch.testing.assert_close(ours.pooled, theirs.pooled_embeds)


@pytest.mark.parametrize("family", ["stable_diffusion", "stable_diffusion_xl"])
def test_a_weight_of_one_changes_nothing_and_more_goes_further(tmp_path: Path, family: str) -> None:
    model = load(make_tiny_model(tmp_path) if family == "stable_diffusion" else make(family, tmp_path), family)

    def far(weight: str) -> float:
        return float((model.encode_prompt([f"a (red){weight} fox"]).tokens - base).norm())

    base = model.encode_prompt(["a red fox"]).tokens
    assert far("1.0") < 1e-4 * float(base.norm())
    assert far("1.2") < far("1.5") < far("2")


def test_words_beyond_the_window_are_counted_without_weights(tmp_path: Path) -> None:
    model = load(make_tiny_model(tmp_path, max_tokens=16), "stable_diffusion")
    assert model.unread("(abcdefg)1.3 hijklmn") == ""
    assert model.unread("(abcdefg)1.3 hijklmn opq") == "opq"
    assert model.encode_prompt(["(abcdefg)1.3 hijklmn opq"]).tokens.shape == (1, 16, 16)
