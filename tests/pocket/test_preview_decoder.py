"""The preview decoder: it learns from the decoder, and goes on where it stopped."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from pocket import preview_decoder
from pocket.train.checkpoints import Checkpoints
from pocket.train.loop import Until


@pytest.fixture(scope="module")
def latents() -> torch.Tensor:
    return preview_decoder.latents_of_runs(2, seed=7)


def test_it_learns_from_the_decoder_and_goes_on_where_it_stopped(
    tmp_path: Path, latents: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preview_decoder, "RECIPE", replace(preview_decoder.RECIPE, batch=4, warm_up=16))
    torch.manual_seed(0)
    vae, checkpoints = preview_decoder.load_vae(), Checkpoints(tmp_path)
    before = dict(preview_decoder.figures(preview_decoder.build(vae), vae, latents))
    half = preview_decoder.train(latents, vae, checkpoints, Until(96))
    after = dict(preview_decoder.figures(half, vae, latents))
    assert all(after[view] > before[view] + 0.5 for view in ("guesses", "noisy latents")), (before, after)
    preview_decoder.train(latents, vae, checkpoints, Until(112))
    assert checkpoints.load(preview_decoder.NAME)["seen"] == 112
