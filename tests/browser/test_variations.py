"""Variations and blends in a real browser: asked for, played on the stage, saved."""

from __future__ import annotations

import io

import pytest
from PIL import Image
from playwright.sync_api import Page, expect

from tests.support.accessibility import LEVELS, violations
from tests.support.site import Site

STAGE = "#stage"


def made(page: Page) -> None:
    """Press Generate and wait for the end of the new run."""
    before = page.locator(f"{STAGE} .stage").get_attribute("data-run") or ""
    page.click("#generate")
    page.locator(f'{STAGE} .stage[data-state="done"]:not([data-run="{before}"])').wait_for()


def opened(page: Page, mode: str) -> None:
    """Open the accordion and choose."""
    page.click("#variations > button")
    page.click(f"#variation-mode label:has-text('{mode}')")


def blend(page: Page, count: int = 4) -> None:
    """A finished blend to another seed."""
    opened(page, "Blend")
    page.fill("#blend-seed textarea, #blend-seed input", "50")
    page.fill("#blend-count input[type=number]", str(count))
    page.keyboard.press("Tab")
    made(page)
    expect(page.locator("#blend .between button")).to_have_count(count)


def on_stage(page: Page) -> list[int]:
    """Numbers of the pictures that the stage shows."""
    return page.eval_on_selector_all(f"{STAGE} .cell", "all => all.flatMap((c, k) => (c.hidden ? [] : [k]))")


def test_variations_stay_near_the_picture_that_was_made(visit, site: Site):
    page = visit()
    made(page)
    seed = page.locator(f'{STAGE} [data-part="keep"]').get_attribute("data-seed")
    page.click("#settings > button")
    page.click("#count label:has-text('2')")
    page.click("#settings > button")
    opened(page, "Variations")
    made(page)
    asked = site.backend.jobs[-1].request
    assert str(asked.sampling.seed) == seed and asked.variation is not None and asked.num_images == 2
    said = page.locator('#blend [data-part="about"]')
    expect(said).to_contain_text(f"Near the picture of seed {seed}: 30% of the way")
    expect(page.locator('#blend [data-part="body"]')).to_be_hidden()
    expect(page.locator(f'{STAGE} [data-part="keep"]')).to_have_attribute("data-seed", seed)
    # Plain pictures have nothing to say.
    page.click("#variation-mode label:has-text('Off')")
    made(page)
    expect(said).to_be_hidden()


def test_a_blend_is_shown_in_order_and_plays_on_the_stage(visit, site: Site):
    page = visit()
    blend(page)
    assert site.backend.jobs[-1].request.num_images == 4
    assert on_stage(page) == [0, 1, 2, 3]
    page.click("#variations > button")
    page.click("#settings > button")
    expect(page.locator("#count input").first).to_be_disabled()
    page.click("#settings > button")
    slots = page.locator("#blend .between button")
    slots.nth(2).click()
    assert on_stage(page) == [2]
    expect(page.locator('#blend [data-part="words"]')).to_have_text("Picture 3 of 4: 67% of the way")
    shown = page.locator(f"{STAGE} .cell:not([hidden]) img").get_attribute("src")
    assert shown == slots.nth(2).locator("img").get_attribute("src")
    page.keyboard.press("ArrowRight")
    assert on_stage(page) == [3]
    expect(slots.nth(3)).to_be_focused()
    page.keyboard.press("Home")
    assert on_stage(page) == [0]
    page.click('#blend [data-part="play"]')
    for wanted in ("2 of 4", "4 of 4", "3 of 4", "1 of 4"):
        expect(page.locator('#blend [data-part="words"]')).to_contain_text(f"Picture {wanted}")
    page.click('#blend [data-part="play"]')
    expect(page.locator('#blend [data-part="play"]')).to_have_text("Play the blend")
    held = on_stage(page)
    page.wait_for_timeout(1200)
    assert on_stage(page) == held
    page.click(f'{STAGE} [data-part="all"]')
    assert on_stage(page) == [0, 1, 2, 3]


def test_a_blend_is_saved_as_an_animation(visit, site: Site):
    page = visit()
    blend(page, 3)
    for count, kind in enumerate(("webp", "gif"), 1):
        with page.expect_download() as download:
            page.click(f'#blend [data-kind="{kind}"]')
        assert download.value.suggested_filename.endswith(f"-blend.{kind}")
        with Image.open(io.BytesIO(download.value.path().read_bytes())) as image:
            assert image.n_frames == 4
        expect(page.locator("#blend .files a")).to_have_count(count)


def test_a_blend_that_is_gone_says_so(visit, site: Site, monkeypatch: pytest.MonkeyPatch):
    page = visit()
    blend(page, 2)
    monkeypatch.setattr(site.backend, "trace", lambda name, who: None)
    page.click('#blend [data-kind="gif"]')
    expect(page.locator('#blend [data-part="problem"]')).to_contain_text("no longer in memory")
    expect(page.locator('#blend [data-kind="gif"]')).to_be_enabled()


def test_errors_stand_beside_the_controls(visit, site: Site):
    page = visit()
    opened(page, "Blend")
    page.click("#generate")
    # At the field to fill in, which a screen reader hears with it.
    expect(page.locator("#blend-prompt-error")).to_contain_text("A blend needs somewhere to go")
    field = page.locator("#blend-prompt textarea")
    expect(field).to_have_attribute("aria-invalid", "true")
    expect(field).to_have_attribute("aria-describedby", "blend-prompt-error-text")
    page.click("#blend-random-seed")
    made(page)
    expect(page.locator("#blend-prompt-error p")).to_be_hidden()
    assert field.get_attribute("aria-invalid") is field.get_attribute("aria-describedby") is None
    assert len(site.backend.jobs) == 1


def test_a_reload_finds_the_blend_again(visit, site: Site):
    page = visit()
    blend(page, 3)
    expect(page.locator('#summary [data-pill="count"]')).to_have_text("3 pictures")
    expect(page.locator('#summary [data-pill="seed"]')).to_have_text("the seed stays for now")
    page.reload()
    expect(page.locator("#blend .between button")).to_have_count(3)
    # Its settings, too.
    page.click("#variations > button")
    expect(page.locator("#variation-mode label", has_text="Blend").locator("input")).to_be_checked()
    expect(page.locator("#blend-count input[type=number]")).to_have_value("3")


def test_everyone_can_use_it(visit, site: Site):
    page = visit(viewport={"width": 1280, "height": 844})
    blend(page, 8)
    for width in (1280, 390):
        page.set_viewport_size({"width": width, "height": 844})
        page.wait_for_function("width => innerWidth === width", arg=width)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        for part in ("#variations", "#blend"):
            assert violations(page, part, (*LEVELS, "best-practice")) == [], width
