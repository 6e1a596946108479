"""The bounded dictionary: what it forgets, and what counts as use."""

from __future__ import annotations

from pipelines.system.lru import LruDict


def test_the_least_recently_used_entry_is_forgotten() -> None:
    cache: LruDict[str, int] = LruDict(max_entries=2)
    cache["a"], cache["b"] = 1, 2
    assert cache["a"] == 1 and "b" in cache
    cache["c"] = 3
    assert list(cache) == ["a", "c"] and cache.get("b") is None
    cache["a"] = 4
    assert dict(cache) == {"c": 3, "a": 4}


def test_asking_for_a_key_is_no_use() -> None:
    cache: LruDict[str, int] = LruDict(max_entries=2)
    cache["a"], cache["b"] = 1, 2
    assert "a" in cache
    cache["c"] = 3
    assert "a" not in cache


def test_bytes_are_bounded_and_the_newest_entry_stays() -> None:
    cache: LruDict[str, bytes] = LruDict(max_bytes=10, size=len)
    cache["a"], cache["b"] = b"12345", b"12345"
    cache["a"] = b"1234"
    assert cache.nbytes == 9
    cache["c"] = b"12"
    assert list(cache) == ["a", "c"] and cache.nbytes == 6
    cache["large"] = bytes(100)
    assert list(cache) == ["large"]
    cache["x"] = b""
    assert list(cache) == ["x"] and cache.nbytes == 0
    del cache["x"]
    assert not cache


def test_setdefault_keeps_and_refreshes_an_entry() -> None:
    cache: LruDict[str, int] = LruDict(max_entries=2)
    cache["a"], cache["b"] = 1, 2
    assert cache.setdefault("a", 9) == 1
    assert cache.setdefault("c", 3) == 3
    assert list(cache) == ["a", "c"]
