"""Which errors mean that memory ran out: every library and driver has words of its own for that."""

from __future__ import annotations

# Of CUDA, ROCm, Apple's GPU, the CPU's allocator, cuBLAS, and a driver that could not even count.
_SIGNS = (
    "out of memory",
    "can't allocate memory",
    "alloc_failed",
    "invalid buffer size",
    "nvml_success == r",
)
# What cuBLAS and cuDNN say when no room is left for their own workspace, but also when they are broken.
_DOUBTFUL = ("status_not_initialized", "unable to find an engine", "status_internal_error")
# Below this share of the card, and these bytes, little is free.
LITTLE_SHARE, LITTLE_BYTES = 1 / 12, 768 * 2**20


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out: the GPU's, or what the CPU's allocator could not get."""
    # torch.OutOfMemoryError is a RuntimeError, and so is the CPU allocator's error.
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    if not isinstance(error, RuntimeError):
        return False
    text = str(error).lower()
    return any(sign in text for sign in _SIGNS) or (any(sign in text for sign in _DOUBTFUL) and little_is_free())


def little_is_free() -> bool:
    """Whether a graphics card is nearly full."""
    import torch

    if not torch.accelerator.is_available():
        return False
    memory = getattr(torch.get_device_module(), "mem_get_info", None)
    if memory is None:
        return False
    free, total = memory()
    return bool(free < min(total * LITTLE_SHARE, LITTLE_BYTES))
