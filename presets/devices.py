"""The models and the memory of all devices of this machine, as one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pipelines.models.residency import GPU, RAM

if TYPE_CHECKING:
    from pipelines.models.manager import ModelState, PipelineManager


@dataclass(frozen=True)
class MemoryGauge:
    """One kind of memory, in bytes: total, free, and what each model in it takes, by name."""

    name: str
    total: int
    free: int
    models: tuple[tuple[str, int], ...]


def states_of(managers: Sequence[PipelineManager]) -> list[ModelState]:
    """Every model of the catalogue; one that several devices hold is in use if one of them uses it."""
    rows = [manager.states() for manager in managers]
    if len(rows) == 1:
        return [*rows[0]]
    return [_as_one(states) for states in zip(*rows, strict=False)]


def _as_one(states: Sequence[ModelState]) -> ModelState:
    held = [state for state in states if state.bytes]
    if not held:
        return states[0]
    # The one that works now says best how it runs.
    first = min(held, key=lambda state: (state.where != GPU, not state.in_use))
    total = sum(state.bytes for state in held if state.where == first.where)
    return replace(first, bytes=total, in_use=any(state.in_use for state in held), homes=len(held))


def gauges_of(managers: Sequence[PipelineManager]) -> list[MemoryGauge]:
    """The memory of each graphics card, then the RAM, with the models of all devices in it."""
    gauges, in_ram = [], dict[str, int]()
    several = len(managers) > 1
    for manager in managers:
        on_card, own = _held(manager, GPU), _held(manager, RAM)
        for name, size in own.items():
            in_ram[name] = in_ram.get(name, 0) + size
        placement, machine = manager.placement, manager.machine
        if placement is not None and placement.has_own_memory:
            name = f"{machine.name()}, {placement.device}" if several else machine.name()
            gauges.append(MemoryGauge(f"Graphics memory ({name})", *machine.vram(), tuple(on_card.items())))
    return [*gauges, MemoryGauge("Memory (RAM)", *managers[0].machine.ram(), tuple(in_ram.items()))]


def _held(manager: PipelineManager, where: str) -> dict[str, int]:
    """Bytes of the models in one memory, by name; cards that share their weights are one model here."""
    cards, found = manager.cards, dict[str, tuple[str, int]]()
    for state in manager.states():
        if state.bytes and state.where == where:
            found[cards[state.id].source] = cards[state.id].name, state.bytes
    return dict(found.values())
