"""Two entries side by side: which of their settings differ."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ui.tabs.history.detail import GONE, facts, settings
from ui.tabs.history.question import Question

if TYPE_CHECKING:
    from history.entries import EntryDetail
    from ui.tabs.history.detail import Cards

TEMPLATE = """
<section class="two" data-part="compare" aria-label="Compare two pictures" hidden>
  <header class="tools"><button type="button" class="quiet" data-do="back">&larr; All pictures</button>
    <h2>Compare</h2><span class="grow"></span>
    <label class="check"><input type="checkbox" data-part="only" checked> Only what differs</label></header>
  <div class="open">
    <div class="seen">
      <div class="mat" data-part="over"><img data-part="under" alt=""><img data-part="top" alt="">
        <i aria-hidden="true"></i></div>
      <input type="range" data-part="divide" min="0" max="100" value="50"
        aria-label="How much of picture A covers picture B">
      <p class="sides"><span><b class="mark">A</b> <span data-part="name-a"></span></span>
        <span><span data-part="name-b"></span> <b class="mark">B</b></span></p>
    </div>
    <div class="known" tabindex="0" role="region" aria-label="Settings of both">
      <p class="sentence" data-part="same"></p>
      <table><thead><tr><th scope="col">Setting</th><th scope="col">A</th><th scope="col">B</th></tr></thead>
        <tbody data-part="rows"></tbody></table>
    </div>
  </div>
</section>
"""
NONE = "\u2013"
CHOOSE_TWO = "Choose two pictures to compare."


def comparison(question: Question) -> dict[str, Any]:
    """The two entries that a question names, with every setting of either."""
    if len(question.ids) != 2:
        return {"problem": CHOOSE_TWO}
    found = [question.history.detail(question.user, each) for each in question.ids]
    if found[0] is None or found[1] is None:
        return {"problem": GONE}
    pictures = [
        {
            "id": each.entry.id, "title": each.entry.title, "made": each.entry.created,
            "size": [each.entry.width, each.entry.height], "picture": each.picture is not None,
        }
        for each in found if each
    ]  # fmt: skip
    return {"pictures": pictures, "rows": compared_rows(found[0], found[1], question.page.cards)}


def compared_rows(one: EntryDetail, other: EntryDetail, cards: Cards) -> list[dict[str, Any]]:
    """Each setting with both values; those that differ come first."""
    sides = [{name: (label, value) for name, label, value in rows_of(each, cards)} for each in (one, other)]
    rows = []
    for name in dict.fromkeys([*sides[0], *sides[1]]):
        label = (sides[0].get(name) or sides[1][name])[0]
        values = [side[name][1] if name in side else NONE for side in sides]
        rows.append({"label": label, "values": values, "differs": values[0] != values[1]})
    return sorted(rows, key=lambda row: not row["differs"])


def rows_of(found: EntryDetail, cards: Cards) -> list[tuple[str, str, str]]:
    """The rows of one side: prompt, settings, and how it was made."""
    prompt = found.request.prompt_of(found.entry.place) if found.request else found.entry.title
    made = [(f"fact {name}", label, value) for name, label, value in facts(found) if name not in ("bytes", "seconds")]
    return [("prompt", "Prompt", prompt), *settings(found, cards), *made]
