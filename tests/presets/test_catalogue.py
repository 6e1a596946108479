"""The catalogue: what is shipped is sound, and what a person names is understood or refused in one sentence."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from pipelines.schedulers import SCHEDULERS, why_not
from presets.catalogue import CATALOGUE, CatalogueError, card_for, is_local, load

CARDS = load()


@pytest.mark.parametrize("card", CARDS, ids=lambda card: card.id)
def test_every_shipped_card_is_sound(card) -> None:
    assert card.default_quality in card.qualities
    assert list(card.qualities) == ["draft", "balanced", "fine"]
    for quality in card.qualities.values():
        assert quality.scheduler in SCHEDULERS
        steps = quality.num_inference_steps
        assert why_not(quality.scheduler, card.prediction_type, card.terminal_snr_zero, steps) == ""
    assert card.width % card.size_factor == card.height % card.size_factor == 0
    assert card.prompts
    assert card.licence


def test_the_embedded_model_comes_first_and_its_paths_are_absolute() -> None:
    pocket = CARDS[0]
    assert pocket.id == "pocket"
    assert is_local(pocket)
    assert Path(pocket.source).parts[-2:] == ("pocket", "weights")
    assert Path(pocket.vocabulary).is_absolute()
    assert Path(pocket.recording).is_absolute()


def test_a_hub_model_of_the_catalogue_stays_a_hub_id() -> None:
    card = card_for("sd15", CARDS)
    assert card.source == "stable-diffusion-v1-5/stable-diffusion-v1-5"
    assert not is_local(card)


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
    assert card.max_tokens == 77
    assert card.width % 8 == 0


def test_a_folder_named_like_a_model_of_the_catalogue_keeps_its_own_name(tiny_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_folder, tmp_path / "pocket")
    assert card_for(str(tmp_path / "pocket"), CARDS).id == str(tmp_path / "pocket")


def _broken(folder: Path, case: str) -> Path:
    index = folder / "model_index.json"
    if case == "no index":
        index.unlink()
    elif case == "other kind":
        index.write_text(json.dumps({"_class_name": "FluxPipeline"}))
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
        ("other kind", "is a FluxPipeline, which cannot be run here"),
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


@pytest.mark.parametrize("name", ["", "nothing", "a/b/c", "../up", "/no/such/folder", "a b/c", "x" * 10_000, "\0"])
def test_what_is_no_model_is_refused(name: str) -> None:
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
