"""Which errors mean that memory ran out: every library and driver has words of its own for that."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from typing import Any

# Of CUDA, ROCm, Apple's GPU, the CPU's allocator (in Linux' words and in Windows'), cuBLAS, cuDNN and their AMD
# counterparts, and of a driver that could not even count.
_SIGNS = (
    "out of memory",
    "outofmemory",
    "out_of_memory",
    "can't allocate memory",
    "not enough memory",
    "insufficient memory",
    "alloc_failed",
    "allocation_failed",
    "statusallocfailed",
    "status_memory_error",
    "invalid buffer size",
    "nvml_success == r",
)
# What cuBLAS and cuDNN say when no room is left for their own workspace, but also when they are broken.
_DOUBTFUL = (
    "status_not_initialized",
    "unable to find an engine",
    "no execution plan",
    "status_internal_error",
    "status_execution_failed",
    "statusinternalerror",
    "statusunknownerror",
)
# What the system says of a file that cannot be mapped: on Windows the paging file is too small, or there is no memory.
_WINDOWS_ERRORS = (8, 14, 1455)
_FILE_SIGNS = re.compile(rf"\(os error ({errno.ENOMEM}|1455)\)", re.IGNORECASE)
# Below this share of the card, and these bytes, little is free.
LITTLE_SHARE, LITTLE_BYTES = 1 / 12, 768 * 2**20


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out: the GPU's, what the CPU's allocator or a file's map could not get."""
    # torch.OutOfMemoryError is a RuntimeError, and so is the CPU allocator's error.
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    if isinstance(error, OSError) or type(error).__name__ == "SafetensorError":
        return _no_memory_for_file(error)
    if not isinstance(error, RuntimeError):
        return False
    text = str(error).lower()
    return any(sign in text for sign in _SIGNS) or (any(sign in text for sign in _DOUBTFUL) and little_is_free())


def _no_memory_for_file(error: BaseException) -> bool:
    known = getattr(error, "errno", None) == errno.ENOMEM or getattr(error, "winerror", None) in _WINDOWS_ERRORS
    return known or _FILE_SIGNS.search(str(error)) is not None


def little_is_free() -> bool:
    """Whether a graphics card that this program uses is nearly full."""
    import torch

    if not torch.accelerator.is_available():
        return False
    module = torch.get_device_module()
    if not hasattr(module, "mem_get_info"):
        return False
    memories = [module.mem_get_info(index) for index in _used(module)]
    return any(free < min(total * LITTLE_SHARE, LITTLE_BYTES) for free, total in memories)


def _used(module: Any) -> Iterator[int]:
    """The cards that hold something of this program: to ask the others would take memory there."""
    for index in range(module.device_count()):
        if module.memory_allocated(index):
            yield index
