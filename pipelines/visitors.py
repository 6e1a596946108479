"""Who asks: the owner of this computer, or a guest."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Visitor:
    """Somebody who asks for pictures.

    Attributes:
        id: opaque; the same for all that one browser does.
        owner: whether it is the owner, who may do everything and goes first.
        free: whether no share of the hour is counted: the owner, and programs of this computer.
        programs: whether programs may ask for this visitor (the API), or the page alone.
    """

    id: str
    owner: bool = False
    free: bool = False
    programs: bool = False


OWNER = Visitor("owner", owner=True, free=True, programs=True)
