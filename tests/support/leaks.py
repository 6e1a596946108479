"""How much memory a piece of work leaves behind, measured so that other tests in the same process do not matter."""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Callable
from dataclasses import dataclass

import psutil
import torch

from pipelines.system import malloc

_FIELDS = ("arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost")


class _Mallinfo2(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in _FIELDS]


@dataclass(frozen=True)
class Growth:
    """What grew: bytes in use, and tensors that are alive."""

    bytes: int
    tensors: int


def lasting_growth(work: Callable[[], None]) -> Growth:
    """What grows each time that ``work`` is done: the smaller growth of two times; a leak is in both.

    What grows once is no leak: a cache that fills, or another thread that stores something meanwhile.
    """
    before = _now()
    work()
    between = _now()
    work()
    after = _now()
    first, second = (Growth(b.bytes - a.bytes, b.tensors - a.tensors) for a, b in ((before, between), (between, after)))
    return Growth(min(first.bytes, second.bytes), min(first.tensors, second.tensors))


def _now() -> Growth:
    gc.collect()
    tensors = sum(issubclass(type(thing), torch.Tensor) for thing in gc.get_objects())
    return Growth(_bytes_in_use(), tensors)


def _bytes_in_use() -> int:
    """Bytes that were allocated and not freed; where that is unknown, the memory that the system counts.

    Not the resident set: it also holds what is freed but cannot be returned, the more of it the longer a process has
    run other tests.
    """
    malloc.release_free_memory()
    try:
        mallinfo2 = ctypes.CDLL(None).mallinfo2  # glibc 2.33 and above
    except (AttributeError, OSError, TypeError):
        return psutil.Process().memory_info().rss
    mallinfo2.restype = _Mallinfo2
    found = mallinfo2()
    return int(found.uordblks + found.hblkhd)
