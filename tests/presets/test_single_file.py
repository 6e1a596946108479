"""Single files: what a model is, by its header alone; everything else is refused in one sentence."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipelines.hub.selection import is_hub_id
from pipelines.model import CannotLoad
from pipelines.models.components import is_local, load_components
from pipelines.system.safetensors_header import MAX_HEADER
from presets import single_file
from presets.json_files import CatalogueError
from tests.support import ldm_checkpoint
from tests.support.paired_models import CPU
from tests.support.published_models import checkpoint_shapes
from ui.form.picture_settings.reading import file_of

Shapes = dict[str, tuple[int, ...]]


@pytest.mark.parametrize("variant", ["sd15", "sd15-inpaint", "sd21", "sdxl", "sdxl-inpaint", "sdxl-refiner"])
def test_whole_models_are_recognised(variant: str, tmp_path: Path) -> None:
    path = ldm_checkpoint.write_header(tmp_path / "model.safetensors", dict(checkpoint_shapes(variant)))
    card = single_file.read_card(path, "model", tmp_path / "cache")
    xl = variant.startswith("sdxl")
    assert card.family == ("stable_diffusion_xl" if xl else "stable_diffusion")
    assert Path(card.config).name.startswith(f"{variant}-")
    assert (Path(card.config) / "model_index.json").is_file()
    assert card.source == str(path)
    assert card.width == {"sd15": 512, "sd21": 768, "sdxl": 1024}[variant.split("-")[0]]
    assert card.prediction_type == ("v_prediction" if variant == "sd21" else "epsilon")
    assert card.tasks == (("image-to-image",) if "refiner" in variant else ("text-to-image", "image-to-image"))
    assert ("taken for" in card.about) == (variant == "sd21")


@pytest.mark.parametrize(
    ("variant", "stem", "more", "notes", "found"),
    [
        ("sd21", "v2-1_512-ema-pruned", {}, {}, "sd21-base"),
        ("sd21", "v2-1_768-ema-pruned", {}, {}, "sd21"),
        ("sd21", "model-base", {}, {"modelspec.prediction_type": "v"}, "sd21"),
        ("sd21", "model", {}, {"modelspec.prediction_type": "epsilon"}, "sd21-base"),
        ("sdxl", "model", {"v_pred": ()}, {}, "sdxl-v"),
        ("sdxl", "model", {"v_pred": (), "ztsnr": ()}, {}, "sdxl-v-zsnr"),
        ("sd15", "model", {}, {"modelspec.prediction_type": "v"}, "sd15-v"),
    ],
)
def test_what_a_model_predicts(
    variant: str, stem: str, more: Shapes, notes: dict[str, str], found: str, tmp_path: Path
) -> None:
    path = ldm_checkpoint.write_header(tmp_path / f"{stem}.safetensors", dict(checkpoint_shapes(variant)) | more, notes)
    assert single_file.detect_variant(path, single_file.read_checkpoint_header(path)) == found
    card = single_file.read_card(path, "m", tmp_path / "cache")
    scheduler = json.loads((Path(card.config) / "scheduler" / "scheduler_config.json").read_text())
    assert card.prediction_type == scheduler["prediction_type"]
    assert card.terminal_snr_zero == bool(scheduler.get("rescale_betas_zero_snr"))


def test_what_the_file_says_of_itself_is_shown(tmp_path: Path) -> None:
    notes = {"modelspec.title": "Autumn", "modelspec.license": "CreativeML OpenRAIL-M"}
    path = ldm_checkpoint.write_header(tmp_path / "a.safetensors", dict(checkpoint_shapes("sd15")), notes)
    card = single_file.read_card(path, "a", tmp_path / "cache")
    assert (card.id, card.name, card.licence) == ("a", "Autumn", "CreativeML OpenRAIL-M")


@pytest.mark.parametrize(
    ("names", "kind"),
    [
        (["lora_unet_down_blocks_0_attentions_0_proj_in.lora_down.weight"], "a LoRA"),
        (["transformer.single_transformer_blocks.0.attn.to_k.lora_A.weight"], "a LoRA"),
        (["unet.down_blocks.0.attentions.0.processor.to_q_lora.up.weight"], "a LoRA"),
        (["lycoris_mid_block_attentions_0_proj_in.oft_blocks"], "a LoRA"),
        (["lycoris_mid_block_attentions_0_proj_in.hada_w1_a"], "a LoRA"),
        (["diffusion_model.input_blocks.1.1.proj_in.dora_scale"], "a LoRA"),
        (["control_model.input_blocks.0.0.weight", "model.diffusion_model.input_blocks.0.0.weight"], "a ControlNet"),
        (["controlnet_cond_embedding.conv_in.weight", "down_blocks.0.resnets.0.conv1.weight"], "a ControlNet"),
        (["image_proj.proj.weight", "ip_adapter.1.to_k_ip.weight"], "an IP-Adapter"),
        (["emb_params"], "a textual inversion"),
        (["clip_l", "clip_g"], "a textual inversion"),
        (["encoder.conv_in.weight", "decoder.conv_in.weight"], "a VAE"),
        (["first_stage_model.decoder.conv_in.weight"], "a VAE"),
        (["double_blocks.0.img_attn.norm.key_norm.scale"], "the transformer of FLUX.1"),
        (["model.diffusion_model.double_blocks.0.img_attn.norm.key_norm.scale"], "the transformer of FLUX.1"),
        (["double_blocks.0.img_attn.qkv.weight", "single_stream_modulation.lin.weight"], "the transformer of FLUX.2"),
        (["joint_blocks.0.context_block.adaLN_modulation.1.bias"], "the transformer of Stable Diffusion 3"),
        (["layers.0.adaLN_modulation.0.weight", "cap_embedder.0.weight"], "the transformer of Z-Image"),
        (["down_blocks.0.resnets.0.conv1.weight", "time_embedding.linear_1.weight"], "on its own"),
        (["text_model.embeddings.token_embedding.weight"], "a text encoder"),
        (["model.diffusion_model.input_blocks.0.0.weight"], "a UNet without its VAE"),
        (
            ["model.diffusion_model.input_blocks.0.0.weight", "first_stage_model.decoder.conv_in.weight"],
            "a UNet without its text encoder",
        ),
    ],
)
def test_what_is_no_whole_model_is_told_where_it_belongs(names: list[str], kind: str, tmp_path: Path) -> None:
    path = ldm_checkpoint.write_header(tmp_path / "x.safetensors", dict.fromkeys(names, (4, 4)))
    with pytest.raises(single_file.NotAWholeModel, match="not a whole model") as caught:
        single_file.read_card(path, "x", tmp_path)
    assert kind in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("variant", "changes", "words"),
    [
        ("sdxl", {ldm_checkpoint.UNET + "middle_block.1.transformer_blocks.9.attn2.to_k.weight": None}, "other layers"),
        ("sd15", {ldm_checkpoint.UNET + "middle_block.1.proj_in.weight": None}, "other layers"),
        ("sd15", {ldm_checkpoint.UNET + "input_blocks.0.0.weight": (320, 8, 3, 3)}, "takes 8 channels"),
        ("sd15", {ldm_checkpoint.UNET + "input_blocks.0.0.weight": ()}, "other layers"),
        ("sdxl", {"edm_mean": (1,)}, "Playground"),
    ],
)
def test_models_with_other_layers_are_refused(
    variant: str, changes: dict[str, tuple[int, ...] | None], words: str, tmp_path: Path
) -> None:
    shapes = {
        name: shape for name, shape in {**dict(checkpoint_shapes(variant)), **changes}.items() if shape is not None
    }
    path = ldm_checkpoint.write_header(tmp_path / "x.safetensors", shapes)
    with pytest.raises(CatalogueError, match=words):
        single_file.read_card(path, "x", tmp_path)


def _broken(case: str) -> bytes:
    sound = json.dumps({"a": {"dtype": "F16", "shape": [1], "data_offsets": [0, 2]}}).encode()
    entry = {
        "no shape": {"data_offsets": [0, 0]},
        "negative": {"shape": [-1], "data_offsets": [0, 0]},
        "huge": {"shape": [10**30], "data_offsets": [0, 0]},
        "true": {"shape": [True], "data_offsets": [0, 0]},
        "backwards": {"shape": [1], "data_offsets": [2, 0]},
        "not a dict": 1,
    }
    texts = {
        "a list": b"[]",
        "no tensor": b"{}",
        "not json": b"{",
        "deep": b"[" * 200_000,
        "cut short": sound,
        **{name: json.dumps({"a": found}).encode() for name, found in entry.items()},
    }
    whole = {
        "empty": b"",
        "four bytes": b"abcd",
        "length beyond the file": (10**6).to_bytes(8, "little") + b"{}",
        "length beyond all": (2**64 - 1).to_bytes(8, "little") + b"{}",
        "a pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 4\n",
        "zip": b"PK\x03\x04" + b"\0" * 100,
    }
    return whole[case] if case in whole else len(texts[case]).to_bytes(8, "little") + texts[case]


_CASES = (
    *("empty", "four bytes", "length beyond the file", "length beyond all", "a pointer", "zip", "a list", "no tensor"),
    *("not json", "deep", "cut short", "no shape", "negative", "huge", "true", "backwards", "not a dict"),
)


@pytest.mark.parametrize("case", _CASES)
def test_a_broken_file_is_refused(case: str, tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(_broken(case))
    with pytest.raises(CatalogueError, match="cut short" if case == "cut short" else "not a sound safetensors file"):
        single_file.read_checkpoint_header(path)


def test_a_header_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    with path.open("wb") as file:
        file.write((MAX_HEADER + 1).to_bytes(8, "little"))
        file.truncate(MAX_HEADER + 100)  # a sparse file: no disk is used
    with pytest.raises(CatalogueError, match="not a sound"):
        single_file.read_checkpoint_header(path)


def test_something_unknown_is_refused(tmp_path: Path) -> None:
    path = ldm_checkpoint.write_header(tmp_path / "x.safetensors", {"weight": (2, 2)})
    with pytest.raises(CatalogueError, match="a kind that is not known here"):
        single_file.read_card(path, "x", tmp_path)


@pytest.mark.parametrize("suffix", single_file.PICKLES)
def test_pickles_are_refused_unopened(suffix: str, tmp_path: Path) -> None:
    with pytest.raises(CatalogueError, match="can run code.*--to_safetensors"):
        single_file.read_card(tmp_path / f"model{suffix}", "model", tmp_path)


def test_older_names_of_the_text_encoder_are_a_whole_model(tmp_path: Path) -> None:
    shapes = {name.replace(".text_model.", "."): shape for name, shape in checkpoint_shapes("sd15")}
    path = ldm_checkpoint.write_header(tmp_path / "old.safetensors", shapes)
    assert single_file.detect_variant(path, single_file.read_checkpoint_header(path)) == "sd15"


def test_averaged_weights_alone_are_named_as_such(tmp_path: Path) -> None:
    unet = ldm_checkpoint.UNET
    shapes = {
        "model_ema.diffusion_model" + name.removeprefix(unet).replace(".", "") if name.startswith(unet) else name: shape
        for name, shape in checkpoint_shapes("sd15")
    }
    path = ldm_checkpoint.write_header(tmp_path / "ema.safetensors", shapes)
    with pytest.raises(single_file.NotAWholeModel, match=r"averaged weights alone \(EMA\)"):
        single_file.read_card(path, "ema", tmp_path / "cache")


@pytest.mark.parametrize(
    ("variant", "stem", "found"),
    [("sdxl", "noobaiXL_vPred10", "sdxl-v"), ("sd15", "Model v-prediction", "sd15-v"), ("sdxl", "vivid_preds", "sdxl")],
)
def test_a_name_alone_may_say_that_a_model_predicts_v(variant: str, stem: str, found: str, tmp_path: Path) -> None:
    path = ldm_checkpoint.write_header(tmp_path / f"{stem}.safetensors", dict(checkpoint_shapes(variant)))
    card = single_file.read_card(path, "m", tmp_path / "cache")
    assert Path(card.config).name.startswith(f"{found}-")
    assert ("By its name it is taken for a model that predicts v" in card.about) == found.endswith("-v")
    noted = ldm_checkpoint.write_header(
        tmp_path / "v-pred.safetensors", dict(checkpoint_shapes(variant)), {"modelspec.prediction_type": "epsilon"}
    )
    assert single_file.read_card(noted, "m", tmp_path / "cache").prediction_type == "epsilon"


def test_a_file_in_capitals_is_a_single_file_everywhere(tmp_path: Path) -> None:
    path = ldm_checkpoint.write_header(tmp_path / "Foo.SAFETENSORS", dict(checkpoint_shapes("sd15")))
    card = single_file.read_card(path, "Foo", tmp_path / "cache")
    assert card.is_single_file and file_of(card) == path
    assert is_local(str(path)) and not is_hub_id(str(path))
    # What is loaded is the file: its weights are missing here, and it is not taken for a folder.
    with pytest.raises(CannotLoad, match="in one safetensors file"):
        load_components(card, CPU, lambda *args: None, {}, "Stable Diffusion")
    (tmp_path / "folder.safetensors").mkdir()
    assert not card.model_copy(update={"source": str(tmp_path / "folder.safetensors")}).is_single_file
