"""The shipped configurations: they are those of the published models, and single files load with them offline."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from presets import configs
from presets.json_files import CatalogueError
from tests.support import tiny_single_file
from tests.support.published_models import meta_networks

# Parameters of the published models: UNet, then text encoders.
PARAMETERS = {
    "sd15": (859_520_964, 123_060_480),
    "sd15-inpaint": (859_535_364, 123_060_480),
    "sd21": (865_910_724, 340_387_840),
    "sdxl": (2_567_463_684, 123_060_480, 694_659_840),
    "sdxl-refiner": (2_259_526_660, 694_659_840),
}
VAE = 83_653_863


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("configs")


@pytest.mark.parametrize("variant", PARAMETERS)
def test_the_networks_have_the_published_number_of_weights(variant: str, cache: Path) -> None:
    networks = meta_networks(configs.write_folder(variant, cache))
    counts = {name: sum(weight.numel() for weight in network.parameters()) for name, network in networks.items()}
    assert counts.pop("vae") == VAE
    assert tuple(counts.values()) == PARAMETERS[variant]


@pytest.mark.parametrize("variant", configs.VARIANTS)
def test_every_variant_names_a_pipeline_and_its_parts(variant: str, cache: Path) -> None:
    folder = configs.write_folder(variant, cache)
    index = json.loads((folder / "model_index.json").read_text())
    import diffusers

    assert hasattr(getattr(diffusers, index["_class_name"]), "from_single_file")
    for name, (library, _) in ((k, v) for k, v in index.items() if isinstance(v, list)):
        assert (folder / name).is_dir() == (library is not None)
    assert configs.read(variant, "unet/config.json")["in_channels"] == (9 if "inpaint" in variant else 4)


def test_the_tokenizer_is_clips(cache: Path) -> None:
    from transformers import CLIPTokenizer

    folder = configs.write_folder("sdxl", cache)
    for name, pad in (("tokenizer", 49407), ("tokenizer_2", 0)):
        tokenizer = CLIPTokenizer.from_pretrained(folder, subfolder=name)
        assert tokenizer("a photo of a cat").input_ids == [49406, 320, 1125, 539, 320, 2368, 49407]
        assert (len(tokenizer), tokenizer.model_max_length, tokenizer.pad_token_id) == (49408, 77, pad)


def test_the_vocabulary_is_whole() -> None:
    vocabulary = configs.vocabulary()
    assert len(vocabulary) == 49408
    assert sorted(vocabulary.values()) == list(range(49408))


def test_a_folder_is_made_once_and_repaired(tmp_path: Path) -> None:
    folder = configs.write_folder("sd15", tmp_path)
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*.*") if path.is_file()}
    (folder / "tokenizer" / "merges.txt").unlink()
    assert configs.write_folder("sd15", tmp_path) == folder
    after = {path: path.stat().st_mtime_ns for path in folder.rglob("*.*") if path.is_file()}
    assert after.keys() == before.keys()
    assert [path.name for path in before if before[path] != after[path]] == ["merges.txt"]


def test_a_cache_that_cannot_be_written_is_explained(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CatalogueError, match="cannot be written"):
        configs.write_folder("sd15", tmp_path / "file")


def test_what_is_shipped_is_small() -> None:
    assert sum(path.stat().st_size for path in configs.HERE.rglob("*") if path.is_file()) < 1_000_000


@pytest.mark.parametrize("variant", tiny_single_file.TINY)
def test_a_single_file_loads_offline_and_draws(variant: str, cache: Path, tmp_path: Path) -> None:
    import diffusers
    import torch

    folder = tiny_single_file.tiny_config(variant, cache, tmp_path)
    networks = tiny_single_file.random_networks(folder)
    path = tiny_single_file.write(networks, variant, tmp_path / "model.safetensors")
    cls = getattr(diffusers, json.loads((folder / "model_index.json").read_text())["_class_name"])
    pipe = cls.from_single_file(str(path), config=str(folder), local_files_only=True)
    for name, network in networks.items():
        loaded = dict(getattr(pipe, name).named_parameters())
        for key, weight in network.named_parameters():
            assert torch.equal(loaded[key], weight), f"{name}.{key}"
    pipe.set_progress_bar_config(disable=True)
    drawn = pipe("a photo of a cat", num_inference_steps=2, height=64, width=64, output_type="np").images
    assert drawn.shape == (1, 64, 64, 3)
