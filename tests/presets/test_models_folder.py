"""A models folder: its models are found without loading them, and nothing in it can stop the search."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path

import pytest

from pipelines.cards import ModelCard
from presets import catalogue, models_folder
from presets.catalogue import CatalogueError, card_for, load
from presets.models_folder import scan
from presets.user_models import UserModels
from tests.support import ldm_checkpoint
from tests.support.published_models import checkpoint_shapes

CARD = {"id": "x", "name": "x", "source": "x", "licence": "x", "about": "x", "qualities": {}}
LORA = {"lora_unet_a.lora_down.weight": (4, 4)}


@pytest.fixture
def models(tiny_folder: Path, tmp_path: Path) -> Path:
    """A folder with a diffusers model, a single file, and other files that such folders have."""
    root = tmp_path / "models"
    shutil.copytree(tiny_folder, root / "deep" / "deeper" / "tiny-model")
    ldm_checkpoint.write_header(root / "autumn.safetensors", dict(checkpoint_shapes("sd15")))
    for name in ("a", "b", "c"):
        (root / "Lora").mkdir(exist_ok=True)
        ldm_checkpoint.write_header(root / "Lora" / f"{name}.safetensors", LORA)
    (root / "old.ckpt").write_bytes(b"pickle")
    (root / "cut.safetensors").write_bytes(b"")
    (root / "notes.txt").write_text("mine")
    (root / ".hidden.safetensors").write_bytes(b"")
    return root


def test_models_are_found_and_other_files_are_reported(models: Path, tmp_path: Path) -> None:
    cards, problems = scan(models, cache_dir=tmp_path / "cache")
    assert [card.id for card in cards] == ["autumn", "tiny-model"]
    assert all(Path(card.source).exists() and catalogue.exists_locally(card) for card in cards)
    assert len(problems) == 3
    assert "cut.safetensors is not a sound safetensors file" in problems[0]
    assert any("3 files (a LoRA)" in problem for problem in problems)
    assert any("1 file (pickles" in problem for problem in problems)


def test_a_name_that_is_taken_is_made_distinct_without_its_path(models: Path, tmp_path: Path) -> None:
    shutil.copytree(models / "deep" / "deeper" / "tiny-model", models / "pocket")
    shutil.copytree(models / "deep" / "deeper" / "tiny-model", models / "autumn")
    cards, _ = scan(models, load(), tmp_path / "cache")
    assert {re.sub("-[0-9a-f]{8}$", "-*", card.id) for card in cards} == {
        "autumn",
        "autumn-*",
        "pocket-*",
        "tiny-model",
    }
    assert len({card.id for card in cards}) == 4
    assert len({card.source for card in cards}) == 4


def test_circular_links_do_no_harm(models: Path, tmp_path: Path) -> None:
    (models / "deep" / "again").symlink_to(models)
    (models / "loop").symlink_to(models / "loop")
    (models / "twin").symlink_to(models / "deep" / "deeper" / "tiny-model")
    cards, _ = scan(models, cache_dir=tmp_path / "cache")
    assert sorted(card.id for card in cards) in (["autumn", "tiny-model"], ["autumn", "twin"])


def test_models_in_a_hub_cache_are_found(tiny_folder: Path, tmp_path: Path) -> None:
    snapshot = tmp_path / "hub" / "models--owner--name" / "snapshots" / "0123"
    shutil.copytree(tiny_folder, snapshot)
    cards, problems = scan(tmp_path)
    assert [card.source for card in cards] == [str(snapshot)]
    assert not problems


def test_the_search_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models_folder, "MAX_ENTRIES", 30)
    monkeypatch.setattr(models_folder, "MAX_PROBLEMS", 5)
    for n in range(20):
        (tmp_path / f"{n}.safetensors").write_bytes(b"")
    _, problems = scan(tmp_path)
    assert len(problems) == 6
    assert "15 more" in problems[-1]
    for n in range(20):
        (tmp_path / f"{n}.txt").write_bytes(b"")
    cards, problems = scan(tmp_path)
    assert not cards
    assert "too many files" in problems[0]
    deep = tmp_path / "a" / Path(*("d" * (models_folder.MAX_DEPTH + 2)))
    deep.mkdir(parents=True)
    (deep / "model_index.json").write_text("{}")
    monkeypatch.setattr(models_folder, "MAX_ENTRIES", 1000)
    assert not any("model_index" in problem or str(deep) in problem for problem in scan(tmp_path / "a")[1])


@pytest.mark.skipif(os.geteuid() == 0 if hasattr(os, "geteuid") else True, reason="the owner of all can read all")
def test_an_unreadable_folder_is_reported(tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0)
    assert "cannot be read" in scan(tmp_path)[1][0]


def test_a_missing_folder_is_reported(tmp_path: Path) -> None:
    cards, problems = scan(tmp_path / "none")
    assert not cards
    assert problems == [f"The models folder {tmp_path / 'none'} is not there; make it, or name another."]


def test_a_single_file_is_named_by_its_path(models: Path, tmp_path: Path) -> None:
    path = models / "autumn.safetensors"
    card = card_for(str(path), load(), tmp_path / "cache")
    assert (card.id, card.source) == ("autumn", str(path))
    assert catalogue.is_local(card)
    assert card_for("autumn", [card]) == card
    path.unlink()
    with pytest.raises(CatalogueError, match="cannot be read"):
        card_for("autumn", [card])


def test_a_link_to_a_file_without_a_suffix_keeps_its_name(models: Path, tmp_path: Path) -> None:
    shutil.move(models / "autumn.safetensors", tmp_path / "blob")
    link = tmp_path / "linked.safetensors"
    link.symlink_to(tmp_path / "blob")
    assert card_for(str(link), (), tmp_path / "cache").source == str(link)


def test_other_files_are_refused(models: Path) -> None:
    with pytest.raises(CatalogueError, match="can run code"):
        card_for(str(models / "old.ckpt"), ())
    with pytest.raises(CatalogueError, match="is not a model"):
        card_for(str(models / "notes.txt"), ())


def test_names_that_are_no_text_are_listed_with_a_reason(tmp_path: Path, tiny_folder: Path) -> None:
    models = tmp_path / "models"
    shutil.copytree(tiny_folder, models / "good")
    shutil.copytree(tiny_folder, models / "b\udcff")
    checkpoint = models / "deep\udcfe" / "caf\udce9.safetensors"
    checkpoint.parent.mkdir()
    checkpoint.write_bytes(b"\0" * 20)
    (models / "pickle\udce9.ckpt").write_bytes(b"")
    cards, problems = scan(models)
    assert [card.id for card in cards] == ["good"]
    text = "\n".join(problems)
    assert text.encode()  # it can be printed, and sent to a browser
    assert "b\ufffd is no text in UTF-8; rename it" in text and "caf\ufffd.safetensors" in text


@pytest.mark.parametrize(
    "header",
    [
        b'{"a": ' + b"[" * 100_000,
        b'{"a": 1e999}',
        b'{"__metadata__": {"\\ud800": "\\udfff"}}',
        b'{"\xff": 1}',
        b"NaN",
        b"",
    ],
)
def test_a_hostile_file_does_not_hide_another_one(tmp_path: Path, tiny_folder: Path, header: bytes) -> None:
    shutil.copytree(tiny_folder, tmp_path / "good")
    (tmp_path / "bad.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    folder = Path(shutil.copytree(tiny_folder, tmp_path / "worse"))
    (folder / "unet" / "config.json").write_bytes(header)
    cards, problems = scan(tmp_path)
    assert "good" in [card.id for card in cards]
    assert any("bad.safetensors" in problem for problem in problems)


def edit(path: Path, **changes: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize(
    ("file", "changes"),
    [("model_index.json", {"_class_name": "StableDiffusionXLPipeline", "text_encoder": value})
     for value in (True, 5, {"a": 1}, "x", [], [None])]
    + [("model_index.json", {"_class_name": value}) for value in (["a"], {"a": 1}, 3)]
    + [("scheduler/scheduler_config.json", {"prediction_type": value}) for value in (3, ["v"], "x" * 10)]
    + [("vae/config.json", {"block_out_channels": value}) for value in (3, {"a": 1}, [[]] * 4)]
    + [("unet/config.json", {"sample_size": value}) for value in ([4, 4], 1e300, -1, True)],
)  # fmt: skip
def test_no_value_in_a_configuration_stops_the_search(
    tmp_path: Path, tiny_folder: Path, file: str, changes: dict[str, object]
) -> None:
    shutil.copytree(tiny_folder, tmp_path / "good")
    bad = Path(shutil.copytree(tiny_folder, tmp_path / "odd"))
    edit(bad / file, **changes)
    cards, problems = scan(tmp_path)
    assert "good" in [card.id for card in cards]
    assert len(cards) == 2 or (len(problems) == 1 and "odd" in problems[0] and problems[0].endswith("."))
    UserModels(tmp_path / "models.json").path.write_text(
        json.dumps({"models": [{"id": "a", "source": str(bad)}, {"id": "b", "source": str(tmp_path / "good")}]})
    )
    assert "b" in [card.id for card in UserModels(tmp_path / "models.json").cards()]


def test_any_error_of_reading_a_model_is_its_sentence(
    tmp_path: Path, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*given: object, **more: object) -> None:
        raise TypeError("unhashable type: 'dict'")

    Path(shutil.copytree(tiny_folder, tmp_path / "odd"))
    monkeypatch.setattr("presets.diffusers_folder.read_card_fields", fails)
    cards, problems = scan(tmp_path)
    assert not cards and len(problems) == 1 and "odd cannot be read" in problems[0] and "copy it again" in problems[0]


@pytest.mark.parametrize("place", ["loop", "unet/loop", "text_encoder/loop"])
def test_a_link_to_itself_in_a_model_does_no_harm(tmp_path: Path, tiny_folder: Path, place: str) -> None:
    shutil.copytree(tiny_folder, tmp_path / "good")
    link = Path(shutil.copytree(tiny_folder, tmp_path / "odd")) / place
    link.symlink_to(link.name)
    assert {card.id for card in scan(tmp_path)[0]} >= {"good"}


def test_what_is_wrong_with_a_card_is_said(tmp_path: Path, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(tiny_folder, tmp_path / "odd")
    with pytest.raises(CatalogueError, match="its name is too long"):
        catalogue._made("The model in x", lambda: ModelCard.model_validate({**CARD, "id": "x" * 600}))
    monkeypatch.setattr("presets.diffusers_folder.read_card_fields", lambda *given: {"qualities": {}, "width": "wide"})
    problem = scan(tmp_path)[1][0]
    assert "its width is wrong (Input should be a valid integer" in problem and "too long" not in problem
