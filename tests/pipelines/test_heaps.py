"""Freed memory goes back to the system, and the collector passes over libraries: each in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

GIVEN_BACK = """
import psutil
from pipelines import heaps
heaps.settle()
rss = lambda: psutil.Process().memory_info().rss / 2**20
before = rss()
kept = [bytes(20_000) for _ in range(5000)]
full = rss()
pins = kept[::50]
del kept
heaps.give_back()
print(full - before, rss() - before)
"""

SET_ASIDE = """
import gc, json, weakref
from pipelines import heaps
class Ring: pass
left = Ring(); left.me = left; gone = weakref.ref(left); del left
heaps.set_aside()
assert gone() is None, "what was left over went first"
assert gc.get_freeze_count() > 1000
late = Ring(); late.me = late; gone = weakref.ref(late); del late
gc.collect()
assert gone() is None, "what comes later is collected as ever"
"""


def run(code: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60
    ).stdout


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's heaps")
def test_what_was_freed_goes_back_to_the_system() -> None:
    full, left = map(float, run(GIVEN_BACK).split())
    assert full > 80
    assert left < full / 4


def test_what_is_there_is_set_aside_and_nothing_else() -> None:
    run(SET_ASIDE)
