"""What an event carries is read with bounds, whatever it is."""

from __future__ import annotations

from typing import Any

import pytest

from pipelines.jobs.users import OWNER
from tests.support.history_entries import GUEST
from ui.tabs.history import grid
from ui.tabs.history.question import MAX_IDS, MAX_TEXT, filters_of, finite, size_of, text_of


def test_filters_of_a_page() -> None:
    given = {"text": "fox", "model": "pocket", "size": "64x48", "after": 5, "favourite": True, "user": "u", "bin": True}
    found = filters_of(given, OWNER)
    assert (found.text, found.model, found.size, found.after, found.before) == ("fox", "pocket", (64, 48), 5.0, None)
    assert found.favourite and found.in_bin and found.user == "u"
    assert filters_of(given, GUEST).user == ""


@pytest.mark.parametrize("value", [None, 7, True, [], {}, "x" * 9000, "\ud800\0", float("nan"), 10**400, float("inf")])
def test_anything_may_stand_in_a_field(question, value: Any) -> None:
    names = ("text", "model", "scheduler", "kind", "tag", "size", "after", "before", "favourite", "user", "bin")
    asked = question(filters=dict.fromkeys(names, value), cursor=value, ids=[value] * 3, do=value)
    assert grid.page_of_entries(asked)["entries"] == []
    assert all(len(each) <= MAX_TEXT for each in asked.ids)
    assert grid.count(question(filters=value)) == {"total": 0, "more": False}


def test_bounds() -> None:
    assert text_of("x" * 999) == "x" * MAX_TEXT and text_of("\ud800") == "\ufffd" and text_of("a\0b") == "ab"
    assert size_of("64x64") == (64, 64) and size_of("64x") is None and size_of("\u0661x1") is None
    assert finite(float("nan")) is None and finite(10**400) is None and finite(True) is None and finite(3) == 3.0


def test_a_question_names_a_bounded_number_of_entries(question) -> None:
    assert len(question(ids=["a"] * 9000).ids) == MAX_IDS and question(ids="abc").ids == []
    assert question(days=-5).number("days", 9) == 0 and question(days=1e300).number("days", 9) == 9
