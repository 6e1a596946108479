"""Clients that work at the same time until they are told to stop."""

from __future__ import annotations

import random
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from benchmarks.soak.record import Record

# A job that takes longer hangs: every job here takes some seconds.
JOB_SECONDS = 180.0

Work = Callable[[random.Random], Any]


@contextmanager
def working(
    works: Sequence[Work], seed: int, over: threading.Event, notes: Record, patience: float = JOB_SECONDS
) -> Iterator[None]:
    """Do all works, each in a thread, for as long as the context lasts; after an error a work begins again.

    Args:
        works: each is given random numbers of its own and ends soon after ``over`` is set.
        seed: of the random numbers.
        over: is set at the end of the context.
        notes: where errors are recorded, and works that never end.
        patience: seconds in which all works must end; 0 leaves them to themselves.
    """
    threads = [
        threading.Thread(target=_repeat, args=(work, random.Random(f"{seed} {k}"), over, notes), daemon=True)
        for k, work in enumerate(works)
    ]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        over.set()
        end = time.monotonic() + patience
        for thread in threads:
            thread.join(max(0.0, end - time.monotonic()))
        late = threads if patience else []
        notes.hung += [f"{thread.name} never ended" for thread in late if thread.is_alive()]


def _repeat(work: Work, dice: random.Random, over: threading.Event, notes: Record) -> None:
    while not over.is_set():
        try:
            work(dice)
            return
        except TimeoutError:
            notes.hung.append(traceback.format_exc(limit=-3))
        except Exception:
            if not over.is_set():
                notes.faults.append(traceback.format_exc(limit=-3))
        time.sleep(1)
