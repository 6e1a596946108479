"""Who may decode a picture, and who waits."""

from __future__ import annotations

import threading
from contextlib import ExitStack

import pytest

from pipelines.images.decoding_slots import BUSY, GUEST_SLOTS, MAX_WAITING, OWNER_SLOTS, DecodingSlots
from pipelines.request import InvalidRequest
from tests.support.waiting import wait_for


class Holder:
    """A thread that holds a slot until it is let go."""

    def __init__(self, slots: DecodingSlots, guest: str | None) -> None:
        self.inside, self.let_go, self.problem = threading.Event(), threading.Event(), ""
        self._slots, self._guest = slots, guest
        self.thread = threading.Thread(target=self._hold, daemon=True)
        self.thread.start()

    def _hold(self) -> None:
        try:
            with self._slots.hold(self._guest):
                self.inside.set()
                self.let_go.wait(20)
        except InvalidRequest as problem:
            self.problem = str(problem)

    def end(self) -> None:
        self.let_go.set()
        self.thread.join(20)


def test_a_guest_has_one_slot_and_all_guests_have_few() -> None:
    slots = DecodingSlots(wait_seconds=20)
    first, second = Holder(slots, "a"), Holder(slots, "b")
    assert first.inside.wait(20) and second.inside.wait(20) and GUEST_SLOTS == 2
    again, third = Holder(slots, "a"), Holder(slots, "c")
    wait_for(lambda: len(slots._waiting) == 2)
    assert not again.inside.is_set() and not third.inside.is_set()
    # The second picture of a waits for its first, and holds up no other guest.
    second.end()
    assert third.inside.wait(20) and not again.inside.is_set()
    first.end()
    assert again.inside.wait(20)
    again.end()
    third.end()


def test_the_owners_slots_are_apart() -> None:
    slots = DecodingSlots(wait_seconds=20)
    guests = [Holder(slots, name) for name in "abcd"]
    wait_for(lambda: len(slots._waiting) == 2)
    owner = [Holder(slots, None) for _ in range(OWNER_SLOTS + 1)]
    wait_for(lambda: sum(one.inside.is_set() for one in owner) == OWNER_SLOTS)
    for one in [*owner, *guests]:
        one.end()
    assert all(one.inside.is_set() for one in [*owner, *guests])


def test_a_thread_that_holds_a_slot_needs_no_other() -> None:
    slots = DecodingSlots(wait_seconds=0.01)
    with slots.hold("a"), slots.hold("a"), slots.hold("a"):
        pass
    with slots.hold("b"):
        pass


def test_who_waits_too_long_or_too_often_is_told() -> None:
    slots = DecodingSlots(wait_seconds=0.05)
    holders = [Holder(slots, name) for name in "ab"]
    assert all(one.inside.wait(20) for one in holders)
    with pytest.raises(InvalidRequest, match=BUSY), slots.hold("c"):
        pass
    slots = DecodingSlots(wait_seconds=20)
    with ExitStack() as stack:
        first = Holder(slots, "a")
        stack.callback(first.end)
        assert first.inside.wait(20)
        waiting = [Holder(slots, "a") for _ in range(MAX_WAITING)]
        wait_for(lambda: len(slots._waiting) == MAX_WAITING)
        with pytest.raises(InvalidRequest, match=BUSY), slots.hold("a"):
            pass
        for one in waiting:
            one.let_go.set()
    for one in [*holders, *waiting]:
        one.end()
    assert not slots._waiting and all(one.inside.is_set() for one in waiting)
