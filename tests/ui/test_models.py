"""The Models tab without a browser: what it says of a model, what its buttons do and what they ask first."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pipelines.manager import AWAY, DISK, GPU, RAM, Busy, State
from pipelines.memory import Preflight
from presets.library import Download, Gauge, Row
from tests.tiny import tiny_card
from ui import models

CARD = tiny_card(
    Path("/models/x"), id="x", name="Ex", memory_bytes=3_000_000_000, download_bytes=2_000_000_000, prompts=("a", "b")
)


def row(where: str = DISK, **changes: Any) -> Row:
    names = {"bytes", "pinned", "in_use", "precision", "rungs", "note", "safety"} & set(changes)
    state = {name: changes.pop(name) for name in names}
    values = {"disk": 2_000_000_000, "mine": False, "from_hub": True, "download": None, "loading": "", "problem": ""}
    return Row(CARD, State("x", where, **state), **{**values, **changes})


class Shelves:
    """A library that notes what it is asked to do."""

    manages = True

    def __init__(self, fits: bool = True, ok: bool = True, refuses: Exception | None = None) -> None:
        self.cards, self.done, self.refuses = {"x": CARD}, [], refuses
        self.ahead = Preflight({}, 10, 10, 2_000_000_000, 20, 0, 0, None, ok, fits, ("It needs 3 GB.",))

    def rows(self) -> list[Row]:
        return [row()]

    def check(self, model_id: str) -> Preflight:
        return self.ahead

    def __getattr__(self, name: str) -> Any:
        def do(*given: Any) -> int:
            if self.refuses:
                raise self.refuses
            self.done.append((name, *given))
            return 2_000_000_000

        return do


@pytest.mark.parametrize(
    ("found", "names"),
    [
        (row(AWAY, disk=0), ["fetch"]),
        (row(AWAY, disk=5), ["fetch", "delete"]),
        (row(DISK), ["load", "delete"]),
        (row(DISK, from_hub=False, mine=True), ["load", "forget"]),
        (row(RAM), ["unload", "keep", "delete"]),
        (row(GPU, pinned=True, from_hub=False), ["unload", "let-go"]),
        (row(AWAY, download=Download("Downloading")), ["stop"]),
        (row(AWAY, download=Download("", problem="It is gone.")), ["fetch", "delete"]),
        (row(DISK, loading="Loading"), ["stop"]),
    ],
)
def test_the_buttons_are_those_that_can_do_something(found: Row, names: list[str]) -> None:
    assert [name for name, _ in models.buttons(found)] == names
    assert {name for name, _ in models.buttons(found)} <= set(models._DO)


def test_a_model_says_where_it_is_and_how_it_runs() -> None:
    value = models.row_value(row(GPU, bytes=4_000_000_000, in_use=True, precision="float16", rungs=("tiles",)), True)
    assert value["where"] == "In graphics memory, 4.0 GB, in use"
    assert "runs in float16" in " ".join(value["facts"]) and "to fit into memory: tiles" in value["facts"]
    assert value["prompts"] == ["a", "b"] and value["group"] == "memory"
    away = models.row_value(row(AWAY, disk=700_000_000), False)
    assert away["where"] == "0.7 GB of it are here" and away["buttons"] == [] and away["prompts"] == []
    assert not away["usable"]


def test_a_download_shows_its_share() -> None:
    value = models.row_value(row(AWAY, download=Download("Downloading Ex: half", 5, 10)), True)
    assert (value["progress"], value["share"]) == ("Downloading Ex: half", 50.0)
    assert models.row_value(row(AWAY, download=Download("Asking")), True)["share"] is None


def test_a_link_that_is_no_web_address_is_left_out() -> None:
    evil = SimpleNamespace(**{**row().__dict__, "card": CARD.model_copy(update={"link": "javascript:alert(1)"})})
    assert models.row_value(evil, True)["link"] == ""


def test_a_model_that_fits_is_loaded_without_a_question() -> None:
    shelves: Any = Shelves()
    assert models.answer(shelves, "x", "load", False) == {} and shelves.done == [("load", "x")]


def test_a_model_that_does_not_fit_is_asked_about_and_one_that_cannot_work_is_refused() -> None:
    shelves: Any = Shelves(fits=False)
    asked = models.answer(shelves, "x", "load", False)
    assert asked["sentences"] == ["It needs 3 GB."] and asked["yes"] == "Load it all the same" and not shelves.done
    assert models.answer(shelves, "x", "load", True) == {} and shelves.done
    hopeless: Any = Shelves(fits=False, ok=False)
    assert models.answer(hopeless, "x", "load", True)["yes"] == "" and not hopeless.done


def test_nothing_is_fetched_or_deleted_before_somebody_says_so() -> None:
    shelves: Any = Shelves()
    asked = models.answer(shelves, "x", "fetch", False)
    assert asked["yes"] == "Download 2.0 GB" and any("licence" in text for text in asked["sentences"])
    assert models.answer(shelves, "x", "delete", False)["yes"] == "Delete 2.0 GB" and not shelves.done
    assert models.answer(shelves, "x", "fetch", True) == {}
    assert "2.0 GB of Ex were deleted" in models.answer(shelves, "x", "delete", True)["sentences"][0]
    assert shelves.done == [("fetch", "x"), ("delete", "x")]


def test_terms_that_must_be_agreed_to_are_told_before_the_download() -> None:
    shelves: Any = Shelves()
    shelves.cards = {"x": CARD.model_copy(update={"gated": True})}
    assert any("HF_TOKEN" in text for text in models.answer(shelves, "x", "fetch", False)["sentences"])


def test_what_cannot_be_done_is_told_in_one_sentence() -> None:
    shelves: Any = Shelves(refuses=Busy("Ex is in use; wait."))
    assert models.answer(shelves, "x", "unload", False)["sentences"] == ["Ex is in use; wait."]


@pytest.mark.parametrize(("model", "do"), [("y", "load"), (None, "load"), ("x", "explode"), ("x", ["load"]), ([], {})])
def test_what_a_browser_should_not_send_does_nothing(model: Any, do: Any) -> None:
    shelves: Any = Shelves()
    assert len(models.answer(shelves, model, do, True)["sentences"]) == 1 and not shelves.done


def test_visitors_change_nothing() -> None:
    shelves: Any = Shelves()
    shelves.manages = False
    for do in models._DO:
        assert models.answer(shelves, "x", do, True)["sentences"] == [models.READ_ONLY]
    assert not shelves.done


def test_a_gauge_adds_up() -> None:
    value = models.gauge(Gauge("Memory", 10_000_000_000, 4_000_000_000, (("Ex", 1_000_000_000),)))
    assert [part["share"] for part in value["parts"]] == pytest.approx([10, 50])
    assert value["text"] == "4.0 GB of 10.0 GB are free"


@pytest.mark.parametrize(
    ("state", "words"),
    [("on", "looks at every"), ("off", "switched off"), ("missing", "nothing is checked"), ("none", "has no safety")],
)
def test_the_state_of_the_safety_checker_is_said(state: str, words: str) -> None:
    assert any(words in fact for fact in models.facts(row(safety=state)))
    assert not any("safety" in fact for fact in models.facts(row(AWAY)))
