"""Which models are in memory: on the GPU or in RAM, moved or evicted least recently used first."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field, replace

from pipelines.cards import ModelCard
from pipelines.model import CannotLoad, Model, Placement
from pipelines.models import oom_fallback
from pipelines.models.machine import Machine
from pipelines.models.offloading.foretold import foretold_offload, sizes_of
from pipelines.models.offloading.spread import OFFLOADS, WAIT, spread_of
from pipelines.models.oom_fallback import (
    LASTING,
    LOAD,
    Fallback,
    Undo,
    fallback_named,
    next_fallback,
    ordered,
    out_of_memory,
)
from pipelines.system.gpu.graphics_card import MPS, hand_back

GPU, RAM, DISK, NOT_HERE_YET = "gpu", "ram", "disk", "away"
# Family and source: cards that agree in both share their weights.
Key = tuple[str, str]
# More than any card has.
NO_ROOM = 1 << 62


def key_of(card: ModelCard) -> Key:
    """What tells the weights of one card from those of another."""
    return card.family, card.source


@dataclass
class Resident:
    """A model in memory.

    Attributes:
        model: as it was loaded, without a fallback that each lease applies.
        where: GPU or RAM.
        bytes: of its weights.
        leases: how many use it now.
        used: when it was last leased, by the residency's own clock.
        undo: reverts an active fallback, by name.
    """

    model: Model
    where: str
    bytes: int
    leases: int = 0
    used: int = 0
    undo: dict[str, Undo] = field(default_factory=dict)

    @property
    def placement(self) -> Placement:
        """Where and how it runs."""
        return self.model.placement

    @property
    def moves(self) -> bool:
        """Whether its weights can be moved between the GPU and RAM."""
        on_gpu = self.placement.has_own_memory
        return on_gpu and not spread_of(self.placement) and not self.placement.quantize

    def move(self, device: str) -> bool:
        """Move its weights; False if memory ran out."""
        try:
            move(self.model, device)
            return True
        except Exception as error:
            if not out_of_memory(error):
                raise
        return False


class MemoryBudgets:
    """How many bytes of weights may stay in each memory.

    Args:
        gpu_bytes: weights kept where models run; None for what the program can use of the GPU, else half of the RAM.
        ram_bytes: weights kept in RAM while there is a GPU; None for half of it, or what is free of it.
        machine: its memory.
        managers: how many devices share the RAM, each with models of its own.

    Attributes:
        has_gpu: whether there are two kinds of memory.
        shared_device: a GPU that computes in the main memory, "" where there is none.
    """

    def __init__(self, gpu_bytes: int | None, ram_bytes: int | None, machine: Machine, managers: int = 1) -> None:
        self._asked, self._asked_ram, self._machine, self._managers = gpu_bytes, ram_bytes, machine, managers
        self.has_gpu = False
        self.shared_device = ""
        self._activations = 0
        self._measured: dict[str, int] = {}  # as of the last load: looking costs more than a switch

    def use_device(self, placement: Placement) -> None:
        """Set what is needed to know of the device."""
        self.has_gpu = placement.has_own_memory
        self.shared_device = placement.device if placement.kind == MPS else ""

    def keep_free(self, activations: int) -> None:
        """Look at the memory again before a model is loaded whose runs take so much in addition to its weights."""
        self._activations = max(self._activations, activations)
        self._measured = {}

    @property
    def usable(self) -> int:
        """Bytes of the GPU's memory that this program can use now."""
        return self._machine.usable()

    def limit(self, where: str, held: int = 0) -> int:
        """Bytes of weights that may stay: what was asked for, else what this program can use of the memory.

        Args:
            where: GPU or RAM.
            held: bytes of the weights that are in RAM.
        """
        asked = self._asked if where == GPU or not self.has_gpu else self._asked_ram
        if asked is not None:
            return asked
        if where not in self._measured:
            if where == GPU:
                self._measured[GPU] = self._machine.usable() * 19 // 20 - self._activations
            else:
                total, free = self._machine.ram()
                runs = 0 if self.has_gpu else self._activations
                self._measured[RAM] = min(total // 2 // self._managers, free + held - runs)
        return self._measured[where]


class Residency:
    """The models in memory and their budgets.  Thread-safe.

    With an NVIDIA GPU, idle models are moved to RAM when the GPU's budget is exceeded, and dropped when RAM's is.
    Elsewhere there is one kind of memory.

    Args:
        budget_bytes: weights kept where models run; None for what the program can use of the GPU, else half of the RAM.
        ram_budget_bytes: weights kept in RAM while there is a GPU; None for half of it, or what is free of it.
        pinned: the cards whose models are not dropped.
        fallbacks: whether a model that does not fit is offloaded in parts.
        machine: its memory.
        managers: how many devices share the RAM.
    """

    def __init__(
        self,
        budget_bytes: int | None,
        ram_budget_bytes: int | None,
        pinned: Callable[[], Iterable[ModelCard]],
        fallbacks: bool = True,
        machine: Machine | None = None,
        managers: int = 1,
    ) -> None:
        self.budgets = MemoryBudgets(budget_bytes, ram_budget_bytes, machine or Machine(), managers)
        self._pinned, self._fallbacks = pinned, fallbacks
        self._residents: dict[Key, Resident] = {}
        self._clock = 0
        self._lock = threading.Lock()  # guards the residents; held for moments
        self.moving = threading.RLock()  # one load or move at a time; held for seconds

    # -- what is in memory -------------------------------------------------------------------------------------

    def residents(self) -> dict[Key, Resident]:
        """The models in memory, as of now."""
        with self._lock:
            return dict(self._residents)

    def get(self, card: ModelCard) -> Resident | None:
        """A model that is in memory, without a lease."""
        with self._lock:
            return self._residents.get(key_of(card))

    def take(self, card: ModelCard) -> Resident | None:
        """Lease a model that is in memory: it is not evicted until it is returned."""
        with self._lock:
            resident = self._residents.get(key_of(card))
            if resident is not None:
                self._touch(resident)
            return resident

    def add(self, card: ModelCard, resident: Resident) -> None:
        """Add a model that was just loaded; it counts as leased."""
        with self._lock:
            self._touch(resident)
            self._residents[key_of(card)] = resident
        self.evict()

    def put_back(self, resident: Resident) -> None:
        """End a lease."""
        with self._lock:
            resident.leases -= 1
        self.evict()
        if self.budgets.shared_device:
            hand_back(self.budgets.shared_device)

    def remove(self, card: ModelCard) -> bool:
        """Drop a model from memory; False if it is leased."""
        with self._lock:
            resident = self._residents.get(key_of(card))
            if resident is not None and resident.leases:
                return False
            self._residents.pop(key_of(card), None)
        del resident
        release_memory()
        return True

    def drop_idle(self, where: str = "") -> bool:
        """Drop every model that is neither leased nor pinned; whether there was one."""
        with self._lock:
            keys = [*self._idle(GPU, pinned=False), *self._idle(RAM, pinned=False)]
            keys = [key for key in keys if not where or self._residents[key].where == where]
            for key in keys:
                del self._residents[key]
        if keys:
            release_memory()
        return bool(keys)

    def no_room(self, card: ModelCard) -> str:
        """A sentence: there is no memory for a model, and what the user can do."""
        pinned = [one.name for one in self._pinned() if key_of(one) in self._residents and one.id != card.id]
        if pinned:
            return f"There is not enough memory to load {card.name}; let go of {', '.join(pinned)}, which is pinned."
        return f"There is not enough memory to load {card.name}; close other programs or choose a smaller model."

    def _touch(self, resident: Resident) -> None:
        self._clock += 1
        resident.used = self._clock
        resident.leases += 1

    def _forget(self, resident: Resident) -> None:
        with self._lock:
            self._residents = {key: other for key, other in self._residents.items() if other is not resident}

    def _idle(self, where: str, pinned: bool) -> list[Key]:
        """Keys of models in this place that are not leased, least recently used first."""
        kept = {key_of(card) for card in self._pinned()}
        found = [(one.used, key) for key, one in self._residents.items() if one.where == where and not one.leases]
        return [key for _, key in sorted(found) if (key in kept) == pinned]

    # -- moving and evicting -----------------------------------------------------------------------------------

    def to_gpu(self, resident: Resident) -> None:
        """Move a model that waits in RAM back to the GPU; where it does not fit, offload it in parts.

        Raises:
            CannotLoad: if there is no room for it.
        """
        if resident.where == GPU or not resident.moves:
            return
        with self.moving:
            if resident.where == GPU or not resident.moves:
                return
            # The models that it displaces take its place in RAM: RAM is evicted when it is returned.
            self._to_ram(resident.bytes)
            if self._fits_on_gpu(resident):
                return
            self.drop_idle(GPU)
            release_memory()
            if self._fits_on_gpu(resident):
                return
            fallback = _way_back(resident, self.budgets.usable) if self._fallbacks else None
            if fallback is None:
                raise CannotLoad(self.no_room(resident.model.card))
            self.apply(resident, fallback)

    def _fits_on_gpu(self, resident: Resident) -> bool:
        if resident.move(resident.placement.device):
            resident.where = GPU
            return True
        resident.move("cpu")
        return False

    def evict(self, reserve: int = 0) -> None:
        """Evict idle models, least recently used first, until the rest fits the budgets.

        The model that was used last stays unless room is needed for another: one that is larger than the budget would
        be read from the disk for every picture.

        Args:
            reserve: bytes to be kept free where models run.
        """
        self._to_ram(reserve)
        with self._lock:
            budget = self.budgets.limit(RAM, self._bytes(RAM))
            kept = None if reserve else self._newest()
            reserve = 0 if self.budgets.has_gpu else reserve
            total = self._bytes(RAM) + reserve
            dropped = []
            for key in self._idle(RAM, pinned=False):
                if total <= budget:
                    break
                if key != kept:
                    dropped.append(self._residents.pop(key))
                    total -= dropped[-1].bytes
        if dropped:
            del dropped
            release_memory()

    def put_aside_idle(self) -> bool:
        """Move every idle model off the GPU, or drop it where there is one memory; whether there was one."""
        if not self.budgets.has_gpu:
            return self.drop_idle()
        with self._lock:
            there = [*self._idle(GPU, pinned=False), *self._idle(GPU, pinned=True)]
        if there:
            self._to_ram(NO_ROOM)
        return bool(there)

    def _to_ram(self, reserve: int) -> None:
        """Move the least recently used models off the GPU until the rest and ``reserve`` bytes fit its budget."""
        while True:
            with self._lock:
                kept = None if reserve else self._newest()
                victims = [*self._idle(GPU, pinned=False), *self._idle(GPU, pinned=True)]
                victims = [key for key in victims if key != kept]
                if not victims or self._bytes(GPU) + reserve <= self.budgets.limit(GPU):
                    return
                resident = self._residents[victims[0]]
                # A thread that leases it now waits for ``moving`` and moves it back.
                resident.where = RAM
                if not resident.moves:
                    del self._residents[victims[0]]
            if resident.moves:
                with self.moving:
                    if not resident.leases and resident.where == RAM and not resident.move("cpu"):
                        self._forget(resident)
            del resident
            release_memory()

    def _bytes(self, where: str) -> int:
        return sum(one.bytes for one in self._residents.values() if one.where == where)

    def _newest(self) -> Key | None:
        return max(self._residents, key=lambda key: self._residents[key].used, default=None)

    # -- fallbacks ---------------------------------------------------------------------------------------------

    def apply(self, resident: Resident, fallback: Fallback) -> None:
        """Apply a fallback to a loaded model."""
        try:
            undo = fallback.apply(resident.model)
        except Exception:
            self._forget(resident)  # it may be changed in part, so the next lease loads it again
            raise
        if undo is not None:
            resident.undo[fallback.name] = undo
        active = ordered([*resident.placement.fallbacks, fallback.name])
        resident.model.placement = replace(resident.placement, fallbacks=active)
        resident.bytes = resident.model.size_bytes
        if fallback.name in OFFLOADS:
            resident.where = GPU if spread_of(resident.placement) == WAIT else RAM

    def set_fallbacks(self, resident: Resident, names: Collection[str]) -> None:
        """Apply these fallbacks where they are missing, and revert the others as far as that needs no loading."""
        with self.moving:
            for name in [name for name in resident.placement.fallbacks if name not in names and name in resident.undo]:
                resident.undo.pop(name)()
                rest = tuple(other for other in resident.placement.fallbacks if other != name)
                resident.model.placement = replace(resident.placement, fallbacks=rest)
            for fallback in oom_fallback.FALLBACKS:
                missing = fallback.name in names and fallback.name not in resident.placement.fallbacks
                if missing and (fallback.name == "one" or fallback.applies(resident.model, resident.placement, 2)):
                    self.apply(resident, fallback)

    def reset_fallbacks(self, card: ModelCard) -> None:
        """Revert all fallbacks of an idle model; drop it if only loading it again does that."""
        key = key_of(card)
        with self._lock:
            resident = self._residents.get(key)
            if resident is None or resident.leases:
                return
            lasting = bool(LASTING & set(resident.placement.fallbacks))
            if lasting:
                del self._residents[key]
        if not lasting:
            self.set_fallbacks(resident, ())
        del resident
        release_memory()


def _way_back(resident: Resident, usable: int) -> Fallback | None:
    """How a model is spread that finds no room for the whole of it: as its sizes say, or in the next slower way."""
    model = resident.model
    for name in foretold_offload(sizes_of(model), usable, resident.placement, model.card):
        if (fallback := fallback_named(name)).applies(model, resident.placement, 1):
            return fallback
    return next_fallback(LOAD, model, resident.placement, 1)


def move(model: Model, device: str) -> None:
    """Move all weights of a model to a device."""
    for module in model.modules.values():
        module.to(device)
    # Encoded prompts lie on the GPU too.
    model.clear_prompt_cache()


def release_memory() -> None:
    """Return freed memory to the system and to the GPU's driver."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.accelerator.empty_host_cache()  # pinned weights
    elif torch.backends.mps.is_available():
        torch.mps.empty_cache()
