"""How a model that a card cannot hold will be spread over the card and RAM, and how much of it waits in RAM then."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from pipelines.models.families import family_of
from pipelines.models.offloading.spread import BLOCK_BYTES, BLOCKS, LAYERS, VISIT_BYTES, WAIT, weight_bytes
from pipelines.models.placement import DENOISERS, half_dtype

if TYPE_CHECKING:
    from pipelines.cards import ModelCard
    from pipelines.model import Model, Placement


class Needs(Protocol):
    """What a model takes, in bytes: ``parts`` by component, ``weights`` all of them, ``activations`` of a picture."""

    @property
    def parts(self) -> Mapping[str, int]: ...

    @property
    def weights(self) -> int: ...

    @property
    def activations(self) -> int: ...


@dataclass(frozen=True)
class Sizes:
    """What a loaded model takes; see ``Needs``."""

    parts: Mapping[str, int]
    activations: int = 0

    @property
    def weights(self) -> int:
        """Bytes of all of its weights."""
        return sum(self.parts.values())


def sizes_of(model: Model) -> Sizes:
    """The sizes of a model that is in memory."""
    return Sizes({name: weight_bytes(module) for name, module in model.modules.items()})


def foretold_offload(ahead: Needs, usable: int, placement: Placement, card: ModelCard) -> list[str]:
    """The way to spread a model that does not fit on the card whole; [] where it does, or where none helps.

    Args:
        ahead: what it needs.
        usable: bytes of the card that this program can use.
        placement: where it will run.
        card: what it is.
    """
    if ahead.weights <= usable:
        return []
    if family_of(card).own_loop or not ahead.parts:
        # Pipelines with a loop of their own ask their parts where they are.
        return [] if placement.quantize else [LAYERS]
    in_loop = sum(size for name, size in ahead.parts.items() if name in DENOISERS)
    others = [size for name, size in ahead.parts.items() if name not in DENOISERS]
    # Decoding in tiles takes a quarter, and large text encoders come layer by layer.
    visit = max([ahead.activations // 4, *(min(size, VISIT_BYTES) for size in others)])
    if in_loop + visit <= usable:
        return [WAIT]
    if placement.quantize:
        return []
    # Two blocks are there at once, and none while the other networks work.
    return [BLOCKS] if max(min(2 * BLOCK_BYTES, in_loop), visit) <= usable else [LAYERS]


def waiting_bytes(ahead: Needs, how: Sequence[str]) -> int:
    """Bytes of the weights that wait in RAM where a model is spread so."""
    if WAIT in how:
        return sum(size for name, size in ahead.parts.items() if name not in DENOISERS)
    return ahead.weights if how else 0


def ram_bytes(ahead: Needs, usable: int, placement: Placement, card: ModelCard) -> int:
    """Bytes of RAM that the weights take, arguments as for ``foretold_offload``."""
    if not placement.has_own_memory:
        return ahead.weights
    return waiting_bytes(ahead, foretold_offload(ahead, usable, placement, card))


def begins_in_half(ahead: Needs, usable: int, free: int, placement: Placement, card: ModelCard) -> bool:
    """Whether a model is loaded in half precision, since in float32 it would take more RAM than is free.

    Linux gives more than there is, and ends the program once it is used.
    """
    narrow = placement.dtype == "float32" and half_dtype(placement, card) != ""
    return narrow and ram_bytes(ahead, usable, placement, card) > free
