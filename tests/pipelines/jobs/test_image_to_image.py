"""Image-to-image through the backend: the resulting pixels, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipelines.events import Cancelled, Finished
from pipelines.images.png import CHUNK, read_request
from pipelines.jobs.local import LocalBackend
from pipelines.jobs.messages import UNCHANGED
from pipelines.models.manager import PipelineManager
from pipelines.request import GenerationRequest, InitImage, InvalidRequest, make_request
from pipelines.sampling.schedulers import DIFFUSION_SCHEDULERS
from tests.support.tiny_model import tiny_card

SIZE = (32, 40)


def make_image(size: tuple[int, int] = SIZE, seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))


def make_mask(size: tuple[int, int] = SIZE, box: tuple[int, int, int, int] = (5, 9, 21, 30)) -> Image.Image:
    mask = Image.new("L", size)
    mask.paste(255, box)
    return mask


@pytest.fixture(scope="module")
def backend(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalBackend]:
    folder = tmp_path_factory.mktemp("backend") / "pictures"
    found = LocalBackend(PipelineManager([tiny_card(tiny_folder)], device="cpu"), folder, threads=1)
    yield found
    found.close()


def make_img2img(init: InitImage | None, **changes: Any) -> GenerationRequest:
    values: dict[str, Any] = {
        "model": "tiny", "prompt": "a fox", "width": SIZE[0], "height": SIZE[1], "scheduler": "ddim",
        "num_inference_steps": 6, "guidance_scale": 3.0, "seed": 4, "init": init,
    }  # fmt: skip
    return make_request(**{**values, **changes})


def run(backend: LocalBackend, request: GenerationRequest) -> tuple[Finished, list[np.ndarray]]:
    job = backend.submit(request)
    *_, last = job.events()
    assert isinstance(last, Finished), last
    return last, [np.asarray(Image.open(one.path).convert("RGB")) for one in last.pictures]


def test_strength_sets_the_number_of_steps_and_each_is_recorded(backend: LocalBackend) -> None:
    init = InitImage(image=backend.inputs.put(make_image()), strength=0.5)
    job = backend.submit(make_img2img(init))
    assert isinstance(list(job.events())[-1], Finished)
    trace = backend.trace(job.id)
    assert trace is not None and len(trace.steps) == trace.total == 3
    assert [step.timestep for step in trace.steps] == sorted((step.timestep for step in trace.steps), reverse=True)


@pytest.mark.parametrize("strength", [0.0, 0.1])
def test_without_a_step_the_image_is_returned_unchanged(backend: LocalBackend, strength: float) -> None:
    source = make_image()
    done, pictures = run(
        backend, make_img2img(InitImage(image=backend.inputs.put(source), strength=strength), num_images=2)
    )
    assert all(np.array_equal(one, np.asarray(source)) for one in pictures) and len(pictures) == 2
    assert done.notes == (UNCHANGED,)


@pytest.mark.parametrize("feather", [0, 3, 64])
@pytest.mark.parametrize("strength", [0.5, 1.0])
def test_outside_the_mask_no_pixel_changes(backend: LocalBackend, strength: float, feather: int) -> None:
    source, mask = make_image(), make_mask()
    put = backend.inputs.put
    init = InitImage(image=put(source), strength=strength, mask=put(mask), feather=feather)
    _, (result,) = run(backend, make_img2img(init))
    outside = np.asarray(mask) == 0
    assert np.array_equal(result[outside], np.asarray(source)[outside])
    assert (result[~outside] != np.asarray(source)[~outside]).mean() > 0.2


@pytest.mark.parametrize("scheduler", DIFFUSION_SCHEDULERS)
def test_every_scheduler_keeps_what_is_outside_the_mask(backend: LocalBackend, scheduler: str) -> None:
    source, mask = make_image(), make_mask()
    init = InitImage(image=backend.inputs.put(source), strength=0.7, mask=backend.inputs.put(mask))
    _, (result,) = run(backend, make_img2img(init, scheduler=scheduler))
    outside = np.asarray(mask) == 0
    assert np.array_equal(result[outside], np.asarray(source)[outside])


@pytest.mark.parametrize("size", [(150, 90), (33, 200), (32, 40), (20, 20)])
def test_only_masked_works_for_images_of_any_size(backend: LocalBackend, size: tuple[int, int]) -> None:
    source, mask = make_image(size), make_mask(size, (2, 3, 12, 15))
    put = backend.inputs.put
    init = InitImage(image=put(source), strength=0.8, mask=put(mask), only_masked=True, padding=6)
    _, (result,) = run(backend, make_img2img(init))
    assert result.shape[:2] == size[::-1]
    outside = np.asarray(mask) == 0
    assert np.array_equal(result[outside], np.asarray(source)[outside])
    assert not np.array_equal(result, np.asarray(source))


def test_metadata_names_the_source_image_but_not_its_path(backend: LocalBackend) -> None:
    init = InitImage(image=backend.inputs.put(make_image()), strength=0.5)
    done, _ = run(backend, make_img2img(init))
    path = done.pictures[0].path
    with Image.open(path) as image:
        record = json.loads(image.info[CHUNK])
        assert "compositeWithTrainedAlgorithmicMedia" in image.info["XML:com.adobe.xmp"]
        assert str(backend.inputs.folder) not in json.dumps(record) + str(image.info)
    assert record["request"]["init"]["image"] == init.image
    assert read_request(path) == done.request


def test_the_same_request_makes_the_same_picture(backend: LocalBackend) -> None:
    request = make_img2img(InitImage(image=backend.inputs.put(make_image()), strength=0.6), scheduler="euler_a")
    assert np.array_equal(run(backend, request)[1][0], run(backend, request)[1][0])


def test_each_source_image_is_encoded_once(backend: LocalBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    from pipelines.sampling.latents import LatentFormat

    calls: list[Any] = []
    real = LatentFormat.moments
    monkeypatch.setattr(LatentFormat, "moments", lambda self, pixels: calls.append(1) or real(self, pixels))
    source = make_image(seed=7)
    init = InitImage(image=backend.inputs.put(source), strength=0.5)
    for strength in (0.3, 0.9):
        backend.queries.starting_latents(make_img2img(init.model_copy(update={"strength": strength})))
        run(backend, make_img2img(init.model_copy(update={"strength": strength})))
    assert len(calls) == 1


def test_starting_latents_go_from_noise_to_image(backend: LocalBackend) -> None:
    init = InitImage(image=backend.inputs.put(make_image()), strength=0.5)
    found = backend.queries.starting_latents(make_img2img(init))
    assert found.x_t.shape == (6, *found.clean.shape) and found.clean.shape[0] == 1
    away = [float(np.abs(x_t - found.clean).mean()) for x_t in found.x_t]
    assert away == sorted(away, reverse=True)


def test_a_missing_or_unfit_image_is_refused_before_anything_runs(backend: LocalBackend) -> None:
    put = backend.inputs.put
    whole, small = put(make_image()), put(make_image((16, 16)))
    for init, words in (
        (InitImage(image="f" * 32, strength=0.5), "not here any more"),
        (InitImage(image=small, strength=0.5), "16 x 16 pixels and the result is to be 32 x 40"),
        (InitImage(image=whole, strength=0.5, mask=put(make_mask((16, 16), (0, 0, 4, 4)))), "same size"),
        (InitImage(image=whole, strength=0.5, mask=put(Image.new("L", SIZE))), "Nothing is marked"),
        (InitImage(image=whole, strength=0.5, mask="f" * 32), "not here any more"),
    ):
        with pytest.raises(InvalidRequest, match=words):
            backend.submit(make_img2img(init))
        with pytest.raises(InvalidRequest, match=words):
            backend.queries.starting_latents(make_img2img(init))


def test_a_cancelled_run_keeps_its_steps(tiny_folder: Path, tmp_path: Path) -> None:
    backend = LocalBackend(
        PipelineManager([tiny_card(tiny_folder)], device="cpu"), tmp_path / "pictures",
        on_step=lambda job, step: job.cancel() if step.index == 1 else None, threads=1,
    )  # fmt: skip
    try:
        init = InitImage(image=backend.inputs.put(make_image()), strength=1.0)
        job = backend.submit(make_img2img(init))
        assert isinstance(list(job.events())[-1], Cancelled)
        trace = backend.trace(job.id)
        assert trace is not None and len(trace.steps) == 2 and trace.total == 6
    finally:
        backend.close()


def test_truncation_of_the_second_prompt_is_noted(backend: LocalBackend) -> None:
    request = make_img2img(None, num_images=2, interpolation={"prompt": "b" * 200})
    done, _ = run(backend, request)
    assert any("did not see" in note for note in done.notes)
