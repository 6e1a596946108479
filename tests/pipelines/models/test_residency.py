"""Which models are in memory: budgets, eviction, moves between the GPU and RAM."""

from __future__ import annotations

import copy
import threading
import weakref
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from pipelines.cards import ModelCard
from pipelines.model import CannotLoad, Placement
from pipelines.models import oom_fallback, residency
from pipelines.models.manager import PipelineManager
from pipelines.request import InvalidRequest, make_request
from pipelines.sampling.denoise import denoise
from tests.support.leaks import Growth, lasting_growth
from tests.support.tiny_model import tiny_card


def size_of_one(cards: list[ModelCard]) -> int:
    with PipelineManager(cards).lease("a") as model:
        return model.size_bytes


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
    assert manager.loaded == ("a",)  # it would be read again for every picture
    with manager.lease("b"):
        assert manager.loaded == ("b",)


def test_what_is_pinned_stays(cards: list[ModelCard]) -> None:
    manager = PipelineManager(cards, budget_bytes=2 * size_of_one(cards))
    manager.pin("a")
    for name in "abc":
        with manager.lease(name):
            pass
    assert manager.loaded == ("a", "c")
    manager.unload()
    assert manager.loaded == ("a",)
    manager.unpin("a")
    for name in "bc":
        with manager.lease(name):
            pass
    assert manager.loaded == ("b", "c")
    with pytest.raises(InvalidRequest):
        manager.pin("nope")


def test_an_unloaded_model_is_gone(cards: list[ModelCard]) -> None:
    manager = PipelineManager(cards)
    with manager.lease("a") as model:
        weight = weakref.ref(model.unet.conv_in.weight)
    del model
    manager.unload("a")
    assert weight() is None


def test_a_model_whose_fallback_fails_halfway_is_dropped(
    cards: list[ModelCard], monkeypatch: pytest.MonkeyPatch
) -> None:
    manager = PipelineManager(cards, device="cpu")

    def broken(model: Any) -> None:
        model.unet.half()
        raise torch.OutOfMemoryError("full")

    with monkeypatch.context() as patch, manager.lease("a"):
        patch.setattr(
            oom_fallback,
            "FALLBACKS",
            tuple(replace(r, apply=broken) if r.name == "half" else r for r in oom_fallback.FALLBACKS),
        )
        assert manager.apply_next_fallback("a", "decode", 1) is not None
        with pytest.raises(torch.OutOfMemoryError):
            manager.apply_next_fallback("a", "decode", 1)
    assert manager.loaded == ()
    with manager.lease("a") as model:
        assert model.unet.dtype == torch.float32 and model.placement.fallbacks == ()


class Box(torch.nn.Module):
    """A network that keeps in mind where it was sent."""

    def __init__(self, full: list[str]) -> None:
        super().__init__()
        self.at_step, self.full = "cuda", full

    def to(self, device: Any = None, **options: Any) -> Box:  # type: ignore[override]
        if device is not None:
            if device in self.full:
                raise torch.OutOfMemoryError("CUDA out of memory.")
            self.at_step = device
        return self


class BoxModel:
    size_bytes = 100
    own_loop = use_engine = None

    def __init__(self, card: ModelCard, placement: Placement, full: list[str]) -> None:
        self.card, self.placement = card, placement
        self.safety = "none"
        self.modules = {"unet": Box(full)}
        self.denoiser, self.latents = self.modules["unet"], SimpleNamespace(vae=None)
        self.modules["unet"].at_step = placement.device

    def clear_prompt_cache(self) -> None:
        pass

    def for_card(self, card: ModelCard) -> BoxModel:
        other = copy.copy(self)
        other.card = card
        return other


