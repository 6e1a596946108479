"""The models of this program: where each is, and what can be done with it.  What the Models tab shows and does."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from pipelines.cards import ModelCard
from pipelines.families import CannotLoad
from pipelines.manager import AWAY, GPU, RAM, LoadStopped, PipelineManager, State
from pipelines.memory import Preflight
from pipelines.request import InvalidRequest
from presets import catalogue
from presets.reading import CatalogueError

if TYPE_CHECKING:
    from pipelines.backend import Status
    from pipelines.hub import Hub
    from presets.shelf import Shelf

log = logging.getLogger(__name__)
# Models that are fetched at once; more would only share the line.
MAX_DOWNLOADS = 3
# Seconds for which sizes on disk are believed.
LOOK_SECONDS = 4.0


class Loads(Protocol):
    """Who loads models and drops them: a ``pipelines.backend.Backend``."""

    def warm_up(self, model_id: str) -> None: ...
    def unload(self, model_id: str) -> None: ...
    def stop_loading(self, model_id: str) -> None: ...
    def status(self) -> Status: ...


@dataclass(frozen=True)
class Download:
    """A model that is being fetched, or whose fetching has failed.

    Attributes:
        text: how far it is, in words.
        done, total: bytes; 0 before the hub has answered.
        problem: why it failed, one sentence, or "".
    """

    text: str
    done: int = 0
    total: int = 0
    problem: str = ""


@dataclass(frozen=True)
class Row:
    """One model.

    Attributes:
        card: what it is.
        state: where it is.
        disk: bytes of its files on this machine.
        mine: whether somebody added it here, so that it can be taken off the list.
        from_hub: whether its files came from the hub, so that they can be deleted and fetched again.
        download: while it is fetched, or after that has failed.
        loading: how far its loading is in words, or "".
        problem: why it could not be loaded, or "".
    """

    card: ModelCard
    state: State
    disk: int
    mine: bool
    from_hub: bool
    download: Download | None
    loading: str
    problem: str


@dataclass(frozen=True)
class Gauge:
    """One kind of memory: bytes in all, free, and those of each model in it by name."""

    name: str
    total: int
    free: int
    models: tuple[tuple[str, int], ...]


class Cards(Mapping[str, ModelCard]):
    """The manager's cards by id, always as they are now."""

    def __init__(self, manager: PipelineManager) -> None:
        self._manager = manager

    def __getitem__(self, model_id: str) -> ModelCard:
        return self._manager.cards[model_id]

    def __iter__(self) -> Iterator[str]:
        return iter(self._manager.cards)

    def __len__(self) -> int:
        return len(self._manager.cards)


