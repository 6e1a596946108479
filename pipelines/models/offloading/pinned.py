"""Weights in pinned RAM, from which they come to an NVIDIA or AMD card while it computes."""

from __future__ import annotations

from collections.abc import Iterable

import psutil
import torch

# PyTorch rounds each piece of pinned memory up to a power of 2, so many tensors share one piece of that size.
PIECE_BYTES = 256 * 2**20
# Pinned memory is never swapped out: this much stays for all other programs.
KEPT_FREE = 2 * 10**9
_ALIGNMENT = 256


class PinnedMemory:
    """RAM that is pinned piece by piece, as long as enough of it is free."""

    def __init__(self) -> None:
        self._piece: torch.Tensor | None = None
        self._used = 0
        self.full = False

    def take(self, tensor: torch.Tensor) -> torch.Tensor | None:
        """A copy of a tensor in pinned memory; None where there is none left, or the tensor is larger than a piece."""
        dense = tensor if _is_dense(tensor) else tensor.contiguous()
        size = dense.numel() * dense.element_size()
        if self.full or not 0 < size <= PIECE_BYTES:
            return None
        if self._piece is None or self._used + size > PIECE_BYTES:
            self._piece, self._used = self._new_piece(), 0
        if self._piece is None:
            return None
        flat = self._piece[self._used : self._used + size].view(dense.dtype)
        self._used += -(-size // _ALIGNMENT) * _ALIGNMENT
        return flat.as_strided(dense.size(), dense.stride()).copy_(dense)

    def _new_piece(self) -> torch.Tensor | None:
        made = pinned_bytes(PIECE_BYTES) if free_ram() > KEPT_FREE + PIECE_BYTES else None
        self.full = made is None
        return made


def pin(tensors: Iterable[torch.Tensor]) -> bool:
    """Move weights into pinned memory one after another; whether all of them are there.

    Each is let go of before the next one is pinned, so they take their own size and one piece more.  Those for which
    there is no room stay as they are, and come to the card more slowly.
    """
    memory, known = PinnedMemory(), set()
    for tensor in tensors:
        if id(tensor) in known or tensor.device.type != "cpu" or is_pinned(tensor):
            continue
        known.add(id(tensor))
        if (pinned := memory.take(tensor.data)) is not None:
            tensor.data = pinned
    return not memory.full


def pinned_bytes(size: int) -> torch.Tensor | None:
    """So many bytes of pinned RAM; None where the system gives no more: Windows gives about half of its RAM."""
    try:
        return torch.empty(size, dtype=torch.uint8, pin_memory=True)
    except RuntimeError:  # the driver's, without a word of memory in it
        return None


def is_pinned(tensor: torch.Tensor) -> bool:
    """Whether a tensor lies in pinned memory already: adapters came or went in between."""
    return tensor.is_pinned()


def free_ram() -> int:
    """What programs can still get of the main memory."""
    return int(psutil.virtual_memory().available)


def _is_dense(tensor: torch.Tensor) -> bool:
    return tensor.is_contiguous() or (tensor.ndim == 4 and tensor.is_contiguous(memory_format=torch.channels_last))
