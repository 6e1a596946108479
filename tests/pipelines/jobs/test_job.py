"""A job's events, for any number of watchers."""

from __future__ import annotations

import threading
from typing import Any

from tests.support.toy_backend import WAIT, Gate, ask, finish


def test_events_can_be_watched_again_from_any_number(make_backend: Any) -> None:
    job = make_backend().submit(ask())
    events = finish(job)
    assert list(job.events(3)) == events[3:]
    assert job.poll(len(events)) == []
    assert list(job.events(len(events))) == []


def test_watchers_in_many_threads_see_the_same_events(make_backend: Any) -> None:
    gate = Gate(2)
    job = make_backend(on_step=gate).submit(ask())
    seen: list[list[Any]] = []
    watchers = [threading.Thread(target=lambda: seen.append(list(job.events()))) for _ in range(8)]
    for watcher in watchers:
        watcher.start()
    gate.open.set()
    for watcher in watchers:
        watcher.join(WAIT)
    assert len(seen) == 8
    assert all(events == seen[0] for events in seen)
