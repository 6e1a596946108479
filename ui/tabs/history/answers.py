"""Answers to what the page asks of the history, each by the name of its question."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from history.database import HistoryUnavailable
from pipelines.request_errors import TRY_AGAIN
from pipelines.system.guest_bytes import NoBytesLeft
from pipelines.system.text import hide_paths
from ui.components.next_steps import next_step
from ui.server.current_user import current_user
from ui.tabs.history import comparison, detail, disk, grid, recipe, transfers
from ui.tabs.history.question import MAX_NEW_TAGS, Question
from ui.tabs.history.transfer import Transfers

if TYPE_CHECKING:
    import gradio as gr

    from ui.context import PageContext

Answer = dict[str, Any]
NOT_KEPT = "This program keeps no list of what was made; the pictures are in its folder."
UNKNOWN = "This page is older than the program; reload it."


def answer(page: PageContext, event: gr.EventData, moving: Transfers) -> Answer:
    """The answer to an event, with the number of its question; what goes wrong is one sentence in ``problem``.

    Where the same question may succeed a moment later, ``next`` is the button for it.
    """
    if page.history is None:
        return {"ask": "", "problem": NOT_KEPT}
    question = Question(page, page.history, current_user(), event, moving)
    find = ANSWERS.get(question.text("do"))
    try:
        found = find(question) if find else {"problem": UNKNOWN}
    except NoBytesLeft as problem:
        found = {"problem": str(problem)}
    except HistoryUnavailable as problem:
        found = {"problem": str(problem), "next": next_step(TRY_AGAIN)}
    except OSError as error:
        said = f"A file could not be read or written ({hide_paths(str(error.strerror))}); try again."
        found = {"problem": said, "next": next_step(TRY_AGAIN)}
    return {**found, "ask": question.text("ask")}


def set_favourite(question: Question) -> Answer:
    """Mark entries as favourites, or no longer."""
    return {"done": question.history.set_favourite(question.user, question.ids, question.flag("on"))}


def set_tags(question: Question) -> Answer:
    """Add tags to entries and remove others; the tags of the first entry afterwards."""
    add, remove = question.texts("add", MAX_NEW_TAGS), question.texts("remove", MAX_NEW_TAGS)
    done = question.history.set_tags(question.user, question.ids, add, remove)
    first = question.history.detail(question.user, question.ids[0]) if question.ids else None
    return {"done": done, "tags": list(first.tags) if first else []}


def delete(question: Question) -> Answer:
    """Put entries into the bin; the ids of those that were."""
    return {"done": list(question.history.bin.delete(question.user, question.ids))}


def restore(question: Question) -> Answer:
    """Take entries out of the bin; the ids of those that were."""
    return {"done": list(question.history.bin.restore(question.user, question.ids))}


def empty(question: Question) -> Answer:
    """Delete entries of the bin for good: those that are named, or all."""
    ids = None if question.flag("all") else question.ids
    return {"done": question.history.bin.empty(question.user, ids)}


ANSWERS: Mapping[str, Callable[[Question], Answer]] = {
    "page": grid.page_of_entries,
    "count": grid.count,
    "choices": grid.choices,
    "entry": detail.entry_value,
    "compare": comparison.comparison,
    "recipe": recipe.recipe_file,
    "replay": recipe.replay,
    "replayed": recipe.replayed,
    "stop-replay": recipe.stop_replay,
    "favourite": set_favourite,
    "tags": set_tags,
    "delete": delete,
    "restore": restore,
    "empty": empty,
    "disk": disk.disk_use,
    "retention": disk.set_retention,
    "export": transfers.start_export,
    "import": transfers.start_import,
    "progress": transfers.progress,
}
