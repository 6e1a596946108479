"""What the page of teaching asks and is told."""

from __future__ import annotations

import errno
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image

from pipelines.images.uploads import UploadStore
from pipelines.jobs.backend import QueryFailed
from pipelines.training.fine_tuning import checkpoints
from pipelines.training.fine_tuning.settings import read_settings
from presets.catalogue import load
from ui.tabs.teach import answers
from ui.tabs.teach.current import ONE_AT_A_TIME, CurrentTeaching

CARDS = {card.id: card for card in load()}


def event(**fields: Any) -> Any:
    return SimpleNamespace(_data=fields)


@pytest.fixture
def page(tmp_path: Path) -> Any:
    """The page of a backend whose worker refuses everything."""

    def refuse(*_: Any, **__: Any) -> None:
        raise QueryFailed("The program is closing.")

    queries = SimpleNamespace(ask=refuse)
    queries.of = lambda user: queries
    blocked = SimpleNamespace(check_text=lambda text, syntax: None)
    files = [SimpleNamespace(name="Blob")]
    adapters = SimpleNamespace(remove=lambda model: None, loras=lambda: files, embeddings=list)
    backend = SimpleNamespace(queries=queries, blocked=blocked, adapters=adapters)
    return SimpleNamespace(
        backend=backend, library=SimpleNamespace(available=lambda: list(CARDS.values())), card=CARDS.get, history=None,
        current=CurrentTeaching(tmp_path, backend), inputs=UploadStore(tmp_path / "uploads").of(None),
    )  # fmt: skip


def ask(page: Any, do: str, **fields: Any) -> dict[str, Any]:
    return answers.answer(page, page.current, event(do=do, ask="1", **fields))


@pytest.mark.parametrize("do", [*answers.ANSWERS, "nothing"])
def test_a_guest_is_told_in_one_sentence(page: Any, do: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answers, "current_user", lambda: SimpleNamespace(owner=False, guest="g"))
    assert ask(page, do) == {"problem": answers.OWNER_ONLY, "guest": True, "ask": "1"}


def test_models_are_offered_that_can_be_taught(page: Any) -> None:
    offered = [each["id"] for each in ask(page, "open")["models"]]
    assert "pocket" in offered and "sd15" in offered and "pocket-turbo" not in offered
    assert all(CARDS[name].family in answers.FAMILIES for name in offered)


def test_before_anything_is_taught_there_is_nothing_to_save(page: Any) -> None:
    assert ask(page, "report")["report"] is None and ask(page, "pause")["report"] is None
    assert ask(page, "save", step=0)["problem"] == answers.NO_RUN
    assert ask(page, "pictures", step=0)["uris"] == [] and ask(page, "recent")["entries"] == []
    assert "problem" in ask(page, "take", entry="x") and "problem" in ask(page, "read", path="/etc/passwd")
    assert "problem" in ask(page, "nothing")


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"model": "nothing"}, "model"),
        ({"model": "pocket", "word": ""}, "word"),
        ({"model": "pocket", "word": "<zorp>"}, "word"),
        ({"model": "pocket", "word": "zorp", "pictures": [{}] * 2}, "pictures"),
        ({"model": "pocket", "word": "zorp", "pictures": [{}] * 41}, "pictures"),
        ({"model": "pocket", "word": "zorp", "pictures": [{"caption": "a fox"}] * 3}, "caption"),
        ({"model": "pocket", "word": "zorp", "pictures": [{}] * 3, "setting": "a fox"}, "setting"),
        ({"model": "pocket", "word": "zorp", "pictures": [{}] * 3, "preset": "no"}, "preset"),
        ({"model": "pocket", "word": "zorp", "pictures": [{}] * 3, "changed": {"rank": 5}}, "preset"),
        ({"model": "pocket", "word": "zorp", "pictures": [{}] * 3, "changed": {"seed": 5}}, "preset"),
    ],
)
def test_what_cannot_be_taught_is_said_at_its_field(page: Any, fields: dict[str, Any], field: str) -> None:
    found = ask(page, "begin", **fields)
    assert found["field"] == field and found["problem"].endswith(".")


