"""Folders of weights: what lacks some, or holds others, is refused by name; weights of 8 bits are what they mean."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import ControlNetModel, UNet2DConditionModel
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import CLIPTextModel, CLIPVisionModelWithProjection

from pipelines.model import CannotLoad
from pipelines.models.checkpoints.weights import IncompleteWeights, load_network
from pipelines.models.families import loader
from pipelines.request import InvalidRequest
from pipelines.sampling.conditioning import ControlNetInput, IPAdapterInput
from tests.support.paired_models import CPU
from tests.support.tiny_controlnets import make_controlnet
from tests.support.tiny_ip_adapters import make_adapter
from tests.support.tiny_model import tiny_card

Weights = dict[str, torch.Tensor]


def change(folder: Path, edit: Callable[[Weights], Any]) -> str:
    """Change the weights of a part; the name of the first that ``edit`` names."""
    path = next(folder.glob("*.safetensors"))
    weights = load_file(path)
    name = edit(weights)
    save_file(weights, path, metadata={"format": "pt"})
    return str(name)


def drop(weights: Weights) -> str:
    name = sorted(name for name in weights if name.endswith("bias"))[0]
    del weights[name]
    return name


@pytest.fixture
def folders(tiny_folder: Path, tmp_path: Path) -> dict[str, tuple[Any, Path]]:
    """A part of each kind: its class and its folder."""
    model = Path(shutil.copytree(tiny_folder, tmp_path / "model"))
    unet = UNet2DConditionModel.from_pretrained(model, subfolder="unet")
    adapter = make_adapter(unet, tmp_path / "ip" / "x.safetensors")
    return {
        "text encoder": (CLIPTextModel, model / "text_encoder"),
        "unet": (UNet2DConditionModel, model / "unet"),
        "controlnet": (ControlNetModel, make_controlnet(unet, tmp_path / "net")),
        "image encoder": (CLIPVisionModelWithProjection, adapter.parent / "image_encoder"),
    }


KINDS = ("text encoder", "unet", "controlnet", "image encoder")


@pytest.mark.parametrize("kind", KINDS)
def test_files_that_lack_a_weight_or_hold_another_are_refused_by_name(
    folders: dict[str, tuple[Any, Path]], kind: str
) -> None:
    cls, folder = folders[kind]
    load_network(cls, folder)
    lacking = Path(shutil.copytree(folder, folder.parent / "lacking"))
    name = change(lacking, drop)
    with pytest.raises(IncompleteWeights, match=r"its files lack") as refused:
        load_network(cls, lacking)
    assert str(refused.value).split()[-1] in name
    change(folder, lambda weights: weights.update({f"{name}_g": torch.ones(2)}))
    with pytest.raises(IncompleteWeights, match=f"which a {cls.__name__} does not have"):
        load_network(cls, folder)


def test_parts_that_a_class_leaves_out_are_no_fault(folders: dict[str, tuple[Any, Path]]) -> None:
    cls, folder = folders["text encoder"]
    plain = load_network(cls, folder).state_dict()
    more = {"vision_model.encoder.x.weight": torch.ones(2), "logit_scale": torch.ones(1)}
    more["text_model.embeddings.position_ids"] = torch.arange(77)[None]
    change(folder, lambda weights: weights.update(more))
    assert all(torch.equal(load_network(cls, folder).state_dict()[name], weight) for name, weight in plain.items())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("ending", ["scale_weight", "weight_scale"])
def test_weights_of_8_bits_are_multiplied_by_their_scales(
    folders: dict[str, tuple[Any, Path]], kind: str, ending: str
) -> None:
    cls, folder = folders[kind]
    plain = load_network(cls, folder)
    before = {name: weight.clone() for name, weight in plain.state_dict().items()}

    def scale(weights: Weights) -> None:
        for name in [name for name, weight in weights.items() if name.endswith("weight") and weight.ndim > 1]:
            factor = weights[name].abs().max().clamp_min(1e-6) / 448
            weights[name] = (weights[name] / factor).to(torch.float8_e4m3fn)
            weights[name.removesuffix("weight") + ending] = factor
            weights[name.removesuffix("weight") + "input_scale"] = torch.ones(1)

    change(folder, scale)
    found = load_network(cls, folder, dtype=torch.float32).state_dict()
    for name, weight in before.items():
        assert float((found[name] - weight).abs().max()) <= 0.07 * float(weight.abs().max()), name


def test_a_scale_without_its_weight_is_refused(folders: dict[str, tuple[Any, Path]]) -> None:
    cls, folder = folders["unet"]
    change(folder, lambda weights: weights.update({"conv_in.other.scale_weight": torch.ones(1)}))
    with pytest.raises(IncompleteWeights, match="has no weight"):
        load_network(cls, folder)


@pytest.mark.parametrize("part", ["text_encoder", "unet", "vae"])
def test_a_model_with_such_a_part_is_not_loaded(tiny_folder: Path, tmp_path: Path, part: str) -> None:
    folder = Path(shutil.copytree(tiny_folder, tmp_path / "model"))
    change(folder / part, drop)
    with pytest.raises(CannotLoad, match=rf"The {part} of .* cannot be loaded .*its files lack"):
        loader("stable_diffusion")(tiny_card(folder), CPU, lambda *args: None)


@pytest.mark.parametrize("place", ["net", "net.safetensors", "ip", "encoder"])
def test_a_cut_file_is_not_called_one_for_another_model(tiny_folder: Path, tmp_path: Path, place: str) -> None:
    model = loader("stable_diffusion")(tiny_card(tiny_folder), CPU, lambda *args: None)
    net = make_controlnet(model.parts["unet"], tmp_path / "net")
    adapter = make_adapter(model.parts["unet"], tmp_path / "x.safetensors")
    whole = next(net.glob("*.safetensors"))
    single = Path(shutil.copy(whole, tmp_path / "net.safetensors"))
    cut = {"net": whole, "net.safetensors": single, "ip": adapter,
           "encoder": tmp_path / "image_encoder" / "model.safetensors"}[place]  # fmt: skip
    cut.write_bytes(cut.read_bytes()[:-64])
    with pytest.raises(InvalidRequest, match=r"cannot be read \(.*copy or download it again") as refused:
        if place.startswith("net"):
            model.set_controlnets(
                [ControlNetInput(single if place != "net" else net, Image.new("RGB", (32, 32)), 1, 0, 1)]
            )
        else:
            picture = Image.new("RGB", (32, 32))
            model.set_ip_adapter(IPAdapterInput(adapter, tmp_path / "image_encoder", "k", picture, 1.0))
    assert "probably" not in str(refused.value)
