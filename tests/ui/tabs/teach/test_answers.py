"""What the page of teaching asks and is told."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pipelines.jobs.backend import QueryFailed
from pipelines.request import InvalidRequest
from pipelines.training.fine_tuning.settings import read_settings
from presets.catalogue import load
from ui.tabs.teach import answers
from ui.tabs.teach.current import CurrentTeaching

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
    backend = SimpleNamespace(queries=queries, blocked=blocked, adapters=SimpleNamespace(remove=lambda model: None))
    return SimpleNamespace(
        backend=backend, library=SimpleNamespace(available=lambda: list(CARDS.values())), card=CARDS.get, history=None,
        current=CurrentTeaching(tmp_path, backend),
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


def test_one_word_is_taught_at_a_time(page: Any) -> None:
    settings = read_settings("pocket", {"word": "zorp"}, [None] * 3)
    page.backend.queries.ask = lambda *_, **__: None
    page.current.begin(settings, [])
    with pytest.raises(InvalidRequest, match="Another word"):
        page.current.begin(settings, [])
    page.current.stop()
    page.current._thread.join()