class Boxes:
    """A machine with a GPU on which models are boxes; ``full`` names the devices that have no room."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **options: Any) -> None:
        self.full: list[str] = []
        self.loads: list[tuple[str, Placement]] = []
        self.moved_in_parts: list[str] = []

        def load(card: ModelCard, placement: Placement, report: Any) -> BoxModel:
            self.loads.append((card.id, placement))
            if placement.device in self.full and "parts" not in placement.fallbacks:
                raise torch.OutOfMemoryError("CUDA out of memory.")
            return BoxModel(card, placement, self.full)

        def part(model: Any) -> None:
            self.moved_in_parts.append(model.card.id)
            model.modules["unet"].at_step = "parts"

        fallbacks = [
            replace(fallback, apply=part) if fallback.name == "parts" else fallback
            for fallback in oom_fallback.FALLBACKS
            if fallback.name not in ("wait", "blocks")
        ]
        monkeypatch.setattr(oom_fallback, "FALLBACKS", tuple(fallbacks))
        monkeypatch.setattr("pipelines.models.loading.loader", lambda family: load)
        monkeypatch.setattr(
            "pipelines.models.placement.resolve",
            lambda *a, **o: Placement("cuda", "float16", "sdpa", **placement_options(o)),
        )
        cards = [tiny_card("/nowhere/" + name, id=name) for name in "abcd"]
        self.manager = PipelineManager(cards, **{"budget_bytes": 250, "ram_budget_bytes": 150, **options})

    def use(self, *names: str) -> None:
        for name in names:
            with self.manager.lease(name) as model:
                assert model.modules["unet"].at_step == ("parts" if "parts" in model.placement.fallbacks else "cuda")

    @property
    def where(self) -> dict[str, str]:
        return {state.id: state.where for state in self.manager.states() if state.bytes}

    @property
    def loaded(self) -> list[str]:
        return [name for name, _ in self.loads]


def placement_options(options: dict[str, Any]) -> dict[str, Any]:
    return {name: options[name] for name in ("compile", "quantize")}


def test_models_go_from_the_gpu_to_ram_before_they_are_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    boxes = Boxes(monkeypatch)
    boxes.use("a", "b")
    assert boxes.where == {"a": "gpu", "b": "gpu"}
    boxes.use("c")
    assert boxes.where == {"a": "ram", "b": "gpu", "c": "gpu"}
    boxes.use("a")  # comes back without being loaded; the least recently used makes room
    assert boxes.where == {"a": "gpu", "b": "ram", "c": "gpu"} and boxes.loaded == ["a", "b", "c"]
    boxes.use("d")  # c is moved to RAM, where b is the older one
    assert boxes.where == {"a": "gpu", "c": "ram", "d": "gpu"}
    boxes.manager.unload()
    assert boxes.where == {}


def test_a_pinned_model_may_wait_in_ram_but_is_not_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    boxes = Boxes(monkeypatch, budget_bytes=100, ram_budget_bytes=100)
    boxes.manager.pin("a")
    boxes.use("a", "b", "c", "d")
    assert boxes.where == {"a": "ram", "d": "gpu"}
    boxes.use("a")
    assert boxes.where["a"] == "gpu" and boxes.loaded == ["a", "b", "c", "d"]


def test_a_gpu_that_is_full_is_emptied_before_the_load_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    boxes = Boxes(monkeypatch)
    boxes.use("a")
    boxes.full.append("cuda")
    plain = boxes.manager._residency.drop_idle

    def drop(where: str = "") -> bool:
        boxes.full.clear()
        return plain(where)

    monkeypatch.setattr(boxes.manager._residency, "drop_idle", drop)
    boxes.use("b")
    assert boxes.loaded == ["a", "b", "b"] and boxes.where == {"b": "gpu"}


def test_a_model_that_does_not_fit_is_loaded_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    boxes = Boxes(monkeypatch)
    boxes.full.append("cuda")
    boxes.use("a")
    assert [placement.fallbacks for _, placement in boxes.loads] == [(), ("parts",)]
    assert boxes.moved_in_parts == ["a"] and boxes.where == {"a": "ram"}
    boxes.manager.unload("a")
    boxes.use("a")  # and from the start the next time
    assert [placement.fallbacks for _, placement in boxes.loads] == [(), ("parts",), ("parts",)]


def test_a_model_that_finds_no_room_on_its_way_back_goes_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    boxes = Boxes(monkeypatch, budget_bytes=100)
    boxes.use("a", "b")
    boxes.full.append("cuda")
    boxes.use("a")
    assert boxes.moved_in_parts == ["a"] and boxes.where["a"] == "ram" and boxes.loaded == ["a", "b"]


def test_without_fallbacks_a_full_gpu_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    boxes = Boxes(monkeypatch, fallbacks=False)
    boxes.manager.pin("b")
    boxes.use("b")
    boxes.full.append("cuda")
    with pytest.raises(CannotLoad, match="not enough memory to load Tiny; let go of Tiny, which is pinned"):
        boxes.use("a")
    boxes.full.clear()
    boxes.use("a")


def test_quantized_weights_stay_on_the_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    boxes = Boxes(monkeypatch, quantize="int8", budget_bytes=100)
    boxes.use("a", "b")
    assert boxes.where == {"b": "gpu"}
    assert boxes.manager.states()[1].precision == "float16, int8"


def test_threads_that_switch_at_once_never_lease_a_model_that_is_moving(monkeypatch: pytest.MonkeyPatch) -> None:
    boxes = Boxes(monkeypatch, budget_bytes=100, ram_budget_bytes=300)
    wrong: list[BaseException] = []

    def work(seed: int) -> None:
        try:
            for k in range(8):
                boxes.use("abc"[(seed + k * (seed + 1)) % 3])
        except BaseException as error:
            wrong.append(error)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(300)
    assert wrong == [] and sorted(set(boxes.loaded)) == ["a", "b", "c"] and len(boxes.loaded) == 3


@pytest.fixture(scope="module")
def switch(cards: list[ModelCard]) -> Callable[..., None]:
    """Makes a picture with one model after the other, so many times; room is for one and a half of the three."""
    manager = PipelineManager(cards, device="cpu", budget_bytes=int(1.5 * size_of_one(cards)))
    request = make_request(
        model="a",
        prompt="a fox",
        width=32,
        height=32,
        scheduler="ddim",
        num_inference_steps=1,
        guidance_scale=2.0,
        seed=1,
    )

    def switch(times: int, after_each: Callable[[], Any] = lambda: None) -> None:
        for k in range(times):
            name = "abc"[k % 3]
            with manager.lease(name) as model, torch.inference_mode():
                (step,) = denoise(model, request.model_copy(update={"model": name}))
                model.latents.decode(step.x_next)
            assert len(manager.loaded) <= 2
            after_each()

    switch(3)  # libraries are imported, caches are filled
    return switch


# Usual is some 30 kB and no tensor; a leak of one megabyte a switch is 5 MB and 5 tensors in each half.
SWITCHES = 5
ALLOWED = Growth(bytes=2_500_000, tensors=3)


def test_switching_again_and_again_leaks_no_memory(switch: Callable[..., None]) -> None:
    growth = lasting_growth(lambda: switch(SWITCHES))
    assert growth.bytes < ALLOWED.bytes and growth.tensors < ALLOWED.tensors, growth


def test_a_leak_of_a_megabyte_a_switch_would_be_noticed(switch: Callable[..., None]) -> None:
    leaked: list[torch.Tensor] = []
    growth = lasting_growth(lambda: switch(SWITCHES, lambda: leaked.append(torch.ones(250_000))))
    assert growth.bytes > ALLOWED.bytes and growth.tensors > ALLOWED.tensors, growth


def test_memory_goes_back_to_apples_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    emptied: list[str] = []
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(torch.mps, "empty_cache", lambda: emptied.append("mps"))
    residency.release_memory()
    assert emptied == ["mps"]
