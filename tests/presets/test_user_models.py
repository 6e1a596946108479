"""The list of models that the user added: what is on it is never lost."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from presets.catalogue import CatalogueError, load
from presets.user_models import MAX_MODELS, UserModels
from tests.support import ldm_checkpoint
from tests.support.published_models import checkpoint_shapes


@pytest.fixture(autouse=True)
def no_hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


@pytest.fixture
def user_models(tmp_path: Path) -> UserModels:
    return UserModels(tmp_path / "data" / "models.json", load(), tmp_path / "cache")


def _reopened(user_models: UserModels) -> UserModels:
    return UserModels(user_models.path, load(), user_models._cache_dir)


def test_an_empty_list_writes_no_file(user_models: UserModels) -> None:
    assert user_models.load() == ([], [])
    assert not user_models.remove("none")
    assert not user_models.path.exists()


def test_models_of_every_kind_are_kept(user_models: UserModels, tiny_folder: Path, tmp_path: Path) -> None:
    path = ldm_checkpoint.write_header(tmp_path / "autumn.safetensors", dict(checkpoint_shapes("sd15")))
    added = [user_models.add("owner/name"), user_models.add(f' "{tiny_folder}" '), user_models.add(str(path))]
    assert [card.id for card in added] == ["owner/name", tiny_folder.name, "autumn"]
    assert _reopened(user_models).load() == (added, [])
    assert user_models.remove("owner/name")
    assert _reopened(user_models).cards() == added[1:]
    assert list(user_models.path.parent.iterdir()) == [user_models.path]


@pytest.mark.parametrize(
    "text",
    ["owner/name", " owner/name\n", "https://huggingface.co/owner/name", "https://hf.co/owner/name/tree/main?x=1#y"],
)
def test_a_hub_id_may_be_the_address_of_its_page(user_models: UserModels, text: str) -> None:
    assert user_models.add(text).id == "owner/name"


@pytest.mark.parametrize(
    "text", ["", "nothing", "sd15", "pocket", "../x", "a/b/c", "https://example.com/a/b", "x" * 9999]
)
def test_what_cannot_be_added_is_explained(user_models: UserModels, text: str) -> None:
    with pytest.raises(CatalogueError) as caught:
        user_models.add(text)
    assert len(str(caught.value)) < 700
    assert "\n" not in str(caught.value)
    assert not user_models.path.exists()


def test_a_model_is_added_once(user_models: UserModels, tiny_folder: Path) -> None:
    user_models.add("owner/name")
    user_models.add(str(tiny_folder))
    for text in ("owner/name", str(tiny_folder), "stabilityai/sd-turbo"):
        with pytest.raises(CatalogueError, match="already there"):
            user_models.add(text)
    assert len(user_models.cards()) == 2


def test_guests_may_name_hub_ids_only(user_models: UserModels, tiny_folder: Path) -> None:
    with pytest.raises(CatalogueError, match="There is no model"):
        user_models.add(str(tiny_folder), files=False)
    # This is a folder of the project too; here it is a hub id.
    assert user_models.add("pocket/weights", files=False).source == "pocket/weights"


def test_a_model_whose_disk_is_unplugged_stays_on_the_list(
    user_models: UserModels, tiny_folder: Path, tmp_path: Path
) -> None:
    place = Path(shutil.copytree(tiny_folder, tmp_path / "disk" / "mine"))
    card = user_models.add(str(place))
    shutil.move(tmp_path / "disk", tmp_path / "away")
    cards, problems = user_models.load()
    assert not cards
    assert "Your model mine cannot be used" in problems[0]
    user_models.add("owner/name")
    shutil.move(tmp_path / "away", tmp_path / "disk")
    assert [card.id for card in _reopened(user_models).cards()] == [card.id, "owner/name"]


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"models": 1}', '{"models": [1]}', '{"models": [{"id": "a"}]}', "\xff\xfe", "[" * 99_999]
)
def test_a_broken_file_is_renamed_and_kept(user_models: UserModels, text: str) -> None:
    user_models.path.parent.mkdir()
    user_models.path.write_bytes(text.encode("latin-1"))
    user_models.add("owner/name")
    cards, problems = user_models.load()
    assert [card.id for card in cards] == ["owner/name"]
    kept = user_models.path.with_name("models.json.broken-1")
    assert kept.read_bytes() == text.encode("latin-1")
    assert str(kept) in problems[0]


def test_a_second_broken_file_does_not_replace_the_first(user_models: UserModels) -> None:
    user_models.path.parent.mkdir()
    for text in ("one", "two"):
        user_models.path.write_text(text)
        user_models.load()
    assert [path.read_text() for path in sorted(user_models.path.parent.iterdir())] == ["one", "two"]


def test_a_list_that_cannot_be_written_is_explained(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CatalogueError, match="cannot be (read|written)"):
        UserModels(tmp_path / "file" / "models.json").add("owner/name")
    folder = UserModels(tmp_path)
    with pytest.raises(CatalogueError, match="cannot be read"):
        folder.add("owner/name")
    assert folder.load()[0] == []


def test_the_list_is_bounded(user_models: UserModels) -> None:
    user_models.path.parent.mkdir()
    entries = [{"id": f"o/{n}", "source": f"o/{n}"} for n in range(MAX_MODELS)]
    user_models.path.write_text(json.dumps({"version": 1, "models": entries}))
    with pytest.raises(CatalogueError, match="remove one first"):
        user_models.add("one/more")


def _snapshot(hub: Path, tiny_folder: Path, name: str = "owner--name") -> Path:
    folder = hub / f"models--{name}"
    shutil.copytree(tiny_folder, folder / "snapshots" / "0123")
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text("0123")
    return folder / "snapshots" / "0123"


def test_a_downloaded_hub_model_is_read_from_its_snapshot(
    user_models: UserModels, tiny_folder: Path, no_hub_cache: Path
) -> None:
    before = user_models.add("owner/name")
    assert before.prediction_type is None
    _snapshot(no_hub_cache, tiny_folder)
    (after,) = user_models.cards()
    assert (after.id, after.source, after.prediction_type) == ("owner/name", "owner/name", "epsilon")
    assert after.width != before.width


def test_downloaded_configurations_say_what_a_hub_model_is(tmp_path: Path, tiny_folder: Path) -> None:
    asked: list[Any] = []

    def download_configs(name: str) -> Path | None:
        asked.append(name)
        return tiny_folder if name == "owner/name" else None

    user_models = UserModels(tmp_path / "models.json", load(), download_configs=download_configs)
    assert user_models.add("owner/name").prediction_type == "epsilon"
    assert user_models.add("owner/other").prediction_type is None
    assert asked == ["owner/name", "owner/other"]


def test_a_hub_repository_without_a_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    user_models = UserModels(tmp_path / "models.json", download_configs=lambda name: tmp_path / "empty")
    with pytest.raises(CatalogueError, match="not a whole model"):
        user_models.add("owner/name")


def test_an_id_of_an_earlier_version_that_is_a_path_is_no_path_any_more(
    user_models: UserModels, tiny_folder: Path
) -> None:
    user_models.path.parent.mkdir(parents=True)
    entry = {"id": str(tiny_folder), "source": str(tiny_folder)}
    user_models.path.write_text(json.dumps({"version": 1, "models": [entry]}))
    (card,), problems = user_models.load()
    assert card.id.startswith(f"{tiny_folder.name}-") and "/" not in card.id and not problems
    assert user_models.ids() == {card.id} and user_models.remove(card.id) and user_models.cards() == []


@pytest.mark.parametrize("text", ["\\ud800", "\\udcff", "\\udfff\\ud800"])
def test_entries_that_are_no_text_stand_in_no_way(user_models: UserModels, tiny_folder: Path, text: str) -> None:
    user_models.path.parent.mkdir()
    user_models.path.write_text(f'{{"models": [{{"id": "{text}", "source": "/nowhere/{text}"}}]}}')
    cards, problems = user_models.load()
    assert not cards and len(problems) == 1 and problems[0].encode()
    assert user_models.add(str(tiny_folder)).id in [card.id for card in _reopened(user_models).cards()]


@pytest.mark.parametrize("text", ['{"models": [], "x": ' + "[" * 1000 + "]" * 1000 + "}", '{"models": [], "x": 1e999}'])
def test_a_hostile_list_is_set_aside(user_models: UserModels, text: str) -> None:
    user_models.path.parent.mkdir()
    user_models.path.write_text(text)
    assert "is kept as" in user_models.load()[1][0]
