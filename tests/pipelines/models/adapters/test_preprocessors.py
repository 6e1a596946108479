"""Maps made from pictures: edges, depth and pose."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw, ImageFilter

from benchmarks.gpu import pretend_gpu
from benchmarks.gpu.graphics_cards import PretendMachine
from pipelines.events import Finished
from pipelines.jobs.local import LocalBackend
from pipelines.models.adapters import preprocessors
from pipelines.models.adapters.preprocessors import canny, make, problem, stick_figure
from pipelines.models.manager import PipelineManager
from pipelines.request import Control, InvalidRequest, make_request
from tests.support.tiny_controlnets import make_controlnet
from tests.support.tiny_model import tiny_card


def square(low: int = 0, high: int = 255, side: int = 64) -> Image.Image:
    image = Image.new("L", (side, side), low)
    ImageDraw.Draw(image).rectangle([16, 20, 47, 43], fill=high)
    return image.convert("RGB")


def edges(image: Image.Image, **options: float) -> np.ndarray:
    return np.asarray(canny(image, **options).convert("L")) > 0


def test_the_edges_of_a_square_are_its_outline_one_pixel_wide() -> None:
    found = edges(square())
    ys, xs = np.nonzero(found)
    assert (xs.min(), xs.max()) in {(15, 47), (15, 48), (16, 47), (16, 48)}
    assert (ys.min(), ys.max()) in {(19, 43), (19, 44), (20, 43), (20, 44)}
    assert not found[24:40, 20:44].any() and not found[:14].any()
    # In the middle of each side the line is there and one pixel wide.
    assert (found[28:36, :32].sum(axis=1) == 1).all() and (found[28:36, 32:].sum(axis=1) == 1).all()
    assert (found[:32, 28:36].sum(axis=0) == 1).all() and (found[32:, 28:36].sum(axis=0) == 1).all()


def test_what_is_faint_is_no_edge_unless_it_goes_on_from_a_strong_one() -> None:
    assert not edges(square(100, 112)).any()
    # A step that fades from strong to weak: the weak half alone is nothing, joined to the strong half it counts.
    ramp = np.full((64, 64), 100, np.uint8)
    ramp[:, 32:] += np.linspace(120, 40, 64).astype(np.uint8)[:, None]
    whole = edges(Image.fromarray(ramp))
    assert whole[8:56].any(axis=1).all()
    assert not edges(Image.fromarray(ramp[48:])).any()


def test_a_flat_picture_and_noise_below_the_threshold_have_no_edges() -> None:
    assert not edges(Image.new("RGB", (40, 30), "teal")).any()
    noise = np.random.default_rng(0).normal(128, 4, (64, 64)).clip(0, 255).astype(np.uint8)
    assert not edges(Image.fromarray(noise)).any()


def test_edges_turn_with_the_picture() -> None:
    image = square().filter(ImageFilter.GaussianBlur(1))
    turned = edges(image.transpose(Image.Transpose.ROTATE_90))
    assert (turned == np.rot90(edges(image))).mean() > 0.97


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (640, 3), (37, 53)])
def test_every_size_gives_a_map_of_its_size(size: tuple[int, int]) -> None:
    found = canny(Image.new("RGB", size, "white"))
    assert found.size == size and found.mode == "RGB"


def test_a_map_stays_as_it_is() -> None:
    assert list(make("map", square(), []).getdata()) == list(square().getdata())


@pytest.mark.parametrize("kind", ["depth", "pose"])
def test_without_a_model_it_says_what_to_do(kind: str, tmp_path: Path) -> None:
    assert kind in problem(kind, [tmp_path]) and "annotators" in problem(kind, [tmp_path])
    with pytest.raises(InvalidRequest, match="give a finished map"):
        make(kind, square(), [tmp_path])
    assert problem("canny", []) == problem("map", []) == ""


@pytest.fixture(scope="module")
def depth_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from transformers import DPTConfig, DPTForDepthEstimation, DPTImageProcessor

    folder = tmp_path_factory.mktemp("annotators") / "depth"
    config = DPTConfig(
        hidden_size=16, num_hidden_layers=4, num_attention_heads=2, intermediate_size=16, image_size=32, patch_size=8,
        backbone_out_indices=[0, 1, 2, 3], neck_hidden_sizes=[4, 4, 8, 8], fusion_hidden_size=8, is_hybrid=False,
    )  # fmt: skip
    model = DPTForDepthEstimation(config)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in model.parameters():
            weight.normal_(std=0.3, generator=generator)
        model.head.head[-2].bias.fill_(20.0)  # its last layer cuts off what is below zero
    model.save_pretrained(folder)
    DPTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)
    return folder


def test_depth_is_estimated_by_a_model_on_this_machine(depth_model: Path) -> None:
    assert problem("depth", [depth_model.parent]) == "" and problem("pose", [depth_model.parent])
    found = make("depth", square(), [depth_model.parent])
    values = np.asarray(found)
    assert found.size == (64, 64) and (values.min(), values.max()) == (0, 255)
    assert (values[..., 0] == values[..., 2]).all()


@pytest.fixture(scope="module")
def pose_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from transformers import VitPoseBackboneConfig, VitPoseConfig, VitPoseForPoseEstimation, VitPoseImageProcessor

    folder = tmp_path_factory.mktemp("annotators") / "pose"
    backbone = VitPoseBackboneConfig(
        image_size=[32, 24], patch_size=[8, 8], hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
        mlp_ratio=1, num_experts=1, part_features=0, out_indices=[2],
    )  # fmt: skip
    config = VitPoseConfig(backbone_config=backbone, num_labels=17, scale_factor=4, use_simple_decoder=True)
    VitPoseForPoseEstimation(config).save_pretrained(folder)
    VitPoseImageProcessor(size={"height": 32, "width": 24}).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("kind", ["depth", "pose"])
def test_depth_and_pose_are_found_on_the_card_which_is_left_again(
    kind: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, rooms = request.getfixturevalue(f"{kind}_model"), []
    monkeypatch.setattr(preprocessors, "stick_figure", lambda joints, scores, size: np.array([*scores]))
    plain = np.asarray(make(kind, square(), [folder.parent]), float)
    with pretend_gpu.use() as gpu:
        before = gpu.allocated
        for fails in (False, True):
            if fails:
                gpu.fail("cuda", within="_answer_there")
            gpu.peak = before
            found = np.asarray(make(kind, square(), [folder.parent], pretend_gpu.NAME), float)
            rooms.append(gpu.peak - before)
            assert np.abs(found - plain).max() <= 1e-3 * np.abs(plain).max() + (kind == "depth")
            assert gpu.allocated == before
    assert rooms[0] > 10_000 and rooms[1] == 0


def test_a_run_and_a_preview_of_a_map_use_the_card(
    depth_model: Path, tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from diffusers import UNet2DConditionModel
    from transformers import DPTForDepthEstimation

    plain, devices = DPTForDepthEstimation.forward, []

    def forward(model: Any, pixel_values: Any, **more: Any) -> Any:
        devices.append(pixel_values.device.type)
        return plain(model, pixel_values, **more)

    monkeypatch.setattr(DPTForDepthEstimation, "forward", forward)
    folders = [tmp_path / "nets", depth_model.parent]
    make_controlnet(UNet2DConditionModel.from_pretrained(tiny_folder, subfolder="unet"), folders[0] / "edges")
    with pretend_gpu.use():
        manager = PipelineManager([tiny_card(tiny_folder)], machine=PretendMachine("GTX 1060"))
        backend = LocalBackend(manager, tmp_path / "pictures", threads=1, adapter_dirs=folders)
        try:
            image = backend.inputs.put(square())
            control = Control(net="edges", image=getattr(image, "id", image), kind="depth")
            backend.queries.control_map(control, 48, 48)  # no model has been loaded yet
            asked = make_request(
                model="tiny", prompt="a", width=32, height=32, scheduler="euler", num_inference_steps=1, seed=1,
                guidance_scale=1.0, controls=(control.model_dump(),),
            )  # fmt: skip
            *_, done = backend.submit(asked).events()
            backend.queries.control_map(control, 64, 64)
        finally:
            backend.close()
    assert isinstance(done, Finished), done
    assert devices == ["cpu", pretend_gpu.NAME, pretend_gpu.NAME]


def test_a_broken_model_is_one_sentence(depth_model: Path, tmp_path: Path) -> None:
    broken = tmp_path / "depth"
    broken.mkdir()
    (broken / "config.json").write_bytes((depth_model / "config.json").read_bytes())
    (broken / "model.safetensors").write_bytes(b"no")
    with pytest.raises(InvalidRequest, match="cannot be loaded") as caught:
        make("depth", square(), [tmp_path])
    assert "\n" not in str(caught.value)


def test_a_pose_is_estimated_by_a_model_on_this_machine(pose_model: Path) -> None:
    assert make("pose", square(), [pose_model.parent]).size == (64, 64)


def person() -> list[list[float]]:
    """Seventeen joints of a standing person, in a picture of 100 x 100."""
    head = [[50, 10], [52, 8], [48, 8], [54, 10], [46, 10]]
    arms = [[60, 25], [40, 25], [65, 40], [35, 40], [68, 55], [32, 55]]
    legs = [[56, 55], [44, 55], [57, 75], [43, 75], [58, 95], [42, 95]]
    return [[float(x), float(y)] for x, y in (*head, *arms, *legs)]


def test_a_stick_figure_has_its_limbs_and_leaves_out_what_is_unsure() -> None:
    figure = np.asarray(stick_figure(person(), [0.9] * 17, (100, 100))).sum(axis=2) > 0
    for x, y in ((50, 17), (62, 32), (38, 32), (57, 85), (43, 85)):  # neck, upper arms, lower legs
        assert figure[y - 3 : y + 4, x - 3 : x + 4].any(), (x, y)
    assert not figure[:, :25].any() and not figure[:, 75:].any()
    unsure = [0.9] * 15 + [0.1, 0.9]
    partly = np.asarray(stick_figure(person(), unsure, (100, 100))).sum(axis=2) > 0
    assert not partly[80:, 54:].any() and partly[80:, :46].any()
    assert not np.asarray(stick_figure(person(), [0.0] * 17, (100, 100))).any()


def test_a_limb_has_the_colour_that_pose_models_know() -> None:
    figure = np.asarray(stick_figure(person(), [0.9] * 17, (100, 100)))
    # The right shoulder's limb is red, the first of the colours (the person's right is the viewer's left).
    assert tuple(figure[25, 45]) == (255, 0, 0)
    assert len(preprocessors._LIMBS) == 17
