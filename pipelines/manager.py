"""Which models are in memory: loaded when first needed, shared, put aside or dropped least recently used first."""

from __future__ import annotations

import gc
import os
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from pipelines import ladder as rungs_of
from pipelines.cards import ModelCard
from pipelines.device import OPENVINO, TORCH, Placement, half_of, resolve, settle_in
from pipelines.events import DOWNLOADING
from pipelines.families import CannotLoad, Model, Report, loader
from pipelines.families.checking import state_of
from pipelines.ladder import LASTING, LOAD, Ladder, Undo, next_rung, ordered
from pipelines.memory import PROJECT, Machine, Notebook, Preflight, gb, preflight
from pipelines.request import InvalidRequest

if TYPE_CHECKING:
    from pipelines.hub import Hub, Plan, Progress

GPU, RAM, DISK, AWAY = "gpu", "ram", "disk", "away"
NOT_HERE = "{name} is not on this machine; fetch it in the Models tab, or choose another model."


class Busy(RuntimeError):
    """A model that is in use; the message is one plain sentence."""


class LoadStopped(Exception):
    """A download or load that nobody waits for any more."""


@dataclass(frozen=True)
class State:
    """What the Models tab shows of a model.

    Attributes:
        id: of its card.
        where: gpu, ram, disk (on this machine, not loaded) or away (to be fetched first).
        bytes: of its weights in memory; 0 if it is not loaded.
        pinned: whether it stays in memory.
        in_use: whether a job uses it now.
        precision, attention: as it was loaded, "" before.
        rungs: what was changed to make it fit, in words.
        note: wishes that could not be met.
        safety: state of its own safety checker (``pipelines.families.checking``), "" while it is away.
    """

    id: str
    where: str
    bytes: int = 0
    pinned: bool = False
    in_use: bool = False
    precision: str = ""
    attention: str = ""
    rungs: tuple[str, ...] = ()
    note: str = ""
    safety: str = ""


@dataclass
class _Entry:
    model: Model
    where: str
    bytes: int
    leases: int = 0
    used: int = 0
    undo: dict[str, Undo] = field(default_factory=dict)

    @property
    def placement(self) -> Placement:
        return self.model.placement

    @property
    def moves(self) -> bool:
        """Whether its weights can go back and forth between the GPU and RAM."""
        on_gpu = self.placement.device == "cuda"
        return on_gpu and "parts" not in self.placement.rungs and not self.placement.quantize


