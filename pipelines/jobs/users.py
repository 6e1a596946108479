"""Who a job is for: the owner of this computer, or a guest."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class User:
    """The owner, a guest, or a program on this computer.

    Attributes:
        id: opaque; the same for all requests of one browser.
        owner: whether it is the owner, who may do everything and goes first in the queue.
        unmetered: exempt from a guest's hourly share: the owner, and programs on this computer.
        may_use_api: whether programs may act for this user, or only the page.
    """

    id: str
    owner: bool = False
    unmetered: bool = False
    may_use_api: bool = False

    @property
    def guest(self) -> str | None:
        """The id under which a guest's share is counted; None for users without a limit."""
        return None if self.owner or self.unmetered else self.id


OWNER = User("owner", owner=True, unmetered=True, may_use_api=True)
