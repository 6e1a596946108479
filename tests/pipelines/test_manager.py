"""Lending, sharing and evicting models."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
import torch

from pipelines.cards import ModelCard
from pipelines.device import NoSuchDevice
from pipelines.families import CannotLoad
from pipelines.manager import PipelineManager
from pipelines.request import InvalidRequest
from tests.tiny import make_tiny_model, tiny_card


@pytest.fixture(scope="module")
def cards(tmp_path_factory: pytest.TempPathFactory) -> list[ModelCard]:
    torch.set_num_threads(1)
    folders = [make_tiny_model(tmp_path_factory.mktemp(name), seed=k) for k, name in enumerate("abc")]
    return [tiny_card(folder, id=name) for folder, name in zip(folders, "abc", strict=True)]


def size_of_one(cards: list[ModelCard]) -> int:
    with PipelineManager(cards).lease("a") as model:
        return model.size_bytes


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


def test_the_least_recently_used_goes_first(cards: list[ModelCard]) -> None:
    manager = PipelineManager(cards, budget_bytes=2 * size_of_one(cards))
    for name in ("a", "b", "a", "c"):
        with manager.lease(name):
            pass
    assert manager.loaded == ("a", "c")


def test_nothing_is_evicted_in_use(cards: list[ModelCard]) -> None:
    manager = PipelineManager(cards, budget_bytes=size_of_one(cards))
    with manager.lease("a"), manager.lease("b"):
        assert manager.loaded == ("a", "b")
        manager.unload()
        assert manager.loaded == ("a", "b")
    assert len(manager.loaded) == 1
    manager.unload()
    assert manager.loaded == ()


def test_a_model_larger_than_the_budget_still_runs(cards: list[ModelCard]) -> None:
    manager = PipelineManager(cards, budget_bytes=1)
    with manager.lease("a") as model:
        assert len(model.encode_prompt(["x"])) == 1
    assert manager.loaded == ()


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


def test_memory_that_runs_out_is_freed_and_the_load_tried_again(
    cards: list[ModelCard], monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipelines.families import stable_diffusion

    manager, plain, left = PipelineManager(cards), stable_diffusion.load, [1]
    with manager.lease("a"):
        pass

    def load(*args: Any) -> Any:
        if left:
            left.pop()
            raise torch.OutOfMemoryError("full")
        assert manager.loaded == ()
        return plain(*args)

    monkeypatch.setattr(stable_diffusion, "load", load)
    with manager.lease("b") as model:
        assert model.card.id == "b"


def test_what_cannot_be_lent_is_said(cards: list[ModelCard], tmp_path: Path) -> None:
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