class Library:
    """Every model that is known, and what can be done with it.  Thread-safe.

    Args:
        manager: has them.
        backend: loads them.
        hub: fetches them; None if nothing may be fetched.
        shelf: what people added; None if nothing may be added.
        manages: whether whoever opens the page may change anything here.
    """

    def __init__(
        self,
        manager: PipelineManager,
        backend: Loads,
        hub: Hub | None = None,
        shelf: Shelf | None = None,
        manages: bool = True,
    ) -> None:
        self.cards = Cards(manager)
        self.manages = manages
        self._manager, self._backend, self._hub, self._shelf = manager, backend, hub, shelf
        self._lock = threading.Lock()
        self._downloads: dict[str, Download] = {}
        self._stops: dict[str, threading.Event] = {}
        self._sizes: dict[str, int] = {}
        self._cached: Mapping[str, int] = {}
        self._looked = -LOOK_SECONDS

    # -- what there is -----------------------------------------------------------------------------------------

    def offered(self) -> list[ModelCard]:
        """The models that can be used now, without fetching anything."""
        return [card for card in self.cards.values() if self._manager.at_hand(card.id)]

    def rows(self) -> list[Row]:
        """Every model: those in memory first, then those on this machine, then the others."""
        mine = self._shelf.ids() if self._shelf else set()
        status, sizes = self._backend.status(), self._hub_sizes()
        with self._lock:
            downloads = dict(self._downloads)
        rows = []
        for state in self._manager.states():
            card = self.cards[state.id]
            this = status.model == card.id
            rows.append(
                Row(
                    card,
                    state,
                    self._disk(card, sizes),
                    card.id in mine,
                    not Path(card.source).is_absolute(),
                    downloads.get(card.id),
                    status.text if this and status.state == "loading" else "",
                    status.text if this and status.state == "failed" else "",
                )
            )
        order = {GPU: 0, RAM: 0, AWAY: 2}
        return sorted(rows, key=lambda row: order.get(row.state.where, 1))

    def gauges(self) -> list[Gauge]:
        """The kinds of memory of this machine and what is in them; the GPU's first."""
        states = [state for state in self._manager.states() if state.bytes]
        machine = self._manager.machine

        def there(where: str) -> tuple[tuple[str, int], ...]:
            # Cards that share their weights are one model here.
            found = {self.cards[s.id].source: (self.cards[s.id].name, s.bytes) for s in states if s.where == where}
            return tuple(found.values())

        gauges = [Gauge("Memory (RAM)", *machine.ram(), there(RAM))]
        placement = self._manager.placement
        if placement is not None and placement.device == "cuda":
            gauges.insert(0, Gauge(f"Graphics memory ({machine.name()})", *machine.vram(), there(GPU)))
        return gauges

    def check(self, model_id: str) -> Preflight:
        """What using a model takes; asks the hub for the size of what is to be fetched.

        Raises:
            InvalidRequest: if there is no such model.
            CannotFetch: if the hub cannot be asked.
        """
        card = self._card(model_id)
        away = self._hub is not None and self._hub.local(card) is None
        return self._manager.check(model_id, self._hub.plan(card) if away and self._hub else None)

    # -- what can be done --------------------------------------------------------------------------------------

    def load(self, model_id: str) -> None:
        """Load a model that is on this machine, in the background."""
        self._backend.warm_up(self._card(model_id).id)

    def unload(self, model_id: str) -> None:
        """Drop a model from memory; its files stay.  Raises Busy while it is in use."""
        self._backend.unload(self._card(model_id).id)

    def pin(self, model_id: str, keep: bool) -> None:
        """Keep a model in memory, or let it go when memory is needed."""
        (self._manager.pin if keep else self._manager.unpin)(self._card(model_id).id)

    def fetch(self, model_id: str) -> None:
        """Fetch a model in the background, going on where an earlier download ended.

        Raises:
            InvalidRequest: if there is no such model, or too many are fetched already.
        """
        card = self._card(model_id)
        with self._lock:
            if card.id in self._stops:
                return
            if len(self._stops) >= MAX_DOWNLOADS:
                raise InvalidRequest(f"{MAX_DOWNLOADS} models are being fetched already; wait for one of them.")
            stop = self._stops[card.id] = threading.Event()
            self._downloads[card.id] = Download(f"Asking the hub about {card.name}")
        threading.Thread(target=self._fetch, args=(card, stop), name=f"fetch-{card.id}", daemon=True).start()

    def stop(self, model_id: str) -> None:
        """Stop fetching or loading a model; what has arrived is kept."""
        with self._lock:
            stop = self._stops.get(model_id)
            self._downloads.pop(model_id, None)
        if stop is not None:
            stop.set()
        else:
            self._backend.stop_loading(model_id)

    def add(self, text: str) -> ModelCard:
        """Put a model of one's own on the list: a hub id, the address of its page, a folder or a file.

        Raises:
            CatalogueError: with one sentence, if it is no model that can be used.
        """
        if self._shelf is None:
            raise CatalogueError("Models cannot be added here.")
        card = self._shelf.add(text)
        self._manager.add_card(card)
        return card

    def forget(self, model_id: str) -> None:
        """Take a model that somebody added off the list; its files stay.

        Raises:
            Busy: while it is in use.
            CatalogueError: if the list cannot be written.
        """
        self.stop(model_id)
        self._manager.remove_card(model_id)
        if self._shelf is not None:
            self._shelf.remove(model_id)

    def delete(self, model_id: str) -> int:
        """Delete a model's files that came from the hub; bytes freed.  Raises Busy while it is in use."""
        card = self._card(model_id)
        self.stop(model_id)
        self.unload(model_id)
        self._looked = -LOOK_SECONDS
        return self._hub.delete(card) if self._hub else 0

    def close(self) -> None:
        """Stop every download."""
        with self._lock:
            stops = list(self._stops.values())
        for stop in stops:
            stop.set()

    # -- fetching ----------------------------------------------------------------------------------------------

    def _fetch(self, card: ModelCard, stop: threading.Event) -> None:
        problem = ""
        try:
            folder = self._manager.fetch(card.id, self._teller(card, stop), stop.is_set)
            self._manager.replace_card(catalogue.refined(card, folder))
        except LoadStopped:
            pass
        except (CannotLoad, CatalogueError) as error:
            problem = str(error)
        except Exception as error:
            log.exception("Fetching %s failed", card.id)
            problem = f"{card.name} could not be fetched ({type(error).__name__}); try again, the log has the details."
        with self._lock:
            self._stops.pop(card.id, None)
            self._downloads.pop(card.id, None)
            if problem and not stop.is_set():
                self._downloads[card.id] = Download("", problem=problem)

    def _teller(self, card: ModelCard, stop: threading.Event) -> Callable[[str, int, int], None]:
        def tell(text: str, done: int, total: int) -> None:
            with self._lock:
                if not stop.is_set():
                    self._downloads[card.id] = Download(text, done, total)

        return tell

    def _card(self, model_id: str) -> ModelCard:
        if model_id not in self.cards:
            raise InvalidRequest("This model is not on the list any more; choose another.")
        return self.cards[model_id]

    def _hub_sizes(self) -> Mapping[str, int]:
        """Bytes on disk by hub id; looked up every few seconds, since a cache may hold many models."""
        now = time.monotonic()
        if self._hub is not None and now > self._looked + LOOK_SECONDS:
            self._looked, self._cached = now, self._hub.sizes()
        return self._cached

    def _disk(self, card: ModelCard, sizes: Mapping[str, int]) -> int:
        source = Path(card.source)
        if not source.is_absolute():
            return sizes.get(card.source, 0)
        if card.source not in self._sizes:
            self._sizes[card.source] = _bytes_below(source)
        return self._sizes[card.source]


def _bytes_below(path: Path) -> int:
    files: Sequence[Path] = [path] if path.is_file() else list(path.rglob("*"))
    total = 0
    for file in files:
        try:
            total += file.stat().st_size if file.is_file() else 0
        except OSError:
            continue
    return total
