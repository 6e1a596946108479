"""Who asks: the owner of this computer, or a guest."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Visitor:
    """Somebody who asks for pictures.

    Attributes:
        id: opaque; the same for all that one browser does.
        owner: whether it is the owner, who may do everything and goes first.
    """

    id: str
    owner: bool = False


OWNER = Visitor("owner", owner=True)
