"""Single files: what is read of them equals what diffusers reads, and passes through RAM one network at a time."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from safetensors.torch import load_file, save_file

from benchmarks.gpu import pretend_gpu
from benchmarks.gpu.graphics_cards import PretendMachine
from pipelines.cards import ModelCard
from pipelines.model import CannotLoad, LoadStopped, Placement
from pipelines.models.checkpoints import single_file
from pipelines.models.families import loader
from pipelines.models.manager import PipelineManager
from pipelines.models.offloading.spread import weight_bytes
from tests.support import ldm_checkpoint
from tests.support.paired_models import CPU
from tests.support.tiny_model import tiny_card
from tests.support.tiny_single_file import random_networks, tiny_config, write


@pytest.fixture(scope="module")
def xl(tmp_path_factory: pytest.TempPathFactory) -> tuple[ModelCard, dict[str, int]]:
    """The card of a tiny XL in one file of float32, and how many weights each network has."""
    root = tmp_path_factory.mktemp("xl")
    folder = tiny_config("sdxl", root / "cache", root)
    networks = random_networks(folder)
    path = write(networks, "sdxl", root / "model.safetensors")
    card = tiny_card(path, family="stable_diffusion_xl", config=str(folder))
    return card, {name: weight_bytes(network) // 4 for name, network in networks.items()}


def ram_bytes() -> int:
    """Bytes of all tensors in RAM; what the pretend GPU holds is not there."""
    gc.collect()
    found: dict[int, int] = {}
    plain = (one for one in gc.get_objects() if type(one) in (torch.Tensor, torch.nn.Parameter))
    for one in plain:
        if one.device.type == "cpu" and not pretend_gpu.gpu.holds(one):
            found[one.data_ptr()] = max(found.get(one.data_ptr(), 0), one.numel() * one.element_size())
    return sum(found.values())


@contextmanager
def watched(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Bytes of tensors in RAM once a network's weights are read, and once it is made, while diffusers holds both."""
    plain, read, seen = torch.nn.Module.eval, single_file.read_weights, []
    before = ram_bytes()

    def measured(module: torch.nn.Module) -> torch.nn.Module:
        seen.append(ram_bytes() - before)
        return plain(module)

    def measured_weights(*args: Any) -> Any:
        found = read(*args)
        seen.append(ram_bytes() - before)
        return found

    with monkeypatch.context() as patch:
        patch.setattr(single_file, "read_weights", measured_weights)
        patch.setattr(torch.nn.Module, "eval", measured)
        yield seen


def test_a_file_passes_through_ram_one_network_at_a_time(
    xl: tuple[ModelCard, dict[str, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    card, weights = xl
    # Half precision: the two text encoders are read together, and all else by itself.
    largest, before = 2 * max(weights["unet"], weights["text_encoder"] + weights["text_encoder_2"]), ram_bytes()
    with pretend_gpu.use(), watched(monkeypatch) as seen:
        manager = PipelineManager([card], machine=PretendMachine("RTX 3060"))
        with manager.lease("tiny") as model:
            assert model.placement.dtype == "float16"
            assert {next(one.parameters()).device.type for one in model.modules.values()} == {pretend_gpu.NAME}
            assert ram_bytes() - before < largest / 20  # nothing of the file is left there
    assert largest / 2 < max(seen) < 1.2 * largest < 0.7 * Path(card.source).stat().st_size


@pytest.mark.parametrize(("dtype", "backend"), [("float32", "mmap"), ("float16", "pread")])
def test_it_equals_what_diffusers_reads(
    xl: tuple[ModelCard, dict[str, int]], dtype: str, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    card, _ = xl
    monkeypatch.setattr(single_file, "_BACKEND", backend)  # the second is for Windows
    model: Any = loader(card.family)(card, Placement("cpu", dtype, "sdpa"), lambda *args: None)
    theirs = diffusers.StableDiffusionXLPipeline.from_single_file(
        card.source, config=card.config, local_files_only=True, torch_dtype=getattr(torch, dtype)
    )
    for name in ("unet", "vae", "text_encoder", "text_encoder_2"):
        expected = dict(getattr(theirs, name).named_parameters())
        found = dict(model.parts[name].named_parameters())
        assert found.keys() == expected.keys()
        assert all(torch.equal(weight, expected[key]) for key, weight in found.items()), name


def test_a_load_is_cancelled_between_two_networks(xl: tuple[ModelCard, dict[str, int]]) -> None:
    manager, parts = PipelineManager([xl[0]], device="cpu"), []
    with (
        pytest.raises(LoadStopped),
        manager.lease("tiny", lambda part, done, total: parts.append((part, done, total)), lambda: len(parts) == 2),
    ):
        pass
    assert len(parts) == 2 and parts[0][1:] == (0, 6) and manager.loaded == ()


def test_older_names_and_scaled_weights_of_8_bits_are_read(tmp_path: Path) -> None:
    folder = tiny_config("sd15", tmp_path / "cache", tmp_path)
    networks = random_networks(folder)
    plain = load_file(write(networks, "sd15", tmp_path / "plain.safetensors"))
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
