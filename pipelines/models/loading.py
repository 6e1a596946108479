"""Loading a model into memory: with the fallbacks that it needs, measured, and with its engine."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.cards import ModelCard
from pipelines.events import COMPILING
from pipelines.model import CannotLoad, Placement, Report
from pipelines.models.compiling import try_compiled
from pipelines.models.families import family_of, loader
from pipelines.models.machine import Machine, Measurements
from pipelines.models.offloading.foretold import begins_in_half, foretold_offload
from pipelines.models.offloading.spread import LAYERS, WAIT, spread_of
from pipelines.models.oom_fallback import (
    LASTING,
    LOAD,
    OomFallback,
    fallback_named,
    next_fallback,
    ordered,
    out_of_memory,
)
from pipelines.models.placement import OPENVINO, TORCH, half_dtype, prepare_for
from pipelines.models.preflight import Preflight, preflight
from pipelines.models.residency import GPU, RAM, Residency, Resident, release_memory

if TYPE_CHECKING:
    from pipelines.hub.selection import DownloadPlan


class PipelineLoader:
    """Loads models; where memory runs out, again in ways that need less.

    Args:
        residency: what is in memory; idle models are evicted for the new one.
        fallbacks: which fallbacks were needed before.
        speeds: where loading speeds are recorded.
        machine: its memory.
        engine: as the user asked for it: auto, torch or openvino.
        engine_dir: where networks that were converted for OpenVINO are kept, or None to convert them at each load.
    """

    def __init__(
        self,
        residency: Residency,
        fallbacks: OomFallback,
        speeds: Measurements,
        machine: Machine,
        engine: str = TORCH,
        engine_dir: Path | None = None,
    ) -> None:
        self._residency, self._fallbacks, self._speeds, self._machine = residency, fallbacks, speeds, machine
        self._engine, self._engine_dir = engine, engine_dir

    def preflight(
        self,
        card: ModelCard,
        placement: Placement,
        folder: Path | None,
        plan: DownloadPlan | None = None,
        size: tuple[int, int] | None = None,
    ) -> Preflight:
        """What using a model takes, with the speeds measured on this machine; see ``preflight``."""
        speeds = {name: value for name, value in self._speeds.items() if isinstance(value, float) and value > 0}
        speeds = {"download": speeds.get("download", 0.0), "load": speeds.get(f"load {placement.device}", 0.0)}
        return preflight(card, placement, self._machine, folder, plan, size, speeds)

    def load(
        self,
        card: ModelCard,
        source: ModelCard,
        placement: Placement,
        folder: Path | None,
        report: Report,
        fallbacks: Sequence[str],
    ) -> Resident:
        """Load a model that is not in memory, and add it to the residency as leased.

        Args:
            card: of the catalogue.
            source: the same card with all its files named by where they are.
            placement: where it should run, without fallbacks.
            folder: its folder or file; None to let diffusers ask the hub.
            report: called before each part.
            fallbacks: names of those to begin with.

        Raises:
            CannotLoad: if it can never fit, memory runs out in spite of all fallbacks, or its files are broken.
        """
        ahead = self.preflight(card, placement, folder)
        if folder is not None and not ahead.ok:
            raise CannotLoad(ahead.sentences[0])
        self._residency.budgets.keep_free(ahead.activations)
        self._residency.evict(ahead.weights)
        remembered = self._fallbacks.remembered(weights_name(card), placement, 0)
        names = [name for name in ordered([*fallbacks, *remembered]) if name in LASTING]
        if self._fallbacks.enabled and folder:
            names += self._foretold(card, placement, ahead, folder, names)
        started = time.perf_counter()
        resident, applied = self._load_with_fallbacks(card, source, _with_fallbacks(placement, card, names), report)
        self._record_speed(resident, time.perf_counter() - started)
        self._use_engine(resident)
        if applied:
            self._fallbacks.remember(weights_name(card), placement, 0, [*names, *applied])
        self._residency.add(card, resident)
        return resident

    def _foretold(
        self, card: ModelCard, placement: Placement, ahead: Preflight, folder: Path, names: Sequence[str]
    ) -> list[str]:
        """The fallbacks without which a model would not fit."""
        usable = self._machine.usable()
        half = "half" in names or begins_in_half(ahead, usable, self._machine.ram()[1], placement, card)
        if half and placement.dtype == "float32":
            placement = replace(placement, dtype=half_dtype(placement, card))
            ahead = self.preflight(card, placement, folder)
        spread = foretold_offload(ahead, usable, placement, card) if placement.has_own_memory else []
        return ["half", *spread] if half else spread

    def _load_with_fallbacks(
        self, card: ModelCard, source: ModelCard, placement: Placement, report: Report
    ) -> tuple[Resident, tuple[str, ...]]:
        """Load, in ways that need less and less memory; the model, and the fallbacks that it took."""
        applied: list[str] = []
        emptied = False
        while True:
            resident = _attempt(card, source, placement, report)
            if resident is not None:
                return resident, ordered(applied)
            # Only here, outside of the attempt, have its tensors no references left.
            release_memory()
            if not emptied and self._residency.drop_idle():
                emptied = True
                continue
            fallback = next_fallback(LOAD, None, placement, 1) if self._fallbacks.enabled else None
            if fallback is None:
                raise CannotLoad(self._residency.no_room(card))
            applied.append(fallback.name)
            placement = _with_fallbacks(placement, card, [fallback.name])

    def _record_speed(self, resident: Resident, seconds: float) -> None:
        """Record how fast models load on this machine: the mean of the former value and this one."""
        key, now = f"load {resident.placement.device}", resident.bytes / max(seconds, 1e-3)
        before = self._speeds.get(key)
        # A small model says nothing of the disk.
        if resident.bytes > 100e6 or not isinstance(before, float):
            self._speeds.note(key, (before + now) / 2 if isinstance(before, float) else now)

    def _use_engine(self, resident: Resident) -> None:
        """Compile a small model's networks in the background, where the placement says so."""
        if resident.placement.engine != OPENVINO:
            return
        import torch

        from pipelines.models.openvino.engine import Engine, is_supported

        model = resident.model
        if model.use_engine is not None and is_supported(model.denoiser):
            model.use_engine(Engine(self._engine_dir, torch.get_num_threads()))
            return
        note = "OpenVINO is used for small models of Stable Diffusion's kind only, so PyTorch is used instead."
        notes = [resident.placement.note, note if self._engine == OPENVINO else ""]
        model.placement = replace(resident.placement, engine=TORCH, note=" ".join(text for text in notes if text))


