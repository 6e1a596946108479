"""Each family against diffusers' own pipeline of the same small model, step by step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from PIL import Image

from pipelines.backend import frames_of
from pipelines.cards import ModelCard
from pipelines.denoise import denoise
from pipelines.events import Step
from pipelines.families import loader
from pipelines.families.flux import pack
from pipelines.lenses import available, project, render
from pipelines.looks import believe
from pipelines.request import GenerationRequest, InitImage, Interpolation, InvalidRequest
from pipelines.scene import scene
from pipelines.start import encode
from pipelines.trace import Recorder, Trace
from pipelines.uploads import Inputs
from tests.tiny import tiny_card
from tests.tiny_families import make
from tests.twins import CPU, THEIRS, request

LIMIT = 1e-4


def card(folder: Path, family: str, **more: Any) -> ModelCard:
    return tiny_card(folder, family=family, **more)


def load(folder: Path, family: str, **more: Any) -> Any:
    return loader(family)(card(folder, family, **more), CPU, lambda part, done, total: None)


def theirs(pipe: Any, asked: GenerationRequest, **more: Any) -> tuple[list[torch.Tensor], torch.Tensor]:
    """Latents after every step, and the last ones, of diffusers' own pipeline."""
    steps: list[torch.Tensor] = []

    def keep(pipe: Any, index: int, t: Any, values: dict[str, Any]) -> dict[str, Any]:
        steps.append(values["latents"].clone())
        return {}

    pipe.set_progress_bar_config(disable=True)
    generators = [torch.Generator().manual_seed(seed) for seed in asked.seeds]
    output = pipe(
        asked.prompt,
        num_inference_steps=asked.sampling.num_inference_steps,
        guidance_scale=asked.sampling.guidance_scale,
        num_images_per_prompt=asked.num_images,
        generator=generators if len(generators) > 1 else generators[0],
        callback_on_step_end=keep,
        output_type="latent",
        **more,
    )
    return steps, output.images


def assert_same(ours: list[Step], steps: list[torch.Tensor], last: torch.Tensor, form: Any = lambda x: x) -> None:
    assert len(ours) == len(steps) == ours[0].total
    for step, x in zip(ours, [*steps[:-1], last], strict=True):
        assert form(step.x_next).shape == x.shape
        limit = LIMIT * max(1.0, float(x.abs().max()))
        assert float((form(step.x_next) - x).abs().max()) <= limit, step.index


# -- Stable Diffusion XL -------------------------------------------------------------------------------------------

XL_SCHEDULERS = ("euler", "euler_a", "dpmpp_2m", "ddim", "lcm")


