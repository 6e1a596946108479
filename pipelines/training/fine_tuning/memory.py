"""How much memory a training takes, foretold before it begins, and what makes it fit."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from pipelines.request import InvalidRequest
from pipelines.training.fine_tuning.gradients import with_gradients

if TYPE_CHECKING:
    from pipelines.model import Model
    from pipelines.training.fine_tuning.training import TeachingWay

log = logging.getLogger(__name__)
# Of each number that learns: itself, its gradient and the optimizer's two means, in float32.
BYTES_A_NUMBER = 16
# What gradient checkpointing leaves of what a step keeps (Chen et al. 2016, arXiv:1604.06174): the inputs of the blocks
# and the inside of the largest one; a rule of thumb for diffusers' UNets.
CHECKPOINTED = 0.35
# Room for what is only there for a moment.
SPARE = 1.2
GIGABYTE = 1e9


@dataclass(frozen=True)
class MemoryForecast:
    """How a training fits.

    Attributes:
        rows: gone over at once.
        checkpointing: whether blocks are computed again instead of kept.
        needed: bytes besides the model.
        free: bytes that are free now.
    """

    rows: int
    checkpointing: bool
    needed: int
    free: int


def foretell(model: Model, way: TeachingWay, rows: int) -> MemoryForecast:
    """How a training on batches of so many rows fits into what is free; raises InvalidRequest if it does not."""
    fixed = BYTES_A_NUMBER * sum(weight.numel() for weight in way.parameters)
    return fit(bytes_a_row(way), fixed, free_bytes(model.placement.device), rows, model.card.name)


def fit(a_row: int, fixed: int, free: int, rows: int, name: str = "This model") -> MemoryForecast:
    """The most rows at once that fit, without checkpointing where that is enough; raises InvalidRequest."""
    for checkpointing in (False, True):
        each = a_row * (CHECKPOINTED if checkpointing else 1)
        # Without checkpointing only whole batches: gone over in parts a step is slower than one with checkpointing.
        at_once = rows
        while at_once:
            needed = int(SPARE * (fixed + each * at_once))
            if needed <= free:
                return MemoryForecast(at_once, checkpointing, needed, free)
            at_once = at_once // 2 if checkpointing else 0
    least = SPARE * (fixed + CHECKPOINTED * a_row) / GIGABYTE
    raise InvalidRequest(
        "model",
        f"Teaching {name} takes {least:.1f} GB besides the model and {free / GIGABYTE:.1f} GB are free; close other "
        "programs or choose a smaller model.",
    )


@with_gradients
def bytes_a_row(way: TeachingWay) -> int:
    """What a step keeps of one picture until its gradients are known, counted without computing anything."""
    try:
        return max(0, _kept(way, 2) - _kept(way, 1))
    except Exception as error:  # an operation that cannot be run without numbers; then nothing is foretold
        log.debug("Memory is not foretold: %s", error)
        return 0


def _kept(way: TeachingWay, rows: int) -> int:
    from torch._subclasses.fake_tensor import FakeTensorMode

    card, latents = way.model.card, way.model.latents
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        kept[storage._cdata] = storage.nbytes()
        held.append(storage)  # else another one may get its place
        return tensor

    held: list[Any] = []
    way.predict(*_inputs(latents.shape(1, card.width, card.height), way), [""])  # texts are encoded for real
    with FakeTensorMode(allow_non_fake_inputs=True), torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
        found = way.predict(*_inputs(latents.shape(rows, card.width, card.height), way), [""] * rows)
        del found
    return sum(kept.values())


def _inputs(shape: tuple[int, ...], way: TeachingWay) -> tuple[torch.Tensor, torch.Tensor]:
    device = way.model.placement.device
    return torch.zeros(shape, device=device), torch.zeros(shape[0], dtype=torch.long, device=device)


def free_bytes(device: str) -> int:
    """Bytes that are free on a device of torch."""
    if device.startswith("cuda"):
        return int(torch.cuda.mem_get_info(device)[0])
    import psutil

    return int(psutil.virtual_memory().available)
