"""IP-Adapter: found, put on, taken off; diffusers' own pipelines are the measure."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import ValidationError
from safetensors.torch import load_file, save_file
from transformers import CLIPVisionModelWithProjection

from pipelines.events import Finished
from pipelines.images.png import read_request
from pipelines.jobs.local import LocalBackend
from pipelines.models.adapters.folders import AdapterFolders
from pipelines.models.adapters.ip_adapter import scan
from pipelines.models.families import loader
from pipelines.models.manager import PipelineManager
from pipelines.request import ImagePrompt, InvalidRequest
from pipelines.sampling.conditioning import IPAdapterInput
from pipelines.sampling.denoise import denoise
from tests.support.paired_models import CPU, request
from tests.support.pipeline_parity import assert_same, theirs
from tests.support.tiny_families import make
from tests.support.tiny_ip_adapters import make_adapter
from tests.support.tiny_loras import make_lora
from tests.support.tiny_model import make_tiny_model, tiny_card

PIPES = {"stable_diffusion": "StableDiffusionPipeline", "stable_diffusion_xl": "StableDiffusionXLPipeline"}


@pytest.fixture(scope="module", params=PIPES)
def kind(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A family, a model of it, and an adapter of either sort."""
    root, family = tmp_path_factory.mktemp(request.param), request.param
    model = make_tiny_model(root / "model") if family == "stable_diffusion" else make(family, root / "model")
    unet = diffusers.UNet2DConditionModel.from_pretrained(model, subfolder="unet")
    names = {False: "plain", True: "fine"}
    return family, model, {fine: make_adapter(unet, root / name / f"{name}.safetensors", 1, fine)
                           for fine, name in names.items()}  # fmt: skip


def load(family: str, folder: Path) -> Any:
    return loader(family)(tiny_card(folder, family=family), CPU, lambda *args: None)


def photo(seed: int = 3) -> Image.Image:
    values = np.random.default_rng(seed).integers(0, 255, (6, 9, 3), np.uint8)
    return Image.fromarray(values).resize((90, 60))


def followed(path: Path, weight: float = 0.8, seed: int = 3) -> IPAdapterInput:
    return IPAdapterInput(path, path.parent / "image_encoder", str(seed), photo(seed), weight)


def asked(**changes: Any) -> Any:
    return request(**{"scheduler": "euler", "num_inference_steps": 3, "height": 32, "negative_prompt": "", **changes})


def last(model: Any, **changes: Any) -> torch.Tensor:
    return list(denoise(model, asked(**changes)))[-1].x_next


@pytest.mark.parametrize("fine", [False, True])
@pytest.mark.parametrize("guidance", [1.0, 5.0])
def test_an_image_prompt_has_the_same_effect_as_in_diffusers(kind: Any, fine: bool, guidance: float) -> None:
    family, folder, files = kind
    model, wanted = load(family, folder), asked(num_images=2, guidance_scale=guidance)
    plain = last(model, num_images=2, guidance_scale=guidance)
    model.set_ip_adapter(followed(files[fine]))
    ours = list(denoise(model, wanted))
    assert not torch.allclose(ours[-1].x_next, plain, atol=1e-2)
    encoder = CLIPVisionModelWithProjection.from_pretrained(files[fine].parent / "image_encoder")
    pipe = getattr(diffusers, PIPES[family]).from_pretrained(folder, image_encoder=encoder)
    pipe.scheduler = diffusers.EulerDiscreteScheduler.from_config(pipe.scheduler.config)
    pipe.feature_extractor = None
    pipe.load_ip_adapter(str(files[fine].parent), subfolder="", weight_name=files[fine].name)
    pipe.set_ip_adapter_scale(0.8)
    found = theirs(pipe, wanted, ip_adapter_image=photo(), negative_prompt=None, width=32, height=32)
    assert_same(ours, *found)


def test_removing_an_ip_adapter_restores_the_model(kind: Any) -> None:
    family, folder, files = kind
    model = load(family, folder)
    before, weights = last(model), {name: t.clone() for name, t in model.denoiser.state_dict().items()}
    model.set_ip_adapter(followed(files[False]))
    assert not torch.equal(last(model), before)
    model.set_ip_adapter(followed(files[True]))
    model.set_ip_adapter(None)
    assert torch.equal(last(model), before)
    after = model.denoiser.state_dict()
    assert after.keys() == weights.keys() and all(torch.equal(after[name], weights[name]) for name in weights)


