"""The loop against StableDiffusionPipeline, step by step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pipelines.model import Placement
from pipelines.models.families.stable_diffusion import load
from pipelines.request import InvalidRequest
from pipelines.sampling.conditioning import encode_prompts
from pipelines.sampling.denoise import denoise
from pipelines.sampling.schedulers import DIFFUSION_SCHEDULERS, PREDICTION_TYPES, incompatibility
from tests.support.paired_models import PAIRS, THEIRS, Twins, request
from tests.support.tiny_model import make_tiny_model, tiny_card


@pytest.fixture(scope="module")
def twins(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Twins]:
    torch.set_num_threads(1)
    return {kind: Twins(tmp_path_factory.mktemp(kind), prediction_type=kind) for kind in PREDICTION_TYPES}


@pytest.fixture(scope="module")
def scheduled(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Twins]:
    """Twins on Stable Diffusion's own schedule, by spacing, and on one with zero terminal SNR."""
    own = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
    zero = {"rescale_betas_zero_snr": True}
    return {
        **{how: Twins(tmp_path_factory.mktemp(how), scheduler={**own, "timestep_spacing": how}) for how in SPACINGS},
        "zero": Twins(tmp_path_factory.mktemp("zero"), prediction_type="v_prediction", scheduler=zero),
    }


SPACINGS = ("leading", "linspace")


def test_every_scheduler_is_compared() -> None:
    assert set(THEIRS) == set(DIFFUSION_SCHEDULERS)


@pytest.mark.parametrize(("name", "kind"), PAIRS)
def test_every_step_equals_the_pipelines(twins: dict[str, Twins], name: str, kind: str) -> None:
    twins[kind].assert_same(request(scheduler=name))
    # Several pictures: each draws from a generator of its own, in stochastic steps too.
    twins[kind].assert_same(request(scheduler=name, num_images=2, guidance_scale=1.0, num_inference_steps=7))


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("name", THEIRS)
def test_parity_holds_on_stable_diffusions_own_schedule(scheduled: dict[str, Twins], name: str, spacing: str) -> None:
    scheduled[spacing].assert_same(request(scheduler=name))


@pytest.mark.parametrize("name", [name for name in THEIRS if not incompatibility(name, "v_prediction", True)])
def test_parity_holds_with_zero_terminal_snr(scheduled: dict[str, Twins], name: str) -> None:
    scheduled["zero"].assert_same(request(scheduler=name))


@pytest.mark.parametrize(("vae", "channels"), [("kl", 4), ("tiny", 4), ("tiny", 16)])
def test_pictures_equal_the_pipelines(tmp_path: Path, vae: str, channels: int) -> None:
    both = Twins(tmp_path, vae=vae, latent_channels=channels)
    asked = request(scheduler="dpmpp_2m")
    (picture,) = both.theirs(asked)[1].images
    *_, last = denoise(both.model, asked)
    (ours,) = both.model.latents.decode(last.x_next)
    assert ours.size == (32, 40)
    assert np.array_equal(np.asarray(ours), np.asarray(picture))


def test_picture_k_is_the_picture_of_seed_plus_k(twins: dict[str, Twins]) -> None:
    model = twins["v_prediction"].model
    *_, several = denoise(model, request(scheduler="euler_a", num_images=3))
    for k in range(3):
        *_, single = denoise(model, request(scheduler="euler_a", seed=11 + k))
        torch.testing.assert_close(several.x_next[k : k + 1], single.x_next, atol=1e-4, rtol=0)


def test_a_step_holds_all_of_its_numbers(twins: dict[str, Twins]) -> None:
    for step in denoise(twins["v_prediction"].model, request(num_images=2)):
        assert step.alpha**2 + step.sigma**2 == pytest.approx(1, abs=1e-6)
        v = step.uncond + 4.0 * (step.cond - step.uncond)
        torch.testing.assert_close(step.x0, step.alpha * step.x_t - step.sigma * v)
        assert step.x_t.shape == step.x0.shape == step.cond.shape == step.x_next.shape == (2, 4, 5, 4)
    assert step.x_t.dtype == torch.float32


