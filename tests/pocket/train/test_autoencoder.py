"""Training the autoencoder: it learns, goes on from its checkpoint, and ships its moving average."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from pocket.paths import WEIGHTS
from pocket.train import autoencoder
from pocket.train.checkpoints import Checkpoints
from pocket.train.loop import Until


class Discs:
    """Discs of a random colour on a background of another."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)

    def draw(self, count: int) -> tuple[list, np.ndarray]:
        axis = np.linspace(-1, 1, 256)
        inside = (axis[:, None] ** 2 + axis**2 < 0.4)[..., None]
        colours = self.rng.integers(256, size=(2, count, 1, 1, 3), dtype=np.uint8)
        return [], np.where(inside, *colours)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(autoencoder, "WIDTH", 16)
    monkeypatch.setattr(autoencoder, "RECIPE", replace(autoencoder.RECIPE, batch=4, warm_up=40))


@torch.inference_mode()
def error(model) -> float:
    x = autoencoder.halved(autoencoder.to_tensor(Discs(99).draw(4)[1]))
    return (model.decoder(model.encoder(x)) - x).abs().mean().item()


@pytest.mark.usefixtures("small")
def test_training_learns_and_goes_on_where_it_stopped(tmp_path: Path) -> None:
    torch.manual_seed(0)
    before, checkpoints = error(autoencoder.build()), Checkpoints(tmp_path)
    autoencoder.train(Discs(0), checkpoints, Until(120))
    state = checkpoints.load("autoencoder")
    assert state["seen"] == 120 and state["hours"] > 0
    loaded = autoencoder.load(checkpoints)
    assert error(loaded) < 0.8 * before
    average = loaded.state_dict()
    assert all(torch.equal(average[name], value) for name, value in state["average"].items())
    assert any(not torch.equal(average[name], value) for name, value in state["model"].items())
    autoencoder.train(Discs(0), checkpoints, Until(128))
    state = checkpoints.load("autoencoder")
    assert state["seen"] == 128
    assert {int(entry["step"]) for entry in state["optimizer"]["state"].values()} == {32}, "moments are carried over"


def test_training_starts_from_released_weights_of_the_same_shape() -> None:
    from diffusers import AutoencoderTiny

    shipped = AutoencoderTiny.from_pretrained(WEIGHTS / "vae").state_dict()
    loaded = autoencoder.build_from(WEIGHTS).state_dict()
    assert all(torch.equal(loaded[name], value) for name, value in shipped.items())


@pytest.mark.usefixtures("small")
def test_weights_of_another_shape_are_left_alone() -> None:
    assert autoencoder.build_from(WEIGHTS).config.encoder_block_out_channels[0] == 16


def test_squares_are_parts_and_whole_pictures() -> None:
    x = torch.zeros(3, 3, 256, 256)
    x[..., 128:] = 1
    *parts, whole = autoencoder.squares(x, np.random.default_rng(0))
    assert len(parts) == 2 and all(part.shape == whole.shape == (3, 128, 128) for part in parts)
    assert (whole[..., :64] == 0).all() and (whole[..., 64:] == 1).all()
    assert all(part.diff(dim=2).sum() in (0, 3 * 128) for part in parts)


def test_the_rate_warms_up_stays_and_cools_down() -> None:
    recipe = autoencoder.RECIPE
    peak = recipe.peak_rate
    moments = ((0, 0.0), (1_000, 0.1), (9_000, 0.6), (9_000, 0.85), (9_000, 1))
    rates = [recipe.rate(seen, share) for seen, share in moments]
    assert rates[0] < 0.02 * peak and rates[1] == rates[2] == peak
    assert rates[3] == pytest.approx(peak / 2) and 0 < rates[4] < 0.02 * peak


def test_latents_of_both_sizes() -> None:
    vae = autoencoder.build().eval()
    pixels = Discs(0).draw(3)[1]
    for size, side in ((128, 8), (256, 16)):
        latents = autoencoder.encode(vae, pixels, size, part=2)
        assert latents.shape == (3, autoencoder.CHANNELS, side, side) and latents.dtype == torch.float16


@pytest.mark.usefixtures("small")
def test_the_decoder_is_trained_further_without_a_change_to_the_encoder(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    autoencoder.train(Discs(0), checkpoints, Until(16))
    before = autoencoder.load(checkpoints)
    autoencoder.refine(Discs(1), checkpoints, Until(120))
    after = autoencoder.load(checkpoints)
    assert error(after) < 0.9 * error(before)
    kept = {name for name, value in before.state_dict().items() if torch.equal(value, after.state_dict()[name])}
    assert kept == {name for name in before.state_dict() if name.startswith("encoder")}
    autoencoder.refine(Discs(1), checkpoints, Until(128))
    assert checkpoints.load("decoder")["seen"] == 128 and checkpoints.load("autoencoder")["seen"] == 16
