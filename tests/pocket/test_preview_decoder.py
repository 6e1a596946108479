"""The preview decoder: it learns from the decoder, and goes on where it stopped."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from pocket import preview_decoder
from pocket.train.checkpoints import Checkpoints
from pocket.train.loop import Until


@pytest.fixture(scope="module")
def latents() -> torch.Tensor:
    return preview_decoder.latents_of_runs(4, seed=7)


def test_it_learns_from_the_decoder_and_goes_on_where_it_stopped(tmp_path: Path, latents: torch.Tensor) -> None:
    torch.manual_seed(0)
    vae, checkpoints = preview_decoder.load_vae(), Checkpoints(tmp_path)
    before = dict(preview_decoder.figures(preview_decoder.build(vae), vae, latents))
    half = preview_decoder.train(latents, vae, checkpoints, Until(320))
    after = dict(preview_decoder.figures(half, vae, latents))
    assert all(after[view] > before[view] + 1 for view in ("guesses", "noisy latents")), (before, after)
    preview_decoder.train(latents, vae, checkpoints, Until(336))
    assert checkpoints.load(preview_decoder.NAME)["seen"] == 336
