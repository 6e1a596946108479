"""The Learn tab: chapters, guesses that are kept, the tiny model, a strip, and the projector."""

from __future__ import annotations

import re

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from tests.support.page_tabs import open_tab


@pytest.fixture
def lesson(visit) -> Page:
    """The tab, with a run to learn with."""
    page = visit()
    page.locator("#prompt textarea").fill("a fox")
    page.locator("#generate").click()
    expect(page.locator("#stage .stage")).to_have_attribute("data-state", "done", timeout=60_000)
    open_tab(page, "Learn")
    expect(page.locator("#lesson h2")).to_have_text("Noise a picture")
    return page


def go(page: Page, chapter: int) -> None:
    page.locator("#lesson .chapters button").nth(chapter - 1).click()
    expect(page.locator("#learn")).to_have_attribute("data-chapter", str(chapter - 1))


def test_chapters_follow_the_address_and_guesses_are_kept(lesson: Page):
    page = lesson
    expect(page).to_have_url(re.compile("#/learn/1$"))
    expect(page.locator('#lesson [data-part="text"]')).to_contain_text("\u201ca fox\u201d")
    page.locator("#lesson").get_by_role("button", name="Next").click()
    expect(page).to_have_url(re.compile("#/learn/2$"))
    expect(page.locator('#lesson [data-part="why"]')).to_have_text("Guess first; the answer follows.")
    page.locator("#lesson .answer").nth(0).click()
    expect(page.locator('#lesson [data-part="why"]')).to_contain_text("Not quite.")
    expect(page.locator("#lesson .answer").nth(1)).to_have_attribute("data-is", "right")
    page.go_back()
    expect(page.locator("#lesson h2")).to_have_text("Noise a picture")
    page.go_forward()
    expect(page.locator("#lesson h2")).to_have_text("Learning to predict noise")
    page.reload()
    expect(page.locator("#lesson h2")).to_have_text("Learning to predict noise")
    expect(page.locator('#lesson [data-part="count"]')).to_contain_text("guessed right 0 of 1")
    found = Axe().run(page, context="#learn", options={"rules": {"color-contrast": {"enabled": False}}})
    assert found.violations_count == 0, found.generate_report()


def test_the_tiny_model_learns_pauses_and_is_sampled(lesson: Page):
    page = lesson
    go(page, 2)
    dots = page.locator("#learn-dots .dots")
    dots.locator('[data-part="steps"]').select_option("500")
    dots.locator('[data-do="train"]').click()
    expect(dots).to_have_attribute("data-state", "done", timeout=180_000)
    expect(dots.locator('[data-part="progress"]')).to_contain_text("step 500 of 500")
    expect(dots.locator(".slot")).to_have_count(13)
    dots.locator('[data-part="count"]').select_option("4")
    expect(dots.locator(".slot")).to_have_count(5)
    dots.locator('[data-who="ideal"]').click()
    expect(dots.locator('[data-part="verdict"]')).to_contain_text("best possible 0.")
    # Its classes can be asked for.
    dots.locator('[data-part="label"]').select_option("1")
    expect(dots.locator('[data-part="guidance"]')).to_be_visible()
    # Without a line there is nothing to learn.
    dots.locator('[data-shape="drawn"]').click()
    dots.locator('[data-do="train"]').click()
    expect(dots.locator('[data-part="problem"]')).to_contain_text("Draw a line")
    box = dots.locator('[data-part="plane"]').bounding_box()
    assert box
    page.mouse.move(box["x"] + 60, box["y"] + 60)
    page.mouse.down()
    page.mouse.move(box["x"] + 200, box["y"] + 160, steps=30)
    page.mouse.up()
    dots.locator('[data-do="train"]').click()
    expect(dots).to_have_attribute("data-state", re.compile("training|done"), timeout=60_000)
    dots.locator('[data-do="pause"]').click()
    expect(dots).to_have_attribute("data-state", re.compile("paused|done"), timeout=60_000)


def test_a_run_and_its_strips_are_shown_in_the_lesson(lesson: Page):
    page = lesson
    go(page, 3)
    expect(page.locator("#learn-player .player")).to_have_attribute("data-ready", "yes")
    go(page, 7)
    strip = page.locator("#learn-strip")
    expect(strip.locator('[data-part="cost"]')).to_contain_text("2 pictures")
    strip.get_by_role("button", name="Draw both").click()
    expect(strip.locator('[data-at="0,0,1"]')).to_have_attribute("data-state", "done", timeout=60_000)
    # It is there again after another chapter.
    go(page, 6)
    expect(strip.locator(".viewer")).to_be_hidden()
    go(page, 7)
    expect(strip.locator('[data-at="0,0,1"]')).to_have_attribute("data-state", "done")


def test_in_the_projector_view_the_arrow_keys_turn_the_chapters(lesson: Page):
    page = lesson
    page.locator("#lesson").get_by_role("button", name="Projector").click()
    expect(page.locator("#learn.projected")).to_be_visible()
    page.keyboard.press("ArrowRight")
    expect(page.locator("#lesson h2")).to_have_text("Learning to predict noise")
    page.keyboard.press("Escape")
    expect(page.locator("#learn.projected")).to_have_count(0)


def test_the_teachers_sheet_has_every_question(lesson: Page):
    with lesson.expect_download() as download:
        lesson.locator("#lesson").get_by_role("button", name="Teacher").click()
    text = download.value.path().read_text(encoding="utf-8")
    assert text.count("<section>") == 10 and text.count('class="right"') == 10 and "\u201ca fox\u201d" in text
