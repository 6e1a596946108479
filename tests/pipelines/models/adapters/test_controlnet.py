"""ControlNets: found, shown maps, dropped; diffusers' own pipelines are the measure, step by step."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from diffusers import ControlNetModel
from PIL import Image
from pydantic import ValidationError
from safetensors.torch import load_file, save_file

from pipelines.events import Failed, Finished
from pipelines.images.inpainting import load_source
from pipelines.images.png import read_request
from pipelines.images.uploads import UploadStore
from pipelines.jobs.local import LocalBackend
from pipelines.models.adapters.controlnet import scan
from pipelines.models.adapters.folders import AdapterFolders
from pipelines.models.families import loader
from pipelines.models.manager import PipelineManager
from pipelines.request import Control, InitImage, InvalidRequest
from pipelines.sampling.conditioning import ControlNetConditioning, ControlNetInput
from pipelines.sampling.denoise import denoise
from tests.support.init_images import encode_source
from tests.support.ldm_checkpoint import _unet_name
from tests.support.paired_models import CPU, request
from tests.support.pipeline_parity import assert_same, picture, theirs
from tests.support.tiny_controlnets import make_controlnet
from tests.support.tiny_families import make
from tests.support.tiny_model import make_tiny_model, tiny_card

FAMILIES = ("stable_diffusion", "stable_diffusion_xl")
PIPES = {
    "stable_diffusion": ("StableDiffusionControlNetPipeline", "StableDiffusionControlNetImg2ImgPipeline"),
    "stable_diffusion_xl": ("StableDiffusionXLControlNetPipeline", "StableDiffusionXLControlNetImg2ImgPipeline"),
}
Kind = tuple[str, Path, list[Path]]


def unet_of(folder: Path) -> Any:
    return diffusers.UNet2DConditionModel.from_pretrained(folder, subfolder="unet")


@pytest.fixture(scope="module", params=FAMILIES)
def kind(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Kind:
    """A family, a model of it, and two ControlNets."""
    root, family = tmp_path_factory.mktemp(request.param), request.param
    model = make_tiny_model(root / "model") if family == "stable_diffusion" else make(family, root / "model")
    unet = unet_of(model)
    return family, model, [make_controlnet(unet, root / "nets" / name, k) for k, name in enumerate(("edges", "depths"))]


def load(family: str, folder: Path) -> Any:
    return loader(family)(tiny_card(folder, family=family), CPU, lambda *args: None)


def a_map(seed: int = 5, side: int = 32) -> Image.Image:
    values = np.random.default_rng(seed).integers(0, 2, (8, 8, 3), np.uint8) * 255
    return Image.fromarray(values).resize((side, side), Image.Resampling.NEAREST)


def shown(path: Path, seed: int = 5, weight: float = 1.0, start: float = 0.0, end: float = 1.0) -> ControlNetInput:
    return ControlNetInput(path, a_map(seed), weight, start, end)


def asked(**changes: Any) -> Any:
    return request(**{"scheduler": "euler", "num_inference_steps": 4, "height": 32, "negative_prompt": "", **changes})


def pipe_of(kind: Kind, nets: list[Path], picture: bool = False) -> Any:
    family, folder, _ = kind
    found = [ControlNetModel.from_pretrained(path) for path in nets]
    cls = getattr(diffusers, PIPES[family][picture])
    pipe = cls.from_pretrained(folder, controlnet=found if len(found) > 1 else found[0])
    pipe.scheduler = diffusers.EulerDiscreteScheduler.from_config(pipe.scheduler.config)
    return pipe


@pytest.mark.parametrize(
    ("guidance", "weight", "start", "end"), [(5.0, 1.0, 0.0, 1.0), (1.0, 0.6, 0.0, 1.0), (5.0, 1.5, 0.25, 0.75)]
)
def test_a_control_map_has_the_same_effect_as_in_diffusers(
    kind: Kind, guidance: float, weight: float, start: float, end: float
) -> None:
    family, folder, (edges, _) = kind
    model, wanted = load(family, folder), asked(num_images=2, guidance_scale=guidance)
    plain = list(denoise(model, wanted))[-1].x_next
    model.set_controlnets([shown(edges, 5, weight, start, end)])
    ours = list(denoise(model, wanted))
    assert not torch.allclose(ours[-1].x_next, plain, atol=1e-2)
    found = theirs(
        pipe_of(kind, [edges]), wanted, image=a_map(), negative_prompt=None, controlnet_conditioning_scale=weight,
        control_guidance_start=start, control_guidance_end=end, width=32, height=32,
    )  # fmt: skip
    assert_same(ours, *found)


def test_two_at_once_add_up(kind: Kind) -> None:
    family, folder, nets = kind
    model, wanted = load(family, folder), asked()
    model.set_controlnets([shown(nets[0], 5, 0.7), shown(nets[1], 6, 0.4, 0.0, 0.5)])
    found = theirs(
        pipe_of(kind, nets), wanted, image=[a_map(5), a_map(6)], controlnet_conditioning_scale=[0.7, 0.4],
        control_guidance_start=[0.0, 0.0], control_guidance_end=[1.0, 0.5], negative_prompt=None,
        width=32, height=32,
    )  # fmt: skip
    assert_same(list(denoise(model, wanted)), *found)


def test_with_a_picture_to_start_from(kind: Kind, tmp_path: Path) -> None:
    family, folder, (edges, _) = kind
    model, inputs = load(family, folder), UploadStore(tmp_path)
    init = InitImage(image=inputs.put(picture()), strength=0.6)
    wanted = asked(num_inference_steps=10).model_copy(update={"init": init})
    model.set_controlnets([shown(edges, end=0.5)])
    ours = list(denoise(model, wanted, encode_source(model, load_source(wanted, inputs))))
    found = theirs(
        pipe_of(kind, [edges], picture=True), wanted, image=picture(), control_image=a_map(), strength=0.6,
        control_guidance_end=0.5, negative_prompt=None, controlnet_conditioning_scale=1.0,
    )  # fmt: skip
    assert_same(ours, *found)


def test_with_a_part_marked(tmp_path: Path) -> None:
    folder = make_tiny_model(tmp_path / "model")
    edges = make_controlnet(unet_of(folder), tmp_path / "edges")
    model, inputs = load("stable_diffusion", folder), UploadStore(tmp_path / "inputs")
    mask = Image.new("L", (32, 32))
    mask.paste(255, (16, 0, 32, 32))
    init = InitImage(image=inputs.put(picture()), mask=inputs.put(mask), strength=1.0)
    wanted = asked().model_copy(update={"init": init})
    model.set_controlnets([shown(edges)])
    ours = list(denoise(model, wanted, encode_source(model, load_source(wanted, inputs))))
    pipe = diffusers.StableDiffusionControlNetInpaintPipeline.from_pretrained(
        folder, controlnet=ControlNetModel.from_pretrained(edges)
    )
    pipe.scheduler = diffusers.EulerDiscreteScheduler.from_config(pipe.scheduler.config)
    found = theirs(
        pipe, wanted, image=picture(), mask_image=mask, control_image=a_map(), strength=1.0, negative_prompt=None,
        controlnet_conditioning_scale=1.0,
    )  # fmt: skip
    assert_same(ours, *found)


def test_without_controls_the_model_is_restored_and_the_networks_are_dropped(kind: Kind) -> None:
    family, folder, nets = kind
    model = load(family, folder)
    before, size = list(denoise(model, asked()))[-1].x_next, model.size_bytes
    model.set_controlnets([shown(nets[0]), shown(nets[1])])
    assert {"controlnet_0", "controlnet_1"} <= set(model.modules) and model.size_bytes > size
    model.set_controlnets([shown(nets[1])])
    assert "controlnet_1" not in model.modules
    model.set_controlnets(())
    assert model.size_bytes == size
    assert torch.equal(list(denoise(model, asked()))[-1].x_next, before)


@pytest.mark.parametrize(("start", "end", "said"), [(0.0, 1.0, "1111"), (0.25, 0.75, "0110"), (0.0, 0.3, "1000")])
def test_a_control_is_active_in_its_share_of_the_steps(start: float, end: float, said: str) -> None:
    hint = ControlNetConditioning(None, torch.zeros(1), 1.0, start, end)
    assert "".join(str(int(hint.is_active(k, 4))) for k in range(4)) == said


def test_one_for_another_model_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    folder = make_tiny_model(tmp_path / "model")
    model = load("stable_diffusion", folder)
    unet = unet_of(folder)
    width = unet.config.cross_attention_dim
    wide = make_controlnet(unet, tmp_path / "wide", cross_attention_dim=2 * width)
    pooled = make_controlnet(unet, tmp_path / "pooled", global_pool_conditions=True)
    for path in (wide, pooled):
        with pytest.raises(InvalidRequest, match=f"ControlNet {path.name} is made for another kind of model than Tiny"):
            model.set_controlnets([shown(path)])
    (tmp_path / "broken.safetensors").write_bytes(b"no")
    with pytest.raises(InvalidRequest, match="The ControlNet broken cannot be read"):
        model.set_controlnets([shown(tmp_path / "broken.safetensors")])
    assert model.encode_prompt(["a"]).controls == ()
    flux = load("flux", make("flux", tmp_path / "flux"))
    with pytest.raises(InvalidRequest, match="takes no ControlNets"):
        flux.set_controlnets([shown(wide)])


# -- files -----------------------------------------------------------------------------------------------------------


def original(folder: Path, target: Path, layers: int, prefix: str = "control_model.") -> Path:
    """A ControlNet under the names that its first makers gave its weights, in one file."""
    weights, found = load_file(folder / "diffusion_pytorch_model.safetensors"), {}
    hints = [name for name in weights if name.startswith("controlnet_cond_embedding.") and name.endswith("weight")]
    blocks = sorted(n.split(".", 1)[1].removesuffix(".weight") for n in hints if ".blocks." in n)
    order = ["conv_in", *blocks, "conv_out"]
    for name, weight in weights.items():
        part, _, rest = name.partition(".")
        if part == "controlnet_cond_embedding":
            layer, _, end = rest.rpartition(".")
            found[f"input_hint_block.{2 * order.index(layer)}.{end}"] = weight
        elif part == "controlnet_down_blocks":
            number, end = rest.split(".")
            found[f"zero_convs.{number}.0.{end}"] = weight
        elif part == "controlnet_mid_block":
            found[f"middle_block_out.0.{rest}"] = weight
        else:
            found[_unet_name(name, layers, set())] = weight
    save_file({prefix + name: weight for name, weight in found.items()}, target)
    return target


@pytest.mark.parametrize("prefix", ["control_model.", ""])
def test_an_original_single_file_is_read_without_the_hub(tmp_path: Path, prefix: str) -> None:
    folder = make_tiny_model(tmp_path / "model")
    unet = unet_of(folder)
    # Single files bring no configuration: theirs is the usual one.
    net = ControlNetModel.from_unet(unet, load_weights_from_unet=False)
    for name, weight in net.named_parameters():
        if name.startswith(("controlnet_down", "controlnet_mid", "controlnet_cond_embedding.conv_out")):
            torch.nn.init.normal_(weight, std=0.2)
    net.save_pretrained(tmp_path / "net")
    file = original(tmp_path / "net", tmp_path / "single_canny.safetensors", unet.config.layers_per_block, prefix)
    known = scan(AdapterFolders([tmp_path]))
    assert {"net", "single_canny"} <= set(known) and known["single_canny"].kind == "canny"
    model, results = load("stable_diffusion", folder), []
    for path in (tmp_path / "net", file):
        model.set_controlnets([shown(path)])
        results.append(list(denoise(model, asked()))[-1].x_next)
    assert torch.equal(*results)


def test_other_files_than_controlnets_are_left_out(kind: Kind, tmp_path: Path) -> None:
    family, folder, nets = kind
    found = scan(AdapterFolders([nets[0].parent, folder]))
    assert set(found) == {"edges", "depths"} and found["edges"].xl == (family == "stable_diffusion_xl")
    assert found["depths"].kind == "depth" and found["edges"].kind == ""
    (tmp_path / "config.json").write_text(json.dumps({"_class_name": "ControlNetModel"}))  # without weights
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "x.safetensors").write_bytes(b"no")
    assert scan(AdapterFolders([tmp_path])) == {}
    empty = tmp_path / "empty"
    empty.mkdir()
    (empty / "config.json").write_text("[")
    assert scan(AdapterFolders([empty])) == {}


# -- from a request to a picture -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrong", [{"weight": 2.1}, {"net": "../x"}, {"image": "x"}, {"kind": "magic"}, {"start": 0.5, "end": 0.5}]
)
def test_bad_controls_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Control(**{"net": "edges", "image": "0" * 32, **wrong})


def test_a_run_records_its_controls(kind: Kind, tmp_path: Path) -> None:
    family, folder, nets = kind
    cards = [tiny_card(folder, id="m", family=family), tiny_card(folder, id="other", name="Other", family="flux")]
    manager = PipelineManager(cards, device="cpu")
    backend = LocalBackend(manager, tmp_path / "pictures", threads=1, adapter_dirs=[nets[0].parent])
    try:
        assert {file.name for file in backend.adapters.controlnets()} == {"edges", "depths"}
        image = backend.inputs.put(a_map(9, 48))
        control = Control(net="edges", image=image, kind="canny", weight=0.8)
        assert backend.queries.control_map(control, 32, 40).size == (32, 40)
        wanted = asked().model_copy(update={"model": "m", "controls": (control,)})
        event = list(backend.submit(wanted).events())[-1]
        assert isinstance(event, Finished), event
        path = event.pictures[0].path
        assert read_request(path) == wanted
        with Image.open(path) as drawn:
            assert "ControlNet 0: edges 0.8 (canny)" in drawn.info["parameters"]
        plain = list(backend.submit(asked().model_copy(update={"model": "m"})).events())[-1]
        assert plain.pictures[0].path.read_bytes() != path.read_bytes()
        refused(backend, wanted, {"net": "none"}, "no ControlNet 'none' here")
        refused(backend, wanted, {"image": "1" * 32}, "not here any more")
        refused(backend, wanted, {"kind": "depth"}, "Nothing here finds depth in a picture")
        if family == "stable_diffusion_xl":
            refused(backend, wanted.model_copy(update={"model": "other"}), {}, "edges is not for Other")
    finally:
        backend.close()


def refused(backend: LocalBackend, wanted: Any, update: dict[str, Any], words: str) -> None:
    control = wanted.controls[0].model_copy(update=update)
    with pytest.raises(InvalidRequest, match=words):
        backend.submit(wanted.model_copy(update={"controls": (control,)}))


def test_a_file_that_is_broken_ends_the_run_in_a_sentence(tmp_path: Path) -> None:
    folder = make_tiny_model(tmp_path / "model")
    net = make_controlnet(unet_of(folder), tmp_path / "nets" / "edges")
    (net / "diffusion_pytorch_model.safetensors").write_bytes(b"no")
    manager = PipelineManager([tiny_card(folder, id="m")], device="cpu")
    backend = LocalBackend(manager, tmp_path / "pictures", threads=1, adapter_dirs=[tmp_path / "nets"])
    try:
        image = backend.inputs.put(a_map())
        wanted = asked().model_copy(update={"model": "m", "controls": (Control(net="edges", image=image),)})
        event = list(backend.submit(wanted).events())[-1]
        assert isinstance(event, Failed) and event.message.startswith("The ControlNet edges cannot be read")
        after = list(backend.submit(asked().model_copy(update={"model": "m"})).events())[-1]
        assert isinstance(after, Finished)
    finally:
        backend.close()
