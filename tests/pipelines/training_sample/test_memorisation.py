"""How strongly a prompt moves the first prediction."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from pipelines.models.manager import PipelineManager
from pipelines.request import Fork
from pipelines.sampling.denoise import denoise
from pipelines.trace.recorder import Recorder
from pipelines.training_sample import memorisation
from pipelines.training_sample.memorisation import Pull
from tests.support.known_trace import make_trace
from tests.support.tiny_model import tiny_card
from tests.support.toy_backend import ask
from tests.support.toy_sample import toy_recipe


def test_the_model_gives_for_the_runs_own_prompt_what_the_run_recorded(tiny_folder) -> None:
    manager = PipelineManager([tiny_card(tiny_folder)], device="cpu")
    request = ask(model="tiny", prompt="a fox", guidance_scale=4.0, width=32, height=32, num_images=2)
    recorder = Recorder("one", request, 0.0)
    with manager.lease("tiny") as model, torch.inference_mode():
        for step in denoise(model, request):
            recorder.add(step, (b"", b""))
        trace = recorder.finish(model, (), (), 1.0)
        found = memorisation.reference(trace, 1, ["an owl", "a fox", ""])(model)
    assert found[1] == pytest.approx(memorisation.recorded(trace, 1), rel=1e-4)
    assert found[2] == pytest.approx(0, abs=1e-3) and found[0] != pytest.approx(found[1], rel=1e-3)


def test_the_magnitude_is_that_of_the_noise_predictions() -> None:
    trace = make_trace()
    step = trace.steps[1]
    first = (trace.variance_preserving(1)[:1], step.alpha, step.sigma)
    found = memorisation.magnitudes("v_prediction", trace.cond[1], trace.uncond[1], first)
    assert found[0] == pytest.approx(np.linalg.norm(step.alpha * (trace.cond[1] - trace.uncond[1])), rel=1e-5)


def test_it_is_compared_with_the_others() -> None:
    pull = Pull(3.0, (1.0, 2.0, 4.0, 2.0))
    assert (pull.above, pull.ratio) == (0.75, 1.5)


def test_runs_that_cannot_be_compared_say_why() -> None:
    assert "without guidance" in memorisation.why_not(make_trace(guidance_scale=1.0))
    assert "negative prompt" in memorisation.why_not(make_trace(negative_prompt="rain"))
    assert memorisation.why_not(make_trace()) == ""
    original = make_trace()
    fork = original.request.model_copy(update={"fork": Fork(run="a", step=2, original=original.request)})
    assert "left another one" in memorisation.why_not(replace(original, request=fork))


def test_the_reference_prompts_are_captions_of_the_training() -> None:
    recipe = toy_recipe()
    prompts = memorisation.reference_prompts(recipe)
    assert prompts == memorisation.reference_prompts(recipe) and len(prompts) == 64
    assert all(recipe.read(prompt).things for prompt in prompts)
