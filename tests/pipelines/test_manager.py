"""Lending, sharing and evicting models."""

from __future__ import annotations

import copy
import gc
import os
import signal
import subprocess
import sys
import threading
import weakref
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from pipelines import ladder
from pipelines.cards import Addition, ModelCard
from pipelines.denoise import denoise
from pipelines.device import NoSuchDevice, Placement
from pipelines.families import CannotLoad
from pipelines.hub import CannotFetch, Progress, Stopped
from pipelines.manager import Busy, LoadStopped, PipelineManager, State, out_of_memory
from pipelines.memory import Machine
from pipelines.request import InvalidRequest, make_request
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


# -- switching, pinning, unloading ------------------------------------------------------------------------------


def test_a_warm_switch_loads_nothing_and_opens_no_file(cards: list[ModelCard], monkeypatch: pytest.MonkeyPatch) -> None:
    from pipelines.families import stable_diffusion

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


def test_a_model_is_unloaded_by_name_unless_it_is_in_use(cards: list[ModelCard]) -> None:
    manager = PipelineManager(cards)
    manager.pin("a")
    with manager.lease("a"), manager.lease("b"):
        with pytest.raises(Busy, match="Tiny is in use; stop its pictures"):
            manager.unload("a")
        with pytest.raises(Busy):
            manager.remove_card("a")
        assert manager.loaded == ("a", "b") and "a" in manager.cards
    manager.unload("a")
    assert manager.loaded == ("b",)
    manager.unload("a")
    with pytest.raises(InvalidRequest):
        manager.unload("nope")


def test_an_unloaded_model_is_gone(cards: list[ModelCard]) -> None:
    manager = PipelineManager(cards)
    with manager.lease("a") as model:
        weight = weakref.ref(model.unet.conv_in.weight)
    del model
    manager.unload("a")
    assert weight() is None


def test_models_are_added_and_taken_away_while_it_runs(cards: list[ModelCard]) -> None:
    manager = PipelineManager(cards[:1])
    before = manager.cards
    manager.add_card(cards[1])
    assert list(manager.cards) == ["a", "b"] and list(before) == ["a"]
    with pytest.raises(TypeError):
        manager.cards["c"] = cards[2]  # type: ignore[index]
    with manager.lease("b"):
        pass
    manager.add_card(cards[1].model_copy(update={"name": "Renamed"}))
    with manager.lease("b") as model:
        assert model.card.name == "Renamed"
    manager.remove_card("b")
    manager.remove_card("b")
    assert list(manager.cards) == ["a"] and manager.loaded == ()
    with pytest.raises(InvalidRequest), manager.lease("b"):
        pass


def test_states_tell_where_each_model_is(cards: list[ModelCard], tmp_path: Path) -> None:
    away = tiny_card(tmp_path / "not" / "there", id="away")
    manager = PipelineManager([*cards, away], device="cpu", attention="xformers")
    manager.pin("b")
    with manager.lease("a") as model:
        states = {state.id: state for state in manager.states()}
        note = "xformers needs an NVIDIA GPU, so SDPA is used instead."
        assert states["a"] == State("a", "ram", model.size_bytes, False, True, "float32", "sdpa", (), note, "none")
        assert states["b"] == State("b", "disk", pinned=True, safety="none")
        assert states["away"] == State("away", "away")
        _, name = manager.lower("a", "step", 4) or (None, "")
        assert name == "one" and manager.states()[0].rungs == ("one picture at a time",)
    assert not manager.states()[0].in_use


def test_a_rung_that_breaks_on_the_way_costs_the_model(cards: list[ModelCard], monkeypatch: pytest.MonkeyPatch) -> None:
    manager = PipelineManager(cards, device="cpu")

    def broken(model: Any) -> None:
        model.unet.half()
        raise torch.OutOfMemoryError("full")

    with monkeypatch.context() as patch, manager.lease("a"):
        patch.setattr(ladder, "RUNGS", tuple(replace(r, apply=broken) if r.name == "half" else r for r in ladder.RUNGS))
        assert manager.lower("a", "decode", 1) is not None
        with pytest.raises(torch.OutOfMemoryError):
            manager.lower("a", "decode", 1)
    assert manager.loaded == ()
    with manager.lease("a") as model:
        assert model.unet.dtype == torch.float32 and model.placement.rungs == ()


