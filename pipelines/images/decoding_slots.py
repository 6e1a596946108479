"""How many pictures are decoded and fitted, or files exported, at once: each takes much memory for a moment."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from pipelines.request import InvalidRequest

# Pictures at once: of all guests (each has one), and of the owner.
GUEST_SLOTS, OWNER_SLOTS = 2, 2
# How long a picture waits for its slot, and how many of one guest wait.
WAIT_SECONDS, MAX_WAITING = 30.0, 8
BUSY = "Other pictures are being read or saved just now; try again in a moment."


class DecodingSlots:
    """One slot of each guest and few in all; the owner's are apart.  Waiting guests go in order.  Thread-safe.

    Args:
        wait_seconds: how long a picture waits for its slot.
    """

    def __init__(self, wait_seconds: float = WAIT_SECONDS) -> None:
        self._wait_seconds = wait_seconds
        self._changed = threading.Condition()
        # By thread, so that a function that holds a slot may call another one that needs it.
        self._holders: dict[int, str | None] = {}
        self._waiting: list[tuple[int, str | None]] = []

    @contextmanager
    def hold(self, guest: str | None) -> Iterator[None]:
        """Hold a slot for as long as the context lasts; within another one of the same thread it costs nothing.

        Args:
            guest: id of the guest; None for the owner.

        Raises:
            InvalidRequest: if none became free in time.
        """
        thread = threading.get_ident()
        if thread in self._holders:
            yield
            return
        self._take(thread, guest)
        try:
            yield
        finally:
            with self._changed:
                del self._holders[thread]
                self._changed.notify_all()

    def _take(self, thread: int, guest: str | None) -> None:
        ticket = (thread, guest)
        with self._changed:
            if guest is not None and sum(other == guest for _, other in self._waiting) >= MAX_WAITING:
                raise InvalidRequest("image", BUSY)
            self._waiting.append(ticket)
            try:
                until = time.monotonic() + self._wait_seconds
                if not self._changed.wait_for(lambda: self._is_next(ticket), until - time.monotonic()):
                    raise InvalidRequest("image", BUSY)
                self._holders[thread] = guest
            finally:
                self._waiting.remove(ticket)
                self._changed.notify_all()

    def _is_next(self, ticket: tuple[int, str | None]) -> bool:
        """Whether a slot is free for this ticket, and no earlier one could take it."""
        guest = ticket[1]
        earlier = self._waiting[: self._waiting.index(ticket)]
        if guest is None:
            free = OWNER_SLOTS - sum(holder is None for holder in self._holders.values())
            return free > sum(other is None for _, other in earlier)
        running = {holder for holder in self._holders.values() if holder is not None}
        before = {other for _, other in earlier if other is not None and other not in running}
        return guest not in running and guest not in before and GUEST_SLOTS - len(running) > len(before)
