"""The panels about the prompt's words in a real browser: maps, places, heads, and pictures from part of the encoder."""

from __future__ import annotations

from pathlib import Path

from playwright.sync_api import expect

from tests.support.accessibility import violations
from tests.support.site import Site


def test_a_word_is_chosen_and_a_place_ranks_the_words(visit, site: Site, tmp_path: Path):
    page = visit()
    page.fill("#prompt textarea", "a fox, red")
    page.click("#generate")
    page.locator('.stage[data-state="done"]').wait_for()
    page.click('#stage [data-part="inside"]')
    page.locator('.player[data-ready="yes"]').wait_for()
    page.get_by_role("tab", name="Which word drew what").click()
    panel = page.locator("#word-maps .word-maps")
    expect(panel).to_have_attribute("data-state", "ready")  # a quick model is asked at once
    chips = panel.get_by_role("radio")
    expect(chips).to_have_text(["a", "fox", ",", "red", "start of the text", "end and padding"])
    chips.nth(1).click()
    expect(panel.locator('[data-part="caption"]')).to_contain_text("\u201cfox\u201d at step")
    chips.nth(1).press("ArrowRight")
    expect(chips.nth(2)).to_be_focused()
    expect(chips.nth(2)).to_have_attribute("aria-checked", "true")

    at = int(panel.get_attribute("data-step"))
    page.evaluate("document.dispatchEvent(new CustomEvent('playground:go', { detail: { index: 0 } }))")
    expect(panel).to_have_attribute("data-step", "0")
    assert at != 0
    expect(panel.locator('[data-part="where"]')).to_have_text("What the whole picture reads")
    well = panel.locator('[data-part="well"]')
    well.click(position={"x": 40, "y": 60})
    expect(panel.locator('[data-part="where"]')).to_have_text("What this place reads")
    expect(panel.locator('[data-part="bars"] li')).to_have_count(4)
    well.press("ArrowRight")
    well.press("Escape")
    expect(panel.locator('[data-part="place"]')).to_be_hidden()

    panel.locator("summary").click()
    expect(panel.locator(".heads canvas")).to_have_count(4)
    panel.locator('[data-part="level"]').select_option(index=1)
    assert not violations(page)

    page.get_by_role("tab", name="Save", exact=True).click()
    with page.expect_download() as saved:
        page.click('#export [data-kind="capsule"]')
    saved.value.save_as(tmp_path / "run.html")
    capsule = page.context.new_page()
    capsule.goto((tmp_path / "run.html").as_uri())
    expect(capsule.locator('.word-maps[data-state="ready"] [role="radio"]')).to_have_count(6)
    expect(capsule.locator(".word-maps details")).to_be_hidden()


def test_pictures_from_part_of_the_encoder_are_counted_and_drawn(visit, site: Site):
    page = visit()
    page.fill("#prompt textarea", "a fox")
    page.click("#generate")
    page.locator('.stage[data-state="done"]').wait_for()
    page.click('#stage [data-part="inside"]')
    page.locator('.player[data-ready="yes"]').wait_for()
    page.get_by_role("tab", name="Text encoder").click()
    panel = page.locator(".text-lens")
    expect(panel.locator('[data-part="foretold"]')).to_contain_text("5 pictures of 4 steps each with Tiny")
    panel.get_by_role("button", name="Draw them").click()
    expect(panel).to_have_attribute("data-state", "ready")
    expect(panel.locator("figcaption")).to_have_text([
        "before the first layer: single words", "after layer 1 of 2", "after layer 2 of 2, the whole encoder",
        "without \u201ca\u201d", "without \u201cfox\u201d",
    ])  # fmt: skip
    assert not violations(page)
