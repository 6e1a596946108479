"""Noise and prompts between two others: the ends are exact, and what lies between is as strong as noise."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from diffusers.utils.torch_utils import randn_tensor
from hypothesis import given, settings
from hypothesis import strategies as some

from pipelines.model import Placement
from pipelines.models.families.stable_diffusion import load
from pipelines.request import GenerationRequest, Interpolation, Variation, make_request
from pipelines.sampling.denoise import denoise
from pipelines.sampling.initial_noise import MIN_SINE, draw_initial_noise, make_generators, slerp
from tests.support.tiny_model import make_tiny_model, tiny_card

SEEDS = some.integers(0, 2**32)
SHAPE = (4, 16, 16)


def noise(seed: int, shape: tuple[int, ...] = SHAPE) -> torch.Tensor:
    return torch.randn((1, *shape), generator=torch.Generator().manual_seed(seed))


def request(**changes: Any) -> GenerationRequest:
    values: dict[str, Any] = {
        "model": "tiny", "prompt": "a red apple", "negative_prompt": "dull", "width": 32, "height": 32,
        "scheduler": "ddim", "num_inference_steps": 3, "guidance_scale": 4.0, "seed": 11,
    }  # fmt: skip
    return make_request(**{**values, **changes})


# -- slerp ---------------------------------------------------------------------------------------------------------


@given(SEEDS, SEEDS)
@settings(max_examples=30, deadline=None)
def test_both_ends_are_exact(one: int, other: int) -> None:
    a, b = noise(one), noise(other)
    assert torch.equal(slerp(a, b, 0.0), a)
    assert torch.equal(slerp(a, b, 1.0), b)


@given(SEEDS, SEEDS, some.floats(0, 1))
@settings(max_examples=40, deadline=None)
def test_what_lies_between_is_as_strong_as_noise(one: int, other: int, weight: float) -> None:
    a, b = noise(one), noise(other)
    mixed = slerp(a, b, weight)
    # The length lies between those of the ends, up to their small difference: 1024 numbers of spread 1.
    low, high = sorted((float(a.norm()), float(b.norm())))
    assert low * 0.999 - (high - low) <= float(mixed.norm()) <= high * 1.001 + (high - low)
    # Five times the spread of the mean and of the deviation of so many numbers.
    count = mixed.numel()
    assert abs(float(mixed.mean())) < 5 / math.sqrt(count)
    assert abs(float(mixed.std()) - 1) < 5 / math.sqrt(2 * count)


@given(SEEDS, SEEDS, some.floats(0, 1))
@settings(max_examples=30, deadline=None)
def test_both_ways_are_the_same_way(one: int, other: int, weight: float) -> None:
    a, b = noise(one), noise(other)
    torch.testing.assert_close(slerp(a, b, weight), slerp(b, a, 1 - weight), atol=1e-5, rtol=0)


@given(SEEDS, some.floats(0.1, 3.0), some.floats(0, 1))
@settings(max_examples=30, deadline=None)
def test_the_angle_grows_evenly(seed: int, angle: float, weight: float) -> None:
    """On unit vectors slerp is a turn by weight * angle."""
    a = torch.zeros(1, 1, 1, 3, dtype=torch.float64)
    a[..., 0] = 1
    b = torch.tensor([math.cos(angle), math.sin(angle), 0.0], dtype=torch.float64).reshape(1, 1, 1, 3)
    turned = slerp(a, b, weight).flatten().tolist()
    assert turned == pytest.approx([math.cos(weight * angle), math.sin(weight * angle), 0.0], abs=1e-9)


@pytest.mark.parametrize("weight", [0.0, 0.25, 0.5, 1.0])
def test_nearly_parallel_noises_are_joined_by_a_straight_line(weight: float) -> None:
    a = noise(3)
    for b in (a, a * 2, a * (1 + MIN_SINE / 100), -a, torch.zeros_like(a)):
        mixed = slerp(a, b, weight)
        assert torch.isfinite(mixed).all()
        torch.testing.assert_close(mixed, (1 - weight) * a + weight * b)
    assert torch.equal(slerp(a, a, weight), a)


def test_each_picture_has_its_own_angle_and_weight() -> None:
    a, b = torch.cat([noise(1), noise(2), noise(1)]), torch.cat([noise(3), noise(4), noise(1)])
    mixed = slerp(a, b, [0.0, 0.3, 0.9])
    for k, weight in enumerate([0.0, 0.3, 0.9]):
        assert torch.equal(mixed[k : k + 1], slerp(a[k : k + 1], b[k : k + 1], weight))
    assert torch.equal(slerp(noise(1), b, 1.0), b)


def drawn(asked: GenerationRequest) -> tuple[torch.Tensor, list[torch.Generator]]:
    """The noise of a request, and the generators after the draw."""
    generators = make_generators(asked)
    return draw_initial_noise(asked, (asked.num_images, *SHAPE), generators), generators


# -- the noise of a request ----------------------------------------------------------------------------------------


@given(some.integers(0, 2**63 - 9), some.integers(1, 8))
@settings(max_examples=30, deadline=None)
def test_a_plain_request_draws_what_it_always_drew(seed: int, count: int) -> None:
    generators = [torch.Generator().manual_seed(seed + k) for k in range(count)]
    wanted = randn_tensor((count, *SHAPE), generator=generators, device=torch.device("cpu"))
    found, left = drawn(request(seed=seed, num_images=count))
    assert torch.equal(found, wanted) and found.dtype == torch.float32
    for one, other in zip(left, generators, strict=True):
        assert torch.equal(one.get_state(), other.get_state())


def test_variations_leave_one_noise_in_different_directions() -> None:
    plain, after = drawn(request())
    others, _ = drawn(request(seed=50, num_images=3))
    for strength in (0.0, 0.3, 1.0):
        found, left = drawn(request(num_images=3, variation=Variation(seed=50, strength=strength)))
        assert torch.equal(found, slerp(plain, others, strength))
        # What the sampler draws later is that of the base seed.
        assert all(torch.equal(one.get_state(), after[0].get_state()) for one in left)


def test_a_blend_goes_from_one_seed_to_the_other() -> None:
    found, _ = drawn(request(num_images=5, interpolation=Interpolation(seed=50)))
    first, end = (drawn(request(seed=seed))[0] for seed in (11, 50))
    assert torch.equal(found[:1], first) and torch.equal(found[-1:], end)
    torch.testing.assert_close(found[2:3], slerp(first, end, 0.5))


def test_a_blend_of_prompts_keeps_the_noise() -> None:
    found, _ = drawn(request(num_images=3, interpolation=Interpolation(prompt="a fox")))
    assert torch.equal(found, drawn(request())[0].expand(3, *SHAPE))


# -- through the loop ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Any:
    torch.set_num_threads(1)
    folder = make_tiny_model(tmp_path_factory.mktemp("blend") / "tiny", prediction_type="v_prediction")
    return load(tiny_card(folder), Placement("cpu", "float32", "sdpa"), lambda part, done, total: None)


def last(model: Any, asked: GenerationRequest) -> torch.Tensor:
    *_, step = denoise(model, asked)
    return step.x_next


@pytest.mark.parametrize("scheduler", ["ddim", "euler_a", "dpmpp_2m_sde"])
def test_strength_0_is_the_picture_itself(model: Any, scheduler: str) -> None:
    asked = request(scheduler=scheduler, variation=Variation(seed=50, strength=0.0))
    assert torch.equal(last(model, asked), last(model, request(scheduler=scheduler)))


@pytest.mark.parametrize("scheduler", ["ddim", "dpmpp_2m", "heun"])
def test_strength_1_is_the_other_seeds_picture(model: Any, scheduler: str) -> None:
    asked = request(scheduler=scheduler, num_images=3, variation=Variation(seed=50, strength=1.0))
    assert torch.equal(last(model, asked), last(model, request(scheduler=scheduler, seed=50, num_images=3)))


def test_a_little_strength_changes_a_little(model: Any) -> None:
    plain = last(model, request())
    far = [
        float((last(model, request(variation=Variation(seed=50, strength=strength))) - plain).norm())
        for strength in (0.0, 0.1, 0.5, 1.0)
    ]
    assert far[0] == 0 and far == sorted(far)


def test_the_ends_of_a_blend_are_the_two_pictures(model: Any) -> None:
    blend = Interpolation(prompt="a fox", seed=50)
    both = last(model, request(num_images=4, interpolation=blend))
    # A batch of four sums in another order than one of one.
    for k, alone in ((0, request()), (3, request(prompt="a fox", seed=50))):
        torch.testing.assert_close(both[k : k + 1], last(model, alone), atol=1e-4, rtol=0)
    assert float((both[1] - both[2]).abs().max()) > 1e-3
