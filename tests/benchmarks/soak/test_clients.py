"""Clients that work at the same time."""

from __future__ import annotations

import random
import threading

from benchmarks.soak.attackers import Attackers
from benchmarks.soak.clients import working
from benchmarks.soak.record import Record


def test_clients_work_until_the_end_and_errors_are_recorded() -> None:
    notes, over, both = Record(), threading.Event(), threading.Barrier(3)

    def fails(dice: random.Random) -> None:
        notes.did("failed")
        if notes.done["failed"] == 1:
            both.wait(60)
            raise ValueError("wrong")
        over.wait(60)

    def hangs(dice: random.Random) -> None:
        notes.did("hung")
        if notes.done["hung"] == 1:
            both.wait(60)
            raise TimeoutError("late")
        over.wait(60)

    with working([fails, hangs], 1, over, notes):
        both.wait(60)
        while not (notes.faults and notes.hung):
            threading.Event().wait(0.01)
    assert "wrong" in notes.faults[0] and "late" in notes.hung[0] and over.is_set()


def test_there_is_an_attacker_of_each_kind() -> None:
    assert len({kind.__name__ for kind in Attackers(0).kinds}) == 8
