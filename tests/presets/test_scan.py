"""A models folder: what is in it is found without loading, and nothing in it can stop the search."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from presets import catalogue
from presets.catalogue import CatalogueError, card_for, load, scan
from tests.presets import ldm
from tests.presets.test_single import _names

LORA = {"lora_unet_a.lora_down.weight": (4, 4)}


@pytest.fixture
def models(tiny_folder: Path, tmp_path: Path) -> Path:
    """A folder with a diffusers model, a single file, and what people keep beside them."""
    root = tmp_path / "models"
    shutil.copytree(tiny_folder, root / "deep" / "deeper" / "tiny-model")
    ldm.write_header(root / "autumn.safetensors", dict(_names("sd15")))
    for name in ("a", "b", "c"):
        (root / "Lora").mkdir(exist_ok=True)
        ldm.write_header(root / "Lora" / f"{name}.safetensors", LORA)
    (root / "old.ckpt").write_bytes(b"pickle")
    (root / "cut.safetensors").write_bytes(b"")
    (root / "notes.txt").write_text("mine")
    (root / ".hidden.safetensors").write_bytes(b"")
    return root


def test_models_are_found_and_the_rest_is_told(models: Path, tmp_path: Path) -> None:
    cards, problems = scan(models, cache_dir=tmp_path / "cache")
    assert [card.id for card in cards] == ["autumn", "tiny-model"]
    assert all(Path(card.source).exists() and catalogue.is_there(card) for card in cards)
    assert len(problems) == 3
    assert "cut.safetensors is not a sound safetensors file" in problems[0]
    assert any("3 files (a LoRA)" in problem for problem in problems)
    assert any("1 file (pickles" in problem for problem in problems)


def test_a_name_that_is_taken_becomes_a_path(models: Path, tmp_path: Path) -> None:
    shutil.copytree(models / "deep" / "deeper" / "tiny-model", models / "pocket")
    shutil.copytree(models / "deep" / "deeper" / "tiny-model", models / "autumn")
    cards, _ = scan(models, load(), tmp_path / "cache")
    assert {card.id for card in cards} == {"autumn", str(models / "autumn"), str(models / "pocket"), "tiny-model"}
    assert len({card.source for card in cards}) == 4


def test_links_that_go_in_circles_do_no_harm(models: Path, tmp_path: Path) -> None:
    (models / "deep" / "again").symlink_to(models)
    (models / "loop").symlink_to(models / "loop")
    (models / "twin").symlink_to(models / "deep" / "deeper" / "tiny-model")
    cards, _ = scan(models, cache_dir=tmp_path / "cache")
    assert sorted(card.id for card in cards) in (["autumn", "tiny-model"], ["autumn", "twin"])


def test_a_hub_cache_is_understood(tiny_folder: Path, tmp_path: Path) -> None:
    snapshot = tmp_path / "hub" / "models--owner--name" / "snapshots" / "0123"
    shutil.copytree(tiny_folder, snapshot)
    cards, problems = scan(tmp_path)
    assert [card.source for card in cards] == [str(snapshot)]
    assert not problems


def test_the_search_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalogue, "MAX_ENTRIES", 30)
    monkeypatch.setattr(catalogue, "MAX_PROBLEMS", 5)
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
    deep = tmp_path / "a" / Path(*("d" * (catalogue.MAX_DEPTH + 2)))
    deep.mkdir(parents=True)
    (deep / "model_index.json").write_text("{}")
    monkeypatch.setattr(catalogue, "MAX_ENTRIES", 1000)
    assert not any("model_index" in problem or str(deep) in problem for problem in scan(tmp_path / "a")[1])


@pytest.mark.skipif(os.geteuid() == 0 if hasattr(os, "geteuid") else True, reason="the owner of all can read all")
def test_a_folder_that_may_not_be_read_is_told(tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0)
    assert "cannot be read" in scan(tmp_path)[1][0]


def test_a_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
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
