"""Text encoder and UNet: they learn, first small latents and then large ones, and go on from their checkpoint."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from pocket.train import autoencoder, export, text_encoder, unet
from pocket.train.checkpoints import Checkpoints
from pocket.train.loop import Recipe, Until
from pocket.world.vocabulary import Concept

THINGS = [Concept("fox", "fox", (), ("vixen",)), Concept("rocket", "rocket", ("launch",))]
CAPTIONS = ["a fox in a meadow", "a purple rocket in space"]


@pytest.fixture
def checkpoints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Checkpoints:
    monkeypatch.setattr(unet, "CHANNELS", (32, 32, 64))
    monkeypatch.setattr(unet, "RECIPE", replace(unet.RECIPE, batch=4, warm_up=16, peak_rate=2e-3))
    monkeypatch.setattr(text_encoder, "corpus", lambda things: CAPTIONS * 50)
    return Checkpoints(tmp_path)


class Batches:
    """Two latents with their captions, over and over."""

    def __init__(self, tokenizer, side: int) -> None:
        self.latents = torch.randn(2, autoencoder.CHANNELS, side, side, generator=torch.Generator().manual_seed(0))
        self.tokens = text_encoder.token_ids(tokenizer, CAPTIONS)

    def __call__(self, count: int) -> tuple[torch.Tensor, torch.Tensor]:
        return self.latents.repeat(count // 2, 1, 1, 1), self.tokens.repeat(count // 2, 1)


@torch.inference_mode()
def mean_loss(trainer: unet.Trainer, batches: Batches) -> float:
    torch.manual_seed(3)
    latents, tokens = batches(64)
    return trainer.loss(latents, tokens, (50, 550))[1]


def test_it_learns_at_both_sizes_and_goes_on(checkpoints: Checkpoints) -> None:
    trainer = unet.Trainer(THINGS, checkpoints, 1.0)
    small, large = (Batches(trainer.tokenizer, side) for side in (8, 16))
    before = mean_loss(trainer, small)
    trainer.run(small, 128, Until(160))
    assert mean_loss(trainer, small) < 0.8 * before
    again = unet.Trainer(THINGS, checkpoints, 0.5)
    assert again.training.seen == 160 and again.scale == 1.0, "the latents keep the scale that the weights know"
    again.run(large, 256, Until(200))
    state = checkpoints.load("unet")
    assert state["seen"] == 200 and state["began unet at 256 px"] == 160
    assert not torch.equal(state["average"]["unet.conv_in.weight"], state["model"]["unet.conv_in.weight"])
    again.run(large, 256, Until(200))
    assert again.training.seen == 200, "a stage that is over is not trained further"


def test_snapshots_are_kept(checkpoints: Checkpoints, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unet, "SNAPSHOT_EVERY", 8)
    trainer = unet.Trainer(THINGS, checkpoints, 1.0)
    trainer.run(Batches(trainer.tokenizer, 8), 128, Until(20))
    kept = [checkpoints.load(f"unet-{seen}") for seen in (8, 16)]
    assert [state["seen"] for state in kept] == [8, 16]
    assert kept[0]["average"]["unet.conv_in.weight"].dtype == torch.half


def test_what_is_written_is_a_diffusers_folder(checkpoints: Checkpoints, monkeypatch, tmp_path: Path) -> None:
    from diffusers import StableDiffusionPipeline

    trainer = unet.Trainer(THINGS, checkpoints, 1.25)
    trainer.training.save()
    vae = autoencoder.build().state_dict()
    checkpoints.save("autoencoder", {"average": vae, "seen": 1})
    export.export(checkpoints, tmp_path / "weights", THINGS)
    pipeline = StableDiffusionPipeline.from_pretrained(tmp_path / "weights")
    pipeline.set_progress_bar_config(disable=True)
    assert pipeline.vae.config.scaling_factor == 1.25
    assert {p.dtype for m in (pipeline.unet, pipeline.vae, pipeline.text_encoder) for p in m.parameters()} == {
        torch.float32
    }
    assert pipeline("a fox in a meadow", num_inference_steps=2).images[0].size == (256, 256)


def test_the_released_shape_is_small_enough() -> None:
    assert 14e6 < sum(p.numel() for p in unet.build().parameters()) < 15.5e6


def test_the_moving_average_follows_fast_in_the_beginning() -> None:
    recipe = Recipe(batch=1, peak_rate=1.0, warm_up=1, weight_decay=0.0, keep=0.999, average_every=2)
    pulls = [recipe.pull(steps) for steps in (2, 100, 100_000)]
    assert pulls[0] > 0.9 and pulls[0] > pulls[1] > pulls[2] == pytest.approx(1 - 0.999**2)


def test_every_timestep_is_learnt_and_those_that_show_shapes_most() -> None:
    for low, high in unet.SHAPES.values():
        t = unet.timesteps(40_000, (low, high))
        assert 0 <= int(t.min()) < 5 and 995 < int(t.max()) <= 999
        between = ((t >= low) & (t < high)).float().mean().item()
        assert between == pytest.approx(0.5 + 0.5 * (high - low) / 1000, abs=0.02)
