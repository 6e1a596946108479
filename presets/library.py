"""The models of this program: where each is, and the actions of the Models tab."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from pipelines.cards import ModelCard
from pipelines.model import CannotLoad, LoadStopped
from pipelines.models.manager import ModelState, PipelineManager
from pipelines.models.preflight import Preflight
from pipelines.models.residency import GPU, NOT_HERE_YET, RAM
from pipelines.request import InvalidRequest
from presets import catalogue
from presets.devices import MemoryGauge, gauges_of, states_of
from presets.fits import Fit, Fits
from presets.json_files import CatalogueError
from presets.prediction_choices import PredictionChoices

if TYPE_CHECKING:
    from pipelines.hub.hub import Hub
    from pipelines.jobs.backend import BackendStatus
    from presets.user_models import UserModels

log = logging.getLogger(__name__)
# Models that are downloaded at the same time; more would only share the bandwidth.
MAX_DOWNLOADS = 3
# Where the user's choices are kept, next to the list of models.
PREDICTIONS_FILE = "predictions.json"
# Seconds for which sizes on disk count as current.
SIZES_SECONDS = 4.0


class ModelControl(Protocol):
    """Loads and unloads models: a ``pipelines.jobs.backend.Backend``."""

    def warm_up(self, model_id: str) -> None: ...
    def unload(self, model_id: str) -> None: ...
    def stop_loading(self, model_id: str) -> None: ...
    def status(self) -> BackendStatus: ...


@dataclass(frozen=True)
class Download:
    """A download that is running or has failed.

    Attributes:
        text: its progress, in words.
        done, total: bytes; 0 before the hub has answered.
        problem: why it failed, one sentence, or "".
    """

    text: str
    done: int = 0
    total: int = 0
    problem: str = ""


@dataclass(frozen=True)
class ModelRow:
    """One model.

    Attributes:
        card: what it is.
        state: where it is.
        disk: bytes of its files on this machine.
        added_by_user: whether the user added it, so that it can be removed from the list.
        from_hub: whether its files came from the hub, so that they can be deleted and downloaded again.
        download: while it is downloaded, or after that has failed.
        loading: the progress of its loading in words, or "".
        problem: why it could not be loaded, or "".
        prediction: what the user says it predicts (``presets.prediction_choices``), "" where that is not asked.
        fit: whether it fits this computer.
    """

    card: ModelCard
    state: ModelState
    disk: int
    added_by_user: bool
    from_hub: bool
    download: Download | None
    loading: str
    problem: str
    prediction: str = ""
    fit: Fit = field(default_factory=Fit)


class CardsView(Mapping[str, ModelCard]):
    """A live view of the manager's cards by id."""

    def __init__(self, manager: PipelineManager) -> None:
        self._manager = manager

    def __getitem__(self, model_id: str) -> ModelCard:
        return self._manager.cards[model_id]

    def __iter__(self) -> Iterator[str]:
        return iter(self._manager.cards)

    def __len__(self) -> int:
        return len(self._manager.cards)


