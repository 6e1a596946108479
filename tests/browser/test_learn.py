"""The Learn tab: chapters, guesses that are kept, the tiny model, a strip, and the projector."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from PIL import Image
from playwright.sync_api import Browser, Page, expect

from pipelines.training.toy.settings import TrainingSettings
from tests.support.page_tabs import open_tab
from ui.tabs.learn import recording


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
    expect(page).to_have_url(re.compile("#/learn/1(/|$)"))
    expect(page.locator('#lesson [data-part="text"]')).to_contain_text("\u201ca fox\u201d")
    page.locator("#lesson").get_by_role("button", name="Next", exact=True).click()
    expect(page).to_have_url(re.compile("#/learn/2(/|$)"))
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
    expect(strip.locator(".viewer")).to_have_attribute("data-state", "planned")
    expect(strip.locator(".viewer .head").first).to_have_text("0 (no prompt)")
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


def test_a_photo_is_noised_in_the_browser_and_the_address_says_how_far(lesson: Page, tmp_path: Path):
    page, mix = lesson, lesson.locator("#learn-noise .noise-mix")
    expect(mix).to_have_attribute("data-state", "run")
    Image.new("RGB", (90, 60), "red").save(tmp_path / "own.png")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url) if "upload" in request.url else None)
    mix.locator('[data-part="photo"]').set_input_files(tmp_path / "own.png")
    expect(mix).to_have_attribute("data-state", "photo")
    assert asked == []
    mix.locator('[data-part="range"]').fill("0")
    color = "c => [...c.getContext('2d').getImageData(30, 30, 1, 1).data]"
    assert mix.locator('[data-part="mixed"]').evaluate(color) == [255, 0, 0, 255]
    mix.locator('[data-part="range"]').fill("420")
    expect(page).to_have_url(re.compile("#/learn/1/420$"))
    assert mix.locator('[data-part="mixed"]').evaluate(color) != [255, 0, 0, 255]
    go(page, 3)
    page.locator('#learn-player [data-part="strip"]').press("Home")
    expect(page).to_have_url(re.compile("#/learn/3/1/x_t/x0$"))
    page.evaluate("location.hash = '#/learn/1/700'")
    expect(mix.locator('[data-part="t"]')).to_have_text("700")
    # A link opens what it names, also where nothing was on view before.
    page.evaluate("location.hash = '#/learn/3/2/x0/x_t'")
    page.reload()
    expect(page.locator("#learn-player .player")).to_have_attribute("data-at", "1")
    expect(page.locator('#learn-player [data-view="left"] select')).to_have_value("x0")


def test_a_shape_is_drawn_with_the_keys(lesson: Page):
    go(lesson, 2)
    dots = lesson.locator("#learn-dots .dots")
    dots.locator('[data-shape="drawn"]').click()
    sheet = dots.locator('[data-part="plane"]')
    sheet.focus()
    for key in (" ", *["ArrowRight"] * 6, *["ArrowUp"] * 6):
        lesson.keyboard.press(key)
    dots.locator('[data-part="steps"]').select_option("500")
    dots.locator('[data-do="train"]').click()
    expect(dots).to_have_attribute("data-state", re.compile("training|done"), timeout=60_000)
    dots.locator('[data-do="pause"]').click()
    expect(dots).to_have_attribute("data-state", re.compile("paused|done"), timeout=60_000)
    expect(lesson).to_have_url(re.compile("#/learn/2/drawn/learned/"))


def test_each_chapter_is_one_screen(lesson: Page):
    lesson.set_viewport_size({"width": 1280, "height": 720})
    below = {}
    for chapter in range(1, 11):
        go(lesson, chapter)
        lesson.locator("#lesson .answer").first.click()
        bottom = lesson.locator("#lesson .ask").bounding_box()
        assert bottom
        below[chapter] = round(bottom["y"] + bottom["height"])
    assert {chapter: bottom for chapter, bottom in below.items() if bottom > 720} == {}
    assert lesson.evaluate("document.documentElement.scrollWidth") <= 1280


def test_the_saved_lesson_works_from_a_file(
    lesson: Page, browser: Browser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(recording, "DOTS", TrainingSettings("moons", steps=500))
    with lesson.expect_download(timeout=300_000) as download:
        lesson.locator('#lesson [data-kind="capsule"]').click()
    path = tmp_path / "lesson.html"
    download.value.save_as(path)
    assert path.stat().st_size < 8_000_000
    context = browser.new_context(viewport={"width": 1280, "height": 720}, offline=True)
    problems: list[str] = []
    try:
        page = context.new_page()
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("console", lambda said: problems.append(said.text) if said.type == "error" else None)
        page.on("request", lambda r: problems.append(r.url) if r.url[:5] not in ("data:", "file:", "blob:") else None)
        page.goto(path.as_uri())
        page.evaluate("window.scrollTo(0, 0)")
        expect(page.locator("#learn-noise .noise-mix")).to_have_attribute("data-state", "run")
        _replay_the_tiny_model(page)
        go(page, 3)
        expect(page.locator("#learn-player .player")).to_have_attribute("data-ready", "yes")
        go(page, 4)
        expect(page.locator("#learn-words .word-maps")).to_have_attribute("data-state", "ready")
        for chapter in (6, 7, 8):
            go(page, chapter)
            page.locator("#learn-strip .acts button").first.click()
            expect(page.locator("#learn-strip .viewer")).to_have_attribute("data-state", "done")
            expect(page.locator('#learn-strip [data-at="0,0,1"] img')).to_be_visible()
        go(page, 10)
        expect(page.locator("#learn-strip .onward li")).to_have_count(3)
        page.locator("#lesson .answer").first.click()
        expect(page.locator('#lesson [data-part="count"]')).to_contain_text("guessed right")
        page.goto(path.as_uri() + "#/learn/3/2/x0/x_t")
        page.reload()
        expect(page.locator("#learn-player .player")).to_have_attribute("data-at", "1")
    finally:
        context.close()
    assert problems == []


def _replay_the_tiny_model(page: Page) -> None:
    go(page, 2)
    dots = page.locator("#learn-dots .dots")
    expect(dots.locator('[data-shape="spiral"]')).to_be_disabled()
    dots.locator('[data-do="train"]').click()
    expect(dots).to_have_attribute("data-state", "done")
    expect(dots.locator('[data-part="verdict"]')).to_contain_text("best possible 0.")
    dots.locator('[data-part="scheduler"]').select_option("euler")
    dots.locator('[data-who="ideal"]').click()
    expect(dots.locator(".slot")).to_have_count(13)
