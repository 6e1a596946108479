"""What the pretend GPU holds, what has crossed between it and the host, and the errors that it is told to raise."""

from __future__ import annotations

import sys
import threading
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch

NAME = "pretend"
# How torch, its libraries and drivers say that memory ran out.
OUT_OF_MEMORY: dict[str, Callable[[], Exception]] = {
    "cuda": lambda: torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    "cuda_error": lambda: RuntimeError("CUDA error: out of memory"),
    "hip": lambda: RuntimeError("HIP out of memory. Tried to allocate 2.00 GiB."),
    "mps": lambda: RuntimeError("MPS backend out of memory (MPS allocated: 7.9 GB, max allowed: 9.0 GB)."),
    "mps_buffer": lambda: RuntimeError("Invalid buffer size: 9.00 GiB"),
    "cublas_alloc": lambda: RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    "cublas": lambda: RuntimeError("CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(handle)`"),
    "cudnn": lambda: RuntimeError("cuDNN error: CUDNN_STATUS_NOT_INITIALIZED"),
    "cudnn_engine": lambda: RuntimeError("GET was unable to find an engine to execute this computation"),
    "cudnn_plan": lambda: RuntimeError("cuDNN Frontend error: No execution plans support the graph."),
    "cudnn_alloc": lambda: RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED"),
    "hipblas": lambda: RuntimeError("CUDA error: HIPBLAS_STATUS_ALLOC_FAILED when calling `hipblasCreate(handle)`"),
    "miopen": lambda: RuntimeError("miopenStatusAllocFailed"),
    "hip_error": lambda: RuntimeError("HIP error: hipErrorOutOfMemory"),
    "mps_command": lambda: RuntimeError("Insufficient Memory (00000008:kIOGPUCommandBufferCallbackErrorOutOfMemory)"),
    "nvml": lambda: RuntimeError("NVML_SUCCESS == r INTERNAL ASSERT FAILED at CUDACachingAllocator.cpp:838"),
    "windows": lambda: RuntimeError("[enforce fail at alloc_cpu.cpp:116] data. DefaultCPUAllocator: not enough memory"),
    "windows_file": lambda: OSError("The paging file is too small for this operation to complete. (os error 1455)"),
    "file": lambda: OSError(12, "Cannot allocate memory"),
    "cpu": lambda: RuntimeError("[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: can't allocate memory"),
}


@dataclass
class Counts:
    """What has crossed between the pretend GPU and the host.

    Attributes:
        scalar_syncs: how often the host waited for one number (``item``, ``bool``, ``float``, ``nonzero``).
        copies: tensors copied to the host, blocking or not; ``copied_bytes`` their size.
        blocking_copies: those that the host waited for.
        uploads: tensors copied to the GPU that the host waited for, also from memory that is not pinned.
    """

    scalar_syncs: int = 0
    copies: int = 0
    copied_bytes: int = 0
    blocking_copies: int = 0
    uploads: int = 0
    places: list[str] = field(default_factory=list)


@dataclass
class _Failure:
    """An error to be raised: at the allocation that makes ``after`` 0, inside a function or file named ``within``."""

    error: Callable[[], Exception]
    after: int
    within: str
    times: int
    largest: int


