"""Any other pipeline of diffusers, through its own loop."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch

from pipelines.request import InitImage, Interpolation, InvalidRequest
from pipelines.sampling.denoise import denoise
from pipelines.trace.lenses import available_lenses, project, render
from pipelines.trace.serialization import load_trace, save_trace
from tests.support.paired_models import request
from tests.support.pipeline_parity import load, record
from tests.support.tiny_families import make


@pytest.fixture(scope="module")
def pixart(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make("pixart", tmp_path_factory.mktemp("pixart"))


def test_another_pipeline_draws_what_diffusers_draws(pixart: Path) -> None:
    model = load(pixart, "any")
    asked = request(scheduler="own", num_images=2, height=48, guidance_scale=3.0)
    steps = list(denoise(model, asked))
    assert [step.index for step in steps] == [0, 1, 2, 3, 4] and {step.total for step in steps} == {5}
    assert all(not step.pictures for step in steps[:-1]) and len(steps[-1].pictures) == 2
    pipe = diffusers.PixArtSigmaPipeline.from_pretrained(pixart)
    pipe.set_progress_bar_config(disable=True)
    wanted = pipe(
        asked.prompt,
        negative_prompt="dull",
        num_inference_steps=5,
        guidance_scale=3.0,
        width=32,
        height=48,
        num_images_per_prompt=2,
        generator=[torch.Generator().manual_seed(seed) for seed in asked.seeds],
        use_resolution_binning=False,
    ).images
    assert [np.asarray(a).tolist() for a in steps[-1].pictures] == [np.asarray(b).tolist() for b in wanted]


def test_another_pipeline_shows_its_predicted_x0(pixart: Path) -> None:
    steps = list(denoise(load(pixart, "any"), request(scheduler="own", height=48)))
    for step in steps:
        assert step.alpha**2 + step.sigma**2 == pytest.approx(1) and step.cond is not None and step.uncond is None
        again = (step.x_t - step.sigma * step.cond) / step.alpha
        torch.testing.assert_close(step.x0, again)
    torch.testing.assert_close(steps[-1].x_next, steps[-1].x0, atol=1e-4, rtol=1e-4)


def test_another_pipeline_stops_at_once(pixart: Path) -> None:
    model, seen = load(pixart, "any"), []
    for step in denoise(model, request(scheduler="own", height=48), cancelled=lambda: len(seen) == 2):
        seen.append(step)
    assert [step.index for step in seen] == [0, 1] and not seen[-1].pictures
    loop = denoise(model, request(scheduler="own", height=48))
    next(loop)
    loop.close()
    # The thread is gone, and the next run is whole.
    assert list(denoise(model, request(scheduler="own", height=48)))[-1].pictures


def test_each_picture_of_another_pipeline_has_its_own_prompt(pixart: Path) -> None:
    model, options = load(pixart, "any"), {"scheduler": "own", "height": 48, "guidance_scale": 3.0}
    both = request(**options, num_images=2, prompts=("a red apple", "a fox"))
    pictures = list(denoise(model, both))[-1].pictures
    alone = list(denoise(model, request(**options, prompt="a fox", seed=12)))[-1].pictures
    assert len(pictures) == 2
    difference = np.abs(np.asarray(pictures[1], np.int16) - np.asarray(alone[0], np.int16))
    assert difference.max() <= 1, "but for rounding, as in a batch of another size"


def test_what_another_pipeline_cannot_do_is_refused(pixart: Path, tmp_path: Path) -> None:
    model = load(pixart, "any")
    blend = request(scheduler="own", num_images=2).model_copy(update={"interpolation": Interpolation(prompt="b")})
    with pytest.raises(InvalidRequest, match="cannot blend"):
        next(denoise(model, blend))
    start = request(scheduler="own").model_copy(update={"init": InitImage(image="0" * 32, strength=0.5)})
    with pytest.raises(InvalidRequest, match="cannot start from a picture"):
        next(denoise(model, start))


def test_an_error_inside_another_pipeline_reaches_the_job(pixart: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = load(pixart, "any")

    def fail(*args: Any, **options: Any) -> None:
        raise torch.OutOfMemoryError("out of memory")

    monkeypatch.setattr(model.denoiser, "forward", fail)
    with pytest.raises(torch.OutOfMemoryError):
        list(denoise(model, request(scheduler="own", height=48)))


def test_another_pipeline_computes_on_the_card_that_was_asked_for(
    pixart: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A new thread's current card is the first one (``cuda:0``)."""
    from pipelines.models.families import generic

    seen: list[tuple[str, str]] = []
    monkeypatch.setattr(generic, "make_current", lambda device: seen.append((threading.current_thread().name, device)))
    list(denoise(load(pixart, "any"), request(scheduler="own", height=48)))
    assert seen == [("playground-own-loop", "cpu")]


def test_of_an_unknown_sampler_the_latents_are_recorded(pixart: Path, tmp_path: Path) -> None:
    model = load(pixart, "any")

    class Unheard(type(model.pipe.scheduler)):  # type: ignore[misc]
        """A scheduler whose algebra is not known here."""

    model.pipe.scheduler = Unheard.from_config(model.pipe.scheduler.config)
    model = type(model)(model.card, model.placement, model.pipe)
    trace, steps = record(model, request(scheduler="own", height=48))
    save_trace(trace, tmp_path)
    trace = load_trace(tmp_path, "run")
    assert trace.prediction_type == "own" and trace.cond is None
    assert available_lenses(trace) == ("x_t", "change", "channels", "latent")
    np.testing.assert_array_equal(trace.x0(0), steps[0].x_next.numpy())
    assert trace.final_gap == 0
    for name in available_lenses(trace):
        assert len(render(trace, name, 0, lambda latents: project(trace, latents))) == len(steps)
