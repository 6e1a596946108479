"""Answers about the history: pages, marks, the bin, and what each user may see and change."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import gradio as gr
import pytest

from history.database import HistoryUnavailable
from history.store import History
from pipelines.jobs.users import OWNER
from pipelines.system.guest_bytes import NoBytesLeft
from tests.support.history_entries import GUEST, OTHER_GUEST, keep
from ui.tabs.history import answers, disk, grid
from ui.tabs.history.answers import ANSWERS, NOT_KEPT, UNKNOWN
from ui.tabs.history.transfer import Transfers


def ids_of(found: dict[str, Any]) -> list[str]:
    return [row["id"] for row in found["entries"]]


def test_pages_follow_one_another_newest_first(history: History, question) -> None:
    ids = [keep(history, seed=k) for k in range(70)][::-1]
    first = grid.page_of_entries(question())
    second = grid.page_of_entries(question(cursor=first["cursor"]))
    assert grid.count(question()) == {"total": 70, "more": False} and second["cursor"] == ""
    assert [*ids_of(first), *ids_of(second)] == ids


def test_guests_see_and_change_their_own_alone_and_the_owner_knows_which_are_theirs(history: History, question) -> None:
    mine, theirs, other = keep(history), keep(history, user=GUEST), keep(history, user=OTHER_GUEST)
    assert ids_of(grid.page_of_entries(question(GUEST))) == [theirs]
    rows = grid.page_of_entries(question())["entries"]
    assert {row["id"]: row["guest"] for row in rows} == {mine: False, theirs: True, other: True}
    assert not grid.page_of_entries(question(GUEST))["entries"][0]["guest"]
    for do in ("favourite", "tags", "delete", "restore", "empty"):
        done = ANSWERS[do](question(GUEST, ids=[mine, other], on=True, add=["x"]))["done"]
        assert not done, do
    assert ANSWERS["entry"](question(GUEST, ids=[mine])) == {"problem": "This picture is no longer here."}
    assert "problem" in ANSWERS["compare"](question(GUEST, ids=[theirs, mine]))
    asked = grid.choices(question(GUEST))
    assert asked["users"] == [] and not asked["owner"]
    assert [row[1] for row in grid.choices(question())["users"]] == ["You", "Guest 1", "Guest 2"]


def test_marks_and_the_bin(history: History, question) -> None:
    one, two = keep(history), keep(history, "a cat")
    assert ANSWERS["favourite"](question(ids=[one], on=True))["done"] == 1
    assert ANSWERS["tags"](question(ids=[one, two], add=["Pets "])) == {"done": 2, "tags": ["pets"]}
    assert ANSWERS["tags"](question(ids=[one], remove=["pets"])) == {"done": 1, "tags": []}
    assert ids_of(grid.page_of_entries(question(filters={"tag": "pets"}))) == [two]
    assert ids_of(grid.page_of_entries(question(filters={"favourite": True}))) == [one]
    assert ANSWERS["delete"](question(ids=[one])) == {"done": [one]}
    assert ids_of(grid.page_of_entries(question(filters={"bin": True}))) == [one]
    assert ANSWERS["restore"](question(ids=[one])) == {"done": [one]}
    ANSWERS["delete"](question(ids=[one, two]))
    assert ANSWERS["empty"](question(ids=[one]))["done"] == 1 and ANSWERS["empty"](question(all=True))["done"] == 1
    assert history.catalogue.find(OWNER, two) is None


def test_choices_say_what_the_page_calls_them(history: History, question) -> None:
    keep(history, model="tiny", scheduler="euler", size=(64, 48))
    found = grid.choices(question())["choices"]
    assert found["model"] == [["tiny", "Tiny", 1]] and found["scheduler"] == [["euler", "Euler", 1]]
    assert found["size"] == [["64x48", "64 \u00d7 48", 1]]
    assert found["kind"] == [["text-to-image", "Text to image", 1]]


def test_the_disk_is_the_owners(history: History, question) -> None:
    keep(history)
    found = disk.disk_use(question())
    assert found["rows"][0][0] == "1 picture" and (found["days"], found["megabytes"]) == (0, 0)
    assert disk.set_retention(question(days=30, megabytes=-4))["said"] == disk.SAVED
    assert (history.bin.retention.days, history.bin.retention.megabytes) == (30, 0)
    assert disk.disk_use(question(GUEST)) == disk.set_retention(question(GUEST, days=1)) == {"problem": disk.OWNER_ONLY}
    assert history.bin.retention.days == 30
    assert disk.set_retention(question(days="soon"))["said"] == disk.OFF


def test_an_answer_carries_its_question_and_problems_are_sentences(
    history: History, question, monkeypatch: pytest.MonkeyPatch
) -> None:
    page: Any = question().page
    assert answers.answer(page, gr.EventData(None, {"do": "page", "ask": "7"}), Transfers())["ask"] == "7"
    assert answers.answer(page, gr.EventData(None, {"do": "fly"}), Transfers()) == {"problem": UNKNOWN, "ask": ""}
    assert answers.answer(page, gr.EventData(None, None), Transfers())["problem"] == UNKNOWN
    nothing: Any = SimpleNamespace(history=None)
    assert answers.answer(nothing, gr.EventData(None, {"do": "page"}), Transfers())["problem"] == NOT_KEPT

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(history.bin, "delete", full)
    problem = answers.answer(page, gr.EventData(None, {"do": "delete", "ids": ["x"], "ask": "8"}), Transfers())
    assert "No space left" in problem["problem"] and problem["ask"] == "8"
    assert problem["next"]["label"] == "Try again"


@pytest.mark.parametrize(("problem", "offers"), [(HistoryUnavailable("Locked."), True), (NoBytesLeft("Full."), False)])
def test_what_may_succeed_a_moment_later_is_offered_again(
    history: History, question, monkeypatch: pytest.MonkeyPatch, problem: Exception, offers: bool
) -> None:
    def fails(*_: Any) -> None:
        raise problem

    monkeypatch.setattr(history, "set_favourite", fails)
    said = answers.answer(question().page, gr.EventData(None, {"do": "favourite", "ids": ["x"]}), Transfers())
    assert said["problem"] == str(problem) and ("next" in said) == offers