class PretendGpu:
    """State of the one pretend GPU of this process.

    Attributes:
        counts: what has crossed since ``use``.
        mps: whether it behaves like Apple's GPU.
        memory: its bytes; a tensor that does not fit raises ``error``.
        allocated, peak: bytes now, and the most since ``use``.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._storages: set[int] = set()
        self._pinned: set[int] = set()
        self.allocated = 0
        self.active = False
        self.reset()

    def reset(self, memory: int = 1 << 50, mps: bool = False, trace: bool = False) -> None:
        self.counts, self.mps, self.memory, self.peak = Counts(), mps, memory, self.allocated
        self.error, self.trace = OUT_OF_MEMORY["mps" if mps else "cuda"], trace
        self._failures: list[_Failure] = []
        self._pending: list[tuple[torch.Tensor, torch.Tensor]] = []

    def fail(self, kind: str = "cuda", after: int = 1, within: str = "", times: int = 1, largest: int = 0) -> None:
        """Raise an error of ``OUT_OF_MEMORY``.

        Args:
            kind: which one.
            after: at which allocation from now on, counted where ``within`` and ``largest`` hold.
            within: only while this function, file or file:function is running; "" for everywhere.
            times: how often.
            largest: only allocations of more bytes than this.
        """
        self._failures.append(_Failure(OUT_OF_MEMORY[kind], after, within, times, largest))

    def forget_failures(self) -> None:
        self._failures.clear()

    # -- what the wrapper tensor tells ------------------------------------------------------------------------

    def allocate(self, raw: torch.Tensor) -> None:
        storage = raw.untyped_storage()
        with self._lock:
            key, size = storage._cdata, storage.nbytes()
            if key in self._storages:
                return
            self._raise_failures(size)
            if self.allocated + size > self.memory:
                raise self.error()
            self._storages.add(key)
            self.allocated += size
            self.peak = max(self.peak, self.allocated)
            weakref.finalize(storage, self._free, key, size)

    def holds(self, raw: torch.Tensor) -> bool:
        """Whether a tensor of the CPU stands for one of the GPU's."""
        return raw.untyped_storage()._cdata in self._storages

    def pin(self, tensor: torch.Tensor) -> torch.Tensor:
        """A copy of a tensor in pinned memory."""
        copy = tensor.clone()
        key = copy.untyped_storage()._cdata
        self._pinned.add(key)
        weakref.finalize(copy.untyped_storage(), self._pinned.discard, key)
        return copy

    def is_pinned(self, tensor: torch.Tensor) -> bool:
        return tensor.untyped_storage()._cdata in self._pinned

    def _free(self, key: int, size: int) -> None:
        with self._lock:
            self._storages.discard(key)
            self.allocated -= size

    def _raise_failures(self, size: int) -> None:
        for failure in self._failures:
            if not failure.times or size <= failure.largest or not _runs_within(failure.within):
                continue
            failure.after -= 1
            if failure.after <= 0:
                failure.times -= 1
                raise failure.error()

    def note(self, kind: str, size: int = 0, blocking: bool = True) -> None:
        with self._lock:
            counts = self.counts
            if kind == "sync":
                counts.scalar_syncs += 1
            elif kind == "upload":
                counts.uploads += blocking
            else:
                counts.copies += 1
                counts.copied_bytes += size
                counts.blocking_copies += blocking
            if self.trace and blocking:
                counts.places.append(f"{kind}: {_place()}")

    def arrive_later(self, target: torch.Tensor, source: torch.Tensor) -> None:
        """A copy that does not block: garbage until it is waited for."""
        with self._lock:
            self._pending.append((target, source.clone()))
        if target.is_floating_point():
            target.fill_(float("nan"))
        else:
            target.fill_(77)

    def synchronize(self) -> None:
        with self._lock, torch.inference_mode():
            pending, self._pending = self._pending, []
            for target, source in pending:
                target.copy_(source)


gpu = PretendGpu()


def _runs_within(name: str) -> bool:
    frame: Any = sys._getframe(1)
    while name and frame is not None:
        file, function = frame.f_code.co_filename.rpartition("/")[2], frame.f_code.co_name
        if name in (file, function, f"{file}:{function}"):
            return True
        frame = frame.f_back
    return not name


def _place() -> str:
    """Where the program, or diffusers, caused it: the innermost frame outside of torch and of this file."""
    frame: Any = sys._getframe(2)
    while frame is not None:
        path = frame.f_code.co_filename
        if "/torch/" not in path and "/benchmarks/gpu/" not in path:
            return f"{path.rpartition('/')[2]}:{frame.f_lineno} {frame.f_code.co_name}"
        frame = frame.f_back
    return ""