class PipelineManager:
    """Lends models; nothing is imported or loaded before the first lease.  Thread-safe.

    With an NVIDIA GPU, models that are not in use wait in RAM when the GPU's memory is needed, and are dropped when RAM
    is needed.  Elsewhere there is one kind of memory.

    Args:
        cards: the catalogue.
        device: auto, cpu, cuda or mps.
        attention: auto, sdpa or xformers; or these by model id, "" for those that are not named.
        budget_bytes: weights kept where models run; by default half of the machine's memory, or 80% of the GPU's.
            A model in use is never put aside, so one that is larger than the budget still runs.
        ram_budget_bytes: weights kept in RAM beside a GPU; by default half of the machine's memory.
        hub: fetches models that are not on this machine; without it a card's source is read as it stands.
        fetches: ids of the models that a lease may fetch; None for all.
        memory_dir: where measured speeds and needed rungs are remembered, or None for until the program ends.
        ladder: whether a run that needs too much memory is tried again in a way that needs less.
        compile, quantize, checks: see ``pipelines.device.Placement``.
        engine: auto, torch or openvino.
        engine_dir: where networks that were converted for OpenVINO are kept, or None to convert them at each load.
        machine: what is asked about this machine.
    """

    def __init__(
        self,
        cards: Iterable[ModelCard],
        device: str = "auto",
        attention: str | Mapping[str, str] = "auto",
        budget_bytes: int | None = None,
        *,
        ram_budget_bytes: int | None = None,
        hub: Hub | None = None,
        fetches: Collection[str] | None = None,
        memory_dir: Path | None = None,
        ladder: bool = True,
        compile: bool = False,
        quantize: str = "",
        checks: bool = True,
        engine: str = TORCH,
        engine_dir: Path | None = None,
        machine: Machine | None = None,
    ) -> None:
        self._cards = {card.id: card for card in cards}
        self._device = device
        self._attention = {"": attention} if isinstance(attention, str) else dict(attention)
        self._extras = {"compile": compile, "quantize": quantize, "checks": checks, "engine": engine}
        self._engine_dir = engine_dir
        self._budget, self._ram_budget = budget_bytes, ram_budget_bytes
        self._hub, self._fetches = hub, fetches
        self.machine = machine or Machine()
        self.ladder = Ladder(memory_dir, self.machine, ladder)
        self._speeds = Notebook(memory_dir / "speeds.json" if memory_dir else None)
        self._placement: Placement | None = None
        self._placements: dict[tuple[str, ...], Placement] = {}
        self._entries: dict[tuple[str, str], _Entry] = {}
        self._pinned: set[str] = set()
        self._located_cards: dict[str, tuple[ModelCard, ModelCard]] = {}
        self._clock = 0
        self._lock = threading.Lock()  # guards the entries; held for moments
        self._moving = threading.RLock()  # one load or move at a time; held for seconds

    # -- the catalogue -----------------------------------------------------------------------------------------

    @property
    def cards(self) -> Mapping[str, ModelCard]:
        """The catalogue by id, as it is now."""
        return MappingProxyType(self._cards)

    def add_card(self, card: ModelCard) -> None:
        """Add a model, or put another card in the place of one with the same id."""
        with self._lock:
            self._cards = {**self._cards, card.id: card}

    def replace_card(self, card: ModelCard) -> None:
        """Put a card in the place of one with the same id; a model that was taken off the list does not come back."""
        with self._lock:
            if card.id in self._cards:
                self._cards = {**self._cards, card.id: card}

    def remove_card(self, model_id: str) -> None:
        """Take a model out of the catalogue and out of memory; its files stay.  Raises Busy while it is in use."""
        if model_id in self._cards:
            self.unload(model_id)
            with self._lock:
                self._cards = {name: card for name, card in self._cards.items() if name != model_id}

    # -- what is where -----------------------------------------------------------------------------------------

    @property
    def placement(self) -> Placement | None:
        """Where models run; None until the first lease has looked at the machine."""
        return self._placement

    @property
    def loaded(self) -> tuple[str, ...]:
        """Ids of the cards whose model is in memory."""
        with self._lock:
            return tuple(card.id for card in self._cards.values() if _key(card) in self._entries)

    def states(self) -> tuple[State, ...]:
        """Every model of the catalogue and where it is; looks at the disk."""
        with self._lock:
            found = [(card, self._entries.get(_key(card)), card.id in self._pinned) for card in self._cards.values()]
            known = {card.id: _state(card, entry, pinned) for card, entry, pinned in found if entry is not None}
        away = {card.id: self._unloaded(card, pinned) for card, entry, pinned in found if entry is None}
        return tuple(known.get(card.id) or away[card.id] for card, *_ in found)

    def _unloaded(self, card: ModelCard, pinned: bool) -> State:
        folder = self._here(card)
        safety = state_of(folder, self._extras["checks"]) if folder else ""
        return State(card.id, DISK if folder else AWAY, pinned=pinned, safety=safety)

    def check(self, model_id: str, plan: Plan | None = None, size: tuple[int, int] | None = None) -> Preflight:
        """What using a model takes, before anything is fetched or loaded.

        Args:
            model_id: id of a card.
            plan: what a download would fetch (``Hub.plan``), for a model that is not here.
            size: width and height of a picture; the card's own by default.

        Raises:
            InvalidRequest: if no card has this id.
            NoSuchDevice: if the device that was asked for is not there.
        """
        card = self._card(model_id)
        return self._check(card, self._resolve(card), self._here(card), plan, size)

    def pin(self, model_id: str) -> None:
        """Keep a model in memory, from when it is next loaded if it is not."""
        self._card(model_id)
        with self._lock:
            self._pinned.add(model_id)

    def unpin(self, model_id: str) -> None:
        """Let a model be dropped again when memory is needed."""
        with self._lock:
            self._pinned.discard(model_id)
        self._evict()

    def unload(self, model_id: str | None = None) -> None:
        """Drop a model, pinned or not; without an id every model that is neither in use nor pinned.

        Raises:
            Busy: if the model is in use.
            InvalidRequest: if no card has this id.
        """
        if model_id is None:
            self._drop_idle()
            return
        card = self._card(model_id)
        with self._lock:
            entry = self._entries.get(_key(card))
            if entry is not None and entry.leases:
                raise Busy(f"{card.name} is in use; stop its pictures or wait for them, then unload it.")
            self._pinned.discard(model_id)
            self._entries.pop(_key(card), None)
        del entry
        release_memory()

    # -- lending -----------------------------------------------------------------------------------------------

    @contextmanager
    def lease(
        self,
        model_id: str,
        report: Report | None = None,
        cancelled: Callable[[], bool] | None = None,
        rungs: Sequence[str] | None = None,
    ) -> Iterator[Model]:
        """Lend a model, fetching and loading it if need be; it stays in memory until it is given back.

        Args:
            model_id: id of a card.
            report: told part, done and total while a model loads; while it is fetched, a sentence and bytes.
            cancelled: asked while it is fetched, and between two parts while it loads.
            rungs: names of ``pipelines.ladder`` to stand on; None for as it is.

        Raises:
            InvalidRequest: if no card has this id.
            CannotLoad: if the model cannot be fetched or loaded.
            LoadStopped: if ``cancelled`` said so.
            NoSuchDevice: if the device that was asked for is not there.
        """
        card = self._card(model_id)
        entry = self._take(card)
        if entry is None:
            tell = _teller(report, cancelled)
            folder = self._fetched(card, report, cancelled)
            with self._moving:
                entry = self._take(card) or self._load(card, folder, tell, rungs or ())
        try:
            self._bring(entry)
            if rungs is not None:
                self._fit(entry, rungs)
            yield rungs_of.lent(entry.model.for_card(self._located(card)))
        finally:
            with self._lock:
                entry.leases -= 1
            self._evict()

    def lower(self, model_id: str, stage: str, rows: int) -> tuple[Model, str] | None:
        """Take the next rung of the ladder with a model that is on loan, after memory has run out.

        Args:
            model_id: id of its card.
            stage: one of ``pipelines.ladder``'s START, STEP and DECODE.
            rows: inputs that its denoiser is asked about at once.

        Returns:
            The model as it is now and the rung's name; None if there is no rung left.
        """
        card = self._card(model_id)
        with self._moving:
            entry = self._entries.get(_key(card))
            if entry is None or not self.ladder.enabled:
                return None
            rung = next_rung(stage, entry.model, entry.placement, rows)
            if rung is None:
                return None
            release_memory()
            self._climb(entry, rung)
            release_memory()
            return rungs_of.lent(entry.model.for_card(self._located(card))), rung.name

    def remember(self, model_id: str, pixels: int, names: Sequence[str]) -> None:
        """Begin runs of this size on these rungs from now on."""
        card = self._card(model_id)
        self.ladder.remember(_name(card), self._resolve(card), pixels, names)

    def remembered(self, model_id: str, pixels: int) -> tuple[str, ...]:
        """The rungs to begin a run of this size on."""
        card = self._cards.get(model_id)
        if card is None or not self.ladder.enabled:
            return ()
        return self.ladder.remembered(_name(card), self._resolve(card), pixels)

    def restore(self, model_id: str) -> None:
        """After every rung was in vain: undo them, and drop the model if only loading anew does that."""
        card = self._card(model_id)
        with self._lock:
            entry = self._entries.get(_key(card))
            if entry is None or entry.leases:
                return
            if LASTING & set(entry.placement.rungs):
                del self._entries[_key(card)]
        if _key(card) in self._entries:
            self._fit(entry, ())
        del entry
        release_memory()

    def _card(self, model_id: str) -> ModelCard:
        if model_id not in self._cards:
            raise InvalidRequest(f"model is {model_id[:64]!r}; allowed: {', '.join(self._cards)}.")
        return self._cards[model_id]

    def _take(self, card: ModelCard) -> _Entry | None:
        with self._lock:
            entry = self._entries.get(_key(card))
            if entry is not None:
                self._touch(entry)
            return entry

    def _touch(self, entry: _Entry) -> None:
        self._clock += 1
        entry.used = self._clock
        entry.leases += 1

    # -- loading -----------------------------------------------------------------------------------------------

    def _here(self, card: ModelCard) -> Path | None:
        """Where a card's files are on this machine, or None."""
        if self._hub is not None:
            return self._hub.local(card)
        path = PROJECT / card.source
        return path if path.exists() else None

    def _located(self, card: ModelCard) -> ModelCard:
        """A card whose LoRAs and small autoencoder are named by where they lie, so that nobody is asked for them."""
        if self._hub is None or not (card.additions or card.preview):
            return card
        kept = self._located_cards.get(card.id)
        if kept is not None and kept[0] is card:
            return kept[1]
        update: dict[str, Any] = {}
        if card.preview and (preview := self._hub.found(card.preview)):
            update["preview"] = str(preview)
        found = [(addition, self._hub.found(addition.source, addition.file)) for addition in card.additions]
        update["additions"] = tuple(
            addition.model_copy(update={"source": str(path.parent), "file": path.name}) if path else addition
            for addition, path in found
        )
        self._located_cards[card.id] = (card, card.model_copy(update=update))
        return self._located_cards[card.id][1]

    def fetch(self, model_id: str, report: Report | None = None, cancelled: Callable[[], bool] | None = None) -> Path:
        """Fetch what is missing of a model; see ``lease``.  Returns the folder or file to load from.

        Raises:
            InvalidRequest: if no card has this id.
            CannotLoad: if it cannot be fetched.
            LoadStopped: if ``cancelled`` said so.
        """
        card = self._card(model_id)
        if self._hub is None:
            raise CannotLoad(f"{card.name} is not on this machine and nothing may be fetched here.")
        from pipelines.hub import CannotFetch, Stopped

        started, first = time.perf_counter(), -1

        def progress(news: Progress) -> None:
            nonlocal first
            first = news.done if first < 0 else first
            if report is not None:
                report(download_words(card.name, news), news.done, news.total)
            if news.done == news.total and (seconds := time.perf_counter() - started) > 1:
                self._speeds.note("download", (news.done - first) / seconds)

        try:
            return self._hub.fetch(card, progress, cancelled)
        except Stopped:
            raise LoadStopped from None
        except CannotFetch as error:
            raise CannotLoad(str(error)) from error
        finally:
            self._located_cards.pop(card.id, None)  # its small autoencoder may have come, too

    def at_hand(self, model_id: str) -> bool:
        """Whether a model can be lent without a download that nobody asked for."""
        card = self._card(model_id)
        return self._may_fetch(card) or self._here(card) is not None

    def _may_fetch(self, card: ModelCard) -> bool:
        return self._hub is None or self._fetches is None or card.id in self._fetches

    def _fetched(self, card: ModelCard, report: Report | None, cancelled: Callable[[], bool] | None) -> Path | None:
        """A card's files, fetched if need be; None without a hub to ask and without files here."""
        here = self._here(card)
        if here is not None or self._hub is None:
            return here
        if not self._may_fetch(card):
            raise CannotLoad(NOT_HERE.format(name=card.name))
        return self.fetch(card.id, report, cancelled)

    def _resolve(self, card: ModelCard) -> Placement:
        attention = self._attention.get(card.id) or self._attention.get("", "auto")
        key = (card.family, card.half, card.name, attention)
        if key not in self._placements:  # looking at xformers runs it
            self._placements[key] = resolve(self._device, attention, card=card, **self._extras)
        self._placement = self._placements[key]
        if self._budget is None:
            self._budget = default_budget(self._placement.device)
        if self._ram_budget is None:
            self._ram_budget = default_budget("cpu")
        return self._placement

    def _check(
        self, card: ModelCard, placement: Placement, folder: Path | None, plan: Any = None, size: Any = None
    ) -> Preflight:
        speeds = {name: value for name, value in self._speeds.items() if isinstance(value, float) and value > 0}
        speeds = {"download": speeds.get("download", 0.0), "load": speeds.get(f"load {placement.device}", 0.0)}
        return preflight(card, placement, self.machine, folder, plan, size, speeds)

    def _load(self, card: ModelCard, folder: Path | None, report: Report, rungs: Sequence[str]) -> _Entry:
        """Load a model that nobody has; once it is there it counts as taken."""
        plain = self._resolve(card)
        ahead = self._check(card, plain, folder)
        if folder is not None and not ahead.ok:
            raise CannotLoad(ahead.sentences[0])
        self._evict(ahead.weights)
        known = self.ladder.remembered(_name(card), plain, 0)
        names = [name for name in ordered([*rungs, *known]) if name in LASTING]
        if self.ladder.enabled and plain.device == "cuda" and ahead.weights > self.machine.vram()[0] and folder:
            names.append("parts")  # it can only run so: the attempt would be in vain
        started = time.perf_counter()
        source = self._located(card).model_copy(update={"source": str(folder)} if folder and self._hub else {})
        entry, taken = self._descend(card, source, _placed(plain, card, names), report)
        self._measured(entry, time.perf_counter() - started)
        self._quicken(entry)
        if taken:
            self.ladder.remember(_name(card), plain, 0, [*names, *taken])
        with self._lock:
            self._touch(entry)
            self._entries[_key(card)] = entry
        self._evict()
        return entry

    def _quicken(self, entry: _Entry) -> None:
        """Have a small model's networks compiled in the background, where the placement says so."""
        if entry.placement.engine != OPENVINO:
            return
        import torch

        from pipelines.compiled import Engine, fits

        model = entry.model
        if hasattr(model, "use_engine") and fits(model.denoiser):
            model.use_engine(Engine(self._engine_dir, torch.get_num_threads()))
            return
        note = "OpenVINO is used for small models of Stable Diffusion's kind only, so PyTorch is used instead."
        notes = [entry.placement.note, note if self._extras["engine"] == OPENVINO else ""]
        model.placement = replace(entry.placement, engine=TORCH, note=" ".join(text for text in notes if text))

    def _descend(
        self, card: ModelCard, source: ModelCard, placement: Placement, report: Report
    ) -> tuple[_Entry, tuple[str, ...]]:
        """Load, in ways that need less and less memory; the entry, and the rungs that it took."""
        taken: list[str] = []
        emptied = False
        while True:
            entry = _attempt(card, source, placement, report)
            if entry is not None:
                return entry, ordered(taken)
            # Only here, outside of the attempt, are its tensors nobody's.
            release_memory()
            if not emptied and self._drop_idle():
                emptied = True
                continue
            rung = next_rung(LOAD, None, placement, 1) if self.ladder.enabled else None
            if rung is None:
                raise CannotLoad(self._no_room(card))
            taken.append(rung.name)
            placement = _placed(placement, card, [rung.name])

    def _no_room(self, card: ModelCard) -> str:
        pinned = [self._cards[name].name for name in self._pinned if name in self.loaded and name != card.id]
        if pinned:
            return f"There is not enough memory to load {card.name}; let go of {', '.join(pinned)}, which is pinned."
        return f"There is not enough memory to load {card.name}; close other programs or choose a smaller model."

    def _measured(self, entry: _Entry, seconds: float) -> None:
        """Remember how fast models load here: the mean of what was and what is."""
        key, now = f"load {entry.placement.device}", entry.bytes / max(seconds, 1e-3)
        before = self._speeds.get(key)
        # A small model says nothing of the disk.
        if entry.bytes > 100e6 or not isinstance(before, float):
            self._speeds.note(key, (before + now) / 2 if isinstance(before, float) else now)

    # -- moving ------------------------------------------------------------------------------------------------

    def _bring(self, entry: _Entry) -> None:
        """Bring a model that waits in RAM onto the GPU, or be in RAM in parts where it does not fit."""
        if entry.where == GPU or not entry.moves:
            return
        with self._moving:
            if entry.where == GPU or not entry.moves:
                return
            # The room that it leaves in RAM is for those that it drives off: RAM is tidied when it is given back.
            self._to_ram(entry.bytes)
            if _moved(entry, entry.placement.device):
                entry.where = GPU
                return
            _moved(entry, "cpu")
            self._drop_idle(GPU)
            release_memory()
            if _moved(entry, entry.placement.device):
                entry.where = GPU
                return
            _moved(entry, "cpu")
            rung = next_rung(LOAD, entry.model, entry.placement, 1) if self.ladder.enabled else None
            if rung is None:
                raise CannotLoad(self._no_room(entry.model.card))
            self._climb(entry, rung)

    def _fit(self, entry: _Entry, names: Sequence[str]) -> None:
        """Stand on these rungs: take those that are missing, undo the others where that needs no loading."""
        with self._moving:
            for name in [name for name in entry.placement.rungs if name not in names and name in entry.undo]:
                entry.undo.pop(name)()
                rest = tuple(other for other in entry.placement.rungs if other != name)
                entry.model.placement = replace(entry.placement, rungs=rest)
            for rung in rungs_of.RUNGS:
                missing = rung.name in names and rung.name not in entry.placement.rungs
                if missing and (rung.name == "one" or rung.applies(entry.model, entry.placement, 2)):
                    self._climb(entry, rung)

    def _climb(self, entry: _Entry, rung: rungs_of.Rung) -> None:
        """Take a rung with a loaded model."""
        try:
            undo = rung.apply(entry.model)
        except Exception:
            self._forget(entry)  # it may stand on two rungs at once: whoever wants it next loads it anew
            raise
        if undo is not None:
            entry.undo[rung.name] = undo
        entry.model.placement = replace(entry.placement, rungs=ordered([*entry.placement.rungs, rung.name]))
        entry.bytes = entry.model.size_bytes
        if rung.name == "parts":
            entry.where = RAM

    def _evict(self, reserve: int = 0) -> None:
        """Put models aside that are not in use, least recently used first, until the rest fits the budgets.

        Args:
            reserve: bytes to be kept free where models run.
        """
        self._to_ram(reserve)
        dropped = False
        with self._lock:
            tier = [entry for entry in self._entries.values() if entry.where == RAM]
            budget = self._ram_budget if self._has_gpu() else self._budget
            reserve = 0 if self._has_gpu() else reserve
            total = sum(entry.bytes for entry in tier) + reserve
            for key in self._idle(RAM, pinned=False):
                if budget is None or total <= budget:
                    break
                total -= self._entries.pop(key).bytes
                dropped = True
            del tier
        if dropped:
            release_memory()

    def _to_ram(self, reserve: int) -> None:
        """Move the least recently used models off the GPU until the rest and ``reserve`` bytes fit its budget."""
        while True:
            with self._lock:
                on_gpu = [entry for entry in self._entries.values() if entry.where == GPU]
                total = sum(entry.bytes for entry in on_gpu) + reserve
                victims = [*self._idle(GPU, pinned=False), *self._idle(GPU, pinned=True)]
                if self._budget is None or total <= self._budget or not victims:
                    return
                entry = self._entries[victims[0]]
                # Whoever leases it now waits for ``_moving`` and brings it back.
                entry.where = RAM
                if not entry.moves:
                    del self._entries[victims[0]]
            if entry.moves:
                with self._moving:
                    if not entry.leases and entry.where == RAM and not _moved(entry, "cpu"):
                        self._forget(entry)
            del entry, on_gpu
            release_memory()

    def _forget(self, entry: _Entry) -> None:
        with self._lock:
            self._entries = {key: other for key, other in self._entries.items() if other is not entry}

    def _drop_idle(self, where: str = "") -> bool:
        """Drop every model that is neither in use nor pinned; whether there was one."""
        with self._lock:
            keys = [*self._idle(GPU, pinned=False), *self._idle(RAM, pinned=False)]
            keys = [key for key in keys if not where or self._entries[key].where == where]
            for key in keys:
                del self._entries[key]
        if keys:
            release_memory()
        return bool(keys)

    def _idle(self, where: str, pinned: bool) -> list[tuple[str, str]]:
        """Keys of models in this place that nobody uses, least recently used first."""
        kept = {_key(self._cards[name]) for name in self._pinned if name in self._cards}
        found = [(entry.used, key) for key, entry in self._entries.items() if entry.where == where and not entry.leases]
        return [key for _, key in sorted(found) if (key in kept) == pinned]

    def _has_gpu(self) -> bool:
        return self._placement is not None and self._placement.device == "cuda"


