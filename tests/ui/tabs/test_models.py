"""The Models tab without a browser: what it says of a model, what its buttons do and what they ask first."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pipelines.models.manager import ModelBusy, ModelState
from pipelines.models.preflight import Preflight
from pipelines.models.residency import DISK, GPU, NOT_HERE_YET, RAM
from presets.fits import FITS, PARTLY, TOO_LARGE, Fit
from presets.library import Download, MemoryGauge, ModelRow
from tests.support.tiny_model import tiny_card
from ui.tabs import models

CARD = tiny_card(
    Path("/models/x"), id="x", name="Ex", memory_bytes=3_000_000_000, download_bytes=2_000_000_000, prompts=("a", "b")
)


def row(where: str = DISK, **changes: Any) -> ModelRow:
    names = {"bytes", "pinned", "in_use", "precision", "fallbacks", "note", "safety", "homes"} & set(changes)
    state = {name: changes.pop(name) for name in names}
    values = {
        "disk": 2_000_000_000,
        "added_by_user": False,
        "from_hub": True,
        "download": None,
        "loading": "",
        "problem": "",
    }
    return ModelRow(CARD, ModelState("x", where, **state), **{**values, **changes})


class FakeLibrary:
    """A library that notes what it is asked to do."""

    manages = True

    def __init__(self, fits: bool = True, ok: bool = True, refuses: Exception | None = None) -> None:
        self.cards, self.done, self.refuses = {"x": CARD}, [], refuses
        self.preflight_result = Preflight({}, 10, 10, 2_000_000_000, 20, 0, 0, None, ok, fits, ("It needs 3 GB.",))

    def rows(self) -> list[ModelRow]:
        return [row()]

    def preflight(self, model_id: str) -> Preflight:
        return self.preflight_result

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
        (row(NOT_HERE_YET, disk=0), ["fetch"]),
        (row(NOT_HERE_YET, disk=5), ["fetch", "delete"]),
        (row(DISK), ["load", "delete"]),
        (row(DISK, from_hub=False, added_by_user=True), ["load", "forget"]),
        (row(RAM), ["unload", "keep", "delete"]),
        (row(GPU, pinned=True, from_hub=False), ["unload", "let-go"]),
        (row(NOT_HERE_YET, download=Download("Downloading")), ["stop"]),
        (row(NOT_HERE_YET, download=Download("", problem="It is gone.")), ["fetch", "delete"]),
        (row(DISK, loading="Loading"), ["stop"]),
    ],
)
def test_the_buttons_are_those_that_can_do_something(found: ModelRow, names: list[str]) -> None:
    assert [name for name, _ in models.buttons(found)] == names
    assert {name for name, _ in models.buttons(found)} <= set(models._DO)


def test_a_model_says_where_it_is_and_how_it_runs() -> None:
    value = models.row_value(
        row(GPU, bytes=4_000_000_000, in_use=True, precision="float16", fallbacks=("tiles",)), True
    )
    assert value["where"] == "In graphics memory, 4.0 GB, making a picture"
    assert "runs in float16" in " ".join(value["facts"]) and "to fit into memory: tiles" in value["facts"]
    assert value["prompts"] == ["a", "b"] and value["group"] == "fits"
    away = models.row_value(row(NOT_HERE_YET, disk=700_000_000), False)
    assert away["where"] == "0.7 GB downloaded" and away["buttons"] == [] and away["prompts"] == []
    assert not away["usable"]


def test_the_group_is_how_a_model_fits_and_the_reason_is_said() -> None:
    value = models.row_value(row(fit=Fit(TOO_LARGE, "Ex needs 40 GB.")), True)
    assert value["group"] == TOO_LARGE and "Ex needs 40 GB" in value["facts"]
    assert {name for name, _, _ in models.GROUPS} == {FITS, PARTLY, TOO_LARGE}
    assert [name for name, *_ in models.list_value(FakeLibrary())["groups"]] == [FITS, PARTLY, TOO_LARGE]


def test_a_download_shows_its_share() -> None:
    value = models.row_value(row(NOT_HERE_YET, download=Download("Downloading Ex: half", 5, 10)), True)
    assert (value["progress"], value["share"]) == ("Downloading Ex: half", 50.0)
    assert models.row_value(row(NOT_HERE_YET, download=Download("Asking")), True)["share"] is None


def test_a_link_that_is_no_web_address_is_left_out() -> None:
    evil = SimpleNamespace(**{**row().__dict__, "card": CARD.model_copy(update={"link": "javascript:alert(1)"})})
    assert models.row_value(evil, True)["link"] == ""


def test_a_model_that_fits_is_loaded_without_a_question() -> None:
    library: Any = FakeLibrary()
    assert models.perform(library, "x", "load", False) == {} and library.done == [("load", "x")]


def test_a_model_that_does_not_fit_is_asked_about_and_one_that_cannot_work_is_refused() -> None:
    library: Any = FakeLibrary(fits=False)
    asked = models.perform(library, "x", "load", False)
    assert asked["sentences"] == ["It needs 3 GB."] and asked["yes"] == "Load anyway" and not library.done
    assert models.perform(library, "x", "load", True) == {} and library.done
    hopeless: Any = FakeLibrary(fits=False, ok=False)
    assert models.perform(hopeless, "x", "load", True)["yes"] == "" and not hopeless.done


def test_nothing_is_downloaded_or_deleted_before_the_user_confirms() -> None:
    library: Any = FakeLibrary()
    asked = models.perform(library, "x", "fetch", False)
    assert asked["yes"] == "Download 2.0 GB" and any("licence" in text for text in asked["sentences"])
    assert models.perform(library, "x", "delete", False)["yes"] == "Delete 2.0 GB" and not library.done
    assert models.perform(library, "x", "fetch", True) == {}
    assert "2.0 GB of Ex were deleted" in models.perform(library, "x", "delete", True)["sentences"][0]
    assert library.done == [("download", "x"), ("delete", "x")]


def test_terms_of_a_gated_model_are_shown_before_the_download() -> None:
    library: Any = FakeLibrary()
    library.cards = {"x": CARD.model_copy(update={"gated": True})}
    assert any("HF_TOKEN" in text for text in models.perform(library, "x", "fetch", False)["sentences"])


def test_a_refused_action_is_one_sentence() -> None:
    library: Any = FakeLibrary(refuses=ModelBusy("Ex is in use; wait."))
    assert models.perform(library, "x", "unload", False)["sentences"] == ["Ex is in use; wait."]


@pytest.mark.parametrize(("model", "do"), [("y", "load"), (None, "load"), ("x", "explode"), ("x", ["load"]), ([], {})])
def test_what_a_browser_should_not_send_does_nothing(model: Any, do: Any) -> None:
    library: Any = FakeLibrary()
    assert len(models.perform(library, model, do, True)["sentences"]) == 1 and not library.done


def test_guests_change_nothing() -> None:
    library: Any = FakeLibrary()
    library.manages = False
    for do in models._DO:
        assert models.perform(library, "x", do, True)["sentences"] == [models.READ_ONLY]
    assert not library.done


def test_a_gauge_adds_up() -> None:
    value = models.gauge_value(MemoryGauge("Memory", 10_000_000_000, 4_000_000_000, (("Ex", 1_000_000_000),)))
    assert [part["share"] for part in value["parts"]] == pytest.approx([10, 50])
    assert value["text"] == "4.0 GB of 10.0 GB free"


@pytest.mark.parametrize(
    ("state", "words"),
    [("on", "checks every"), ("off", "switched off"), ("missing", "nothing is checked"), ("none", "has no safety")],
)
def test_the_state_of_the_safety_checker_is_said(state: str, words: str) -> None:
    assert any(words in fact for fact in models.facts(row(safety=state)))
    assert not any("safety" in fact for fact in models.facts(row(NOT_HERE_YET)))


def test_only_the_owner_sees_paths() -> None:
    failed = Download("", problem="The disk with /home/me/.cache/hub is full: make room.")
    found = row(DISK, from_hub=False, problem="Cannot read /models/x/unet.", note="kept in /home/me/compiled")
    for mine in (True, False):
        texts = str([models.row_value(one, mine) for one in (found, row(DISK, download=failed))])
        assert ("/home/me" in texts, "/models/x/unet" in texts, "stored at /models/x" in texts) == (mine,) * 3


def test_a_model_on_several_devices_says_so() -> None:
    assert models.where_words(row(GPU, bytes=3_000_000_000, homes=2)) == "In graphics memory, 3.0 GB on 2 devices"
    assert models.where_words(row(GPU, bytes=3_000_000_000)) == "In graphics memory, 3.0 GB"
