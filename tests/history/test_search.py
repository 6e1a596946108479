"""Filters, full-text search, and pages by a cursor."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from history import search
from history.search import Filters, match_expression
from history.store import History
from pipelines.jobs.users import OWNER
from tests.support.history_entries import GUEST

Make = Callable[..., str]


def found(history: History, **filters: Any) -> list[str]:
    return [entry.id for entry in history.catalogue.page(OWNER, Filters(**filters)).entries]


def test_pages_follow_one_another_without_gap_or_repetition(history: History, make: Make, clock) -> None:
    ids = [make(f"fox {k}") for k in range(4)]
    clock.step = 0  # equal times, as a batch that is taken in may have
    ids += [make(f"fox {k}") for k in range(3)]
    clock.step = 1
    whole = [entry.id for entry in history.catalogue.page(OWNER).entries]
    seen, cursor = [], ""
    while True:
        page = history.catalogue.page(OWNER, cursor=cursor, size=2)
        seen += [entry.id for entry in page.entries]
        if not (cursor := page.cursor):
            break
        make(f"newer {cursor}")  # appears on no later page
    assert seen == whole and set(seen) == set(ids)
    assert len(list(history.catalogue.all(OWNER))) == history.catalogue.count(OWNER) == 10


@pytest.mark.parametrize("cursor", ["x", "12", "_", "-1_5", "nan_1", "0_99999999999999999999", "٣_٣"])
def test_a_cursor_that_is_none_begins_at_the_newest(history: History, make: Make, cursor: str) -> None:
    entry = make()
    assert [each.id for each in history.catalogue.page(OWNER, cursor=cursor).entries] == [entry]


def test_filters_narrow_together(history: History, make: Make) -> None:
    plain = make("a fox")
    other = make("a whale", model="sd15", scheduler="euler", size=(32, 16))
    init = make("a cat", init={"image": "0" * 32, "strength": 0.5})
    painted = make("a dog", init={"image": "0" * 32, "strength": 0.5, "mask": "1" * 32})
    history.set_favourite(OWNER, [other], True)
    history.set_tags(OWNER, [plain, init], add=["best"])
    assert found(history, model="sd15") == found(history, scheduler="euler") == found(history, size=(32, 16)) == [other]
    assert found(history, kind="image-to-image") == [init] and found(history, kind="inpainting") == [painted]
    assert found(history, favourite=True) == [other] and found(history, tag="best") == [init, plain]
    assert found(history, tag="best", kind="image-to-image") == [init]
    times = {entry.id: entry.created for entry in history.catalogue.page(OWNER).entries}
    assert found(history, after=times[other], before=times[painted]) == [init, other]
    assert found(history, text="best") == [init, plain]
    choices = history.catalogue.choices(OWNER)
    assert [(each.value, each.count) for each in choices["model"]] == [("pocket", 3), ("sd15", 1)]
    assert [(each.value, each.count) for each in choices["size"]] == [("16x16", 3), ("32x16", 1)]
    assert [(each.value, each.count) for each in choices["tag"]] == [("best", 2)]
    assert history.catalogue.count(OWNER, Filters(favourite=True)) == 1


def test_search_finds_words_and_beginnings_as_one_types(history: History, make: Make) -> None:
    fox = make("A curious fox, café by night")
    whale = make("a whale", negative_prompt="blurry fog")
    chinese = make("一只红色的狐狸")
    assert found(history, text="f") == [whale, fox]
    assert found(history, text="fo") == [whale, fox] and found(history, text="fox") == [fox]
    assert found(history, text="cafe fox") == found(history, text="FOX Café") == [fox]
    assert found(history, text="fo ") == []  # a word that is finished
    assert found(history, text="blurry wha") == [whale]
    assert found(history, text="狐狸") == [chinese]
    assert found(history, text="nothing") == found(history, text="!!") == found(history, text='"') == []
    assert found(history, text="   ") == [chinese, whale, fox]
    assert found(history, text="pocket fox") == [fox]
    history.bin.delete(OWNER, [fox])
    assert found(history, text="fox") == [] and found(history, text="fox", in_bin=True) == [fox]


def test_emoji_and_other_scripts_are_found(history: History, make: Make) -> None:
    fox, woman, arabic = make("a \U0001f98a fox"), make("\U0001f469\u200d\U0001f680 in space"), make("ثعلب أحمر")
    make("a fox")
    assert found(history, text="\U0001f98a") == [fox] == found(history, text="fox \U0001f98a")
    assert found(history, text="\U0001f469\u200d\U0001f680") == [woman] and found(history, text="أحم") == [arabic]
    assert (
        found(history, text="\U0001f980") == found(history, text="whale \U0001f98a") == found(history, text="- *") == []
    )
    assert history.catalogue.count(OWNER, Filters(text="\U0001f98a")) == 1
    assert found(history, text="fox " * 500) == found(history, text="fox")


@pytest.mark.parametrize("symbol", ["\U0001f98a", "\u2192", "\u20ac", "+", "\U0001f469\u200d\U0001f680"])
def test_symbols_are_found_wherever_they_stand(history: History, make: Make, symbol: str) -> None:
    behind = make(f"{'a long prompt about a fox ' * 20}{symbol}")
    negative, tagged, other = make("a fox", negative_prompt=f"no {symbol}"), make("a fox"), make("a fox")
    history.set_tags(OWNER, [tagged], add=[f"{symbol} best"])
    assert found(history, text=symbol) == [tagged, negative, behind] == found(history, text=f"fox {symbol}")
    assert history.catalogue.count(OWNER, Filters(text=symbol)) == 3
    history.bin.delete(OWNER, [behind, other])
    assert found(history, text=symbol, in_bin=True) == [behind]
    assert found(history, text=symbol, tag=f"{symbol} best") == [tagged]
    page = history.catalogue.page(OWNER, Filters(text=symbol), size=1)
    assert history.catalogue.page(OWNER, Filters(text=symbol), page.cursor).entries[0].id == negative


def test_a_search_counts_a_bounded_number(history: History, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(4):
        make("a fox")
    monkeypatch.setattr(search, "MAX_COUNTED", 2)
    assert history.catalogue.count(OWNER, Filters(text="fox")) == 3 and history.catalogue.count(OWNER) == 4


def test_search_finds_nothing_of_others(history: History, make: Make) -> None:
    make("a secret fox")
    assert history.catalogue.page(GUEST, Filters(text="secret")).entries == ()


@given(text=st.text(max_size=40))
@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_text_is_an_operator_or_an_error(history: History, text: str) -> None:
    history.catalogue.page(OWNER, Filters(text=text))


@pytest.mark.parametrize("text", ["NEAR(a b)", "a OR b", "^a", "-a", "prompt:a", '"a" * b', "a\0b", "{a b}: c"])
def test_operators_are_words(history: History, make: Make, text: str) -> None:
    make("a and b")
    found(history, text=text)
    assert match_expression(text).count('"') % 2 == 0


@given(prompt=st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=60))
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_prompt_is_found_by_itself(history: History, make: Make, prompt: str) -> None:
    if not match_expression(prompt) or len(prompt.split()) > 10:
        return
    words = [word for word in prompt.split() if word.isascii() and word.isalnum()]
    entry = make(prompt)
    if words:
        assert entry in found(history, text=" ".join(words))


def test_no_question_looks_at_every_entry(history: History, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each index is used: at 100,000 entries a question that is not takes a second."""
    entry = make("a fox", run="r")
    database, asked = history.database, list[tuple[str, Any]]()
    read = database.read
    monkeypatch.setattr(database, "read", lambda sql, values=(): (asked.append((sql, values)), read(sql, values))[1])
    history.detail(OWNER, entry)
    history.picture_with_pixels(OWNER, "0" * 32)
    history.thumbnail(OWNER, entry)
    history.family(OWNER, entry)
    history.importer(OWNER).run(history.path(entry))
    for filters in (Filters(), Filters(text="fox"), Filters(text="\u2192"), Filters(tag="x"), Filters(favourite=True)):
        history.catalogue.page(OWNER, filters)
    history.bin.empty(OWNER, history.bin.delete(OWNER, [entry]))
    plans = {sql: [row[3] for row in read(f"EXPLAIN QUERY PLAN {sql}", values)] for sql, values in asked}
    # A page is read from the newest on and ends early; favourites have an index of their own.
    fine = ("SCAN search VIRTUAL TABLE", "SCAN entries USING INDEX favourites", "SCAN relatives")
    slow = {sql: step for sql, plan in plans.items() for step in plan if step.startswith("SCAN") and "LIMIT" not in sql
            and not step.startswith(fine)}  # fmt: skip
    assert slow == {} and len(plans) > 10
    with database.write() as connection:
        for sql in ("SELECT MAX(number) FROM details JOIN entries USING (number) WHERE pixels = ? AND pixels != ''",):
            (first, *_) = connection.execute(f"EXPLAIN QUERY PLAN {sql}", ("x",)).fetchall()
            assert "details_by_pixels" in first[3]
