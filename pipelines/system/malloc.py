"""Limits the memory of a long-running server: glibc's arenas, and the objects that Python's collector traverses.

glibc gives every thread an arena and keeps freed memory in it.  In a server whose many threads hold images, unused
memory grows to hundreds of megabytes.
"""

from __future__ import annotations

import ctypes
import gc
import sys

# From malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
_ARENAS = 2
# Blocks of this size and above come from mmap, and return to the system as soon as they are freed.
_MMAP_BYTES = 256 * 1024


def limit_arenas() -> None:
    """Share two arenas among all threads, with large blocks outside; call it before threads start.  glibc only."""
    if libc := _glibc():
        libc.mallopt(_M_ARENA_MAX, _ARENAS)
        libc.mallopt(_M_MMAP_THRESHOLD, _MMAP_BYTES)
        libc.mallopt(_M_TRIM_THRESHOLD, 2 * _MMAP_BYTES)


def release_free_memory() -> None:
    """Return freed memory to the system; takes some milliseconds.  glibc only."""
    if libc := _glibc():
        libc.malloc_trim(0)


def freeze_garbage_collector() -> None:
    """Exempt all present objects, which libraries keep for good, from garbage collection.

    With half a million of them in the oldest generation, collections of unreachable cycles become rare.
    """
    gc.collect()
    gc.freeze()


def _glibc() -> ctypes.CDLL | None:
    if not sys.platform.startswith("linux"):
        return None
    libc = ctypes.CDLL(None)
    return libc if hasattr(libc, "mallopt") and hasattr(libc, "malloc_trim") else None
