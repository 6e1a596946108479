"""Image-to-image and inpainting against diffusers' pipelines, step by step, and what each leaves alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as some
from PIL import Image

from pipelines.jobs.model_queries import starting_latents
from pipelines.request import GenerationRequest, InitImage, Interpolation, InvalidRequest
from pipelines.sampling.denoise import denoise
from pipelines.sampling.image_to_image import InitLatents, encode_init_image, latent_mask
from pipelines.sampling.schedulers import PREDICTION_TYPES, SCHEDULERS
from tests.support.paired_models import PAIRS, THEIRS, Twins, request, same

ID = "0" * 32
SIZE = (32, 40)


def colours(seed: int = 0, size: tuple[int, int] = SIZE) -> Image.Image:
    """A picture with soft colours."""
    few = np.random.default_rng(seed).integers(0, 256, (5, 4, 3), dtype=np.uint8)
    return Image.fromarray(few).resize(size, Image.Resampling.BICUBIC)


def marked(box: tuple[int, int, int, int] = (8, 8, 24, 24)) -> Image.Image:
    mask = Image.new("L", SIZE)
    mask.paste(255, box)
    return mask


def from_picture(strength: float = 0.6, mask: str | None = None, **changes: Any) -> GenerationRequest:
    init = InitImage(image=ID, strength=strength, mask=mask)
    return request(**{"num_inference_steps": 10, "init": init, **changes})


@pytest.fixture(scope="module")
def twins(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Twins]:
    torch.set_num_threads(1)
    return {kind: Twins(tmp_path_factory.mktemp(kind), prediction_type=kind) for kind in PREDICTION_TYPES}


def other(twins: Twins, cls: Any) -> Any:
    """Another of diffusers' pipelines on the same weights."""
    pipe = cls(**twins.pipe.components, requires_safety_checker=False)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def assert_same_from_picture(twins: Twins, asked: GenerationRequest) -> None:
    assert asked.init is not None
    picture = colours()
    pipe = other(twins, diffusers.StableDiffusionImg2ImgPipeline)
    theirs = twins.theirs(asked, pipe, image=picture, strength=asked.init.strength, output_type="latent")
    same(list(denoise(twins.model, asked, encode_init_image(twins.model, picture))), *theirs)


@pytest.mark.parametrize(("name", "kind"), PAIRS)
def test_every_step_equals_the_img2img_pipelines(twins: dict[str, Twins], name: str, kind: str) -> None:
    assert_same_from_picture(twins[kind], from_picture(scheduler=name))
    assert_same_from_picture(twins[kind], from_picture(0.34, scheduler=name, num_images=2, guidance_scale=1.0))


@pytest.mark.parametrize("strength", [0.1, 0.29, 0.5, 0.99, 1.0])
@pytest.mark.parametrize("name", ["ddim", "heun", "dpm2_karras", "euler_a", "pndm"])
def test_any_strength_equals_theirs(twins: dict[str, Twins], name: str, strength: float) -> None:
    assert_same_from_picture(twins["epsilon"], from_picture(strength, scheduler=name))


@pytest.mark.parametrize(("vae", "channels"), [("tiny", 4), ("tiny", 16), ("kl", 8)])
def test_any_autoencoder_equals_theirs(tmp_path: Path, vae: str, channels: int) -> None:
    assert_same_from_picture(Twins(tmp_path, vae=vae, latent_channels=channels), from_picture(scheduler="dpmpp_2m"))


# Their pipeline also draws latents of the masked picture, unused, before samplers draw fresh noise.
CALM = [name for name in THEIRS if not SCHEDULERS[name].stochastic]


@pytest.mark.parametrize("strength", [0.5, 1.0])
@pytest.mark.parametrize("name", CALM)
def test_a_marked_part_equals_the_inpaint_pipelines(twins: dict[str, Twins], name: str, strength: float) -> None:
    """On a mask that ends at cells, where the nearest cell and any touched cell are the same."""
    asked, picture, mask = from_picture(strength, ID, scheduler=name), colours(), marked()
    pipe = other(twins["epsilon"], diffusers.StableDiffusionInpaintPipeline)
    more = {"image": picture, "mask_image": mask, "strength": strength, "output_type": "latent"}
    theirs = twins["epsilon"].theirs(asked, pipe, **more)
    same(
        list(denoise(twins["epsilon"].model, asked, encode_init_image(twins["epsilon"].model, picture, mask))),
        *theirs,
    )


@pytest.fixture(scope="module")
def inpainting(tmp_path_factory: pytest.TempPathFactory) -> Twins:
    return Twins(tmp_path_factory.mktemp("inpainting"), inpaint=True)


