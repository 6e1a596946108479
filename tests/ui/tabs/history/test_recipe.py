"""The recipe of an entry, and making it again, as the page asks for them."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gradio as gr
import numpy as np
import pytest
from PIL import Image

from pipelines.images.decoding_slots import DecodingSlots
from pipelines.jobs.users import OWNER, User
from tests.support.history_entries import keep
from tests.support.recipe_runs import Workshop, workshop
from tests.support.tiny_model import make_tiny_model, tiny_card
from tests.support.waiting import wait_for
from ui.tabs.history import recipe
from ui.tabs.history.question import Question

Ask = Callable[..., Question]
GUEST = User("guest-1")


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workshop]:
    root = tmp_path_factory.mktemp("recipes")
    with workshop(root, [tiny_card(make_tiny_model(root / "model"))]) as found:
        yield found


@pytest.fixture
def ask(shop: Workshop) -> Ask:
    backend: Any = shop.backend
    page: Any = SimpleNamespace(
        history=shop.history, cards=shop.cards, card=shop.cards.get, backend=backend, inputs=backend.inputs.of(None),
        export_slot=lambda: DecodingSlots().hold(None), charge=lambda size: None,
    )  # fmt: skip
    return lambda user=OWNER, **fields: Question(page, shop.history, user, gr.EventData(None, fields))


def content(found: dict[str, Any]) -> bytes:
    assert "problem" not in found, found
    return Path(found["file"]["path"]).read_bytes()


def picture() -> Image.Image:
    few = np.random.default_rng(1).integers(0, 256, (5, 4, 3), dtype=np.uint8)
    return Image.fromarray(few).resize((32, 40))


def test_a_recipe_is_json_that_can_be_run_again(shop: Workshop, ask: Ask) -> None:
    made = shop.make("one", num_images=2, place=1)
    found = recipe.recipe_file(ask(ids=[made.entry.id], kind="json"))
    values = json.loads(content(found))
    assert found["name"] == f"{made.entry.id}.recipe.json"
    assert type(made.request).model_validate_json(json.dumps(values["request"])) == made.request
    assert (values["picture"], values["seed"]) == (1, 12)
    assert values["facts"]["libraries"]["diffusers"] and str(shop.root) not in json.dumps(values)


def test_a_script_comes_alone_or_with_the_pictures_that_it_starts_from(shop: Workshop, ask: Ask) -> None:
    plain = shop.make("plain")
    found = recipe.recipe_file(ask(ids=[plain.entry.id], kind="script"))
    assert found["name"] == f"{plain.entry.id}.py" and "DDIMScheduler" in content(found).decode()
    upload = shop.backend.inputs.put(picture())
    child = shop.make("child", init={"image": upload, "strength": 0.5})
    found = recipe.recipe_file(ask(ids=[child.entry.id], kind="script"))
    with zipfile.ZipFile(io.BytesIO(content(found))) as archive:
        assert archive.namelist() == ["picture.py", "source.png"]
        with Image.open(io.BytesIO(archive.read("source.png"))) as image:
            assert np.array_equal(np.asarray(image), np.asarray(picture()))


def test_a_source_that_is_gone_is_found_in_the_history_or_said(shop: Workshop, ask: Ask) -> None:
    parent = shop.make("parent", seed=77)
    assert parent.picture is not None
    with Image.open(parent.picture) as image:
        upload = shop.backend.inputs.put(image)
    lost = shop.backend.inputs.put(picture().rotate(180))
    child = shop.make("of-parent", init={"image": upload, "strength": 0.5})
    orphan = shop.make("orphan", init={"image": lost, "strength": 0.5})
    for name in (upload, lost):
        shop.backend.inputs.path(name).unlink()
    assert recipe.recipe_file(ask(ids=[child.entry.id], kind="script"))["name"].endswith(".zip")
    job = recipe.replay(ask(ids=[child.entry.id]))["job"]
    wait_for(lambda: not recipe.replayed(ask(job=job))["running"])
    assert recipe.replayed(ask(job=job))["same"] and shop.backend.inputs.path(upload).is_file()
    assert "not here any more" in recipe.replay(ask(ids=[orphan.entry.id]))["problem"]
    assert "no longer kept" in recipe.recipe_file(ask(ids=[orphan.entry.id], kind="script"))["problem"]


def test_guests_see_their_own_recipes_without_folders(shop: Workshop, ask: Ask) -> None:
    made = shop.make("guests", seed=5)
    question = {"ids": [made.entry.id], "kind": "script"}
    assert str(shop.root) in content(recipe.recipe_file(ask(**question))).decode()
    assert recipe.recipe_file(ask(GUEST, **question)) == {"problem": recipe.GONE}
    with shop.history.database.write() as connection:
        connection.execute("UPDATE entries SET user = ? WHERE id = ?", (GUEST.id, made.entry.id))
    text = content(recipe.recipe_file(ask(GUEST, **question))).decode()
    assert str(shop.root) not in text and 'MODEL = "model"' in text and "Write the folder of the model" in text


def test_what_cannot_be_written_is_one_sentence(shop: Workshop, ask: Ask) -> None:
    for changes, words in (
        ({"model": "other"}, "The model other is not in this program any more"),
        ({"model": "tiny", "loras": ({"name": "lost", "weight": 1.0},)}, "The LoRA lost is not on this computer"),
        ({"model": "tiny", "init": {"image": "0" * 32, "strength": 0.0}}, "given back unchanged"),
    ):
        made = keep(shop.history, **changes)
        problem = recipe.recipe_file(ask(ids=[made], kind="script"))["problem"]
        assert words in problem and problem.endswith(".") and "\n" not in problem
    assert recipe.recipe_file(ask(ids=[])) == {"problem": recipe.GONE}


def test_a_replay_is_asked_for_until_it_is_done(shop: Workshop, ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    made = shop.make("again", seed=91)
    job = recipe.replay(ask(ids=[made.entry.id]))["job"]
    wait_for(lambda: not recipe.replayed(ask(job=job))["running"])
    found = recipe.replayed(ask(job=job))
    assert found["same"] and found["text"].startswith("The same picture, pixel by pixel.")
    assert recipe.replayed(ask(GUEST, job=job)) == {"problem": recipe.UNKNOWN_REPLAY}
    assert recipe.replay(ask(ids=["nothing"])) == {"problem": recipe.GONE}
    assert recipe.stop_replay(ask(job="nothing")) == {} == recipe.stop_replay(ask(job=job))
    assert recipe.progress(None) == recipe.WAITING