def weights_name(card: ModelCard) -> str:
    """Under which name the fallbacks of a model's weights are remembered."""
    return f"{card.family} {card.source}"


def _with_fallbacks(placement: Placement, card: ModelCard, names: Sequence[str]) -> Placement:
    """The placement of a model that is loaded with these fallbacks."""
    dtype = half_dtype(placement, card) if "half" in names else placement.dtype
    return replace(placement, dtype=dtype, fallbacks=ordered([*placement.fallbacks, *names]))


def _attempt(card: ModelCard, source: ModelCard, placement: Placement, report: Report) -> Resident | None:
    """Load once; None if memory ran out."""
    try:
        return _loaded(card, source, placement, report)
    except Exception as error:
        if not out_of_memory(error):
            raise
    return None


def _loaded(card: ModelCard, source: ModelCard, placement: Placement, report: Report) -> Resident:
    how = spread_of(placement)
    if how and family_of(card).own_loop:
        how = LAYERS  # such pipelines ask their parts where they are
        placement = replace(placement, fallbacks=ordered([*placement.fallbacks, LAYERS]))
    model = loader(card.family)(source, placement, report)
    model.placement = placement
    prepare_for(model, placement)
    on_gpu = placement.has_own_memory and how in ("", WAIT)
    resident = Resident(model, GPU if on_gpu else RAM, model.size_bytes)
    if how:
        fallback_named(how).apply(model)
    if model.placement.compile:
        report(f"{COMPILING}{card.name}: that takes a minute or two, once for each kind of run", 0, 1)
        try_compiled(model)
    return resident
