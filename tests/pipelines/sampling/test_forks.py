"""Forks: with nothing changed bit for bit the original, for every sampler; and what a fork may change."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from pipelines.model import Placement
from pipelines.models.families.stable_diffusion import load
from pipelines.request import Fork, GenerationRequest, InitImage, InvalidRequest, replaced
from pipelines.sampling.denoise import denoise
from pipelines.sampling.forks import followers
from pipelines.sampling.image_to_image import InitLatents, encode_init_image
from pipelines.sampling.schedulers import DIFFUSION_SCHEDULERS, SCHEDULERS
from pipelines.trace.forks import fork_of as trace_fork
from pipelines.trace.forks import fork_steps, recording_of
from pipelines.trace.recorder import Recorder
from pipelines.trace.trace import Trace
from tests.support.recorded_runs import ask
from tests.support.tiny_model import make_tiny_model, tiny_card

STOCHASTIC = [name for name in DIFFUSION_SCHEDULERS if SCHEDULERS[name].stochastic]
UPLOAD = "0" * 32


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Any:
    torch.set_num_threads(1)
    folder = make_tiny_model(tmp_path_factory.mktemp("tiny"))
    return load(tiny_card(folder), Placement("cpu", "float32", "sdpa"), lambda *_: None)


def record(
    model: Any, request: GenerationRequest, init: InitLatents | None = None, before: Trace | None = None
) -> Trace:
    """The trace of a run, or of a fork of the run before."""
    recorder = Recorder("run", request, 12.5)
    if before is not None and request.fork:
        recorder.begin_with(before, request.fork.step)
    recording = recording_of(before, request.fork) if before and request.fork else None
    for step in denoise(model, request, init, recording=recording):
        recorder.add(step, (b"jpeg",) * request.num_images)
    assert recording is None or recording.exact
    return recorder.finish(model, (), (), 1.0)


def fork_of(original: GenerationRequest, step: int, seed: int | None = None, **changes: Any) -> GenerationRequest:
    sampling = {name: changes.pop(name) for name in ("scheduler", "guidance_scale") if name in changes}
    changed = original.sampling.model_copy(update=sampling)
    return replaced(
        original, sampling=changed, fork=Fork(run="run", step=step, original=original, seed=seed), **changes
    )


def assert_same(one: Trace, other: Trace) -> None:
    assert np.array_equal(one.x_t, other.x_t)
    assert np.array_equal(one.final, other.final)
    assert one.steps == other.steps


@pytest.mark.parametrize("name", DIFFUSION_SCHEDULERS)
def test_with_nothing_changed_a_fork_is_the_original_bit_for_bit(model: Any, name: str) -> None:
    original = ask(scheduler=name, num_inference_steps=7, num_images=2)
    trace = record(model, original)
    for step in (1, len(trace.steps) - 2):
        assert_same(record(model, fork_of(original, step), before=trace), trace)


@pytest.mark.parametrize("name", DIFFUSION_SCHEDULERS)
@pytest.mark.parametrize("masked", [False, True], ids=["image-to-image", "inpainting"])
def test_a_fork_from_a_picture_is_exact_too(model: Any, name: str, masked: bool) -> None:
    picture = Image.effect_noise((32, 32), 80).convert("RGB")
    mask = Image.fromarray(np.pad(np.full((16, 16), 255, np.uint8), 8)) if masked else None
    init = encode_init_image(model, picture, mask)
    start = InitImage(image=UPLOAD, strength=0.7, mask=UPLOAD if masked else None)
    original = ask(scheduler=name, num_inference_steps=8, init=start)
    trace = record(model, original, init)
    assert_same(record(model, fork_of(original, 3), init, trace), trace)


def test_the_generator_goes_on_where_it_was_and_new_noise_changes_the_rest(model: Any) -> None:
    for name in STOCHASTIC:
        original = ask(scheduler=name, num_inference_steps=6)
        trace = record(model, original)
        other = record(model, fork_of(original, 3, seed=99), before=trace)
        assert np.array_equal(other.x_t[:4], trace.x_t[:4])
        assert not np.array_equal(other.final, trace.final)
    with pytest.raises(InvalidRequest, match="draws no noise"):
        original = ask(scheduler="ddim")
        record(model, fork_of(original, 3, seed=99), before=record(model, original))


def test_a_fork_of_a_fork_is_exact_although_its_parts_had_other_settings(model: Any) -> None:
    original = ask(scheduler="dpmpp_2m", num_inference_steps=8)
    first = record(model, original)
    unguided = fork_of(original, 2, prompt="a red apple", guidance_scale=1.0)
    second = record(model, unguided, before=first)
    third_request = fork_of(unguided, 4, scheduler="euler", guidance_scale=6.0)
    third = record(model, third_request, before=second)
    again = record(model, fork_of(third_request, 6), before=third)
    assert_same(again, third)
    assert np.array_equal(third.x_t[:4], second.x_t[:4])
    assert np.isfinite(third.x0s).all()
    # Without any trace all three parts are computed again.
    steps = list(fork_steps(model, third_request, None, lambda *_: None, lambda: False))
    assert [step.index for step in steps] == list(range(8))
    assert np.array_equal(steps[-1].x_next.numpy(), third.final)


def test_a_fork_of_a_fork_may_begin_before_that_fork_began(model: Any) -> None:
    original = ask(scheduler="unipc", num_inference_steps=8)
    first = record(model, original)
    second = record(model, trace_fork(first, 5, prompt="a red apple"), before=first)
    early = trace_fork(second, 3)
    assert early.fork and early.fork.original == original and early.prompt == "a red apple"
    assert_same(
        record(model, early, before=second), record(model, trace_fork(first, 3, prompt="a red apple"), before=first)
    )
    # Left where it began, after another sampler went on.
    there = record(model, fork_of(original, 5, scheduler="euler"), before=first)
    assert_same(record(model, trace_fork(there, 5), before=there), there)
    with pytest.raises(InvalidRequest, match="fork that one instead"):
        record(model, fork_of(second.request, 3), before=second)


def test_samplers_follow_where_they_pass_the_same_noise_level(model: Any) -> None:
    original = ask(scheduler="ddim", num_inference_steps=8)
    trace = record(model, original)
    facts = trace.steps[3]
    found = followers(model, original, facts.alpha, facts.sigma)
    assert {"euler", "euler_a", "dpmpp_2m", "unipc", "heun", "ddpm"} <= set(found)
    assert not {"ddim", "pndm", "dpmpp_2m_karras", "flow_euler"} & set(found)
    for name in found:
        other = record(model, fork_of(original, 3, scheduler=name), before=trace)
        # The next guess of the model, at the same latents, is the same: it is told of the same noise.
        assert other.steps[3].sigma == pytest.approx(facts.sigma, abs=1e-3)
        np.testing.assert_allclose(other.x0(3), trace.x0(3), atol=0.02)
        np.testing.assert_allclose(other.variance_preserving(2), trace.variance_preserving(2))
    with pytest.raises(InvalidRequest, match="noise level"):
        record(model, fork_of(original, 3, scheduler="dpmpp_2m_karras"), before=trace)


def test_where_the_replay_differs_the_recorded_latents_count(model: Any) -> None:
    original = ask(scheduler="unipc", num_inference_steps=6)
    trace = record(model, original)
    moved = replace(trace, x_t=trace.x_t + np.float32(1e-3))
    asked = fork_of(original, 3)
    assert asked.fork
    recording = recording_of(moved, asked.fork)
    first = next(denoise(model, asked, recording=recording))
    assert not recording.exact
    assert np.array_equal(first.x_t.numpy(), moved.x_t[3])


def test_what_cannot_be_forked_is_refused(model: Any, tmp_path: Path) -> None:
    original = ask(num_inference_steps=5)
    trace = record(model, original)
    with pytest.raises(InvalidRequest, match="0 to 4"):
        record(model, fork_of(original, 5), before=trace)
    with pytest.raises(InvalidRequest, match="no longer kept"):
        next(denoise(model, fork_of(original, 2)))
    with pytest.raises(InvalidRequest, match="a fork keeps seed"):
        replaced(original, fork=Fork(step=1, original=ask(num_inference_steps=5, seed=4)))
    deep = original
    for _ in range(8):
        deep = fork_of(deep, 1)
    with pytest.raises(InvalidRequest, match="8 deep"):
        fork_of(deep, 1)
    assert GenerationRequest.model_validate_json(deep.model_dump_json()) == deep