def test_the_weight_and_the_picture_count_and_nothing_is_read_twice(kind: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    family, folder, files = kind
    from transformers import CLIPVisionModelWithProjection

    read, encoders = CLIPVisionModelWithProjection.from_pretrained, []
    monkeypatch.setattr(
        CLIPVisionModelWithProjection, "from_pretrained", lambda *a, **k: encoders.append(a) or read(*a, **k)
    )
    model = load(family, folder)
    plain = last(model)
    results = []
    for weight, seed in ((0.8, 3), (0.2, 3), (0.8, 4)):
        model.set_ip_adapter(followed(files[False], weight, seed))
        results.append(last(model))
    assert len({float(r.sum()) for r in results}) == 3 and len(encoders) == 1  # kept for the other picture
    monkeypatch.setattr("pipelines.models.adapters.ip_adapter._encode_image", None)
    model.set_ip_adapter(followed(files[False], 0.8, 3))
    assert torch.equal(last(model), results[0])
    model.set_ip_adapter(followed(files[False], 0.0, 3))
    assert torch.allclose(last(model), plain, atol=1e-5)


def test_it_works_with_a_lora_and_after_slices(kind: Any, tmp_path: Path) -> None:
    family, folder, files = kind
    model, lora = load(family, folder), make_lora(folder, family, tmp_path / "ink.safetensors", 0)
    plain = last(model)
    model.denoiser.set_attention_slice("max")
    model.set_loras([(str(lora.parent), lora.name, 1.0)])
    dressed = last(model)
    model.set_ip_adapter(followed(files[False]))
    both = last(model)
    model.set_ip_adapter(None)
    assert torch.equal(last(model), dressed) and not torch.allclose(both, dressed, atol=1e-3)
    model.set_loras(())
    assert torch.allclose(last(model), plain, rtol=1e-4, atol=1e-2)  # in slices, sums have another order


def test_a_file_for_another_model_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    folder = make_tiny_model(tmp_path / "model")
    wide = make("stable_diffusion_xl", tmp_path / "xl")
    unet = diffusers.UNet2DConditionModel.from_pretrained(wide, subfolder="unet")
    path = make_adapter(unet, tmp_path / "other" / "other.safetensors")
    model = load("stable_diffusion", folder)
    before = last(model)
    with pytest.raises(InvalidRequest, match="The IP-Adapter other cannot be used with Tiny .* choose another one"):
        model.set_ip_adapter(followed(path))
    assert torch.equal(last(model), before)


def test_models_without_ip_adapters_refuse_image_prompts(tmp_path: Path) -> None:
    for family in ("flux", "pixart"):
        folder = make(family, tmp_path / family)
        model = load("any" if family == "pixart" else family, folder)
        model.set_ip_adapter(None)
        with pytest.raises(InvalidRequest, match="follow"):
            model.set_ip_adapter(followed(tmp_path / "x.safetensors"))


# -- files -----------------------------------------------------------------------------------------------------------


def test_files_are_found_with_their_own_image_encoder(kind: Any, tmp_path: Path) -> None:
    _, _, files = kind
    found = scan(AdapterFolders([files[False].parent, files[True].parent, tmp_path / "nowhere"]))
    assert set(found) == {"plain", "fine"}
    assert found["plain"].encoder == files[False].parent / "image_encoder" and found["plain"].width > 0


def test_files_that_are_no_adapter_or_lack_their_encoder_are_left_out(kind: Any, tmp_path: Path) -> None:
    _, _, files = kind
    state = load_file(files[False])
    save_file(state, tmp_path / "alone.safetensors")
    (tmp_path / "broken.safetensors").write_bytes(b"no")
    assert scan(AdapterFolders([tmp_path])) == {}
    face = tmp_path / "face" / "face.safetensors"
    face.parent.mkdir()
    (face.parent / "image_encoder").symlink_to(files[False].parent / "image_encoder")
    save_file({**state, "ip_adapter.0.to_k_lora.down.weight": torch.zeros(2, 2)}, face)
    # An encoder of another width is another one's.
    odd = tmp_path / "face" / "odd.safetensors"
    save_file({**state, "image_proj.proj.weight": torch.zeros(8, 7)}, odd)
    assert scan(AdapterFolders([tmp_path])) == {}
    (face.parent / "plain.safetensors").symlink_to(files[False])
    assert set(scan(AdapterFolders([tmp_path]))) == {"plain"}


# -- from a request to a picture -----------------------------------------------------------------------------------


@pytest.mark.parametrize("wrong", [{"weight": 2.0}, {"weight": -0.1}, {"adapter": "../x"}, {"image": "x"}, {"x": 1}])
def test_bad_image_prompts_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        ImagePrompt(**{"adapter": "plain", "image": "0" * 32, **wrong})


def test_a_run_records_its_image_prompt(kind: Any, tmp_path: Path) -> None:
    family, folder, files = kind
    manager = PipelineManager([tiny_card(folder, id="m", family=family)], device="cpu")
    backend = LocalBackend(manager, tmp_path / "pictures", threads=1, adapter_dirs=[files[False].parent])
    try:
        assert [file.name for file in backend.adapters.ip_adapters()] == ["plain"]
        image = backend.inputs.put(photo())
        wanted = asked().model_copy(update={"model": "m", "reference": ImagePrompt(adapter="plain", image=image)})
        event = list(backend.submit(wanted).events())[-1]
        assert isinstance(event, Finished)
        path = event.pictures[0].path
        assert read_request(path) == wanted
        with Image.open(path) as picture:
            assert "IP-Adapter: plain 0.6" in picture.info["parameters"]
        other = list(backend.submit(asked().model_copy(update={"model": "m"})).events())[-1]
        assert other.pictures[0].path.read_bytes() != path.read_bytes()
        missing = (({"adapter": "none"}, "no IP-Adapter 'none' here"), ({"image": "1" * 32}, "not here any more"))
        for update, words in missing:
            gone = wanted.model_copy(update={"reference": wanted.reference.model_copy(update=update)})
            with pytest.raises(InvalidRequest, match=words):
                backend.submit(gone)
    finally:
        backend.close()
