"""Distillation: walks are DDIM with guidance, and a LoRA learns where they end."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, LCMScheduler, StableDiffusionPipeline

from pocket.paths import WEIGHTS
from pocket.train import text_encoder, turbo, unet

CAPTIONS = ["a fox on a green background", "a rocket on black"]


@pytest.fixture(scope="module")
def teacher() -> turbo.Teacher:
    return turbo.Teacher(WEIGHTS)


def options(folder: Path, **values) -> argparse.Namespace:
    given = turbo.parse(["--runs", str(folder), "--out", str(folder / "turbo"), "--walks", "2", "--samples", "80"])
    return argparse.Namespace(**{**vars(given), **values})


def test_a_walk_is_ddim_with_guidance(teacher: turbo.Teacher) -> None:
    noise = torch.randn(2, *teacher.shape, generator=torch.Generator().manual_seed(0))
    kept, end = teacher.walk(noise, CAPTIONS)
    assert kept.shape == (2, turbo.STEPS, *noise.shape[1:]) and torch.equal(kept[:, 0], noise)
    expected = ddim(teacher, noise, CAPTIONS)
    assert (end - expected).square().mean().sqrt() < 0.05 * expected.std()


@torch.inference_mode()
def ddim(teacher: turbo.Teacher, x: torch.Tensor, captions: list[str]) -> torch.Tensor:
    scheduler = DDIMScheduler.from_config(unet.build_scheduler().config, clip_sample=False, set_alpha_to_one=True)
    hidden = teacher.text(text_encoder.token_ids(teacher.tokenizer, ["", *captions]))[0]
    both = torch.cat([hidden[:1].expand(len(x), -1, -1), hidden[1:]])
    scheduler.set_timesteps(turbo.STEPS)
    assert [int(t) for t in scheduler.timesteps] == turbo.levels()
    for t in scheduler.timesteps:
        free, asked = teacher.unet(torch.cat([x, x]), t, both).sample.chunk(2)
        x = scheduler.step(free + turbo.GUIDANCE * (asked - free), t, x).prev_sample
    return x


def test_the_student_learns_where_walks_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turbo, "CHUNK", 2)
    monkeypatch.setattr(turbo, "RECIPE", replace(turbo.RECIPE, batch=4, warm_up=16))
    monkeypatch.setattr(turbo, "training_captions", lambda count, seed: CAPTIONS[:count])
    wanted = options(tmp_path)
    turbo.teach(wanted)
    student = turbo.Student(wanted)
    before, first = mean_loss(student), trained(student)
    turbo.learn(wanted)
    student = turbo.Student(wanted)
    assert student.training.seen == 80 and mean_loss(student) < 0.8 * before
    assert all("lora" in name for name in first) and len(first) > 50
    turbo.export(wanted)
    check_released(student, tmp_path / "turbo")


def trained(student: turbo.Student) -> list[str]:
    return [name for name, value in student.training.model.named_parameters() if value.requires_grad]


@torch.inference_mode()
def mean_loss(student: turbo.Student) -> float:
    student.walks.rng = np.random.default_rng(0)
    return float(np.mean([student.loss(8)[1] for _ in range(4)]))


def check_released(student: turbo.Student, folder: Path) -> None:
    """What was written makes the same UNet of a plain pipeline."""
    pipeline = StableDiffusionPipeline.from_pretrained(WEIGHTS)
    pipeline.load_lora_weights(folder)
    x, t = torch.randn(1, *pipeline.unet.conv_in.weight.shape[1:2], 8, 8), torch.tensor([500])
    hidden = torch.randn(1, 32, pipeline.unet.config.cross_attention_dim)
    with torch.inference_mode():
        written, known = (net(x, t, hidden).sample for net in (pipeline.unet.eval(), student.training.average.eval()))
    assert (written - known).abs().max() < 0.05 * known.std()
    assert LCMScheduler.from_pretrained(folder / "scheduler").config.prediction_type == "v_prediction"
    assert sum(file.stat().st_size for file in folder.rglob("*")) < 6_000_000


def test_points_of_walks_come_with_their_level_their_end_and_their_caption(tmp_path: Path) -> None:
    import json

    level = np.stack([np.arange(turbo.KEPT)] * 6)
    x = (100.0 * np.arange(6)[:, None] + level).astype(np.float16)
    np.savez(
        tmp_path / "000.npz",
        x=x[..., None, None, None],
        level=level,
        end=np.arange(6.0)[:, None, None, None],
        captions=np.array(json.dumps([f"walk {k}" for k in range(6)])),
    )
    walks = turbo.Walks(tmp_path, seed=0)
    x, t, end, walk = (np.asarray(value).reshape(-1) for value in walks.batch(4000))
    seen = (x - 100 * end).round().astype(int)
    assert (np.array(turbo.levels())[seen] == t).all()
    assert [walks.captions[i] for i in walk] == [f"walk {n:g}" for n in end.tolist()]
    assert 0.18 < (seen == 0).mean() < 0.25, "pure noise in a tenth of all cases and more"


def test_noise_and_signal_make_one() -> None:
    alpha, sigma = turbo.amounts(torch.tensor([999, 500, -1]))
    assert torch.allclose(alpha.square() + sigma.square(), torch.ones(3))
    assert float(sigma[2]) == 0.0 and float(alpha[0]) < 0.01


def test_small_errors_count_as_much_as_large_ones() -> None:
    direction = torch.randn(1, 400)
    far, near = (length * direction / direction.norm() for length in (20.0, 2.0))
    pulls = []
    for d in (far, near):
        d = d.clone().requires_grad_(True)
        turbo.pseudo_huber(d.square()).backward()
        pulls.append(d.grad.norm().item())
    assert pulls[0] == pytest.approx(pulls[1], rel=0.01)
    assert turbo.pseudo_huber(far.square()).item() == pytest.approx(20 / 400**0.5, rel=0.01)
    assert turbo.pseudo_huber(torch.zeros(3, 400)).item() == 0.0
