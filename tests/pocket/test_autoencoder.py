"""Training the autoencoder: it learns, goes on from its checkpoint, and ships its moving average."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from pocket import curve, export, unet, vae


class Discs:
    """Discs of a random colour on a background of another."""

    def __init__(self, seed: int) -> None:
        self.generator = torch.Generator().manual_seed(seed)

    def batch(self, size: int) -> torch.Tensor:
        axis = torch.linspace(-1, 1, 128)
        inside = (axis[:, None].square() + axis.square() < 0.4).float()
        disc, ground = torch.rand(2, size, 3, 1, 1, generator=self.generator) * 2 - 1
        return inside * disc + (1 - inside) * ground


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vae.data, "RUNS", tmp_path)
    monkeypatch.setattr(vae, "CHECKPOINT", tmp_path / "vae.pt")
    monkeypatch.setattr(unet, "CHECKPOINT", tmp_path / "unet.pt")
    monkeypatch.setattr(export.text, "SAVED", tmp_path / "tokenizer")
    monkeypatch.setattr(vae, "Pictures", Discs)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vae, "WIDTH", 16)
    monkeypatch.setattr(vae, "RECIPE", replace(vae.RECIPE, batch=4, warm_up=40))


def state() -> dict:
    return torch.load(vae.CHECKPOINT, weights_only=True)


@torch.inference_mode()
def error(autoencoder) -> float:
    x = Discs(99).batch(8)
    return (autoencoder.decoder(autoencoder.encoder(x)) - x).abs().mean().item()


@pytest.mark.usefixtures("small")
def test_training_learns_and_goes_on_where_it_stopped() -> None:
    torch.manual_seed(0)
    before = error(vae.build())
    vae.train(40 * vae.RECIPE.batch)
    first = state()
    assert first["seen"] == 40 * vae.RECIPE.batch and error(vae.load()) < 0.8 * before
    vae.train(44 * vae.RECIPE.batch)
    second = state()
    assert second["seen"] == 44 * vae.RECIPE.batch
    steps = {int(entry["step"]) for entry in second["optimizer"]["state"].values()}
    assert steps == {44}, "the optimizer's moments are carried over"


@pytest.mark.usefixtures("small")
def test_what_is_loaded_is_the_moving_average() -> None:
    vae.train(12 * vae.RECIPE.batch)
    saved, loaded = state(), vae.load().state_dict()
    assert all(torch.equal(loaded[name], value) for name, value in saved["average"].items())
    assert any(not torch.equal(loaded[name], value) for name, value in saved["model"].items())


def test_the_rate_warms_up_stays_and_cools_down() -> None:
    peak = vae.RECIPE.peak_rate
    rates = [vae.RECIPE.rate(seen, 340_000, 100_000) for seen in (100_000, 110_000, 200_000, 304_000, 339_999)]
    assert rates[0] < 0.01 * peak and rates[1] == rates[2] == peak
    assert rates[3] == pytest.approx(peak / 2) and 0 < rates[4] < 0.02 * peak


def test_a_warm_start_holds_the_shipped_weights() -> None:
    export.restore()
    from diffusers import StableDiffusionPipeline

    shipped = StableDiffusionPipeline.from_pretrained(export.WEIGHTS)
    loaded = vae.load().state_dict()
    assert all(torch.equal(loaded[name], value) for name, value in shipped.vae.state_dict().items())
    kept = torch.load(unet.CHECKPOINT, weights_only=True)
    assert kept["seen"] == curve.samples_seen() and kept["scaling"] == shipped.vae.config.scaling_factor
    assert torch.equal(kept["average"]["unet.conv_in.weight"], shipped.unet.conv_in.weight)