def test_a_training_whose_worker_refuses_says_why(page: Any) -> None:
    settings = read_settings("pocket", {"word": "zorp"}, [None] * 3)
    page.current.begin(settings, [])
    page.current._thread.join()
    found = ask(page, "report")["report"]
    assert found["state"] == "failed" and found["problem"] == "The program is closing." and found["checkpoints"] == []
    assert CurrentTeaching(page.current.data_dir, page.backend).teaching.state == "paused"


def stored(page: Any, count: int) -> list[dict[str, str]]:
    return [{"id": page.inputs.put(Image.new("RGB", (40 + k, 30), (5 * k, 90, 200)))} for k in range(count)]


def test_one_word_is_taught_at_a_time_and_another_page_is_shown_which(page: Any) -> None:
    begun = threading.Event()
    page.backend.queries.ask = lambda *_, **__: begun.wait(1)
    fields = {"model": "pocket", "word": "zorp", "pictures": stored(page, 3)}
    assert ask(page, "begin", **fields)["report"]["word"] == "zorp"
    found = ask(page, "begin", **{**fields, "word": "blip"})
    assert found["problem"] == ONE_AT_A_TIME and found["report"]["word"] == "zorp"
    assert len(list(page.current.folder.iterdir())) == 1
    assert ask(page, "stop")["report"]["state"] == "stopped"
    begun.set()
    page.current._thread.join()


def test_forty_pictures_and_what_was_chosen_are_shown_again(page: Any) -> None:
    pictures = [{**each, "caption": f"a zorp {k}"} for k, each in enumerate(stored(page, 40))]
    more = {"preset": "quick", "changed": {"rank": 8}, "licence": "CC0", "setting": "a zorp at night"}
    assert "problem" not in ask(page, "begin", model="pocket", word="zorp", pictures=pictures, **more)
    page.current._thread.join()
    again = SimpleNamespace(**{**vars(page), "current": CurrentTeaching(page.current.data_dir, page.backend)})
    told = ask(again, "open")["report"]
    assert told["asked"] == {"id": "pocket", "preset": "quick", "setting": "a zorp at night", "licence": "CC0"}
    assert told["changed"] == {"rank": 8} and told["given"] == 40 and told["state"] == "paused"
    found = ask(again, "given", number=39)
    assert found["picture"]["id"] == pictures[39]["id"] and found["caption"] == "a zorp 39"
    assert all("picture" not in ask(again, "given", number=number) for number in (40, -1, "1", True))


def test_pictures_are_upright_without_transparency(page: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answers, "uploaded_file", Path)
    turned, exif = Image.new("RGB", (31, 17), "red"), Image.Exif()
    exif[0x0112] = 6
    turned.save(tmp_path / "turned.jpg", exif=exif)
    Image.new("RGBA", (9, 200), (10, 20, 30, 0)).save(tmp_path / "clear.png")
    found = [page.inputs.get(ask(page, "read", path=str(tmp_path / name))["picture"]["id"]) for name in (
        "turned.jpg", "clear.png")]  # fmt: skip
    assert found[0].size == (17, 31) and found[1].mode == "RGB" and found[1].getpixel((4, 100)) == (255, 255, 255)
    (tmp_path / "no.png").write_bytes(b"no picture")
    assert ask(page, "read", path=str(tmp_path / "no.png"))["problem"].endswith(".")


def test_a_full_disk_leaves_no_half_run(page: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    pictures = stored(page, 3)
    monkeypatch.setattr(checkpoints, "atomic_write", full)
    found = ask(page, "begin", model="pocket", word="zorp", pictures=pictures)
    assert "No space left on device" in found["problem"] and found["problem"].count(".") == 1
    assert not list(page.current.folder.iterdir()) and page.current.teaching is None


@pytest.mark.parametrize(
    ("word", "told"),
    [("fox", "draws something for fox"), ("puppy", "draws something"), ("blob", "is here already"), ("zorp", ""),
     ("", "")],
)  # fmt: skip
def test_a_word_that_means_something_already_is_told(page: Any, word: str, told: str) -> None:
    note = ask(page, "word", word=word, model="pocket")["note"]
    assert told in note and bool(told) == bool(note)
