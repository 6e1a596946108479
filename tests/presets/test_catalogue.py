"""The catalogue: its entries are sound, and what a user types becomes a card or is refused in one sentence."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from pipelines.hub.selection import is_hub_id
from pipelines.models.families import FAMILIES
from pipelines.sampling.schedulers import SCHEDULERS, incompatibility
from presets import catalogue
from presets.catalogue import CATALOGUE, CatalogueError, card_for, is_local, load

CARDS = load()


@pytest.mark.parametrize("card", CARDS, ids=lambda card: card.id)
def test_every_shipped_card_is_sound(card) -> None:
    assert card.default_quality in card.qualities
    assert list(card.qualities) == ["draft", "balanced", "fine"]
    for quality in card.qualities.values():
        assert quality.scheduler in SCHEDULERS
        steps = quality.num_inference_steps
        assert incompatibility(quality.scheduler, card.prediction_type, card.terminal_snr_zero, steps) == ""
    assert card.width % card.size_factor == card.height % card.size_factor == 0
    assert len(card.prompts) >= 2
    assert card.licence
    assert card.family in FAMILIES
    assert card.memory_bytes > 0
    assert card.half in ("float16", "bfloat16")
    assert card.tasks and set(card.tasks) <= {"text-to-image", "image-to-image"}
    assert card.about.endswith(".")


@pytest.mark.parametrize("card", [card for card in CARDS if not is_local(card)], ids=lambda card: card.id)
def test_every_model_of_the_hub_says_where_it_is_and_what_it_costs(card) -> None:
    assert card.link.startswith("https://huggingface.co/")
    assert card.source.count("/") == 1
    assert card.download_bytes > 10**9
    assert card.memory_bytes > 10**9
    assert not card.gated or "agreed to" in card.about
    assert card.preview in ("", *(f"madebyollin/{name}" for name in ("taesd", "taesdxl", "taesd3", "taef1")))


@pytest.mark.parametrize("card", CARDS, ids=lambda card: card.id)
def test_a_cards_family_fits_what_it_predicts(card) -> None:
    flow = {"stable_diffusion_3", "flux"}
    wanted = (
        {"flow_prediction"} if card.family in flow else {"own"} if card.family == "any" else {"epsilon", "v_prediction"}
    )
    assert card.prediction_type in wanted


def test_well_known_models_are_in_the_catalogue() -> None:
    names = "pocket sd15 sd21 sdxl sdxl-refiner sd-turbo sdxl-turbo lcm-dreamshaper-v7 sdxl-lightning pixart-sigma"
    assert {*names.split(), "sd35-medium", "flux-schnell", "flux-dev"} < {card.id for card in CARDS}
    (addition,) = card_for("sdxl-lightning", CARDS).additions
    assert addition.file.endswith(".safetensors")


def test_the_embedded_model_comes_first_and_its_paths_are_absolute() -> None:
    pocket = CARDS[0]
    assert pocket.id == "pocket"
    assert is_local(pocket)
    assert Path(pocket.source).parts[-2:] == ("pocket", "weights")
    assert Path(pocket.vocabulary).is_absolute()
    assert pocket.strength == 0.4
    assert Path(pocket.recording).is_absolute()


def test_a_hub_model_of_the_catalogue_stays_a_hub_id() -> None:
    card = card_for("sd15", CARDS)
    assert card.source == "stable-diffusion-v1-5/stable-diffusion-v1-5"
    assert not is_local(card)


@pytest.mark.parametrize("name", ["a/b", "0a_/b-1.5_x", "A.b-c/D", f"{'a' * 96}/{'b' * 96}"])
def test_every_name_that_a_repository_can_have_is_a_hub_id(name: str) -> None:
    assert catalogue.hub_id(name) == name and is_hub_id(name)


def test_a_hub_id_gets_a_card() -> None:
    card = card_for("someone/some-model.v2", CARDS)
    assert (card.id, card.source) == ("someone/some-model.v2",) * 2
    assert not is_local(card)


def test_a_folder_is_read(tiny_folder: Path) -> None:
    card = card_for(str(tiny_folder), CARDS)
    assert card.id == tiny_folder.name
    assert card.source == str(tiny_folder)
    assert card.prediction_type == "epsilon"
    assert card.size_factor == 8
    assert card.width % 8 == 0


def test_a_folder_named_like_a_model_of_the_catalogue_shows_no_path(tiny_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_folder, tmp_path / "pocket")
    card = card_for(str(tmp_path / "pocket"), CARDS)
    assert re.fullmatch(r"pocket-[0-9a-f]{8}", card.id) and card.source == str(tmp_path / "pocket")
    shutil.copytree(tiny_folder, tmp_path / "other" / "pocket")
    # Another path has another id, and the same path always the same.
    assert card_for(str(tmp_path / "other" / "pocket"), CARDS).id != card.id
    assert card_for(str(tmp_path / "pocket"), CARDS).id == card.id


def _model(folder: Path, kind: str, index: dict | None = None, **parts: dict) -> Path:
    """A diffusers folder of configurations alone."""
    folder.mkdir()
    (folder / "model_index.json").write_text(json.dumps({"_class_name": kind, **(index or {})}))
    for part, content in parts.items():
        (folder / part).mkdir()
        name = "scheduler_config.json" if part == "scheduler" else "config.json"
        (folder / part / name).write_text(json.dumps(content))
    return folder


_VAE = {"block_out_channels": [128, 256, 512, 512]}
_V = {"prediction_type": "v_prediction", "rescale_betas_zero_snr": True}
PIPELINES = {name for family in FAMILIES.values() for name in family.pipelines}
_BOTH = {"text_encoder": ["transformers", "CLIPTextModel"]}


@pytest.mark.parametrize(
    ("kind", "index", "parts", "fields"),
    [
        (
            "StableDiffusionXLPipeline",
            _BOTH,
            {"unet": {"sample_size": 128}, "vae": _VAE, "scheduler": _V},
            {
                "family": "stable_diffusion_xl",
                "width": 1024,
                "prediction_type": "v_prediction",
                "terminal_snr_zero": True,
            },
        ),
        (
            "StableDiffusionXLImg2ImgPipeline",
            {"text_encoder": [None, None]},
            {"unet": {"sample_size": 128}, "vae": _VAE, "scheduler": {}},
            {"family": "stable_diffusion_xl", "tasks": ("image-to-image",), "prediction_type": "epsilon"},
        ),
        (
            "LatentConsistencyModelPipeline",
            _BOTH,
            {"unet": {"sample_size": 96}, "vae": _VAE, "scheduler": {}},
            {"family": "stable_diffusion", "width": 768, "guidance_scale": 8.0},
        ),
        (
            "StableDiffusion3Pipeline",
            {},
            {"transformer": {"sample_size": 128, "patch_size": 2}, "vae": _VAE},
            {"family": "stable_diffusion_3", "width": 1024, "size_factor": 16, "prediction_type": "flow_prediction"},
        ),
        (
            "FluxPipeline",
            {},
            {"transformer": {"guidance_embeds": False}, "vae": _VAE},
            {"family": "flux", "width": 1024, "size_factor": 16, "guidance_scale": 1.0, "half": "bfloat16"},
        ),
        ("FluxPipeline", {}, {"transformer": {"guidance_embeds": True}, "vae": _VAE}, {"guidance_scale": 3.5}),
        (
            "PixArtSigmaPipeline",
            {},
            {"transformer": {"sample_size": 64}, "vae": _VAE},
            {"family": "any", "width": 512, "prediction_type": "own", "tasks": ("text-to-image",)},
        ),
        ("ZImagePipeline", {}, {"transformer": {"sample_size": [1, 2]}}, {"family": "any", "width": 1024}),
        ("SanaPipeline", {}, {}, {"family": "any", "width": 1024}),
    ],
)
def test_a_folders_kind_decides_its_family(
    tmp_path: Path, kind: str, index: dict, parts: dict, fields: dict[str, object]
) -> None:
    card = card_for(str(_model(tmp_path / "model", kind, index, **parts)), CARDS)
    assert {name: getattr(card, name) for name in fields} == fields
    assert kind in card.about
    for quality in card.qualities.values():
        steps = quality.num_inference_steps
        assert incompatibility(quality.scheduler, card.prediction_type, card.terminal_snr_zero, steps) == ""


def test_the_list_of_pipelines_is_diffusers_own() -> None:
    import diffusers
    from diffusers.pipelines import auto_pipeline

    assert all(hasattr(diffusers, name) for name in PIPELINES)
    found = {cls.__name__ for cls in auto_pipeline.AUTO_TEXT2IMAGE_PIPELINES_MAPPING.values()}
    # Those want a second picture, or make a video.
    found = {name for name in found if "Control" not in name and not name.startswith("Helios")}
    assert found <= PIPELINES


def test_the_licence_of_a_folder_is_read_from_its_readme(tiny_folder: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny_folder, tmp_path / "model"))
    for text, licence in (
        ("---\nlicense: apache-2.0\ntags: [a]\n---\n# A model", "apache-2.0"),
        ("---\nlicense: other\nlicense_name: flux-dev\n---\n", "flux-dev"),
        ("# license: mit", "see its folder"),
        ("", "see its folder"),
    ):
        (folder / "README.md").write_text(text)
        assert card_for(str(folder), CARDS).licence == licence


def _broken(folder: Path, case: str) -> Path:
    index = folder / "model_index.json"
    if case == "no index":
        index.unlink()
    elif case == "other kind":
        index.write_text(json.dumps({"_class_name": "StableVideoDiffusionPipeline"}))
    elif case == "not json":
        index.write_text("{")
    elif case == "a list":
        index.write_text("[]")
    elif case == "no unet":
        shutil.rmtree(folder / "unet")
    return folder


@pytest.mark.parametrize(
    ("case", "words"),
    [
        ("no index", "holds no model_index.json"),
        ("other kind", "is a StableVideoDiffusionPipeline, which does not make a picture from a text alone"),
        ("not json", "not valid JSON"),
        ("a list", "does not hold a configuration"),
        ("no unet", "missing or cannot be read"),
    ],
)
def test_a_folder_that_cannot_be_used_is_refused(tiny_folder: Path, tmp_path: Path, case: str, words: str) -> None:
    folder = _broken(Path(shutil.copytree(tiny_folder, tmp_path / "model")), case)
    with pytest.raises(CatalogueError, match=words) as caught:
        card_for(str(folder), CARDS)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "name",
    ["", "nothing", "a/b/c", "../up", "/no/such/folder", "a b/c", "a--b/c", "a/b.safetensors", "x" * 10_000, "\0"],
)
def test_other_texts_are_refused(name: str) -> None:
    with pytest.raises(CatalogueError, match="There is no model") as caught:
        card_for(name, CARDS)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "names no model"),
        ("[a", "not valid TOML"),
        ("a = 1", "stray entry 'a'"),
        ("[a]\nname = 'A'", "wrong at a.source"),
        ("[a]\ncolour = 1\nsource = 'x/y'\nname = 'A'\nlicence = ''\nabout = ''\nqualities = {}", "wrong at a.colour"),
    ],
)
def test_a_wrong_catalogue_is_explained(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "models.toml"
    path.write_text(text)
    with pytest.raises(CatalogueError, match=words):
        load(path)


def test_a_missing_catalogue_is_explained() -> None:
    with pytest.raises(CatalogueError, match="cannot be read"):
        load(CATALOGUE.with_name("none.toml"))


def test_a_field_of_older_catalogues_is_ignored(tmp_path: Path) -> None:
    path = tmp_path / "models.toml"
    path.write_text(CATALOGUE.read_text(encoding="utf-8").replace("[pocket]\n", "[pocket]\nmax_tokens = 32\n", 1))
    assert "max_tokens" in path.read_text() and load(path) == load()


def test_one_table_adds_a_model(tmp_path: Path) -> None:
    path = tmp_path / "models.toml"
    table = """
[dummy]
name = "Dummy"
source = "owner/dummy"
licence = "MIT"
about = "A model for this test."
qualities.balanced = { scheduler = "ddim", num_inference_steps = 20 }
"""
    path.write_text(CATALOGUE.read_text(encoding="utf-8") + table, encoding="utf-8")
    cards = load(path)
    assert cards[:-1] == load() and card_for("dummy", cards).name == "Dummy"
