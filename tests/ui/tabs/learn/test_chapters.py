"""The lesson's chapters: what they name is there."""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import Any

import pytest

from pipelines.grid.axes import AXES
from pipelines.request import InvalidRequest
from pipelines.trace.lenses import LENSES
from presets.catalogue import load
from ui.components import phrases
from ui.inspector.panels import PANELS
from ui.tabs.learn.chapters import CHAPTERS, DOTS, NOISE, PLAYER, STRIP, WORDS
from ui.tabs.learn.figures import chapter_values, negative_word
from ui.tabs.learn.runs import NO_RUN, LessonRuns, live_values, plan_of

CARDS = {card.id: card for card in load()}
POCKET = CARDS["pocket"]


@pytest.fixture(scope="module")
def page() -> Any:
    """What the texts and plans need of the page: the recorded run and the cards."""
    return SimpleNamespace(bundled_trace=phrases.recording(POCKET), card=CARDS.get, cards=CARDS)


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda each: each.title)
def test_a_chapter_has_three_sentences_one_thing_to_play_with_and_one_right_answer(chapter: Any) -> None:
    assert len(chapter.text) == 3 and chapter.live in (NOISE, DOTS, PLAYER, WORDS, STRIP)
    assert len(set(chapter.question.answers)) == 3 and 0 <= chapter.question.right < 3 and chapter.question.why
    assert bool(chapter.plans) == (chapter.live == STRIP)
    assert {plan.setting for plan in chapter.plans} <= set(AXES)
    assert {chapter.left, chapter.right} <= set(LENSES)
    assert not chapter.more[1] or chapter.more[1] in PANELS


def test_there_are_ten_of_them_with_titles_of_their_own() -> None:
    assert len({chapter.title for chapter in CHAPTERS}) == 10


def test_texts_name_the_figures_of_the_run(page: Any) -> None:
    told = chapter_values(page, page.bundled_trace)
    every = "\n".join(text for each in told for text in (*each["text"], each["why"]))
    assert not re.search(r"[{}]", every)
    assert "\u201ca red apple on a yellow background\u201d" in every
    assert "49,152 numbers" in every and "1,536 numbers: 32 times fewer" in every
    assert "took 25 steps" in every and "4 is usual for Pocket" in every


def test_braces_in_a_prompt_stay_what_they_are(page: Any) -> None:
    trace = SimpleNamespace(**{**vars(page.bundled_trace)})
    trace.request = page.bundled_trace.request.model_copy(update={"prompt": "a {steps} fox"})
    trace.cumulative_change = page.bundled_trace.cumulative_change
    assert "\u201ca {steps} fox\u201d" in chapter_values(page, trace)[0]["text"][2]


def test_every_strip_can_be_drawn_from_the_recorded_run(page: Any) -> None:
    counts = []
    for number, chapter in enumerate(CHAPTERS):
        for k, _ in enumerate(chapter.plans):
            grid = plan_of(LessonRuns(page), page.bundled_trace, number, k)
            counts.append(len(grid.cells()))
    assert counts == [7, 2, 6, 6, 6, 6, 3, 3]


def test_the_negative_prompt_is_a_word_of_the_prompt() -> None:
    assert negative_word("a red apple on a yellow background") == "yellow"
    assert negative_word("") == "background"


@pytest.mark.parametrize(("chapter", "plan"), [(0, 0), (5, 1), (99, 0), (-5, 0), (5, -1), ("5", 0), (None, None)])
def test_a_strip_that_is_not_there_is_refused(page: Any, chapter: Any, plan: Any) -> None:
    with pytest.raises(InvalidRequest, match="no such strip"):
        plan_of(LessonRuns(page), page.bundled_trace, chapter, plan)


def test_guidance_begins_with_the_answer_without_the_prompt(page: Any) -> None:
    guidance = next(number for number, each in enumerate(CHAPTERS) if each.title == "Guidance")
    cells = [cell.request for cell in plan_of(LessonRuns(page), page.bundled_trace, guidance, 0).cells()]
    assert cells[0].prompt == "" and all(each.prompt for each in cells[1:])
    assert [each.sampling.guidance_scale for each in cells] == [1, 1, 2, 4, 7.5, 12, 20]


def test_a_page_that_begins_with_another_model_shows_the_recorded_run() -> None:
    page: Any = SimpleNamespace(bundled_trace=None, card=CARDS.get, cards=CARDS)
    runs = LessonRuns(page)
    assert runs.recorded is not None and runs.latest(None) is runs.recorded
    # It has no place in Denoising.
    assert runs.name(runs.recorded) == ""
    assert live_values(page, runs, runs.recorded, 0)["noise"]["picture"].startswith("data:image/")


def test_without_any_run_all_chapters_are_told(page: Any) -> None:
    none: Any = SimpleNamespace(bundled_trace=None, card=CARDS.get, cards={})
    runs = LessonRuns(none)
    assert runs.latest(None) is None
    told = chapter_values(none, None)
    assert len(told) == 10 and not re.search(
        r"[{}]", "".join(text for each in told for text in (*each["text"], each["why"]))
    )
    assert live_values(none, runs, None, 0) == {"noise": {"problem": NO_RUN}}
    strips = [
        live_values(none, runs, None, number)["strip"] for number, each in enumerate(CHAPTERS) if each.live == STRIP
    ]
    assert all(plan["cost"] == NO_RUN and "frame" not in plan for each in strips for plan in each["plans"])
