"""Every tab on a small screen and at 200% zoom: nothing is cut off, no letters are too small, targets fit a finger."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.support import page_tabs
from tests.support.accessibility import violations
from tests.support.site import Site
from ui.page import TABS

LEAST_LETTERS, LEAST_TARGET = 13, 44
# Visible elements with text of their own, and the size of their letters where it is too small.
SMALL = """least => [...document.querySelectorAll('body *')].filter((e) =>
  e.checkVisibility({ visibilityProperty: true, opacityProperty: true })
  && [...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim())
  && parseFloat(getComputedStyle(e).fontSize) < least).map((e) => e.outerHTML.slice(0, 120))"""
# Letters that are neither titles, text nor help; figures draw their own, and the program's name is its mark.
SIZES = (13, 16, 28)
OTHER = """sizes => [...document.querySelectorAll('body *:not(svg *)')].filter((e) =>
  e.checkVisibility({ visibilityProperty: true, opacityProperty: true })
  && [...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim()) && !e.closest('.brand')
  && !sizes.includes(Math.round(parseFloat(getComputedStyle(e).fontSize)))).map((e) =>
    `${getComputedStyle(e).fontSize} ${e.outerHTML.slice(0, 120)}`)"""
# Buttons and lists that are lower than a finger is wide; links within text may be.
LOW = """least => [...document.querySelectorAll('button, select, summary')].filter((e) => {
  const box = e.getBoundingClientRect();
  return box.height && e.checkVisibility({ visibilityProperty: true }) && box.height < least - 0.5;
}).map((e) => e.outerHTML.slice(0, 120))"""
# Controls that begin or end outside of the window, unless a row of them scrolls.
CUT = """() => [...document.querySelectorAll('button, select, input, textarea, h1, h2, h3, p')].filter((e) => {
  const box = e.getBoundingClientRect();
  const scrolls = (node) => node
    && (/auto|scroll|hidden/.test(getComputedStyle(node).overflowX) || scrolls(node.parentElement));
  return box.width > 1 && e.checkVisibility({ visibilityProperty: true })
    && (box.right > innerWidth + 1 || box.left < -1) && !scrolls(e.parentElement);
}).map((e) => e.outerHTML.slice(0, 120))"""


# Ids that two elements have.
TWICE = """() => [...document.querySelectorAll('[id]')].map((e) => e.id)
  .filter((id, k, all) => id && all.indexOf(id) !== k)"""


def offenders(page: Page, script: str, *given: Any) -> list[str]:
    return page.evaluate(script, *given)


def test_axe_finds_nothing_in_any_tab_or_state(visit, site: Site):
    page = visit(viewport={"width": 1280, "height": 720}, reduced_motion="reduce")
    page.locator("#settings > button").click()
    page.locator("#width input").fill("13")
    page.locator("#generate").click()
    expect(page.locator("#width-error")).to_contain_text("Width must be a multiple of 8")
    assert violations(page) == [], "an error in the open drawer"
    page.locator("#width input").fill("64")
    page.locator("#generate").click()
    page.locator('#stage .stage[data-state="done"]').wait_for()
    assert violations(page) == [], "after a run, in the open drawer"
    page.locator("#settings > button").click()
    for entry in TABS.values():
        page_tabs.open_tab(page, entry.label)
        expect(page.get_by_role("tab", name=entry.label, exact=True)).to_have_attribute("aria-selected", "true")
        assert violations(page) == [], entry.label


@pytest.mark.parametrize("width", [820, 1000])
def test_the_stage_has_room_between_a_phone_and_a_wide_screen(visit, site: Site, width: int):
    page = visit(viewport={"width": width, "height": 720})
    mat, form = page.locator("#stage .mat").bounding_box(), page.locator("#form-column").bounding_box()
    assert mat and form and mat["width"] >= 420 and mat["width"] > form["width"]
    for part in ("#generate", "#stage .strip", "#recent", "#status"):
        box = page.locator(part).bounding_box()
        assert box and box["y"] + box["height"] <= 720 and box["x"] + box["width"] <= width, part
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


@pytest.mark.parametrize(
    "window",
    [
        {"viewport": {"width": 640, "height": 360}, "device_scale_factor": 2},
        {"viewport": {"width": 390, "height": 844}, "has_touch": True},
    ],
    ids=["zoom", "phone"],
)
def test_nothing_is_cut_off_or_too_small_in_any_tab(visit, site: Site, window: dict[str, Any]):
    page = visit(**window, reduced_motion="reduce")
    height = window["viewport"]["height"]
    for part in ("#stage .mat", "#generate"):
        box = page.locator(part).bounding_box()
        assert box and box["y"] >= 0 and box["y"] + box["height"] <= height, part
    for entry in TABS.values():
        page_tabs.open_tab(page, entry.label)
        expect(page.get_by_role("tab", name=entry.label, exact=True)).to_have_attribute("aria-selected", "true")
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), entry.label
        assert offenders(page, TWICE) == [], entry.label
        assert offenders(page, CUT) == [], entry.label
        assert offenders(page, SMALL, LEAST_LETTERS) == [], entry.label
        assert offenders(page, OTHER, SIZES) == [], entry.label
        assert offenders(page, LOW, LEAST_TARGET) == [], entry.label


def test_each_kind_of_chapter_fits_a_phone(visit, site: Site):
    page = visit(viewport={"width": 390, "height": 844}, has_touch=True, reduced_motion="reduce")
    page.locator("#generate").click()
    page.locator('#stage .stage[data-state="done"]').wait_for()
    page_tabs.open_tab(page, "Learn")
    for chapter, live in ((1, "noise"), (2, "dots"), (3, "player"), (4, "words"), (6, "strip")):
        page.locator("#lesson .chapters button").nth(chapter - 1).click()
        expect(page.locator("#learn")).to_have_attribute("data-live", live)
        shown = page.locator(f"#learn-{live}")
        expect(shown).to_be_visible()
        for script, given in (
            (TWICE, ()),
            (CUT, ()),
            (SMALL, (LEAST_LETTERS,)),
            (OTHER, (SIZES,)),
            (LOW, (LEAST_TARGET,)),
        ):
            assert offenders(page, script, *given) == [], live
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), live
        # No empty room below what is on view.
        heights = page.evaluate(
            "ids => ids.map((id) => document.getElementById(id).offsetHeight)", ["live-column", f"learn-{live}"]
        )
        assert heights[0] <= heights[1] + 1, live
        assert violations(page) == [], live
