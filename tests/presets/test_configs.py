"""The shipped configurations: they are those of the published models, and single files load with them offline."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from presets import configs
from presets.json_files import CatalogueError
from tests.support import ldm_checkpoint
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


TINY_UNET = {
    "block_out_channels": [32, 64],
    "layers_per_block": 1,
    "down_block_types": ["CrossAttnDownBlock2D", "DownBlock2D"],
    "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D"],
    "attention_head_dim": 4,
    "sample_size": 8,
}
TINY_TEXT = {"hidden_size": 32, "intermediate_size": 37, "num_attention_heads": 4, "num_hidden_layers": 2}
TINY = {
    "sd15": {"unet/config.json": TINY_UNET | {"cross_attention_dim": 32}, "text_encoder/config.json": TINY_TEXT},
    "sdxl": {
        "unet/config.json": TINY_UNET
        | {
            "cross_attention_dim": 32 + 48,
            "transformer_layers_per_block": [1, 1],
            "addition_time_embed_dim": 8,
            "projection_class_embeddings_input_dim": 6 * 8 + 48,
        },
        "text_encoder/config.json": TINY_TEXT,
        "text_encoder_2/config.json": TINY_TEXT | {"hidden_size": 48, "projection_dim": 48},
    },
}


def _tiny(variant: str, cache: Path, tmp_path: Path) -> Path:
    """A shipped configuration with small networks."""
    folder = Path(shutil.copytree(configs.write_folder(variant, cache), tmp_path / "tiny"))
    small_vae = {"block_out_channels": [32, 32, 32, 32], "layers_per_block": 1}
    for name, changes in ({"vae/config.json": small_vae} | TINY[variant]).items():
        path = folder / name
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    return folder


def _written(networks: dict[str, Any], variant: str, path: Path) -> Path:
    """Networks as one file in the original layout."""
    from safetensors.torch import save_file

    weights = {name: dict(network.state_dict()) for name, network in networks.items()}
    found = ldm_checkpoint.unet(weights["unet"], TINY_UNET["layers_per_block"]) | ldm_checkpoint.vae(weights["vae"])
    if variant == "sd15":
        found |= ldm_checkpoint.clip(weights["text_encoder"])
    else:
        found |= ldm_checkpoint.clip(weights["text_encoder"], ldm_checkpoint.XL_CLIP)
        found |= ldm_checkpoint.open_clip(weights["text_encoder_2"], ldm_checkpoint.XL_OPEN_CLIP)
    save_file({name: weight.clone() for name, weight in found.items()}, path)
    return path


def _random_networks(folder: Path) -> dict[str, Any]:
    import torch

    torch.manual_seed(0)
    networks = {name: network.to_empty(device="cpu") for name, network in meta_networks(folder).items()}
    for network in networks.values():
        for name, weight in network.named_parameters():
            torch.nn.init.ones_(weight) if "norm" in name else torch.nn.init.normal_(weight, std=0.05)
        for name, buffer in network.named_buffers():
            if name.endswith("position_ids"):
                buffer.copy_(torch.arange(buffer.shape[-1]).expand_as(buffer))
    return networks


@pytest.mark.parametrize("variant", TINY)
def test_a_single_file_loads_offline_and_draws(variant: str, cache: Path, tmp_path: Path) -> None:
    import diffusers
    import torch

    folder = _tiny(variant, cache, tmp_path)
    networks = _random_networks(folder)
    path = _written(networks, variant, tmp_path / "model.safetensors")
    cls = getattr(diffusers, json.loads((folder / "model_index.json").read_text())["_class_name"])
    pipe = cls.from_single_file(str(path), config=str(folder), local_files_only=True)
    for name, network in networks.items():
        loaded = dict(getattr(pipe, name).named_parameters())
        for key, weight in network.named_parameters():
            assert torch.equal(loaded[key], weight), f"{name}.{key}"
    pipe.set_progress_bar_config(disable=True)
    drawn = pipe("a photo of a cat", num_inference_steps=2, height=64, width=64, output_type="np").images
    assert drawn.shape == (1, 64, 64, 3)


def test_older_names_and_scaled_weights_of_8_bits_are_read(cache: Path, tmp_path: Path) -> None:
    import torch
    from safetensors.torch import load_file, save_file

    from pipelines.model import CannotLoad
    from pipelines.models.families import loader
    from tests.support.paired_models import CPU
    from tests.support.tiny_model import tiny_card

    folder = _tiny("sd15", cache, tmp_path)
    networks = _random_networks(folder)
    plain = load_file(_written(networks, "sd15", tmp_path / "plain.safetensors"))
    old = {name.replace("transformer.text_model.", "transformer."): weight for name, weight in plain.items()}
    scaled, expected = {"model.diffusion_model.scaled_fp8": torch.zeros(2).to(torch.float8_e4m3fn)}, dict(plain)
    for name, weight in plain.items():
        scaled[name] = weight
        if name.startswith(ldm_checkpoint.UNET) and weight.ndim == 2 and name.endswith(".weight"):
            scale = weight.abs().max() / 448
            scaled[name] = (weight / scale).to(torch.float8_e4m3fn)
            scaled[name.removesuffix("weight") + "scale_weight"] = scale
            scaled[name.removesuffix("weight") + "scale_input"] = torch.tensor(1.0)
            expected[name] = scaled[name].float() * scale
    save_file(expected, tmp_path / "expected.safetensors")
    save_file(old, tmp_path / "old.safetensors")
    save_file(scaled, tmp_path / "scaled.safetensors")

    def load(name: str) -> Any:
        card = tiny_card(tmp_path / f"{name}.safetensors", config=str(folder))
        return loader("stable_diffusion")(card, CPU, lambda *args: None)

    loaded = {name: load(name) for name in ("plain", "old", "expected", "scaled")}
    for name, network in networks.items():
        for key, weight in network.named_parameters():
            found = {way: model.parts[name].get_parameter(key) for way, model in loaded.items()}
            assert torch.equal(found["plain"], weight) and torch.equal(found["old"], weight), key
            assert torch.equal(found["scaled"], found["expected"]), key
    part = next(name for name in plain if name.startswith(ldm_checkpoint.UNET) and "attn2.to_k" in name)
    save_file({name: weight for name, weight in plain.items() if name != part}, tmp_path / "lacking.safetensors")
    with pytest.raises(CannotLoad, match="cannot be loaded"):
        load("lacking")