def _key(card: ModelCard) -> tuple[str, str]:
    # Two cards of one source share its weights.
    return card.family, card.source


def _name(card: ModelCard) -> str:
    return f"{card.family} {card.source}"


def _state(card: ModelCard, entry: _Entry, pinned: bool) -> State:
    here = entry.placement
    precision = f"{here.dtype}, {here.quantize}" if here.quantize else here.dtype
    return State(
        card.id, entry.where, entry.bytes, pinned, entry.leases > 0, precision, here.attention,
        rungs_of.words(here.rungs), here.note, entry.model.safety,
    )  # fmt: skip


def _teller(report: Report | None, cancelled: Callable[[], bool] | None) -> Report:
    """A report that ends the work when nobody waits for it."""

    def tell(part: str, done: int, total: int) -> None:
        if cancelled is not None and cancelled():
            raise LoadStopped
        if report is not None:
            report(part, done, total)

    return tell


def download_words(name: str, news: Progress) -> str:
    """How far a download is."""
    left = f", {_minutes(news.seconds_left)} left" if news.seconds_left is not None else ""
    return f"{DOWNLOADING}{name}: {gb(news.done)} of {gb(news.total)}, {gb(news.bytes_per_second)} a second{left}"


def _minutes(seconds: float) -> str:
    return f"{max(1, round(seconds))} seconds" if seconds < 90 else f"{round(seconds / 60)} minutes"


