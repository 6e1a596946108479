"""Fine-tuning small random models: the loss falls, and a run goes on from where it was."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from pipelines.training.fine_tuning.examples import Examples
from pipelines.training.fine_tuning.settings import LORA, TeachingSettings, TrainingPlan
from pipelines.training.fine_tuning.training import LOSS_LEVELS, FineTuning
from pipelines.training.fine_tuning.ways import WAYS_TO_TEACH

PLAN = TrainingPlan(steps=40, batch=6, rank=8, rate=1e-2, own=2, every=20, patience=0)
NONE = Examples(torch.zeros(0, 4, 4, 4), ())


def make(
    model: Any, examples: Examples, plan: TrainingPlan = PLAN, way: str = LORA, own: Examples = NONE
) -> FineTuning:
    settings = TeachingSettings("tiny", "zorp", examples.captions, way=way)
    return FineTuning(WAYS_TO_TEACH[way](model, settings, plan), model, plan, examples, own)


def fixed_loss(training: FineTuning, examples: Examples) -> float:
    """The loss at the same timesteps and with the same noise."""
    training._held_out = examples
    training.measure_held_out()
    return training.held.pop(training.step)


@pytest.mark.parametrize("way", WAYS_TO_TEACH)
def test_the_loss_falls_and_the_model_itself_stays_as_it_is(model: Any, taught: Any, way: str) -> None:
    plan = PLAN if way == LORA else replace(PLAN, steps=60)
    before = {name: weight.clone() for name, weight in model.denoiser.state_dict().items()}
    words = [text.encoder.get_input_embeddings().weight.clone() for text in model.texts]
    with torch.inference_mode():  # as the worker calls
        training = make(model, taught(), plan, way)
        first = fixed_loss(training, taught())
        while not training.done:
            training.take_step()
        last = fixed_loss(training, taught())
    assert last < first * (0.96 if way == LORA else 1)
    assert training.step == len(training.curve) == plan.steps and len(training.loss()) == LOSS_LEVELS
    after = model.denoiser.state_dict()
    assert after.keys() == before.keys() and all(torch.equal(after[name], before[name]) for name in before)
    for text, weight in zip(model.texts, words, strict=True):
        assert torch.equal(text.encoder.get_input_embeddings().weight, weight)
        assert not text.encoder.get_input_embeddings()._forward_hooks


def test_with_its_own_pictures_a_model_keeps_more_of_what_it_knew(small: Any, taught: Any) -> None:
    own = Examples(torch.randn(4, 4, 4, 4, generator=torch.Generator().manual_seed(3)), ("a fox",) * 4)

    def change(plan: TrainingPlan) -> float:
        training = make(small, taught(), plan, own=own)
        while not training.done:
            training.take_step()
        t = torch.tensor([100, 300, 500, 700])
        with torch.no_grad():
            found = training.way.predict(own.latents, t, own.captions)
        return float((found - training._taught(own.latents, t, own.captions)).square().mean())

    assert change(PLAN) < 0.7 * change(replace(PLAN, own_weight=0.0))


@pytest.mark.parametrize("way", WAYS_TO_TEACH)
def test_a_run_that_goes_on_is_the_run_that_never_stopped(small: Any, taught: Any, way: str) -> None:
    plan = replace(PLAN, steps=12)
    whole = make(small, taught(9), plan, way)
    for _ in range(6):
        whole.take_step()
    whole.measure_held_out()
    learnt, state = whole.way.tensors(), whole.state()
    for _ in range(6):
        whole.take_step()
    again = make(small, taught(9), plan, way)
    again.way.load(learnt)
    again.load_state(*state)
    assert again.step == 6 and again.held == whole.held
    for _ in range(6):
        again.take_step()
    assert again.done and again.curve == pytest.approx(whole.curve)
    assert all(
        torch.allclose(a, b) for a, b in zip(again.way.tensors().values(), whole.way.tensors().values(), strict=True)
    )


def test_parts_that_fit_into_the_memory_give_the_gradients_of_the_whole_batch(small: Any, taught: Any) -> None:
    plan = replace(PLAN, rank=4)
    found = []
    for most in (64, 2):
        settings = TeachingSettings("tiny", "zorp", taught().captions)
        training = FineTuning(WAYS_TO_TEACH[LORA](small, settings, plan), small, plan, taught(), NONE, most)
        for _ in range(3):
            training.take_step()
        found.append(training.way.tensors())
    assert any(tensor.abs().max() > 0 for name, tensor in found[0].items() if "lora_B" in name)
    assert all(torch.allclose(found[0][name], found[1][name], atol=1e-3) for name in found[0])


def test_it_ends_early_when_held_out_pictures_get_no_better(small: Any, taught: Any) -> None:
    training = make(small, taught(12), replace(PLAN, patience=2))
    assert training.has_held_out and not make(small, taught(7)).has_held_out
    training.held = {0: 1.0, 20: 0.5, 40: 0.6}
    assert not training.ended_early
    training.held[60] = 0.7
    assert training.ended_early and training.done


def test_the_rate_rises_then_falls(small: Any, taught: Any) -> None:
    training, rates = make(small, taught()), []
    while not training.done:
        rates.append(training._optimizer.param_groups[0]["lr"])
        training.take_step()
    assert rates[0] < max(rates) == pytest.approx(PLAN.rate) and rates[-1] < 0.05 * PLAN.rate
