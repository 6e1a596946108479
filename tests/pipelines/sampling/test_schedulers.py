"""The table of schedulers: what it refuses, its algebra, and where each sampler lands."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
import torch

from pipelines.request import InvalidRequest, Sampling
from pipelines.sampling import schedulers
from pipelines.sampling.advice import Advice
from pipelines.sampling.schedulers import (
    DIFFUSION_SCHEDULERS,
    OWN_LOOP,
    PREDICTION_TYPES,
    SCHEDULERS,
    SchedulerSpec,
    alpha_sigma,
    build_scheduler,
    check_scheduler,
    incompatibility,
    is_variance_exploding,
    predict_x0,
)
from tests.support.tiny_model import SCHEDULER

NAMES = DIFFUSION_SCHEDULERS
PAIRS = [(name, kind) for name in NAMES for kind in PREDICTION_TYPES if not incompatibility(name, kind, False)]
TARGET = torch.linspace(-0.9, 0.9, 16).reshape(1, 1, 4, 4)
# PNDM is far off in 2 to 4 steps, and DEIS stops at the last noise level of the schedule, above zero.
LANDS_NEAR = {"pndm": 0.7, "deis": 0.04}


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def config(kind: str, **changes: Any) -> dict[str, Any]:
    return {**SCHEDULER, "prediction_type": kind, **changes}


def exact_prediction(kind: str, x: torch.Tensor, alpha: float, sigma: float) -> torch.Tensor:
    """What a perfect model of the one-point distribution at TARGET predicts from x = alpha * TARGET + sigma * eps."""
    eps = (x - alpha * TARGET) / sigma
    return {"epsilon": eps, "v_prediction": alpha * eps - sigma * TARGET, "sample": TARGET}[kind]


def walk(name: str, cfg: dict[str, Any], steps: int) -> tuple[torch.Tensor, float]:
    """Run the sampler with the perfect model; returns the end and the worst error of predict_x0 on the way."""
    scheduler = build_scheduler(name, cfg)
    scheduler.set_timesteps(steps)
    generator = torch.Generator().manual_seed(0)
    draws = {"generator": generator} if "generator" in inspect.signature(scheduler.step).parameters else {}
    x_t, worst = torch.randn(TARGET.shape, generator=generator) * scheduler.init_noise_sigma, 0.0
    for index, t in enumerate(scheduler.timesteps):
        alpha, sigma = alpha_sigma(scheduler, t, index)
        x_in = scheduler.scale_model_input(x_t, t)
        prediction = exact_prediction(cfg["prediction_type"], x_in, alpha, sigma)
        x0 = predict_x0(scheduler, prediction, t, x_t, index)
        worst = max(worst, float((x0 - TARGET).abs().max()))
        x_t = scheduler.step(prediction, t, x_t, **draws, return_dict=False)[0]
    return x_t, worst


@pytest.mark.parametrize("steps", [1, 2, 4, 25, 50])
@pytest.mark.parametrize("name", NAMES)
def test_every_scheduler_lands_on_the_target(name: str, steps: int) -> None:
    end, worst = walk(name, config("v_prediction"), steps)
    assert torch.isfinite(end).all()
    assert float((end - TARGET).abs().max()) < LANDS_NEAR.get(name, 1e-4)
    assert worst < 1e-4


@pytest.mark.parametrize(("name", "kind"), PAIRS)
def test_predict_x0_is_exact_at_every_model_call(name: str, kind: str) -> None:
    """Calls between two noise levels (Heun, DPM2) included."""
    for spacing in ("leading", "linspace", "trailing"):
        _, worst = walk(name, config(kind, timestep_spacing=spacing), 7)
        assert worst < 1e-3, spacing  # epsilon divides by alpha = 0.006 at the first step


@pytest.mark.parametrize(("name", "kind"), PAIRS)
def test_add_noise_then_predict_x0_is_a_round_trip(name: str, kind: str) -> None:
    scheduler = build_scheduler(name, config(kind))
    scheduler.set_timesteps(10)
    eps = torch.randn(TARGET.shape, generator=torch.Generator().manual_seed(1))
    for index, t in enumerate(scheduler.timesteps):
        if name == "dpm2_karras" and index % 2:
            continue  # add_noise of this class knows no level between two steps
        x_t = scheduler.add_noise(TARGET, eps, t.reshape(1))
        alpha, sigma = alpha_sigma(scheduler, t, index)
        prediction = {"epsilon": eps, "v_prediction": alpha * eps - sigma * TARGET, "sample": TARGET}[kind]
        torch.testing.assert_close(predict_x0(scheduler, prediction, t, x_t, index), TARGET, atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", NAMES)
def test_alpha_and_sigma_are_variance_preserving_and_match_the_models_schedule(name: str) -> None:
    scheduler = build_scheduler(name, config("epsilon"))
    scheduler.set_timesteps(9)
    levels = [alpha_sigma(scheduler, t, index) for index, t in enumerate(scheduler.timesteps)]
    for alpha, sigma in levels:
        assert alpha**2 + sigma**2 == pytest.approx(1, abs=1e-6)
    assert levels[0][1] == pytest.approx(1, abs=1e-3)
    if "karras" not in name:  # which rounds to the nearest timestep
        for t, (alpha, _) in zip(scheduler.timesteps, levels, strict=True):
            assert alpha == pytest.approx(float(scheduler.alphas_cumprod[int(t)]) ** 0.5, abs=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_the_table_tells_the_truth(name: str) -> None:
    spec, scheduler = SCHEDULERS[name], build_scheduler(name, config("v_prediction"))
    assert type(scheduler).__name__ == spec.class_name
    assert spec.label and spec.about.endswith(".") and ". " not in spec.about.replace("et al. ", "")
    assert is_variance_exploding(scheduler) == (float(scheduler.init_noise_sigma) != 1 or spec.variance_exploding)
    ends = []
    for seed in (1, 2):
        scheduler = build_scheduler(name, config("v_prediction"))
        scheduler.set_timesteps(5)
        takes = "generator" in inspect.signature(scheduler.step).parameters
        draws = {"generator": torch.Generator().manual_seed(seed)} if takes else {}
        x_t = torch.full(TARGET.shape, 0.5)
        for t in scheduler.timesteps:
            v = torch.sin(scheduler.scale_model_input(x_t, t))
            x_t = scheduler.step(v, t, x_t, **draws, return_dict=False)[0]
        ends.append(x_t)
    assert torch.equal(*ends) != spec.stochastic


@pytest.mark.parametrize("name", NAMES)
def test_the_largest_request_runs(name: str) -> None:
    end, _ = walk(name, config("v_prediction"), SCHEDULERS[name].max_steps)
    assert torch.isfinite(end).all()


@pytest.mark.parametrize("name", NAMES)
def test_supported_schedulers_honour_zero_terminal_snr(name: str) -> None:
    cfg = config("v_prediction", rescale_betas_zero_snr=True)
    if incompatibility(name, "v_prediction", True):
        return
    for steps in (1, 4, 25, 50):
        end, _ = walk(name, cfg, steps)
        assert float((end - TARGET).abs().max()) < 1e-3


@pytest.mark.parametrize("name", ["pndm", "heun", "dpmpp_2m_karras", "dpm2_karras", "lms", "deis"])
def test_schedulers_that_break_or_ignore_zero_terminal_snr_are_refused(name: str) -> None:
    assert SCHEDULERS[name].label in incompatibility(name, "v_prediction", True)
    assert SCHEDULERS[name].label in incompatibility(name, None, True)
    assert not incompatibility(name, "v_prediction", False)


@pytest.mark.parametrize("name", NAMES)
def test_epsilon_with_zero_terminal_snr_is_refused(name: str) -> None:
    assert "epsilon" in incompatibility(name, "epsilon", True)


@pytest.mark.parametrize("name", ["pndm", "euler_a", "dpm2_karras"])
def test_sample_prediction_is_refused_where_diffusers_raises(name: str) -> None:
    reason = incompatibility(name, "sample", False)
    assert SCHEDULERS[name].label in reason and "'sample'" in reason
    with pytest.raises((ValueError, NotImplementedError)):
        walk(name, config("sample"), 2)


def test_the_rest_is_refused_by_name() -> None:
    assert incompatibility("lcm", "epsilon", False, 50) == ""
    assert "at most 50" in incompatibility("lcm", "epsilon", False, 51)
    with pytest.raises(ValueError):
        build_scheduler("lcm", config("epsilon")).set_timesteps(51)
    assert "allowed: ddpm, ddim" in incompatibility("nope", "epsilon", False)
    assert "flow_prediction" in incompatibility("euler", "flow_prediction", False)
    assert all(incompatibility(name, None, False) == "" for name in NAMES)


def test_latents_are_not_clipped_unless_the_model_says_so() -> None:
    bare = {key: value for key, value in SCHEDULER.items() if key != "clip_sample"}
    for name in ("ddpm", "ddim", "lcm"):
        assert build_scheduler(name, bare).config.clip_sample is False
        assert build_scheduler(name, {**bare, "clip_sample": True}).config.clip_sample is True


def test_options_of_another_sampler_do_not_change_what_a_name_means() -> None:
    saved = config("epsilon", use_karras_sigmas=True, algorithm_type="sde-dpmsolver++", solver_order=3)
    plain = build_scheduler("dpmpp_2m", saved).config
    assert (plain.use_karras_sigmas, plain.algorithm_type, plain.solver_order) == (False, "dpmsolver++", 2)
    assert build_scheduler("euler", saved).config.use_karras_sigmas is False


def test_each_has_advice_and_three_are_starred() -> None:
    for name, spec in SCHEDULERS.items():
        advice = spec.advice
        assert advice.good_at and not advice.good_at.endswith(".") and len(advice.good_at) <= 32, name
        assert (1 <= advice.few < advice.enough <= spec.max_steps) == bool(advice.steps) == (name != OWN_LOOP), name
    assert sum(spec.advice.starred for spec in SCHEDULERS.values()) == 3


def test_one_entry_adds_a_scheduler(monkeypatch: pytest.MonkeyPatch) -> None:
    """The page's choices, the checks, the loop and the trace read the same table."""
    advice = Advice("steady pictures", 4, 9)
    spec = SchedulerSpec(
        "DDIMScheduler", "Steady", "One sentence.", prediction_types=("epsilon",), max_steps=9, advice=advice
    )
    monkeypatch.setattr(schedulers, "SCHEDULERS", {**SCHEDULERS, "steady": spec})
    monkeypatch.setattr(schedulers, "DIFFUSION_SCHEDULERS", (*DIFFUSION_SCHEDULERS, "steady"))
    assert incompatibility("steady", "epsilon", False, 9) == ""
    assert "at most 9" in incompatibility("steady", "epsilon", False, 10)
    assert "'sample'" in incompatibility("steady", "sample", False)
    end, worst = walk("steady", config("epsilon"), 9)
    assert worst < 1e-3
    torch.testing.assert_close(end, TARGET, atol=0.05, rtol=0)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"scheduler": "nope"}, "scheduler"),
        ({"scheduler": "flow_euler"}, "scheduler"),
        ({"scheduler": "lcm", "num_inference_steps": 51}, "num_inference_steps"),
    ],
)
def test_a_refusal_names_the_field_at_fault(changes: dict[str, Any], field: str) -> None:
    values = {"scheduler": "ddim", "num_inference_steps": 5, "guidance_scale": 4.0, "seed": 0}
    with pytest.raises(InvalidRequest) as caught:
        check_scheduler(Sampling(**{**values, **changes}), None, False)
    assert caught.value.field == field
