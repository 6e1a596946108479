"""What the history takes of the disk, and the rule by which old pictures go into the bin; for the owner alone."""

from __future__ import annotations

from typing import Any

from history.bin import DiskUse, Retention
from ui.tabs.history.detail import size_words
from ui.tabs.history.question import Question

TEMPLATE = """
<dialog class="disk" data-part="disk-dialog" aria-label="Disk use">
  <header><h2>Disk use</h2><button type="button" class="quiet" data-do="close-disk" autofocus>Close</button></header>
  <dl data-part="disk-rows"></dl>
  <form data-part="rule"><h3>Move old pictures to the bin</h3>
    <p class="sentence">Off unless you set it. Favourites and tagged pictures always stay.</p>
    <label>older than
      <input type="number" data-part="days" min="0" max="36500" step="1" placeholder="never"> days</label>
    <label>beyond
      <input type="number" data-part="megabytes" min="0" step="1" placeholder="no limit"> MB, oldest first</label>
    <button type="submit" class="quiet">Save the rule</button>
    <p class="sentence" role="status" data-part="rule-said"></p></form>
</dialog>
"""
OWNER_ONLY = "Only the owner of this computer sees and changes this."
MAX_DAYS, MAX_MEGABYTES = 36_500, 10**9
SAVED = "Saved. Pictures that go into the bin by this rule can be restored for 30 days."
OFF = "Saved. Pictures stay until you delete them."


def disk_use(question: Question) -> dict[str, Any]:
    """What takes how much, and the rule that is set."""
    if not question.user.owner:
        return {"problem": OWNER_ONLY}
    rule = question.history.bin.retention
    return {"rows": use_rows(question.history.bin.disk_use()), "days": rule.days, "megabytes": rule.megabytes}


def set_retention(question: Question) -> dict[str, Any]:
    """Set the rule; 0 turns a part of it off."""
    if not question.user.owner:
        return {"problem": OWNER_ONLY}
    rule = Retention(question.number("days", MAX_DAYS), question.number("megabytes", MAX_MEGABYTES))
    question.history.bin.set_retention(rule)
    return {"days": rule.days, "megabytes": rule.megabytes, "said": SAVED if rule.days or rule.megabytes else OFF}


def use_rows(use: DiskUse) -> list[list[str]]:
    """What takes how much, as (name, size)."""
    count, in_bin = (f"{n:,} picture{'s' * (n != 1)}" for n in (use.count, use.bin_count))
    return [
        [f"{count}", size_words(use.pictures)],
        [f"Bin, {in_bin}", size_words(use.bin)],
        ["Recorded steps", size_words(use.traces)],
        ["Thumbnails and strips", size_words(use.thumbnails + use.strips)],
        ["Database", size_words(use.database)],
        ["Free on this disk", size_words(use.free)],
    ]