@pytest.fixture(scope="module")
def xl(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make("stable_diffusion_xl", tmp_path_factory.mktemp("xl"))


@pytest.mark.parametrize("scheduler", XL_SCHEDULERS)
@pytest.mark.parametrize("negative", ["", "dull"])
def test_xl_is_diffusers_xl(xl: Path, scheduler: str, negative: str) -> None:
    asked = request(negative_prompt=negative, scheduler=scheduler, num_images=2, height=48)
    model = load(xl, "stable_diffusion_xl")
    pipe = diffusers.StableDiffusionXLPipeline.from_pretrained(xl)
    name, options = THEIRS[scheduler]
    pipe.scheduler = getattr(diffusers, name).from_config({**pipe.scheduler.config, "clip_sample": False, **options})
    # Nothing to avoid is nothing at all for this model, not an empty text.
    found = theirs(pipe, asked, negative_prompt=negative or None, width=32, height=48)
    assert_same(list(denoise(model, asked)), *found)


def test_xl_that_was_trained_with_an_empty_text(tmp_path: Path) -> None:
    folder = make("stable_diffusion_xl", tmp_path, zeros=False)
    asked = request(negative_prompt="", scheduler="euler")
    pipe = diffusers.StableDiffusionXLPipeline.from_pretrained(folder)
    found = theirs(pipe, asked, width=32, height=40)
    assert_same(list(denoise(load(folder, "stable_diffusion_xl"), asked)), *found)


def test_xl_without_guidance_is_asked_once(xl: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, asked = load(xl, "stable_diffusion_xl"), request(guidance_scale=1.0, scheduler="euler")
    pipe = diffusers.StableDiffusionXLPipeline.from_pretrained(xl)
    steps = list(denoise(model, asked))
    assert steps[0].uncond is None
    assert_same(steps, *theirs(pipe, asked, width=32, height=40))


def picture() -> Image.Image:
    values = np.random.default_rng(0).integers(0, 255, (32, 32, 3), np.uint8)
    return Image.fromarray(values).resize((8, 8)).resize((32, 32))


def from_picture(model: Any, inputs: Inputs, strength: float, **changes: Any) -> tuple[GenerationRequest, list[Step]]:
    image = inputs.put(picture())
    init = InitImage(image=image, strength=strength)
    asked = request(width=32, height=32, **changes).model_copy(update={"init": init})
    return asked, list(denoise(model, asked, encode(model, scene(asked, inputs))))


@pytest.mark.parametrize("family", ["stable_diffusion_xl", "refiner"])
@pytest.mark.parametrize("scheduler", ["euler", "dpmpp_2m"])
def test_image_to_image_with_xl_and_its_refiner(tmp_path: Path, family: str, scheduler: str) -> None:
    folder = make(family, tmp_path / "model")
    model = load(folder, "stable_diffusion_xl")
    asked, steps = from_picture(
        model, Inputs(tmp_path / "inputs"), 0.6, negative_prompt="dull", scheduler=scheduler, num_inference_steps=10
    )
    pipe = diffusers.StableDiffusionXLImg2ImgPipeline.from_pretrained(folder)
    name, options = THEIRS[scheduler]
    pipe.scheduler = getattr(diffusers, name).from_config({**pipe.scheduler.config, "clip_sample": False, **options})
    found = theirs(pipe, asked, negative_prompt="dull", image=picture(), strength=0.6)
    assert_same(steps, *found)


# -- a model that was distilled with its guidance (LCM) ------------------------------------------------------------


def test_lcm_is_diffusers_lcm(tmp_path: Path) -> None:
    folder = make("lcm", tmp_path)
    model = load(folder, "stable_diffusion")
    assert model.guides_itself
    for scale in (1.0, 8.5):
        asked = request(scheduler="lcm", num_inference_steps=4, guidance_scale=scale, num_images=2)
        pipe = diffusers.LatentConsistencyModelPipeline.from_pretrained(folder)
        steps = list(denoise(model, asked))
        assert all(step.uncond is None for step in steps)
        assert_same(steps, *theirs(pipe, asked, width=32, height=40))


# -- flow transformers ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"t5": False}, {"dynamic": True}])
@pytest.mark.parametrize("scale", [1.0, 4.0])
def test_sd3_is_diffusers_sd3(tmp_path: Path, options: dict[str, bool], scale: float) -> None:
    folder = make("stable_diffusion_3", tmp_path, **options)
    asked = request(scheduler="flow_euler", guidance_scale=scale, num_images=2, height=48)
    bare = {} if options.get("t5", True) else {"text_encoder_3": None, "tokenizer_3": None}
    pipe = diffusers.StableDiffusion3Pipeline.from_pretrained(folder, **bare)
    found = theirs(pipe, asked, negative_prompt="dull", width=32, height=48)
    assert_same(list(denoise(load(folder, "stable_diffusion_3"), asked)), *found)


@pytest.mark.parametrize(("guided", "window"), [(True, 512), (False, 256)])
def test_flux_is_diffusers_flux(tmp_path: Path, guided: bool, window: int) -> None:
    folder = make("flux", tmp_path, guided=guided)
    asked = request(scheduler="flow_euler", guidance_scale=3.5, num_images=2, height=48)
    pipe = diffusers.FluxPipeline.from_pretrained(folder)
    found = theirs(pipe, asked, width=32, height=48, max_sequence_length=window)
    model = load(folder, "flux")
    assert (model.size_factor, model.window) == (16, window)
    steps = list(denoise(model, asked))
    assert_same(steps, *found, form=pack)
    assert all(step.uncond is None for step in steps)
    # The padding counts: with the other window diffusers draws something else.
    other, _ = theirs(pipe, asked, width=32, height=48, max_sequence_length=768 - window)
    assert not torch.allclose(pack(steps[0].x_next), other[0], atol=LIMIT)


@pytest.mark.parametrize(("guided", "window"), [(True, 512), (False, 256)])
def test_flux_reads_as_much_as_it_was_trained_with(tmp_path: Path, guided: bool, window: int) -> None:
    model = load(make("flux", tmp_path, guided=guided), "flux")
    prompt = " ".join(["apple"] * 600)
    t5, clip = model.texts
    assert t5.tokens(prompt).input_ids.shape == (1, window) and clip.window == 77
    assert model.read(prompt, negative=False).tokens.shape[1] == window
    assert t5.unread(prompt)


@pytest.mark.parametrize("family", ["stable_diffusion_3", "flux"])
def test_a_flow_is_straight_between_noise_and_belief(tmp_path: Path, family: str) -> None:
    model = load(make(family, tmp_path), family)
    steps = list(denoise(model, request(scheduler="flow_euler", height=48, num_inference_steps=4)))
    for step in steps:
        assert step.alpha + step.sigma == pytest.approx(1)
    # The last Euler step lands on the last belief.
    torch.testing.assert_close(steps[-1].x_next, steps[-1].x0, atol=1e-5, rtol=1e-5)
    assert [step.sigma for step in steps] == sorted((step.sigma for step in steps), reverse=True)


def test_flow_heun_looks_twice(tmp_path: Path) -> None:
    model = load(make("stable_diffusion_3", tmp_path), "stable_diffusion_3")
    steps = list(denoise(model, request(scheduler="flow_heun", num_inference_steps=4, height=48)))
    assert len(steps) == 7
    torch.testing.assert_close(steps[-1].x_next, steps[-1].x0, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("family", ["stable_diffusion_3", "flux"])
def test_flow_models_start_from_pictures_and_blend(tmp_path: Path, family: str) -> None:
    model = load(make(family, tmp_path / "model"), family)
    _, steps = from_picture(
        model, Inputs(tmp_path / "inputs"), 0.5, scheduler="flow_euler", num_inference_steps=8
    )
    assert len(steps) == 4 and steps[0].sigma < 1
    asked = request(scheduler="flow_euler", num_images=3, height=48)
    blend = asked.model_copy(update={"interpolation": Interpolation(prompt="a fox")})
    plain = list(denoise(model, asked.model_copy(update={"num_images": 1})))[-1].x_next
    mixed = list(denoise(model, blend))[-1].x_next
    torch.testing.assert_close(mixed[:1], plain, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(mixed[1], mixed[0])


@pytest.mark.parametrize("scheduler", ["euler", "ddim", "own"])
def test_flow_models_refuse_other_samplers(tmp_path: Path, scheduler: str) -> None:
    model = load(make("flux", tmp_path), "flux")
    with pytest.raises(InvalidRequest, match="choose another scheduler"):
        next(denoise(model, request(scheduler=scheduler, height=48)))


# -- any other pipeline --------------------------------------------------------------------------------------------


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


def test_another_pipeline_shows_what_it_believes(pixart: Path) -> None:
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


def test_what_another_pipeline_cannot_do_is_said(pixart: Path, tmp_path: Path) -> None:
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


# -- what is recorded of them --------------------------------------------------------------------------------------


def record(model: Any, asked: GenerationRequest) -> tuple[Trace, list[Step]]:
    recorder, steps = Recorder("run", asked, 0.0), list(denoise(model, asked))
    for step in steps:
        recorder.add(step, frames_of(model, step))
    return recorder.finish(model, (), (), 1.0), steps


@pytest.mark.parametrize("family", ["stable_diffusion_3", "flux", "pixart"])
def test_a_trace_of_each_kind_of_model_is_exact_and_can_be_looked_into(tmp_path: Path, family: str) -> None:
    own = family == "pixart"
    model = load(make(family, tmp_path / "model"), "any" if own else family)
    trace, steps = record(model, request(scheduler="own" if own else "flow_euler", height=48, num_images=2))
    trace.save(tmp_path)
    trace = Trace.load(tmp_path, "run")
    for i, step in enumerate(steps):
        np.testing.assert_allclose(trace.x0(i), step.x0.numpy(), atol=1e-4)
        facts = trace.steps[i]
        mixed = facts.alpha * trace.x0(i) + facts.sigma * trace.noise(i)
        np.testing.assert_allclose(mixed, trace.vp(i), atol=1e-4 * max(1, float(np.abs(trace.vp(i)).max())))
        assert 0 <= facts.alpha_bar <= 1 and facts.snr == pytest.approx((facts.alpha / facts.sigma) ** 2)
    assert trace.gap < 1e-3
    assert ("guidance" in available(trace)) == (family == "stable_diffusion_3")
    for name in available(trace):
        assert len(render(trace, name, 1, lambda latents: project(trace, latents))) == len(steps)


def test_of_an_unknown_sampler_the_latents_are_recorded(pixart: Path, tmp_path: Path) -> None:
    model = load(pixart, "any")

    class Unheard(type(model.pipe.scheduler)):  # type: ignore[misc]
        """A scheduler whose algebra is not known here."""

    model.pipe.scheduler = Unheard.from_config(model.pipe.scheduler.config)
    model = type(model)(model.card, model.placement, model.pipe)
    trace, steps = record(model, request(scheduler="own", height=48))
    trace.save(tmp_path)
    trace = Trace.load(tmp_path, "run")
    assert trace.prediction_type == "own" and trace.cond is None
    assert available(trace) == ("x_t", "change", "channels", "latent")
    np.testing.assert_array_equal(trace.x0(0), steps[0].x_next.numpy())
    assert trace.gap == 0
    for name in available(trace):
        assert len(render(trace, name, 0, lambda latents: project(trace, latents))) == len(steps)


@pytest.mark.parametrize("family", ["stable_diffusion_3", "flux"])
def test_one_look_at_a_flow_believes_what_the_run_believed(tmp_path: Path, family: str) -> None:
    model = load(make(family, tmp_path), family, guidance_scale=3.5)
    scale = 1.0 if family == "stable_diffusion_3" else 3.5
    steps = list(denoise(model, request(scheduler="flow_euler", guidance_scale=scale, height=48)))
    step = steps[2]
    seen = believe(model, step.x_t.numpy(), [step.timestep], "a red apple")
    np.testing.assert_allclose(seen, step.x0.numpy(), atol=1e-4)
