"""Loading Stable Diffusion folders, and what a loaded model answers."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from pipelines.model import CannotLoad, Placement
from pipelines.models.components import load_components, resolve_source
from pipelines.models.families import loader
from pipelines.models.families.stable_diffusion import CLASSES, StableDiffusion, load
from pipelines.models.preflight import component_bytes
from pipelines.system.paths import PROJECT
from tests.support.tiny_model import make_tiny_model, tiny_card

CPU = Placement("cpu", "float32", "sdpa")


def silent(part: str, done: int, total: int) -> None:
    pass


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    return make_tiny_model(tmp_path_factory.mktemp("tiny"), prediction_type="v_prediction", max_tokens=16)


@pytest.fixture(scope="module")
def model(folder: Path) -> StableDiffusion:
    return load(tiny_card(folder), CPU, silent)


def test_each_part_is_reported_before_it_loads(folder: Path) -> None:
    conditioning: list[tuple[str, int, int]] = []
    load(tiny_card(folder), CPU, lambda *report: conditioning.append(report))
    assert conditioning == [*((name, k, 5) for k, name in enumerate(CLASSES)), ("", 5, 5)]


def test_a_loaded_model_describes_itself(model: StableDiffusion) -> None:
    assert model.scheduler_config["prediction_type"] == "v_prediction"
    assert model.size_factor == 8 and model.latents.channels == 4
    parameters = sum(p.numel() for part in model.modules.values() for p in part.parameters())
    assert model.size_bytes >= 4 * parameters
    assert not any(p.requires_grad for p in model.unet.parameters())


def test_half_precision_files_load_as_the_placement_says(folder: Path, tmp_path: Path) -> None:
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextModel

    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    for name, cls in (("unet", UNet2DConditionModel), ("vae", AutoencoderKL), ("text_encoder", CLIPTextModel)):
        part = cls.from_pretrained(folder / name).half()
        shutil.rmtree(tmp_path / name)
        part.save_pretrained(tmp_path / name, variant="fp16" if name == "unet" else None)
    loaded = load(tiny_card(tmp_path), CPU, silent)
    assert {part.dtype for part in loaded.modules.values()} == {torch.float32}
    assert loaded.predict(torch.zeros(1, 4, 4, 4), torch.tensor(9), loaded.encode_prompt(["a"])).dtype == torch.float32


def test_prompts_are_encoded_once(model: StableDiffusion, monkeypatch: pytest.MonkeyPatch) -> None:
    first = model.encode_prompt(["", "a fox"])
    assert first.prompt_embeds.shape == (2, 16, 16)
    monkeypatch.setattr(model, "texts", None)
    assert torch.equal(model.encode_prompt(["", "a fox"]).prompt_embeds, first.prompt_embeds)
    monkeypatch.undo()
    model.clear_prompt_cache()
    assert torch.equal(model.encode_prompt(["", "a fox"]).prompt_embeds, first.prompt_embeds)


def test_words_beyond_the_window_are_named(folder: Path, model: StableDiffusion) -> None:
    # 14 letters fit between the start and the end token.
    assert model.truncated_text("") == ""
    assert model.truncated_text("abcdefg hijklmn") == ""
    assert model.truncated_text("abcdefg hijklmn  Red Apple") == "Red Apple"
    assert model.truncated_text("abcdefg hijklmno p") == "hijklmno p"  # read in part is not read
    assert model.truncated_text("x" * 40) == "x" * 40


def test_xformers_is_set_only_where_it_was_asked_for(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from diffusers import UNet2DConditionModel

    calls: list[object] = []
    monkeypatch.setattr(
        UNet2DConditionModel, "enable_xformers_memory_efficient_attention", lambda self: calls.append(self)
    )
    load(tiny_card(folder), CPU, silent)
    assert calls == []
    load(tiny_card(folder), Placement("cpu", "float32", "xformers"), silent)
    assert len(calls) == 1


def test_sources_are_folders_of_the_project_absolute_folders_or_hub_ids(folder: Path) -> None:
    assert resolve_source(str(folder)) == str(folder)
    assert resolve_source("pipelines") == str(PROJECT / "pipelines")
    assert resolve_source("someone/some-model") == "someone/some-model"


def test_what_a_folder_lacks_comes_from_the_model_that_it_shares_it_with(folder: Path, tmp_path: Path) -> None:
    other = make_tiny_model(tmp_path / "other", seed=5)
    for part in ("text_encoder", "tokenizer", "vae"):
        shutil.rmtree(other / part)
    card = tiny_card(other).model_copy(update={"rest": str(folder)})
    parts = load_components(card, CPU, silent, CLASSES, "Stable Diffusion")
    whole = load_components(tiny_card(folder), CPU, silent, CLASSES, "Stable Diffusion")
    assert same(parts["vae"], whole["vae"]) and same(parts["text_encoder"], whole["text_encoder"])
    assert not same(parts["unet"], whole["unet"])
    assert component_bytes(other, "float32", rest=str(folder)) == component_bytes(folder, "float32")


def same(one: Any, other: Any) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


@pytest.mark.parametrize("part", CLASSES)
def test_a_missing_part_is_named(folder: Path, tmp_path: Path, part: str) -> None:
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    shutil.rmtree(tmp_path / part)
    with pytest.raises(CannotLoad, match=rf"^The {part} of Tiny cannot be loaded from .* safetensors files\.$"):
        load(tiny_card(tmp_path), CPU, silent)


def test_pickled_weights_are_not_read(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    weights = tmp_path / "unet" / "diffusion_pytorch_model.safetensors"
    weights.unlink()
    torch.save({}, weights.with_suffix(".bin"))
    with pytest.raises(CannotLoad, match="^The unet of Tiny"):
        load(tiny_card(tmp_path), CPU, silent)


def test_other_architectures_are_refused(folder: Path, tmp_path: Path) -> None:
    wide = make_tiny_model(tmp_path / "wide", latent_channels=8)
    shutil.rmtree(wide / "vae")
    shutil.copytree(folder / "vae", wide / "vae")
    with pytest.raises(CannotLoad, match="takes 8 channels where text-to-image needs 4 and inpainting 9"):
        load(tiny_card(wide), CPU, silent)
    with pytest.raises(CannotLoad, match="allowed: stable_diffusion"):
        loader("nope")


def test_old_scheduler_files_get_what_the_pipeline_gives_them(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    file = tmp_path / "scheduler" / "scheduler_config.json"
    saved = json.loads(file.read_text())
    file.write_text(json.dumps({**saved, "clip_sample": True, "steps_offset": 0}))
    loaded = load(tiny_card(tmp_path), CPU, silent).scheduler_config
    assert (loaded["clip_sample"], loaded["steps_offset"]) == (False, 1)


@pytest.mark.parametrize("vae", ["kl", "tiny"])
def test_latents_there_and_back(tmp_path: Path, vae: str) -> None:
    latents = load(tiny_card(make_tiny_model(tmp_path, vae=vae)), CPU, silent).latents
    pixels = torch.rand(2, 3, 32, 40, generator=torch.Generator().manual_seed(0)) * 2 - 1
    z = latents.encode(pixels)
    assert z.shape == latents.shape(2, 40, 32) == (2, 4, 4, 5)
    assert [picture.size for picture in latents.decode(z)] == [(40, 32)] * 2
    assert [picture.size for picture in latents.preview(z)] == [(40, 32)] * 2  # small enough to decode
    assert [picture.size for picture in latents.project(z)] == [(5, 4)] * 2


def test_the_linear_preview_shows_the_colours(tmp_path: Path) -> None:
    """A stand-in VAE whose latents are a mixture of the colours: the fit must find its way back."""
    latents = load(tiny_card(make_tiny_model(tmp_path)), CPU, silent).latents
    mix = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))

    def encode(pixels: torch.Tensor, generator: torch.Generator | None = None) -> torch.Tensor:
        return torch.einsum("nchw,dc->ndhw", torch.nn.functional.avg_pool2d(pixels, 8), mix) + 0.3

    latents.encode = encode
    pixels = torch.tensor([0.8, -0.6, 0.2]).reshape(1, 3, 1, 1).expand(1, 3, 16, 16)
    (picture,) = latents.project(encode(pixels))
    assert picture.getpixel((1, 1)) == pytest.approx((229, 51, 153), abs=12)


class _Network:
    def __init__(self, call: Any) -> None:
        self.call, self.asked = call, 0

    def __call__(self, **inputs: Any) -> torch.Tensor:
        self.asked += 1
        return self.call(**inputs)

    def request(self, **shapes: tuple[int, ...]) -> None:
        self.shapes = shapes


class _Engine:
    """Stands for the engine that compiles: remembers what it is given."""

    ready = False

    def __init__(self) -> None:
        self.networks: dict[str, _Network] = {}

    def network(self, kind: str, module: Any, call: Any) -> _Network:
        return self.networks.setdefault(kind, _Network(call))


def test_a_small_autoencoder_for_previews_is_compiled_too(folder: Path, tmp_path: Path) -> None:
    from diffusers import AutoencoderTiny

    AutoencoderTiny(
        encoder_block_out_channels=(8,) * 4, decoder_block_out_channels=(8,) * 4, num_encoder_blocks=(0,) * 4,
        num_decoder_blocks=(1, 0, 0, 0),
    ).save_pretrained(tmp_path)  # fmt: skip
    card, plain, engine = tiny_card(folder), _Engine(), _Engine()
    load(card, CPU, silent).use_engine(plain)
    assert set(plain.networks) == {"unet", "decoder"}
    model = load(card.model_copy(update={"preview": str(tmp_path)}), CPU, silent)
    model.use_engine(engine)
    assert engine.networks["preview"].shapes == engine.networks["decoder"].shapes
    z = torch.randn(2, 4, 4, 5)
    assert [picture.size for picture in model.latents.preview(z)] == [(40, 32)] * 2
    assert [picture.size for picture in model.latents.decode(z)] == [(40, 32)] * 2
    assert (engine.networks["preview"].asked, engine.networks["decoder"].asked) == (2, 2)
