"""A cache of rendered lens frames, shared by the inspector, the exports and the API."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from pipelines.system.lru import LruDict

if TYPE_CHECKING:
    from pipelines.trace.trace import Trace

MAX_BYTES = 64 * 1024 * 1024


class FrameCache:
    """Lenses that were rendered before, as data URIs, bounded in bytes.  Thread-safe.

    Args:
        limit: bytes.
        ready: the lenses of recorded runs, which are always kept, by id of the trace, picture and lens.
    """

    def __init__(self, limit: int = MAX_BYTES, ready: Mapping[tuple[str, int, str], list[str]] | None = None) -> None:
        self._ready = dict(ready or {})
        self._frames: LruDict[tuple[str, int, str], list[str]] = LruDict(max_bytes=limit, size=_size)
        self._lock = threading.Lock()

    def get(self, trace: Trace, k: int, name: str) -> list[str] | None:
        """The frames of a lens for picture ``k``, or None."""
        key = (trace.id, k, name)
        with self._lock:
            return self._ready.get(key) or self._frames.get(key)

    def put(self, trace: Trace, k: int, name: str, frames: list[str]) -> None:
        """Keep the frames of a lens."""
        with self._lock:
            self._frames[trace.id, k, name] = frames


def _size(frames: Sequence[str]) -> int:
    return sum(len(uri) for uri in frames)
