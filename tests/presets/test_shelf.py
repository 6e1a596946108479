"""The shelf of models that people added: what is on it stays on it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from presets.catalogue import CatalogueError, load
from presets.shelf import MAX_MODELS, Shelf
from tests.presets import ldm
from tests.presets.test_single import _names


@pytest.fixture(autouse=True)
def no_hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path / "data" / "models.json", load(), tmp_path / "cache")


def _again(shelf: Shelf) -> Shelf:
    return Shelf(shelf.path, load(), shelf._cache_dir)


def test_an_empty_shelf_holds_nothing_and_writes_nothing(shelf: Shelf) -> None:
    assert shelf.look() == ([], [])
    assert not shelf.remove("none")
    assert not shelf.path.exists()


def test_models_of_every_kind_are_kept(shelf: Shelf, tiny_folder: Path, tmp_path: Path) -> None:
    path = ldm.write_header(tmp_path / "autumn.safetensors", dict(_names("sd15")))
    added = [shelf.add("owner/name"), shelf.add(f' "{tiny_folder}" '), shelf.add(str(path))]
    assert [card.id for card in added] == ["owner/name", tiny_folder.name, "autumn"]
    assert _again(shelf).look() == (added, [])
    assert shelf.remove("owner/name")
    assert _again(shelf).cards() == added[1:]
    assert list(shelf.path.parent.iterdir()) == [shelf.path]


@pytest.mark.parametrize(
    "text",
    ["owner/name", " owner/name\n", "https://huggingface.co/owner/name", "https://hf.co/owner/name/tree/main?x=1#y"],
)
def test_a_hub_id_may_be_the_address_of_its_page(shelf: Shelf, text: str) -> None:
    assert shelf.add(text).id == "owner/name"


@pytest.mark.parametrize(
    "text", ["", "nothing", "sd15", "pocket", "../x", "a/b/c", "https://example.com/a/b", "x" * 9999]
)
def test_what_cannot_be_added_is_explained(shelf: Shelf, text: str) -> None:
    with pytest.raises(CatalogueError) as caught:
        shelf.add(text)
    assert len(str(caught.value)) < 700
    assert "\n" not in str(caught.value)
    assert not shelf.path.exists()


def test_a_model_is_added_once(shelf: Shelf, tiny_folder: Path) -> None:
    shelf.add("owner/name")
    shelf.add(str(tiny_folder))
    for text in ("owner/name", str(tiny_folder), "stabilityai/sd-turbo"):
        with pytest.raises(CatalogueError, match="already there"):
            shelf.add(text)
    assert len(shelf.cards()) == 2


def test_visitors_may_name_hub_ids_alone(shelf: Shelf, tiny_folder: Path) -> None:
    with pytest.raises(CatalogueError, match="There is no model"):
        shelf.add(str(tiny_folder), files=False)
    # This is a folder of the project too; it is taken for a hub id.
    assert shelf.add("pocket/weights", files=False).source == "pocket/weights"


def test_a_model_whose_disk_is_away_stays_on_the_shelf(shelf: Shelf, tiny_folder: Path, tmp_path: Path) -> None:
    place = Path(shutil.copytree(tiny_folder, tmp_path / "disk" / "mine"))
    card = shelf.add(str(place))
    shutil.move(tmp_path / "disk", tmp_path / "away")
    cards, problems = shelf.look()
    assert not cards
    assert "Your model mine cannot be used" in problems[0]
    shelf.add("owner/name")
    shutil.move(tmp_path / "away", tmp_path / "disk")
    assert [card.id for card in _again(shelf).cards()] == [card.id, "owner/name"]


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"models": 1}', '{"models": [1]}', '{"models": [{"id": "a"}]}', "\xff\xfe", "[" * 99_999]
)
def test_a_broken_list_is_kept_aside(shelf: Shelf, text: str) -> None:
    shelf.path.parent.mkdir()
    shelf.path.write_bytes(text.encode("latin-1"))
    shelf.add("owner/name")
    cards, problems = shelf.look()
    assert [card.id for card in cards] == ["owner/name"]
    kept = shelf.path.with_name("models.json.broken-1")
    assert kept.read_bytes() == text.encode("latin-1")
    assert str(kept) in problems[0]


def test_a_second_broken_list_does_not_replace_the_first(shelf: Shelf) -> None:
    shelf.path.parent.mkdir()
    for text in ("one", "two"):
        shelf.path.write_text(text)
        shelf.look()
    assert [path.read_text() for path in sorted(shelf.path.parent.iterdir())] == ["one", "two"]


def test_a_list_that_cannot_be_written_is_explained(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CatalogueError, match="cannot be (read|written)"):
        Shelf(tmp_path / "file" / "models.json").add("owner/name")
    folder = Shelf(tmp_path)
    with pytest.raises(CatalogueError, match="cannot be read"):
        folder.add("owner/name")
    assert folder.look()[0] == []


def test_the_shelf_has_an_end(shelf: Shelf) -> None:
    shelf.path.parent.mkdir()
    entries = [{"id": f"o/{n}", "source": f"o/{n}"} for n in range(MAX_MODELS)]
    shelf.path.write_text(json.dumps({"version": 1, "models": entries}))
    with pytest.raises(CatalogueError, match="remove one first"):
        shelf.add("one/more")


def _snapshot(hub: Path, tiny_folder: Path, name: str = "owner--name") -> Path:
    folder = hub / f"models--{name}"
    shutil.copytree(tiny_folder, folder / "snapshots" / "0123")
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text("0123")
    return folder / "snapshots" / "0123"


def test_a_downloaded_hub_model_says_what_it_is(shelf: Shelf, tiny_folder: Path, no_hub_cache: Path) -> None:
    before = shelf.add("owner/name")
    assert before.prediction_type is None
    _snapshot(no_hub_cache, tiny_folder)
    (after,) = shelf.cards()
    assert (after.id, after.source, after.prediction_type) == ("owner/name", "owner/name", "epsilon")
    assert after.width != before.width


def test_a_peek_says_what_a_hub_model_is(tmp_path: Path, tiny_folder: Path) -> None:
    asked: list[Any] = []

    def peek(name: str) -> Path | None:
        asked.append(name)
        return tiny_folder if name == "owner/name" else None

    shelf = Shelf(tmp_path / "models.json", load(), peek=peek)
    assert shelf.add("owner/name").prediction_type == "epsilon"
    assert shelf.add("owner/other").prediction_type is None
    assert asked == ["owner/name", "owner/other"]


def test_a_hub_repository_that_is_no_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    shelf = Shelf(tmp_path / "models.json", peek=lambda name: tmp_path / "empty")
    with pytest.raises(CatalogueError, match="not a whole model"):
        shelf.add("owner/name")
