"""What the page asks of the history: the fields of an event, read with bounds."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from history.search import Filters
from pipelines.system.text import printable
from ui.components.gradio_events import event_value
from ui.tabs.history.transfer import Transfers

if TYPE_CHECKING:
    from collections.abc import Mapping

    import gradio as gr

    from history.store import History
    from pipelines.jobs.users import User
    from ui.context import PageContext

# Characters of a field, entries of a question, and tags that it adds.
MAX_TEXT, MAX_IDS, MAX_NEW_TAGS = 300, 500, 20


@dataclass(frozen=True, eq=False)
class Question:
    """One question of a user.

    Attributes:
        page: of the tab.
        history: what was made.
        user: who asks.
        event: its fields come from the browser: anything may stand in them.
        transfers: imports and exports of all users.
    """

    page: PageContext
    history: History
    user: User
    event: gr.EventData
    transfers: Transfers = field(default_factory=Transfers)

    def text(self, name: str) -> str:
        """A field's text, "" for none."""
        return text_of(event_value(self.event, name, ""))

    def flag(self, name: str) -> bool:
        """Whether a field is true."""
        return event_value(self.event, name, False) is True

    def number(self, name: str, most: int) -> int:
        """A field's whole number from 0 to ``most``; 0 for anything else."""
        found = finite(event_value(self.event, name, 0))
        return int(min(max(found or 0, 0), most))

    def texts(self, name: str, most: int) -> list[str]:
        """A field's list of texts, at most so many."""
        found = event_value(self.event, name, [])
        return [text_of(each) for each in found[:most] if text_of(each)] if isinstance(found, list) else []

    @property
    def ids(self) -> list[str]:
        """The entries that it is about."""
        return self.texts("ids", MAX_IDS)

    @property
    def filters(self) -> Filters:
        """Which entries are wanted."""
        found = event_value(self.event, "filters", {})
        return filters_of(found if isinstance(found, dict) else {}, self.user)


def filters_of(given: Mapping[str, Any], user: User) -> Filters:
    """Filters from a browser's values; only the owner may ask for one user's entries."""
    words = {name: text_of(given.get(name)) for name in ("text", "model", "scheduler", "kind", "tag")}
    return Filters(
        **words,
        size=size_of(text_of(given.get("size"))),
        after=finite(given.get("after")),
        before=finite(given.get("before")),
        favourite=given.get("favourite") is True,
        user=text_of(given.get("user")) if user.owner else "",
        in_bin=given.get("bin") is True,
    )


def text_of(value: Any) -> str:
    """A value's text that can be written as UTF-8, at most ``MAX_TEXT`` characters; "" for anything else."""
    return printable(value[:MAX_TEXT]).replace("\0", "") if isinstance(value, str) else ""


def size_of(text: str) -> tuple[int, int] | None:
    """Width and height of "64x48"."""
    sides = text.split("x")
    fits = len(sides) == 2 and all(side.isascii() and side.isdigit() and len(side) <= 6 for side in sides)
    return (int(sides[0]), int(sides[1])) if fits else None


def finite(value: Any) -> float | None:
    """A number that is neither endless nor too large for a float; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:
        return None
