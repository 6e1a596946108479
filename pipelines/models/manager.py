"""PipelineManager: leases the models of the catalogue, loading each when it is first needed."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.cards import ModelCard
from pipelines.model import LoadStopped, Model, Placement, Report
from pipelines.models import oom_fallback
from pipelines.models.catalogue import Catalogue
from pipelines.models.compiling import take_failure
from pipelines.models.loading import PipelineLoader, weights_name
from pipelines.models.machine import Machine, Measurements
from pipelines.models.model_files import ModelFiles
from pipelines.models.offloading.spread import widen_autoencoder
from pipelines.models.oom_fallback import OVERFLOW, OomFallback, next_fallback
from pipelines.models.placement import TORCH, Placements
from pipelines.models.preflight import Preflight
from pipelines.models.residency import DISK, NOT_HERE_YET, Residency, Resident, key_of, release_memory
from pipelines.models.safety_checker import state_of

if TYPE_CHECKING:
    from pipelines.hub.hub import Hub
    from pipelines.hub.selection import DownloadPlan


class ModelBusy(RuntimeError):
    """A model that is in use; the message is one plain sentence."""


@dataclass(frozen=True)
class ModelState:
    """What the Models tab shows of a model.

    Attributes:
        id: of its card.
        where: gpu, ram, disk (on this machine, not loaded) or away (not downloaded).
        bytes: of its weights in memory; 0 if it is not loaded.
        pinned: whether it stays in memory.
        in_use: whether a job uses it now.
        precision, attention: as it was loaded, "" before.
        fallbacks: what was changed to make it fit, in words.
        note: settings that could not be met.
        safety: state of its own safety checker (``pipelines.models.safety_checker``), "" while it is away.
        homes: how many devices have it in memory; ``bytes`` are those of all of them.
    """

    id: str
    where: str
    bytes: int = 0
    pinned: bool = False
    in_use: bool = False
    precision: str = ""
    attention: str = ""
    fallbacks: tuple[str, ...] = ()
    note: str = ""
    safety: str = ""
    homes: int = 1


class PipelineManager:
    """Leases models on one device; nothing is imported or loaded before the first lease.  Thread-safe.

    Args:
        cards: the catalogue.
        device: auto, cpu, cuda, cuda:1 and so on, or mps.
        attention: auto, sdpa or xformers; or these by model id, "" for those that are not named.
        budget_bytes: weights kept where models run; by default half of the machine's memory, or 80% of the GPU's.
            A model in use is never evicted, so one that is larger than the budget still runs.
        ram_budget_bytes: weights kept in RAM while there is a GPU; by default half of the machine's memory.
        hub: fetches models that are not on this machine; without it a card's source is read as it stands.
        fetches: ids of the models that a lease may fetch; None for all.
        memory_dir: where measured speeds and needed fallbacks are remembered, or None for until the program ends.
        fallbacks: whether a run that needs too much memory is tried again in a way that needs less.
        compile, quantize, checks: see ``pipelines.model.Placement``.
        engine: auto, torch or openvino.
        engine_dir: where networks that were converted for OpenVINO are kept, or None to convert them at each load.
        machine: its memory and disk.
        sibling: another manager, for another device of this machine: both have the same cards, files and memory of
            fallbacks.
        managers: how many of them share the RAM.
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
        fallbacks: bool = True,
        compile: bool = False,
        quantize: str = "",
        checks: bool = True,
        engine: str = TORCH,
        engine_dir: Path | None = None,
        machine: Machine | None = None,
        sibling: PipelineManager | None = None,
        managers: int = 1,
    ) -> None:
        self.device, self.machine = device, machine or Machine(device)
        self.catalogue: Catalogue = sibling.catalogue if sibling else Catalogue(cards)
        self._checks = checks
        speeds: Measurements = (
            sibling.speeds if sibling else Measurements(memory_dir / "speeds.json" if memory_dir else None)
        )
        self.speeds: Measurements = speeds
        self.oom_fallback: OomFallback = OomFallback(
            memory_dir, self.machine, fallbacks, sibling.oom_fallback.notes if sibling else None
        )
        self._files: ModelFiles = sibling._files if sibling else ModelFiles(hub, fetches, speeds)
        self._placements = Placements(
            device, attention, compile=compile, quantize=quantize, checks=checks, engine=engine, machine=self.machine
        )
        self._residency = Residency(
            budget_bytes, ram_budget_bytes, self.catalogue.pinned_cards, fallbacks, self.machine, managers
        )
        self._loader = PipelineLoader(self._residency, self.oom_fallback, speeds, self.machine, engine, engine_dir)

    @property
    def cards(self) -> Mapping[str, ModelCard]:
        """Every card of the catalogue by id, as of now."""
        return self.catalogue.cards

    # -- what is where -----------------------------------------------------------------------------------------

    @property
    def placement(self) -> Placement | None:
        """Where models run; None until the first lease has looked at the machine."""
        return self._placements.last

    @property
    def loaded(self) -> tuple[str, ...]:
        """Ids of the cards whose model is in memory."""
        residents = self._residency.residents()
        return tuple(card.id for card in self.cards.values() if key_of(card) in residents)

    def states(self) -> tuple[ModelState, ...]:
        """Every model of the catalogue and where it is; looks at the disk."""
        pinned, residents = self.catalogue.pinned, self._residency.residents()
        return tuple(self._state(card, residents.get(key_of(card)), card.id in pinned) for card in self.cards.values())

    def _state(self, card: ModelCard, resident: Resident | None, pinned: bool) -> ModelState:
        if resident is None:
            folder = self._files.local(card)
            safety = state_of(folder, self._checks) if folder else ""
            return ModelState(card.id, DISK if folder else NOT_HERE_YET, pinned=pinned, safety=safety)
        here = resident.placement
        precision = f"{here.dtype}, {here.quantize}" if here.quantize else here.dtype
        return ModelState(
            card.id, resident.where, resident.bytes, pinned, resident.leases > 0, precision, here.attention,
            oom_fallback.words(here.fallbacks), here.note, resident.model.safety,
        )  # fmt: skip

    def at_hand(self, model_id: str) -> bool:
        """Whether a model can be leased without a download that the user did not ask for."""
        card = self.catalogue.card(model_id)
        return self._files.may_fetch(card) or self._files.local(card) is not None

    def local_files(self, model_id: str) -> Path | None:
        """The folder or single file of a model on this machine, or None."""
        return self._files.local(self.catalogue.card(model_id))

    def check(self, model_id: str, plan: DownloadPlan | None = None, size: tuple[int, int] | None = None) -> Preflight:
        """What using a model takes, before anything is fetched or loaded.

        Args:
            model_id: id of a card.
            plan: what a download would fetch (``Hub.plan``), for a model that is not on this machine.
            size: width and height of a picture; the card's own by default.

        Raises:
            InvalidRequest: if no card has this id.
            NoSuchDevice: if the device that was asked for does not exist.
        """
        card = self.catalogue.card(model_id)
        return self._loader.preflight(card, self._resolve(card), self._files.local(card), plan, size)

    def fetch(self, model_id: str, report: Report | None = None, cancelled: Callable[[], bool] | None = None) -> Path:
        """Fetch what is missing of a model; see ``lease``.  Returns the folder or file to load from.

        Raises:
            InvalidRequest: if no card has this id.
            CannotLoad: if it cannot be fetched.
            LoadStopped: if ``cancelled`` returned True.
        """
        return self._files.fetch(self.catalogue.card(model_id), report, cancelled)

    # -- memory ------------------------------------------------------------------------------------------------

    def pin(self, model_id: str) -> None:
        """Keep a model in memory, from when it is next loaded if it is not."""
        self.catalogue.pin(model_id)

    def unpin(self, model_id: str) -> None:
        """Let a model be evicted again when memory is needed."""
        self.catalogue.unpin(model_id)
        self._residency.evict()

    def unload(self, model_id: str | None = None) -> None:
        """Drop a model, pinned or not; without an id every model that is neither in use nor pinned.

        Raises:
            ModelBusy: if the model is in use.
            InvalidRequest: if no card has this id.
        """
        if model_id is None:
            self._residency.drop_idle()
            return
        card = self.catalogue.card(model_id)
        if not self._residency.remove(card):
            raise ModelBusy(f"{card.name} is in use; stop its pictures or wait for them, then unload it.")
        self.catalogue.unpin(model_id)

    def remove(self, model_id: str) -> None:
        """Remove a model from memory and from the catalogue; its files stay.  Raises ModelBusy while it is in use."""
        if model_id in self.cards:
            self.unload(model_id)
            self.catalogue.remove(model_id)

    # -- leases ------------------------------------------------------------------------------------------------

    @contextmanager
    def lease(
        self,
        model_id: str,
        report: Report | None = None,
        cancelled: Callable[[], bool] | None = None,
        fallbacks: Sequence[str] | None = None,
    ) -> Iterator[Model]:
        """Lease a model, fetching and loading it if need be; it stays in memory until the lease ends.

        Args:
            model_id: id of a card.
            report: called with part, done and total while a model loads; while it is fetched, a sentence and bytes.
            cancelled: polled while it is fetched, and between two parts while it loads.
            fallbacks: names of ``pipelines.models.oom_fallback`` to be active; None for those that are.

        Raises:
            InvalidRequest: if no card has this id.
            CannotLoad: if the model cannot be fetched or loaded.
            LoadStopped: if ``cancelled`` returned True.
            NoSuchDevice: if the device that was asked for does not exist.
        """
        card = self.catalogue.card(model_id)
        if self._resolve(card).kind != "cpu":
            self.machine.make_current()
        resident = self._residency.take(card) or self._load(card, report, cancelled, fallbacks or ())
        try:
            self._residency.to_gpu(resident)
            if fallbacks is not None:
                self._residency.set_fallbacks(resident, fallbacks)
            yield self._view(resident, card)
        finally:
            self._residency.put_back(resident)

    def _load(
        self, card: ModelCard, report: Report | None, cancelled: Callable[[], bool] | None, fallbacks: Sequence[str]
    ) -> Resident:
        """A leased model that was not in memory; another thread may load it first."""
        folder = self._files.ensure(card, report, cancelled)
        with self._residency.moving:
            resident = self._residency.take(card)
            if resident is not None:
                return resident
            source = self._files.load_card(card, folder)
            report, placement = _stoppable(report, cancelled), self._resolve(card)
            if placement.kind != "cpu":
                self.machine.bound_share()
            return self._loader.load(card, source, placement, folder, report, fallbacks)

    def _resolve(self, card: ModelCard) -> Placement:
        placement = self._placements.of(card)
        self._residency.budgets.use_device(placement)
        return placement

    def _view(self, resident: Resident, card: ModelCard) -> Model:
        """The model under this card, as a run sees it."""
        take_failure(resident.model)
        return oom_fallback.leased(resident.model.for_card(self._files.located(card)))

    # -- out of memory -----------------------------------------------------------------------------------------

    def apply_next_fallback(self, model_id: str, stage: str, rows: int) -> tuple[Model, str] | None:
        """Apply the next fallback to a leased model, after memory has run out or its autoencoder has overflowed.

        Args:
            model_id: id of its card.
            stage: one of ``pipelines.models.oom_fallback``'s ADAPT, START, STEP and DECODE; OVERFLOW has
                the autoencoder compute in float32.
            rows: batch size of the denoiser's calls.

        Returns:
            The model as it is now and the fallback's name, "" if idle models were moved off the GPU instead, or
            for OVERFLOW; None if there is none left.
        """
        card = self.catalogue.card(model_id)
        with self._residency.moving:
            resident = self._residency.get(card)
            if resident is None:
                return None
            if stage == OVERFLOW:
                if not widen_autoencoder(resident.model):
                    return None
                resident.bytes = resident.model.size_bytes
                return self._view(resident, card), ""
            if not self.oom_fallback.enabled:
                return None
            if self._residency.put_aside_idle():
                return self._view(resident, card), ""
            fallback = next_fallback(stage, resident.model, resident.placement, rows)
            if fallback is None:
                return None
            release_memory()
            self._residency.apply(resident, fallback)
            release_memory()
            return self._view(resident, card), fallback.name

    def remember_fallbacks(self, model_id: str, pixels: int, names: Sequence[str]) -> None:
        """Begin runs of this size with these fallbacks from now on."""
        card = self.catalogue.card(model_id)
        self.oom_fallback.remember(weights_name(card), self._resolve(card), pixels, names)

    def remembered_fallbacks(self, model_id: str, pixels: int) -> tuple[str, ...]:
        """The fallbacks to begin a run of this size with."""
        card = self.cards.get(model_id)
        if card is None or not self.oom_fallback.enabled:
            return ()
        return self.oom_fallback.remembered(weights_name(card), self._resolve(card), pixels)

    def reset_fallbacks(self, model_id: str) -> None:
        """After every fallback failed: revert them, and drop the model if only loading it again does that."""
        self._residency.reset_fallbacks(self.catalogue.card(model_id))


def _stoppable(report: Report | None, cancelled: Callable[[], bool] | None) -> Report:
    """A report that stops the load once it is cancelled."""

    def checked(part: str, done: int, total: int) -> None:
        if cancelled is not None and cancelled():
            raise LoadStopped
        if report is not None:
            report(part, done, total)

    return checked