@pytest.mark.parametrize("strength", [0.5, 1.0])
@pytest.mark.parametrize("name", ["ddim", "euler", "dpmpp_2m", "heun"])
def test_an_inpainting_unet_equals_theirs(inpainting: Twins, name: str, strength: float) -> None:
    both = inpainting
    asked, picture, mask = from_picture(strength, ID, scheduler=name), colours(), marked()
    pipe = other(both, diffusers.StableDiffusionInpaintPipeline)
    more = {"image": picture, "mask_image": mask, "strength": strength, "output_type": "latent"}
    theirs = both.theirs(asked, pipe, **more)
    same(list(denoise(both.model, asked, encode_init_image(both.model, picture, mask))), *theirs)


def test_an_inpainting_unet_wants_a_mark(inpainting: Twins) -> None:
    model = inpainting.model
    for asked in (request(), from_picture()):
        with pytest.raises(InvalidRequest, match="made for inpainting"):
            next(denoise(model, asked))


@pytest.mark.parametrize("name", THEIRS)
def test_outside_the_mark_the_latents_end_as_the_pictures(twins: dict[str, Twins], name: str) -> None:
    model = twins["epsilon"].model
    start = encode_init_image(model, colours(), marked())
    asked = from_picture(0.7, ID, scheduler=name)
    *_, last = denoise(model, asked, start)
    clean = start.sample(start.clean, [torch.Generator().manual_seed(11)])
    outside = start.mask == 0
    assert torch.equal(last.x_next[outside.expand_as(clean)], clean[outside.expand_as(clean)])
    inside = ~outside.expand_as(clean)
    assert not torch.allclose(last.x_next[inside], clean[inside], atol=1e-3)


@pytest.mark.parametrize("name", THEIRS)
def test_starts_are_where_each_strength_begins(twins: dict[str, Twins], name: str) -> None:
    model, steps = twins["v_prediction"].model, 10
    start = encode_init_image(model, colours())
    levels = starting_latents(model, from_picture(scheduler=name), start)
    assert len(levels.timesteps) == len(levels.x_t) == steps
    for run in (1, 3, 6, 10):
        step = next(denoise(model, from_picture(run / steps, scheduler=name), start))
        x_t = step.x_t.numpy()
        if SCHEDULERS[name].variance_exploding:
            x_t = x_t * levels.alpha[steps - run]
        assert levels.timesteps[steps - run] == step.timestep
        assert np.abs(levels.x_t[steps - run] - x_t).max() <= 1e-5, run


def test_noise_only_starts_from_the_same_noise_without_the_picture(twins: dict[str, Twins]) -> None:
    model = twins["v_prediction"].model
    start = encode_init_image(model, colours())
    whole = from_picture(1.0)
    alone = whole.model_copy(update={"init": InitImage(image=ID, strength=1, noise_only=True)})
    with_picture, without = next(denoise(model, whole, start)), next(denoise(model, alone, start))
    clean = start.sample(start.clean, [torch.Generator().manual_seed(11)])
    # DDIM begins at alpha * x0 + sigma * eps: without the picture, eps is left.
    again = with_picture.alpha * clean + with_picture.sigma * without.x_t
    assert torch.allclose(with_picture.x_t, again, atol=1e-5)


def test_several_pictures_each_draw_their_own_noise(twins: dict[str, Twins]) -> None:
    model = twins["v_prediction"].model
    start = encode_init_image(model, colours())
    *_, several = denoise(model, from_picture(num_images=2), start)
    *_, second = denoise(model, from_picture(seed=12), start)
    assert torch.allclose(several.x_next[1], second.x_next[0], atol=1e-5)


def test_a_blend_can_start_from_a_picture(twins: dict[str, Twins]) -> None:
    model = twins["v_prediction"].model
    start = encode_init_image(model, colours())
    asked = from_picture(num_images=3, interpolation=Interpolation(seed=5))
    *_, last = denoise(model, asked, start)
    *_, first = denoise(model, from_picture(), start)
    assert torch.allclose(last.x_next[0], first.x_next[0], atol=1e-5)
    assert not torch.allclose(last.x_next[2], first.x_next[0], atol=1e-2)


def test_a_start_without_spread_is_the_same_for_all() -> None:
    mean = torch.randn(1, 4, 4, 4)
    drawn = InitLatents.sample((mean, None), [torch.Generator(), torch.Generator()])
    assert torch.equal(drawn, mean.repeat(2, 1, 1, 1))


@settings(deadline=None)
@given(
    some.integers(1, 20),
    some.integers(1, 20),
    some.sampled_from([2, 4, 8]),
    some.integers(0, 2**32 - 1),
    some.floats(0, 0.1),
)
def test_a_cell_is_repainted_when_any_of_its_pixels_is(
    across: int, down: int, factor: int, seed: int, share: float
) -> None:
    marked = np.random.default_rng(seed).random((down * factor, across * factor)) < share
    cells = latent_mask(Image.fromarray(np.where(marked, 255, 0).astype(np.uint8)), factor)
    assert (cells.dtype, cells.shape) == (np.float32, (down, across))
    for y in range(down):
        for x in range(across):
            cell = marked[y * factor : (y + 1) * factor, x * factor : (x + 1) * factor]
            assert cells[y, x] == float(cell.any())
