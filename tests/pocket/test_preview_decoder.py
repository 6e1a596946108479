"""The preview decoder: it learns from the decoder, is small, and its pictures are nearly the decoder's."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderTiny

from pocket import preview_decoder
from pocket.train.checkpoints import Checkpoints
from pocket.train.loop import Until

MOST_BYTES = 500_000


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


def test_what_is_shipped_is_small_and_draws_what_the_decoder_draws(latents: torch.Tensor) -> None:
    files = list(preview_decoder.FOLDER.glob("*.safetensors"))
    assert 0 < sum(file.stat().st_size for file in files) <= MOST_BYTES
    student = AutoencoderTiny.from_pretrained(preview_decoder.FOLDER).float().eval()
    found = dict(preview_decoder.figures(student, preview_decoder.load_vae(), latents))
    assert found["guesses"] > 28 and found["noisy latents"] > 24, found
