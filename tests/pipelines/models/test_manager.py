"""The manager: leases, the catalogue, states."""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import torch

from pipelines.cards import ModelCard
from pipelines.model import CannotLoad
from pipelines.models.manager import ModelBusy, ModelState, PipelineManager
from pipelines.models.placement import NoSuchDevice
from pipelines.request import InvalidRequest
from tests.support.tiny_model import tiny_card


def test_nothing_is_loaded_before_the_first_lease(cards: list[ModelCard]) -> None:
    manager = PipelineManager(cards, device="cpu")
    assert manager.placement is None and manager.loaded == ()
    told: list[int] = []
    with manager.lease("a", lambda part, done, total: told.append(done)) as model:
        assert model.card.id == "a"
        assert manager.placement == model.placement
        assert str(manager.placement) == "CPU"
    assert told == [0, 1, 2, 3, 4, 5] and manager.loaded == ("a",)
    with manager.lease("a", lambda part, done, total: told.append(done)) as again:
        assert again.unet is model.unet
    assert len(told) == 6


def test_cards_of_one_source_share_its_weights(cards: list[ModelCard]) -> None:
    twin = cards[0].model_copy(update={"id": "twin", "guidance_scale": 2.0})
    manager = PipelineManager([*cards, twin])
    with manager.lease("a") as one, manager.lease("twin") as two:
        assert one.unet is two.unet and (one.card.id, two.card.id) == ("a", "twin")


def test_threads_that_want_one_model_load_it_once(cards: list[ModelCard]) -> None:
    manager, loads, models = PipelineManager(cards), [], []
    barrier = threading.Barrier(4)

    def work() -> None:
        barrier.wait()
        with manager.lease("b", lambda part, done, total: loads.append(part)) as model:
            models.append(model.unet)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(models) == 4 and len(set(map(id, models))) == 1 and len(loads) == 6


def test_what_cannot_be_leased_is_refused(cards: list[ModelCard], tmp_path: Path) -> None:
    manager = PipelineManager([*cards, tiny_card(tmp_path, id="empty")])
    with pytest.raises(InvalidRequest, match="model is 'nope'; allowed: a, b, c, empty"), manager.lease("nope"):
        pass
    with pytest.raises(CannotLoad, match="The tokenizer of Tiny"), manager.lease("empty"):
        pass
    with manager.lease("a"):  # a failed load leaves the manager well
        pass
    if not torch.cuda.is_available():
        with pytest.raises(NoSuchDevice, match="no cuda device"), PipelineManager(cards, device="cuda").lease("a"):
            pass


def test_a_warm_switch_loads_nothing_and_opens_no_file(cards: list[ModelCard], monkeypatch: pytest.MonkeyPatch) -> None:
    from pipelines.models.families import stable_diffusion

    manager = PipelineManager(cards, device="cpu")
    for name in "ab":
        with manager.lease(name):
            pass
    monkeypatch.setattr(stable_diffusion, "load", lambda *args: pytest.fail("a file is read"))
    opened: list[Any] = []
    watching = [True]
    sys.addaudithook(lambda event, args: opened.append(args[0]) if watching and event == "open" else None)
    for name in "abab":
        with manager.lease(name) as model:
            assert model.card.id == name
    watching.clear()
    assert opened == []


def test_a_model_is_unloaded_by_name_unless_it_is_in_use(cards: list[ModelCard]) -> None:
    manager = PipelineManager(cards)
    manager.pin("a")
    with manager.lease("a"), manager.lease("b"):
        with pytest.raises(ModelBusy, match="Tiny is in use; stop its pictures"):
            manager.unload("a")
        with pytest.raises(ModelBusy):
            manager.remove("a")
        assert manager.loaded == ("a", "b") and "a" in manager.cards
    manager.unload("a")
    assert manager.loaded == ("b",)
    manager.unload("a")
    with pytest.raises(InvalidRequest):
        manager.unload("nope")


def test_models_are_added_and_removed_while_it_runs(cards: list[ModelCard]) -> None:
    manager = PipelineManager(cards[:1])
    before = manager.cards
    manager.catalogue.add(cards[1])
    assert list(manager.cards) == ["a", "b"] and list(before) == ["a"]
    with pytest.raises(TypeError):
        manager.cards["c"] = cards[2]  # type: ignore[index]
    with manager.lease("b"):
        pass
    manager.catalogue.add(cards[1].model_copy(update={"name": "Renamed"}))
    with manager.lease("b") as model:
        assert model.card.name == "Renamed"
    manager.remove("b")
    manager.remove("b")
    assert list(manager.cards) == ["a"] and manager.loaded == ()
    with pytest.raises(InvalidRequest), manager.lease("b"):
        pass


def test_states_say_where_each_model_is(cards: list[ModelCard], tmp_path: Path) -> None:
    away = tiny_card(tmp_path / "not" / "there", id="away")
    manager = PipelineManager([*cards, away], device="cpu", attention="xformers")
    manager.pin("b")
    with manager.lease("a") as model:
        states = {state.id: state for state in manager.states()}
        note = "xformers needs an NVIDIA GPU, so SDPA is used instead."
        assert states["a"] == ModelState("a", "ram", model.size_bytes, False, True, "float32", "sdpa", (), note, "none")
        assert states["b"] == ModelState("b", "disk", pinned=True, safety="none")
        assert states["away"] == ModelState("away", "away")
        _, name = manager.apply_next_fallback("a", "step", 4) or (None, "")
        assert name == "one" and manager.states()[0].fallbacks == ("one prompt of one picture at a time",)
    assert not manager.states()[0].in_use
