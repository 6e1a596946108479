"""Whether models fit this computer, from the preflight of each."""

from __future__ import annotations

from dataclasses import dataclass

from pipelines.cards import ModelCard
from pipelines.models.manager import PipelineManager
from pipelines.models.placement import NoSuchDevice
from pipelines.models.preflight import Preflight, gb

# As it is; with parts that wait in RAM or stream to the card; not.
FITS, PARTLY, TOO_LARGE = "fits", "partly", "too-large"


@dataclass(frozen=True)
class Fit:
    """Whether a model fits this computer.

    Attributes:
        kind: FITS, PARTLY or TOO_LARGE.
        why: what is lacking, one sentence, or "".
    """

    kind: str = FITS
    why: str = ""


class Fits:
    """The fit of every model, looked up once for each and again when its files have arrived.  Thread-safe.

    Before the first model has loaded, nothing has looked at the graphics card, which takes seconds: until then the
    main memory decides by what the card says.

    Args:
        manager: knows the machine and the files.
    """

    def __init__(self, manager: PipelineManager) -> None:
        self._manager = manager
        self._known: dict[tuple[str, str, bool], Fit] = {}

    def of(self, card: ModelCard, here: bool) -> Fit:
        """The fit of a model.

        Args:
            card: what it is.
            here: whether its files are on this computer.
        """
        placement = self._manager.placement
        if placement is None:
            return self._guess(card)
        key = (card.id, card.source, here)
        if key not in self._known:
            try:
                found = self._manager.check(card.id)
            except (NoSuchDevice, OSError, ValueError):
                return self._guess(card)
            fit = fit_of(found, placement.has_own_memory)
            # Without its files a preflight knows little: the card's figure counts if it is larger.
            self._known[key] = fit if here or fit.kind != FITS else self._guess(card, placement.has_own_memory)
        return self._known[key]

    def _guess(self, card: ModelCard, on_card: bool = False) -> Fit:
        machine, need = self._manager.machine, card.memory_bytes or card.download_bytes
        ram, vram = machine.ram()[0], machine.vram()[0] if on_card else 0
        total = vram or ram
        if need <= total:
            return Fit()
        kind = PARTLY if vram and need <= ram + vram else TOO_LARGE
        return Fit(kind, _lacking(card.name, need, total, "graphics memory" if vram else "memory"))


def fit_of(preflight: Preflight, has_own_memory: bool) -> Fit:
    """What a preflight says.

    Args:
        preflight: of the model.
        has_own_memory: whether models run on a card with its own memory, so that parts can wait in RAM.
    """
    why = preflight.sentences[0] if preflight.sentences else ""
    if not preflight.ok:
        return Fit(TOO_LARGE, why)
    if preflight.fits:
        return Fit()
    return Fit(PARTLY if has_own_memory else TOO_LARGE, why)


def _lacking(name: str, need: int, total: int, kind: str) -> str:
    return f"{name} needs about {gb(need)} of {kind} and this computer has {gb(total)}."
