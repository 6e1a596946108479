"""Keeps the process from growing for nothing: the C library's heaps, and what Python's collector goes through.

glibc gives every thread a heap of its own and keeps what was freed in it.  A server whose threads come and go, each
with pictures in its hands, ends up with hundreds of megabytes that nobody uses.
"""

from __future__ import annotations

import ctypes
import gc
import sys

# Of malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
_HEAPS = 2
# Blocks from this size on come from the system and go back to it at once.
_LARGE = 256 * 1024


def settle() -> None:
    """Two heaps for all threads, and large blocks outside of them; before threads start, and where there is glibc."""
    if libc := _glibc():
        libc.mallopt(_M_ARENA_MAX, _HEAPS)
        libc.mallopt(_M_MMAP_THRESHOLD, _LARGE)
        libc.mallopt(_M_TRIM_THRESHOLD, 2 * _LARGE)


def give_back() -> None:
    """Hand what was freed back to the system; takes some milliseconds."""
    if libc := _glibc():
        libc.malloc_trim(0)


def set_aside() -> None:
    """Have the collector pass over all that is there now: libraries, which stay, and hide what is really left over.

    With half a million objects of libraries in the oldest generation, rings of objects wait there for very long.
    """
    gc.collect()
    gc.freeze()


def _glibc() -> ctypes.CDLL | None:
    if not sys.platform.startswith("linux"):
        return None
    libc = ctypes.CDLL(None)
    return libc if hasattr(libc, "mallopt") and hasattr(libc, "malloc_trim") else None