@pytest.mark.parametrize("scale", [0.0, 1.0])
def test_without_guidance_the_unconditional_half_is_not_run(
    twins: dict[str, Twins], monkeypatch: pytest.MonkeyPatch, scale: float
) -> None:
    model, batches = twins["epsilon"].model, []
    plain = model.predict

    def counting(x: torch.Tensor, *conditioning: Any) -> torch.Tensor:
        batches.append(len(x))
        return plain(x, *conditioning)

    monkeypatch.setattr(model, "predict", counting)
    assert all(step.uncond is None for step in denoise(model, request(guidance_scale=scale)))
    assert batches == [1] * 5
    batches.clear()
    assert all(step.uncond is not None for step in denoise(model, request(num_images=2)))
    assert batches == [4] * 5


def test_cancel_ends_before_the_next_model_call(twins: dict[str, Twins], monkeypatch: pytest.MonkeyPatch) -> None:
    model, calls, stop = twins["epsilon"].model, [], []
    plain = model.predict
    monkeypatch.setattr(model, "predict", lambda *args: calls.append(1) or plain(*args))
    seen = 0
    for seen, _ in enumerate(denoise(model, request(), cancelled=lambda: bool(stop)), start=1):
        if seen == 2:
            stop.append(1)
    assert (seen, len(calls)) == (2, 2)
    assert list(denoise(model, request(), cancelled=lambda: True)) == []


def test_inference_mode_does_not_leak_between_steps(twins: dict[str, Twins]) -> None:
    steps = denoise(twins["epsilon"].model, request())
    next(steps)
    assert not torch.is_inference_mode_enabled()
    assert not torch.ones(1).is_inference()
    steps.close()


def test_requests_that_cannot_run_are_refused_before_the_first_model_call(
    twins: dict[str, Twins], monkeypatch: pytest.MonkeyPatch
) -> None:
    for kind in PREDICTION_TYPES:
        monkeypatch.setattr(twins[kind].model, "predict", None)
        monkeypatch.setattr(twins[kind].model, "encode_prompt", None)
    epsilon, sample = twins["epsilon"].model, twins["sample"].model
    for model, changes, words in (
        (epsilon, {"width": 36}, "width is 36; for tiny it must be a multiple of 8"),
        (epsilon, {"scheduler": "nope"}, "allowed: ddpm"),
        (epsilon, {"scheduler": "lcm", "num_inference_steps": 51}, "at most 50"),
        (sample, {"scheduler": "pndm"}, "PNDM cannot run"),
    ):
        with pytest.raises(InvalidRequest, match=words):
            next(denoise(model, request(**changes)))


@pytest.mark.parametrize("name", ["ddim", "euler", "dpmpp_2m_sde"])
def test_with_a_model_in_half_precision_the_sampler_stays_in_single(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """As on a GPU: the UNet in fp16, the sampler in fp32.

    How far two whole runs differ depends on the processor: guidance and stochastic multistep samplers multiply the
    rounding of each prediction.  So the predictions are compared one by one, and the sampler on equal predictions.
    """
    card = tiny_card(make_tiny_model(tmp_path, prediction_type="v_prediction"))
    half, single = (
        load(card, Placement("cpu", dtype, "sdpa"), lambda part, done, total: None) for dtype in ("float16", "float32")
    )
    calls: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]] = []
    predict = half.predict

    def recording(x: torch.Tensor, t: torch.Tensor, *conditioning: Any) -> torch.Tensor:
        calls.append((x, t, predict(x, t, *conditioning)))
        return calls[-1][-1]

    monkeypatch.setattr(half, "predict", recording)
    steps = list(denoise(half, request(scheduler=name)))
    assert half.latents.decode(steps[-1].x_next)[0].size == (32, 40)
    with torch.inference_mode():
        conditioning = encode_prompts(single, request(), guided=True)
        for x, t, prediction in calls:
            exact = single.predict(x, t, conditioning)
            # fp16 keeps 11 bits; some fifty roundings in a row stay far below 1/32 of the largest number.
            assert float((prediction - exact).abs().max()) <= float(exact.abs().max()) / 32
    predictions = iter(calls)
    monkeypatch.setattr(single, "predict", lambda *_: next(predictions)[-1])
    for ours, theirs in zip(steps, denoise(single, request(scheduler=name)), strict=True):
        assert ours.x_next.dtype == torch.float32
        assert torch.equal(ours.x_next, theirs.x_next) and torch.equal(ours.x0, theirs.x0)
