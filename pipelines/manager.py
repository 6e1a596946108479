"""Which models are in memory: loaded when first needed, shared, evicted least recently used first."""

from __future__ import annotations

import gc
import os
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import MappingProxyType

from pipelines.cards import ModelCard
from pipelines.device import Placement, resolve
from pipelines.families import Model, Report, loader
from pipelines.request import InvalidRequest


@dataclass
class _Entry:
    model: Model
    leases: int = 0
    used: int = 0


class PipelineManager:
    """Lends models; nothing is imported or loaded before the first lease.  Thread-safe.

    Args:
        cards: the catalogue.
        device: auto, cpu, cuda or mps.
        attention: auto, sdpa or xformers.
        budget_bytes: weights kept in memory; by default half of the machine's memory, or 80% of the GPU's.
            A model in use is never evicted, so one that is larger than the budget still runs.
    """

    def __init__(
        self, cards: Iterable[ModelCard], device: str = "auto", attention: str = "auto", budget_bytes: int | None = None
    ) -> None:
        self.cards: Mapping[str, ModelCard] = MappingProxyType({card.id: card for card in cards})
        self._wish = (device, attention)
        self._budget = budget_bytes
        self._placement: Placement | None = None
        self._entries: dict[tuple[str, str], _Entry] = {}
        self._clock = 0
        self._lock = threading.Lock()  # guards the entries; held for moments
        self._loading = threading.Lock()  # one load at a time; held for seconds

    @property
    def placement(self) -> Placement | None:
        """Where models run; None until the first lease has looked at the machine."""
        return self._placement

    @property
    def loaded(self) -> tuple[str, ...]:
        """Ids of the cards whose model is in memory."""
        with self._lock:
            return tuple(card.id for card in self.cards.values() if _key(card) in self._entries)

    @contextmanager
    def lease(self, model_id: str, report: Report | None = None) -> Iterator[Model]:
        """Lend a model, loading it if need be; it stays in memory until it is given back.

        Args:
            model_id: id of a card.
            report: told part, done and total while a model loads.

        Raises:
            InvalidRequest: if no card has this id.
            CannotLoad: if the model cannot be loaded.
            NoSuchDevice: if the device that was asked for is not there.
        """
        if model_id not in self.cards:
            raise InvalidRequest(f"model is {model_id[:64]!r}; allowed: {', '.join(self.cards)}.")
        card = self.cards[model_id]
        entry = self._take(card)
        if entry is None:
            with self._loading:
                entry = self._take(card) or self._load(card, report or (lambda part, done, total: None))
        try:
            yield entry.model.for_card(card)
        finally:
            with self._lock:
                entry.leases -= 1
            self._evict(self._budget)

    def unload(self) -> None:
        """Drop every model that is not in use."""
        self._evict(0)

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

    def _load(self, card: ModelCard, report: Report) -> _Entry:
        if self._placement is None:
            self._placement = resolve(*self._wish)
        if self._budget is None:
            self._budget = default_budget(self._placement.device)
        load = loader(card.family)
        entry = None
        try:
            entry = _Entry(load(card, self._placement, report))
        except Exception as error:
            if not _out_of_memory(error):
                raise
        # The failed attempt's frames hold its tensors until the except block is left: only now can they be freed.
        if entry is None:
            self.unload()
            entry = _Entry(load(card, self._placement, report))
        with self._lock:
            self._touch(entry)
            self._entries[_key(card)] = entry
        self._evict(self._budget)
        return entry

    def _evict(self, budget: int | None) -> None:
        """Drop models that are not in use, least recently used first, until the rest fits the budget."""
        evicted = False
        with self._lock:
            idle = [key for key, entry in self._entries.items() if not entry.leases]
            total = sum(entry.model.size_bytes for entry in self._entries.values())
            for key in sorted(idle, key=lambda key: self._entries[key].used):
                if budget is None or total <= budget:
                    break
                total -= self._entries.pop(key).model.size_bytes
                evicted = True
        if evicted:
            release_memory()


def _key(card: ModelCard) -> tuple[str, str]:
    # Two cards of one source share its weights.
    return card.family, card.source


def _out_of_memory(error: Exception) -> bool:
    import torch

    return isinstance(error, torch.OutOfMemoryError | MemoryError)


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