class ModelLibrary:
    """Every known model, and what can be done with it.  Thread-safe.

    Args:
        manager: holds the cards and the loaded models.
        backend: loads and unloads them.
        hub: downloads them; None if nothing may be downloaded.
        user_models: the models that the user added; None if none may be added.
        manages: whether the page may change anything here.
        others: hold the loaded models of further devices.
    """

    def __init__(
        self,
        manager: PipelineManager,
        backend: ModelControl,
        hub: Hub | None = None,
        user_models: UserModels | None = None,
        manages: bool = True,
        others: Sequence[PipelineManager] = (),
    ) -> None:
        self.cards = CardsView(manager)
        self.manages = manages
        self._manager, self._backend, self._hub, self._user_models = manager, backend, hub, user_models
        self._managers = (manager, *others)
        self._predictions = PredictionChoices(user_models.path.with_name(PREDICTIONS_FILE) if user_models else None)
        # Cards as their files have them, where something else was chosen.
        self._cards_of_files: dict[str, ModelCard] = {}
        for card in list(self.cards.values()):
            self._use_prediction(card)
        self._fits = Fits(manager)
        self._lock = threading.Lock()
        self._downloads: dict[str, Download] = {}
        self._stop_events: dict[str, threading.Event] = {}
        self._local_sizes: dict[str, int] = {}
        self._hub_sizes_cache: Mapping[str, int] = {}
        self._sizes_time = -SIZES_SECONDS

    # -- models and memory ------------------------------------------------------------------------------------------

    def available(self) -> list[ModelCard]:
        """The models that can be used now, without a download."""
        return [card for card in self.cards.values() if self._manager.at_hand(card.id)]

    def rows(self) -> list[ModelRow]:
        """Every model: those in memory first, then those on disk, then the others."""
        user_ids = self._user_models.ids() if self._user_models else set()
        status, sizes = self._backend.status(), self._hub_sizes()
        with self._lock:
            downloads = dict(self._downloads)
        rows = []
        for state in states_of(self._managers):
            card = self.cards[state.id]
            this = status.model == card.id
            rows.append(
                ModelRow(
                    card,
                    state,
                    self._disk_bytes(card, sizes),
                    card.id in user_ids,
                    not Path(card.source).is_absolute(),
                    downloads.get(card.id),
                    status.text if this and status.state == "loading" else "",
                    status.text if this and status.state == "failed" else "",
                    self._predictions.choice(card) if has_prediction_choice(card) else "",
                    self._fits.of(card, state.where != NOT_HERE_YET),
                )
            )
        order = {GPU: 0, RAM: 0, NOT_HERE_YET: 2}
        return sorted(rows, key=lambda row: order.get(row.state.where, 1))

    def gauges(self) -> list[MemoryGauge]:
        """The kinds of memory of this machine and the models in them; the GPUs' first."""
        return gauges_of(self._managers)

    def preflight(self, model_id: str) -> Preflight:
        """What using a model takes; asks the hub for the size of its download.

        Raises:
            InvalidRequest: if there is no such model.
            DownloadError: if the hub cannot be asked.
        """
        card = self._card(model_id)
        missing = self._hub is not None and self._hub.local_path(card) is None
        return self._manager.check(model_id, self._hub.plan(card) if missing and self._hub else None)

    # -- actions ----------------------------------------------------------------------------------------------------

    def load(self, model_id: str) -> None:
        """Load a model that is on this machine, in the background."""
        self._backend.warm_up(self._card(model_id).id)

    def unload(self, model_id: str) -> None:
        """Remove a model from memory; its files stay.  Raises ModelBusy while it is in use."""
        self._backend.unload(self._card(model_id).id)

    def pin(self, model_id: str, pinned: bool) -> None:
        """Keep a model in memory (``pinned``), or allow it to be evicted again."""
        for manager in self._managers:
            (manager.pin if pinned else manager.unpin)(self._card(model_id).id)

    def download(self, model_id: str) -> None:
        """Download a model in the background, resuming an earlier download.

        Raises:
            InvalidRequest: if there is no such model, or too many downloads are running.
        """
        card = self._card(model_id)
        with self._lock:
            if card.id in self._stop_events:
                return
            if len(self._stop_events) >= MAX_DOWNLOADS:
                raise InvalidRequest(
                    "model", f"{MAX_DOWNLOADS} models are being downloaded already; wait for one of them."
                )
            stop = self._stop_events[card.id] = threading.Event()
            self._downloads[card.id] = Download(f"Asking the hub about {card.name}")
        threading.Thread(target=self._download, args=(card, stop), name=f"download-{card.id}", daemon=True).start()

    def stop(self, model_id: str) -> None:
        """Stop downloading or loading a model; what has arrived is kept."""
        with self._lock:
            stop = self._stop_events.get(model_id)
            self._downloads.pop(model_id, None)
        if stop is not None:
            stop.set()
        else:
            self._backend.stop_loading(model_id)

    def add(self, text: str) -> ModelCard:
        """Add a model to the list: a hub id, the address of its page, a folder or a file.

        Raises:
            CatalogueError: with one sentence, if it cannot be used.
        """
        if self._user_models is None:
            raise CatalogueError("Models cannot be added here.")
        card = self._user_models.add(text)
        self._manager.catalogue.add(card)
        self._use_prediction(card)
        return self.cards[card.id]

    def remove(self, model_id: str) -> None:
        """Remove a model that the user added from the list; its files stay.

        Raises:
            ModelBusy: while it is in use.
            CatalogueError: if the list cannot be written.
        """
        self.stop(model_id)
        if model_id in self.cards:
            self._backend.unload(model_id)
        self._manager.remove(model_id)
        if self._user_models is not None:
            self._user_models.remove(model_id)

    def choose_prediction(self, model_id: str, choice: str) -> None:
        """Say what a checkpoint predicts, a key of ``PREDICTIONS`` or ``AS_IN_FILE``; the next picture heeds it.

        Raises:
            InvalidRequest: if there is no such model.
            CatalogueError: if it is not a single file, or the choice cannot be written.
        """
        card = self._cards_of_files.get(model_id, self._card(model_id))
        if not has_prediction_choice(card):
            raise CatalogueError(f"{card.name} says what it predicts; only single files leave it open.")
        self._predictions.choose(card, choice)
        self._use_prediction(card)

    def _use_prediction(self, card: ModelCard) -> None:
        """Replace a card, as its file has it, by one with what was chosen for it."""
        if has_prediction_choice(card):
            self._cards_of_files[card.id] = card
            self._manager.catalogue.replace(self._predictions.apply(card))

    def delete(self, model_id: str) -> int:
        """Delete a model's files that came from the hub; bytes freed.  Raises ModelBusy while it is in use."""
        card = self._card(model_id)
        self.stop(model_id)
        self.unload(model_id)
        self._sizes_time = -SIZES_SECONDS
        return self._hub.delete(card) if self._hub else 0

    def close(self) -> None:
        """Stop every download."""
        with self._lock:
            stops = list(self._stop_events.values())
        for stop in stops:
            stop.set()

    # -- downloading ------------------------------------------------------------------------------------------------

    def _download(self, card: ModelCard, stop: threading.Event) -> None:
        problem = ""
        try:
            folder = self._manager.fetch(card.id, self._reporter(card, stop), stop.is_set)
            self._manager.catalogue.replace(catalogue.update_from_snapshot(card, folder))
        except LoadStopped:
            pass
        except (CannotLoad, CatalogueError) as error:
            problem = str(error)
        except Exception as error:
            log.exception("Downloading %s failed", card.id)
            problem = (
                f"{card.name} could not be downloaded ({type(error).__name__}); try again, the log has the details."
            )
        with self._lock:
            self._stop_events.pop(card.id, None)
            self._downloads.pop(card.id, None)
            if problem and not stop.is_set():
                self._downloads[card.id] = Download("", problem=problem)

    def _reporter(self, card: ModelCard, stop: threading.Event) -> Callable[[str, int, int], None]:
        def report(text: str, done: int, total: int) -> None:
            with self._lock:
                if not stop.is_set():
                    self._downloads[card.id] = Download(text, done, total)

        return report

    def _card(self, model_id: str) -> ModelCard:
        if model_id not in self.cards:
            raise InvalidRequest("model", "This model is not on the list any more; choose another.")
        return self.cards[model_id]

    def _hub_sizes(self) -> Mapping[str, int]:
        """Bytes on disk by hub id, at most a few seconds old: a cache may hold many models."""
        now = time.monotonic()
        if self._hub is not None and now > self._sizes_time + SIZES_SECONDS:
            self._sizes_time, self._hub_sizes_cache = now, self._hub.sizes()
        return self._hub_sizes_cache

    def _disk_bytes(self, card: ModelCard, sizes: Mapping[str, int]) -> int:
        source = Path(card.source)
        if not source.is_absolute():
            return sizes.get(card.source, 0)
        if card.source not in self._local_sizes:
            self._local_sizes[card.source] = _bytes_of(source)
        return self._local_sizes[card.source]


def has_prediction_choice(card: ModelCard) -> bool:
    """Whether a model is a single file of Stable Diffusion: few of them say what they predict."""
    return bool(card.config) and "text-to-image" in card.tasks


def _bytes_of(path: Path) -> int:
    files: Sequence[Path] = [path] if path.is_file() else list(path.rglob("*"))
    total = 0
    for file in files:
        try:
            total += file.stat().st_size if file.is_file() else 0
        except OSError:
            continue
    return total
