"""UNet and student: they learn, and go on from their checkpoints; see ``test_autoencoder`` for the third."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import UNet2DConditionModel

from pocket import curve, export, turbo, unet, vae
from pocket.training import Recipe

CAPTIONS = ["a fox on a green background", "a rocket on a black background"]


class Bank:
    """Two latents with their captions, over and over."""

    concepts = ()

    def __init__(self, seed: int) -> None:
        self.latents = torch.randn(2, vae.CHANNELS, 8, 8, generator=torch.Generator().manual_seed(0))

    def spread(self) -> float:
        return 0.8

    def batch(self, size: int) -> tuple[torch.Tensor, list[str]]:
        return self.latents.repeat(size // 2, 1, 1, 1), CAPTIONS * (size // 2)


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vae, "CHECKPOINT", tmp_path / "vae.pt")
    monkeypatch.setattr(unet, "CHECKPOINT", tmp_path / "unet.pt")
    monkeypatch.setattr(turbo, "CHECKPOINT", tmp_path / "turbo.pt")
    monkeypatch.setattr(turbo, "FOLDER", tmp_path / "turbo")
    monkeypatch.setattr(export.text, "SAVED", tmp_path / "tokenizer")
    for trainer in (unet, turbo):
        monkeypatch.setattr(trainer, "RECIPE", replace(trainer.RECIPE, batch=4, warm_up=16))


def test_the_unet_goes_on_from_the_shipped_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    export.restore()
    looks: list[int] = []
    monkeypatch.setattr(unet, "LatentBank", Bank)
    monkeypatch.setattr(curve.Curve, "__init__", lambda self, concepts: None)
    monkeypatch.setattr(curve.Curve, "look", lambda self, trainer: looks.append(trainer.training.seen))
    shipped = torch.load(unet.CHECKPOINT, weights_only=True)
    start = shipped["seen"]
    unet.train(start + 24)
    state = torch.load(unet.CHECKPOINT, weights_only=True)
    assert state["seen"] == start + 24 and looks == [start + 4 * k for k in range(1, 7)]
    assert state["scaling"] == shipped["scaling"] != 1 / 0.8, "the latents keep the scale that the weights know"
    for part in ("unet.conv_in.weight", "text.final_layer_norm.weight"):
        assert not torch.equal(state["model"][part], shipped["model"][part])
        assert not torch.equal(state["average"][part], state["model"][part])


def test_the_student_learns_where_walks_end(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(turbo, "CHUNK", 2)
    monkeypatch.setattr(turbo.Teacher, "captions", lambda self, count: CAPTIONS[:count])
    turbo.teach(2)
    student = turbo.Student()
    x, t, end, walk = student.walks.batch(64)
    assert {student.walks.captions[i] for i in walk} == set(CAPTIONS) and 999 in t.tolist() and len(set(t.tolist())) > 5
    # The last step of a walk goes from its last level to its end.
    assert (x - end)[t == 39].square().mean() < 0.1 * (x - end)[t == 999].square().mean()
    before = mean_loss(student)
    turbo.learn(80)
    student = turbo.Student()
    assert student.training.seen == 80
    assert mean_loss(student) < 0.5 * before
    turbo.export(tmp_path / "released")
    released = UNet2DConditionModel.from_pretrained(tmp_path / "released/unet")
    assert torch.allclose(released.conv_in.weight, student.training.average.conv_in.weight, atol=1e-3)


@torch.inference_mode()
def mean_loss(student: turbo.Student) -> float:
    student.walks.rng = np.random.default_rng(0)
    return float(np.mean([student.loss(16)[1] for _ in range(4)]))


def test_the_moving_average_follows_fast_in_the_beginning() -> None:
    recipe = Recipe(batch=1, peak_rate=1.0, warm_up=1, weight_decay=0.0, keep=0.999, average_every=2)
    pulls = [recipe.pull(steps) for steps in (2, 100, 100_000)]
    assert pulls[0] > 0.9 and pulls[0] > pulls[1] > pulls[2] == pytest.approx(1 - 0.999**2)


def test_every_timestep_is_learnt_and_those_that_show_shapes_most() -> None:
    t = unet.timesteps(40_000)
    low, high = unet.SHAPES
    assert 0 <= int(t.min()) < 5 and 995 < int(t.max()) <= 999
    between = ((t >= low) & (t < high)).float().mean().item()
    assert between == pytest.approx(0.5 + 0.5 * (high - low) / 1000, abs=0.02)