@pytest.mark.parametrize(
    ("error", "found"),
    [
        (torch.OutOfMemoryError("any"), True),
        (MemoryError(), True),
        (RuntimeError("MPS backend out of memory (MPS allocated: 1 GB)"), True),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling"), True),
        (RuntimeError("shapes do not fit"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_what_counts_as_out_of_memory(error: Exception, found: bool) -> None:
    assert out_of_memory(error) is found


# -- two kinds of memory ------------------------------------------------------------------------------------------


class Box(torch.nn.Module):
    """A network that keeps in mind where it was sent."""

    def __init__(self, full: list[str]) -> None:
        super().__init__()
        self.at, self.full = "cuda", full

    def to(self, device: Any = None, **options: Any) -> Box:  # type: ignore[override]
        if device is not None:
            if device in self.full:
                raise torch.OutOfMemoryError("CUDA out of memory.")
            self.at = device
        return self


class BoxModel:
    size_bytes = 100

    def __init__(self, card: ModelCard, placement: Placement, full: list[str]) -> None:
        self.card, self.placement = card, placement
        self.safety = "none"
        self.modules = {"unet": Box(full)}
        self.denoiser, self.latents = self.modules["unet"], None
        self.modules["unet"].at = placement.device

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
            if placement.device in self.full:
                raise torch.OutOfMemoryError("CUDA out of memory.")
            return BoxModel(card, placement, self.full)

        def part(model: Any) -> None:
            self.moved_in_parts.append(model.card.id)
            model.modules["unet"].at = "parts"

        rungs = [replace(rung, apply=part) if rung.name == "parts" else rung for rung in ladder.RUNGS]
        monkeypatch.setattr(ladder, "RUNGS", tuple(rungs))
        monkeypatch.setattr("pipelines.manager.loader", lambda family: load)
        monkeypatch.setattr(
            "pipelines.manager.resolve", lambda *a, **o: Placement("cuda", "float16", "sdpa", **o_of(o))
        )
        cards = [tiny_card("/nowhere/" + name, id=name) for name in "abcd"]
        self.manager = PipelineManager(cards, **{"budget_bytes": 250, "ram_budget_bytes": 150, **options})

    def use(self, *names: str) -> None:
        for name in names:
            with self.manager.lease(name) as model:
                assert model.modules["unet"].at == ("parts" if "parts" in model.placement.rungs else "cuda")

    @property
    def where(self) -> dict[str, str]:
        return {state.id: state.where for state in self.manager.states() if state.bytes}

    @property
    def loaded(self) -> list[str]:
        return [name for name, _ in self.loads]


def o_of(options: dict[str, Any]) -> dict[str, Any]:
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
    plain = boxes.manager._drop_idle

    def drop(where: str = "") -> bool:
        boxes.full.clear()
        return plain(where)

    monkeypatch.setattr(boxes.manager, "_drop_idle", drop)
    boxes.use("b")
    assert boxes.loaded == ["a", "b", "b"] and boxes.where == {"b": "gpu"}


def test_a_model_that_does_not_fit_is_loaded_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    boxes = Boxes(monkeypatch)
    boxes.full.append("cuda")
    boxes.use("a")
    assert [placement.device for _, placement in boxes.loads] == ["cuda", "cpu"]
    assert boxes.moved_in_parts == ["a"] and boxes.where == {"a": "ram"}
    boxes.manager.unload("a")
    boxes.use("a")  # and from the start the next time
    assert [placement.device for _, placement in boxes.loads] == ["cuda", "cpu", "cpu"]


def test_a_model_that_finds_no_room_on_its_way_back_goes_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    boxes = Boxes(monkeypatch, budget_bytes=100)
    boxes.use("a", "b")
    boxes.full.append("cuda")
    boxes.use("a")
    assert boxes.moved_in_parts == ["a"] and boxes.where["a"] == "ram" and boxes.loaded == ["a", "b"]


def test_without_the_ladder_no_room_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    boxes = Boxes(monkeypatch, ladder=False)
    boxes.manager.pin("b")
    boxes.use("b")
    boxes.full.append("cuda")
    with pytest.raises(CannotLoad, match="not enough memory to load Tiny; let go of Tiny, which is pinned"):
        boxes.use("a")
    boxes.full.clear()
    boxes.use("a")


def test_quantised_weights_are_rounded_in_ram_and_not_moved_about(monkeypatch: pytest.MonkeyPatch) -> None:
    rounded: list[str] = []
    monkeypatch.setattr("pipelines.device.quantize_matrices", lambda module, kind: rounded.append(module.at + kind))
    boxes = Boxes(monkeypatch, quantize="int8", budget_bytes=100)
    boxes.use("a", "b")
    assert rounded == ["cpuint8", "cpuint8"] and boxes.where == {"b": "gpu"}
    assert boxes.manager.states()[1].precision == "float16, int8"


def test_threads_that_switch_at_once_never_meet_a_model_on_its_way(monkeypatch: pytest.MonkeyPatch) -> None:
    boxes = Boxes(monkeypatch, budget_bytes=100, ram_budget_bytes=300)
    wrong: list[BaseException] = []

    def work(seed: int) -> None:
        try:
            for k in range(60):
                boxes.use("abc"[(seed + k * (seed + 1)) % 3])
        except BaseException as error:
            wrong.append(error)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert wrong == [] and sorted(set(boxes.loaded)) == ["a", "b", "c"] and len(boxes.loaded) == 3


# -- fetching -----------------------------------------------------------------------------------------------------


class ToyHub:
    """Has a model once it was fetched."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.there, self.fetches = folder, False, 0
        self.problem: Exception | None = None

    def local(self, card: ModelCard) -> Path | None:
        return self.folder if self.there else None

    def fetch(self, card: ModelCard, progress: Any, cancelled: Any) -> Path:
        self.fetches += 1
        progress(Progress("unet", 500_000_000, 4_000_000_000, 35e6, 100.0))
        if cancelled and cancelled():
            raise Stopped
        if self.problem:
            raise self.problem
        progress(Progress("", 4_000_000_000, 4_000_000_000, 0.0, None))
        self.there = True
        return self.folder


@pytest.fixture
def far(cards: list[ModelCard]) -> tuple[PipelineManager, ToyHub]:
    hub = ToyHub(Path(cards[0].source))
    return PipelineManager([tiny_card("someone/far", id="far")], device="cpu", hub=hub), hub  # type: ignore[arg-type]


def test_a_model_on_the_hub_is_fetched_and_told(far: tuple[PipelineManager, ToyHub]) -> None:
    manager, hub = far
    told: list[tuple[str, int, int]] = []
    assert manager.states()[0].where == "away"
    with manager.lease("far", lambda *news: told.append(news)) as model:
        assert model.card.source == "someone/far"
    words = "Downloading Tiny: 0.5 GB of 4.0 GB, 35.0 MB a second, 2 minutes left"
    assert told[0] == (words, 500_000_000, 4_000_000_000)
    assert told[1][0].startswith("Downloading Tiny: 4.0 GB of 4.0 GB") and told[2] == ("tokenizer", 0, 5)
    manager.unload()
    assert manager.states()[0].where == "disk"
    with manager.lease("far"):
        pass
    assert hub.fetches == 1


def test_what_belongs_to_a_model_is_named_by_where_it_lies(cards: list[ModelCard], tmp_path: Path) -> None:
    class Keeper(ToyHub):
        def found(self, source: str, file: str = "") -> Path | None:
            return {"someone/lora": tmp_path / "cache" / file, "someone/small": tmp_path / "small"}.get(source)

    hub = Keeper(Path(cards[0].source))
    hub.there = True
    additions = [
        Addition(source="someone/lora", file="a.safetensors"),
        Addition(source="gone/lora", file="b.safetensors"),
    ]
    card = tiny_card("someone/far", id="far", preview="someone/small", additions=additions)
    manager = PipelineManager([card], device="cpu", hub=hub)  # type: ignore[arg-type]
    with manager.lease("far") as model:
        assert model.card.preview == str(tmp_path / "small")
        assert [addition.source for addition in model.card.additions] == [str(tmp_path / "cache"), "gone/lora"]
        assert model.card.source == "someone/far"


def test_a_download_can_be_stopped_and_can_fail(far: tuple[PipelineManager, ToyHub]) -> None:
    manager, hub = far
    stop = [False]

    def report(part: str, done: int, total: int) -> None:
        stop[0] = True

    with pytest.raises(LoadStopped), manager.lease("far", report, lambda: stop[0]):
        pass
    hub.problem = CannotFetch("The page must be agreed to first.")
    with pytest.raises(CannotLoad, match="agreed to first"), manager.lease("far"):
        pass
    hub.problem = None
    with manager.lease("far"):
        pass


def test_a_load_that_nobody_waits_for_ends_between_two_parts(cards: list[ModelCard]) -> None:
    manager = PipelineManager(cards, device="cpu")
    parts: list[str] = []
    with (
        pytest.raises(LoadStopped),
        manager.lease("a", lambda part, done, total: parts.append(part), lambda: len(parts) == 2),
    ):
        pass
    assert parts == ["tokenizer", "text_encoder"] and manager.loaded == ()
    with manager.lease("a"):
        pass


# -- what is told beforehand --------------------------------------------------------------------------------------


class Small(Machine):
    def ram(self) -> tuple[int, int]:
        return 1000, 1000


def test_what_can_never_fit_is_refused_before_it_is_loaded(cards: list[ModelCard]) -> None:
    manager = PipelineManager(cards, device="cpu", machine=Small())
    assert not manager.check("a").ok
    with pytest.raises(CannotLoad, match="choose a smaller model"), manager.lease("a"):
        pass


def test_speed_is_measured_and_remembered(cards: list[ModelCard], tmp_path: Path) -> None:
    manager = PipelineManager(cards, device="cpu", memory_dir=tmp_path)
    before = manager.check("a")
    assert before.ok and before.seconds is None
    with manager.lease("a") as model:
        assert before.weights == pytest.approx(model.size_bytes, rel=0.1)
    again = PipelineManager(cards, device="cpu", memory_dir=tmp_path)
    assert again.check("b").seconds is not None and again.placement is not None


# -- proofs -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def five(tmp_path_factory: pytest.TempPathFactory) -> list[ModelCard]:
    folders = [make_tiny_model(tmp_path_factory.mktemp("five"), seed=k) for k in range(5)]
    return [tiny_card(folder, id=str(k)) for k, folder in enumerate(folders)]


def test_switching_a_hundred_times_leaks_no_memory(five: list[ModelCard]) -> None:
    manager = PipelineManager(
        five, device="cpu", budget_bytes=int(2.5 * size_of_one([five[0].model_copy(update={"id": "a"})]))
    )
    request = make_request(
        model="0",
        prompt="a fox",
        width=32,
        height=32,
        scheduler="ddim",
        num_inference_steps=1,
        guidance_scale=2.0,
        seed=1,
    )

    def switch(times: int) -> None:
        for k in range(times):
            with manager.lease(str(k % 5)) as model, torch.inference_mode():
                (step,) = denoise(model, request.model_copy(update={"model": str(k % 5)}))
                model.latents.decode(step.x_next)
            assert len(manager.loaded) <= 3
        gc.collect()

    switch(15)  # libraries are imported, allocators have their pools
    process = psutil.Process()
    before, tensors = process.memory_info().rss, tensor_count()
    switch(100)
    assert process.memory_info().rss < 1.05 * before
    # What RSS is too coarse for: as many tensors live as before.
    assert tensor_count() <= tensors * 1.05


def tensor_count() -> int:
    gc.collect()
    return sum(issubclass(type(thing), torch.Tensor) for thing in gc.get_objects())


KILLED = """
import sys, time
from pathlib import Path
from pipelines.manager import PipelineManager
from tests.tiny import tiny_card

def report(part, done, total):
    if done == 3:
        print("loading", flush=True)
        time.sleep(600)

memory = Path(sys.argv[2])
manager = PipelineManager([tiny_card(sys.argv[1])], device="cpu", memory_dir=memory)
manager.ladder.remember("stable_diffusion " + sys.argv[1], manager._resolve(manager.cards["tiny"]), 4096, ["one"])
(memory / ".ladder.json.12345678.part").write_bytes(b'{"cp')  # as if it had been killed while it wrote
with manager.lease("tiny", report):
    pass
"""


def test_a_process_that_is_killed_while_it_loads_leaves_nothing_in_the_way(
    five: list[ModelCard], tmp_path: Path
) -> None:
    folder, root = five[0].source, Path(__file__).resolve().parents[2]
    files = {path: path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()}
    killed = subprocess.Popen(
        [sys.executable, "-c", KILLED, folder, str(tmp_path)], cwd=root, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    try:
        assert killed.stdout is not None and killed.stdout.readline() == b"loading\n", killed.communicate()
        os.kill(killed.pid, signal.SIGKILL)
    finally:
        killed.kill()
        killed.communicate()
    assert {path: path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()} == files
    manager = PipelineManager([tiny_card(folder)], device="cpu", memory_dir=tmp_path)
    assert manager.remembered("tiny", 4096) == ("one",)
    with manager.lease("tiny", rungs=manager.remembered("tiny", 4096)) as model:
        assert model.placement.rungs == ("one",)
    assert {path.name for path in tmp_path.glob("*.json")} == {"ladder.json", "speeds.json"}
