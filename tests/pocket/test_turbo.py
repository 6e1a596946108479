"""Distilling: the student's noise levels lie where the sampler's do, and walks end where DDIM ends."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from diffusers import DDIMScheduler, LCMScheduler, StableDiffusionPipeline, UNet2DConditionModel

from pocket import turbo
from pocket.export import WEIGHTS


@pytest.mark.parametrize("steps", [1, 2, 4, 8, 25, 50])
def test_the_sampler_visits_levels_that_the_student_knows(steps: int) -> None:
    scheduler = turbo.build_scheduler()
    scheduler.set_timesteps(steps)
    visited = [int(t) for t in scheduler.timesteps]
    assert visited[0] == turbo.levels()[0] == 999 and len(visited) == steps
    gap = turbo.levels()[0] - turbo.levels()[1]
    assert all(min(abs(t - known) for known in turbo.levels()) <= gap / 2 for t in visited)


def test_the_student_is_the_teacher_with_a_shorter_middle_and_small_enough() -> None:
    teacher = StableDiffusionPipeline.from_pretrained(WEIGHTS).unet
    student = turbo.build(teacher)
    left_out = set(teacher.state_dict()) - set(student.state_dict())
    assert left_out and all(name.startswith("mid_block.") for name in left_out)
    assert torch.equal(student.conv_in.weight, teacher.conv_in.weight)
    assert sum(p.numel() for p in student.parameters()) * 2 < 22_000_000


def test_what_is_written_is_the_moving_average_and_names_its_sampler(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    student = turbo.build(StableDiffusionPipeline.from_pretrained(WEIGHTS).unet)
    torch.nn.init.constant_(student.conv_out.bias, 0.5)
    torch.save({"average": student.state_dict()}, tmp_path / "turbo.pt")
    monkeypatch.setattr(turbo, "CHECKPOINT", tmp_path / "turbo.pt")
    turbo.export(tmp_path / "turbo")
    written = UNet2DConditionModel.from_pretrained(tmp_path / "turbo", subfolder="unet")
    assert torch.equal(written.conv_out.bias.float(), student.conv_out.bias)
    assert json.loads((tmp_path / "turbo/model_index.json").read_text())["scheduler"][1] == "LCMScheduler"
    assert LCMScheduler.from_pretrained(tmp_path / "turbo/scheduler").config.prediction_type == "v_prediction"
    assert sum(file.stat().st_size for file in (tmp_path / "turbo").rglob("*")) < 22_000_000


def test_a_walk_is_ddim_with_guidance() -> None:
    teacher = turbo.Teacher(0)
    captions = ["a fox on a green background", "a rocket on black"]
    noise = torch.randn(2, teacher.unet.config.in_channels, 8, 8, generator=torch.Generator().manual_seed(0))
    kept, end = teacher.walk(noise, captions)
    assert kept.shape == (2, turbo.STEPS, *noise.shape[1:]) and torch.equal(kept[:, 0], noise)
    expected = ddim(teacher, noise, captions)
    assert (end - expected).square().mean().sqrt() < 0.05 * expected.std()


@torch.inference_mode()
def ddim(teacher: turbo.Teacher, x: torch.Tensor, captions: list[str]) -> torch.Tensor:
    scheduler = DDIMScheduler.from_config(
        turbo.unet.build_scheduler().config, clip_sample=False, set_alpha_to_one=True
    )
    ids = turbo.text.token_ids(teacher.tokenizer, ["", *captions])
    hidden = teacher.text(ids)[0]
    both = torch.cat([hidden[:1].expand(len(x), -1, -1), hidden[1:]])
    scheduler.set_timesteps(turbo.STEPS)
    assert [int(t) for t in scheduler.timesteps] == turbo.levels()
    for t in scheduler.timesteps:
        free, asked = teacher.unet(torch.cat([x, x]), t, both).sample.chunk(2)
        x = scheduler.step(free + turbo.GUIDANCE * (asked - free), t, x).prev_sample
    return x


def test_noise_and_signal_make_one() -> None:
    alpha, sigma = turbo.amounts(torch.tensor([999, 500, -1]))
    assert torch.allclose(alpha.square() + sigma.square(), torch.ones(3))
    assert float(sigma[2]) == 0.0 and float(alpha[0]) < 0.01
