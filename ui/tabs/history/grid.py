"""The grid of pictures: pages of entries, search and filters, and the bin."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from history.search import MAX_COUNTED, match_expression
from ui.tabs.history import detail
from ui.tabs.history.question import Question
from ui.tabs.history.star import STAR

if TYPE_CHECKING:
    from history.entries import Entry
    from pipelines.jobs.users import User

Answer = dict[str, Any]
_SELECTS = "".join(
    f'<label><span class="aside">{label}</span><select data-filter="{name}"{hidden}></select></label>'
    for name, label, hidden in (
        ("model", "Model", ""), ("scheduler", "Scheduler", ""), ("size", "Size", ""), ("kind", "Kind", ""),
        ("tag", "Tag", " hidden"), ("user", "Made by", " hidden"),
    )
)  # fmt: skip
TEMPLATE = f"""
<section class="browse" data-part="browse" aria-label="Pictures">
  <header class="tools">
    <button type="button" class="quiet" data-do="leave-bin" hidden>&larr; All pictures</button>
    <h2 data-part="bin-title" hidden>Bin</h2>
    <label class="find"><span class="aside">Search prompts, models and tags</span>
      <input type="search" data-part="search" placeholder="Search prompts, models and tags" maxlength="300"
        autocomplete="off" spellcheck="false"></label>
    <p class="count" data-part="count" role="status"></p>
    <button type="button" class="quiet fold" data-do="filters" aria-expanded="false">Filters</button>
    <button type="button" class="quiet" data-do="select" aria-pressed="false">Select</button>
    <button type="button" class="quiet" data-do="bin">Bin</button>
    <button type="button" class="quiet" data-do="read"
      title="See the settings in the file of a picture; you can also drop it on the page">Read a picture</button>
    <button type="button" class="quiet" data-do="import" aria-haspopup="dialog" hidden>Import</button>
    <button type="button" class="quiet" data-do="disk" aria-haspopup="dialog" hidden>Disk</button>
    <button type="button" class="quiet" data-do="empty" hidden>Empty the bin</button>
  </header>
  <div class="second">
    <div class="filters" data-part="filters" role="group" aria-label="Filters">
      {_SELECTS}
      <label><span class="aside">Date</span><select data-part="date">
        <option value="">Any date</option><option value="1">Today</option><option value="7">Last 7 days</option>
        <option value="30">Last 30 days</option><option value="365">Last 12 months</option>
        <option value="range">From ... to ...</option></select></label>
      <span class="range" data-part="range" hidden>
        <label>from <input type="date" data-part="from"></label>
        <label>to <input type="date" data-part="to"></label></span>
      <button type="button" class="quiet star" data-do="favourites" aria-pressed="false">{STAR}Favourites</button>
      <button type="button" class="link" data-do="clear" hidden>Clear filters</button>
    </div>
    <div class="chosen" data-part="chosen" role="group" aria-label="Selected pictures" hidden>
      <b data-part="chosen-count" role="status"></b>
      <button type="button" class="quiet" data-do="compare">Compare</button>
      <button type="button" class="quiet star" data-do="favourite">{STAR}Favourite</button>
      <form data-part="tagging"><label><span class="aside">Tag to add</span>
        <input type="text" data-part="tag" placeholder="Add a tag" maxlength="60" autocomplete="off"></label>
        <button type="submit" class="quiet">Add</button></form>
      <button type="button" class="quiet" data-do="export">Export</button>
      <button type="button" class="quiet" data-do="delete">Delete</button>
      <button type="button" class="quiet" data-do="restore" hidden>Restore</button>
      <button type="button" class="quiet" data-do="erase" hidden>Delete for good</button>
      <button type="button" class="link" data-do="clear-selection">Clear selection</button>
    </div>
  </div>
  <div class="scroll" data-part="scroll">
    <div class="tiles" data-part="tiles" role="listbox" aria-multiselectable="true"
      aria-label="Pictures, newest first"></div>
    <div class="nothing" data-part="nothing" hidden><canvas width="48" height="48" aria-hidden="true"></canvas>
      <p data-part="nothing-text"></p>
      <button type="button" class="quiet" data-do="clear" hidden>Clear filters</button></div>
  </div>
</section>
"""


def page_of_entries(question: Question) -> Answer:
    """Entries of one page, and the cursor of the next, "" for none."""
    found = question.history.catalogue.page(question.user, question.filters, question.text("cursor"))
    return {"entries": [row_of(each, question.user) for each in found.entries], "cursor": found.cursor}


def count(question: Question) -> Answer:
    """How many entries there are in all; ``more`` where there are more than were counted."""
    found = question.history.catalogue.count(question.user, question.filters)
    more = bool(match_expression(question.filters.text)) and found > MAX_COUNTED
    return {"total": MAX_COUNTED if more else found, "more": more}


def choices(question: Question) -> Answer:
    """What the filters offer, as (value, label, count)."""
    user, cards = question.user, question.page.cards
    found = question.history.catalogue.choices(user)
    offered = {
        name: [[each.value, detail.label_of(name, each.value, cards), each.count] for each in values]
        for name, values in found.items()
        if name != "user"
    }
    return {"choices": offered, "users": users(found["user"], user) if user.owner else [], "owner": user.owner}


def users(found: list[Any], owner: User) -> list[list[Any]]:
    """Who made entries, as (id, label, count); [] unless others than the owner did."""
    others = [each for each in found if each.value != owner.id]
    guests = [[each.value, f"Guest {k + 1}", each.count] for k, each in enumerate(others)]
    mine = [[each.value, "You", each.count] for each in found if each.value == owner.id]
    return [*mine, *guests] if guests else []


def row_of(entry: Entry, user: User) -> Answer:
    """An entry as the grid shows it."""
    return {
        "id": entry.id,
        "title": entry.title,
        "kind": entry.kind,
        "made": entry.created,
        "size": [entry.width, entry.height],
        "favourite": entry.favourite,
        "picture": bool(entry.file) and not entry.missing,
        **detail.run_of(entry, user),
        "guest": entry.guest and user.owner,
    }
