"""A dictionary that forgets its least recently used entries."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, MutableMapping
from typing import TypeVar

K = TypeVar("K")
V = TypeVar("V")


class LruDict(MutableMapping[K, V]):
    """A dictionary bounded in number or in bytes; the newest entry always stays.  Not thread-safe.

    Reading or setting an entry marks it as used; ``in`` and iteration (least recently used first) do not.

    Args:
        max_entries: how many entries are kept; None for any number.
        max_bytes: how many bytes are kept, by ``size``; None for any number.
        size: bytes of a value, measured once, when it is set.
    """

    def __init__(
        self, max_entries: int | None = None, max_bytes: int | None = None, size: Callable[[V], int] = lambda _: 0
    ) -> None:
        self._max_entries, self._max_bytes, self._size = max_entries, max_bytes, size
        self._entries: OrderedDict[K, tuple[V, int]] = OrderedDict()
        self.nbytes = 0

    def __getitem__(self, key: K) -> V:
        value, _ = self._entries[key]
        self._entries.move_to_end(key)
        return value

    def __setitem__(self, key: K, value: V) -> None:
        self.pop(key, None)
        size = self._size(value)
        self._entries[key] = (value, size)
        self.nbytes += size
        while len(self) > 1 and self._is_full():
            del self[next(iter(self))]

    def __delitem__(self, key: K) -> None:
        self.nbytes -= self._entries.pop(key)[1]

    def __contains__(self, key: object) -> bool:
        return key in self._entries

    def __iter__(self) -> Iterator[K]:
        return iter(tuple(self._entries))  # reading an entry while iterating reorders them

    def __len__(self) -> int:
        return len(self._entries)

    def _is_full(self) -> bool:
        too_many = self._max_entries is not None and len(self) > self._max_entries
        return too_many or (self._max_bytes is not None and self.nbytes > self._max_bytes)
