"""Freed memory returns to the system, and the garbage collector skips libraries; each test in its own process."""

from __future__ import annotations

import subprocess
import sys

import pytest

from pipelines.system.paths import PROJECT

FREED_MEMORY = """
import psutil
from pipelines.system import malloc
malloc.limit_arenas()
rss = lambda: psutil.Process().memory_info().rss / 2**20
before = rss()
kept = [bytes(20_000) for _ in range(5000)]
full = rss()
pins = kept[::50]
del kept
malloc.release_free_memory()
print(full - before, rss() - before)
"""

FREEZE = """
import gc, json, weakref
from pipelines.system import malloc
class Cycle: pass
left = Cycle(); left.me = left; gone = weakref.ref(left); del left
malloc.freeze_garbage_collector()
assert gone() is None, "an unreachable cycle is collected before the freeze"
assert gc.get_freeze_count() > 1000
late = Cycle(); late.me = late; gone = weakref.ref(late); del late
gc.collect()
assert gone() is None, "a later cycle is collected as before"
"""


def run(code: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=True, timeout=60
    ).stdout


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's heaps")
def test_freed_memory_returns_to_the_system() -> None:
    full, left = map(float, run(FREED_MEMORY).split())
    assert full > 80
    assert left < full / 4


def test_only_objects_that_exist_already_are_frozen() -> None:
    run(FREEZE)
