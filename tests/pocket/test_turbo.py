"""Distilling: the student's noise levels lie where the sampler's do, and walks end where DDIM ends."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
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


@pytest.fixture
def walks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> turbo.Walks:
    """Two chunks of walks whose numbers say which walk, and how much noise, they are of."""
    monkeypatch.setattr(turbo, "FOLDER", tmp_path)
    for chunk in range(2):
        number = 10 * chunk + np.arange(3, dtype=np.float16)
        x = np.broadcast_to(number[:, None] * 100 + np.arange(turbo.STEPS), (3, turbo.STEPS))
        np.save(tmp_path / f"{chunk:03}.x.npy", np.ascontiguousarray(x[..., None, None, None]))
        np.save(tmp_path / f"{chunk:03}.end.npy", number[:, None, None, None])
        (tmp_path / f"{chunk:03}.captions.txt").write_text("\n".join(f"walk {n:g}" for n in number))
    monkeypatch.setattr(turbo, "CHUNK", 3)
    return turbo.Walks(seed=0)


def test_points_of_walks_come_with_their_noise_level_their_end_and_their_caption(walks: turbo.Walks) -> None:
    x, t, end, walk = walks.batch(4000)
    x, end = x.flatten(), end.flatten()
    level = (x - 100 * end).round().int()
    assert torch.equal(torch.tensor(turbo.levels())[level], t)
    assert [walks.captions[i] for i in walk] == [f"walk {n:g}" for n in end.tolist()]
    assert {f"walk {n}" for n in (0, 1, 2, 10, 11, 12)} == {walks.captions[i] for i in walk}
    # Pure noise in a fifth of all cases and more, and the other levels alike.
    shares = torch.bincount(level, minlength=turbo.STEPS) / len(level)
    assert 0.2 < shares[0] < 0.26 and shares[1:].min() > 0.02 and shares[1:].max() < 0.045