def _placed(placement: Placement, card: ModelCard, names: Sequence[str]) -> Placement:
    """Where a model is loaded that stands on these rungs from the start."""
    dtype = half_of(placement, card) if "half" in names else placement.dtype
    return replace(placement, dtype=dtype, rungs=ordered([*placement.rungs, *names]))


def _attempt(card: ModelCard, source: ModelCard, placement: Placement, report: Report) -> _Entry | None:
    """Load once; None if memory ran out."""
    try:
        # What is to be taken apart or rounded is read into RAM first: it would not fit where it is going.
        aside = placement.device == "cuda" and ("parts" in placement.rungs or placement.quantize)
        model = loader(card.family)(source, replace(placement, device="cpu") if aside else placement, report)
        model.placement = placement
        settle_in(model, placement)
        entry = _Entry(model, GPU if placement.device == "cuda" else RAM, model.size_bytes)
        if "parts" in placement.rungs:
            next(rung for rung in rungs_of.RUNGS if rung.name == "parts").apply(model)
            entry.where = RAM
        elif aside:
            _move(model, placement.device)
        return entry
    except Exception as error:
        if not out_of_memory(error):
            raise
    return None


def _moved(entry: _Entry, device: str) -> bool:
    """Move a model's weights; False if there is no room for them."""
    try:
        _move(entry.model, device)
        return True
    except Exception as error:
        if not out_of_memory(error):
            raise
    return False


def _move(model: Model, device: str) -> None:
    for module in model.modules.values():
        module.to(device)
    # What the text encoders have answered lies on the GPU too.
    with suppress(AttributeError):
        model.forget_prompts()  # type: ignore[attr-defined]


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out: the GPU's, or what the CPU's allocator could not get."""
    # torch.OutOfMemoryError is a RuntimeError, and so is the CPU allocator's complaint.
    text = str(error).lower()
    named = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    signs = ("out of memory", "can't allocate memory", "alloc_failed")
    return named or (isinstance(error, RuntimeError) and any(sign in text for sign in signs))


def release_memory() -> None:
    """Give freed memory back to the system and to the GPU's driver."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def default_budget(device: str) -> int:
    """Bytes of weights to keep: 80% of the GPU's memory, half of the machine's elsewhere."""
    if device == "cuda":
        import torch

        return torch.cuda.get_device_properties(0).total_memory * 8 // 10
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    except (AttributeError, ValueError, OSError):  # not on Windows
        return 8 * 2**30
