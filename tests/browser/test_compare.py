"""The Compare tab: one setting at several values, two runs, Show me, and what survives a reload."""

from __future__ import annotations

import json
import re

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from tests.support.page_tabs import open_tab
from tests.support.site import Site
from tests.support.waiting import wait_for
from ui.inspector.past_runs import MOST


def generate(page: Page, prompt: str) -> None:
    """Make a picture, so that there is a run to start from."""
    page.locator("#prompt textarea").fill(prompt)
    page.locator("#generate").click()
    expect(page.locator("#stage .stage")).to_have_attribute("data-state", "done", timeout=60_000)


def cell(page: Page, row: int, column: int):
    return page.locator(f'#compare-view [data-at="0,{row},{column}"]')


@pytest.fixture
def compared(visit) -> Page:
    """The tab, with a run to start from."""
    page = visit()
    generate(page, "a fox")
    open_tab(page, "Compare")
    expect(page.locator("#compare-setup .from button").first).to_be_visible()
    return page


def test_one_setting_two_runs_and_a_grid(compared: Page, site: Site):
    page = compared
    setup, view = page.locator("#compare-setup"), page.locator("#compare-view")
    values = setup.locator('[data-axis="x"] [data-part="values"]')
    expect(values).not_to_have_value("")
    # What cannot be is said at its axis, before it starts.
    values.fill("1, many")
    expect(setup.locator('[data-axis="x"] [data-part="problem"]')).to_contain_text("not a number")
    values.fill("1, 9")
    expect(setup.locator('[data-part="cost"]')).to_contain_text("2 pictures")
    runs = setup.locator(".from button")
    before = runs.count()
    # Pressed twice, it starts once.
    setup.get_by_role("button", name="Compare", exact=True).dblclick()
    expect(cell(page, 0, 1)).to_have_attribute("data-state", "done", timeout=60_000)
    expect(view.locator("h2")).to_have_text("Guidance scale")
    expect(view.locator(".head.column")).to_have_text(["1", "9"])
    expect(runs).to_have_count(min(before + 2, MOST))
    expect(view.locator("header + * ~ .sentence").first).to_contain_text("differ by")
    # At the noisy end both show their first step; the model's guess is another picture; the difference is drawn.
    expect(cell(page, 0, 0).locator("figcaption")).to_contain_text("model calls")
    level = view.locator('[data-part="at"]')
    level.fill("0")
    expect(cell(page, 0, 0).locator("figcaption")).to_contain_text("step 1 of")
    noisy = cell(page, 0, 0).locator("img").get_attribute("src")
    view.get_by_label("The model's guess").check()
    assert cell(page, 0, 0).locator("img").get_attribute("src") != noisy
    view.get_by_label("Difference").check()
    expect(view.locator(".differ canvas")).to_be_visible()
    found = Axe().run(page, context="#compare", options={"rules": {"color-contrast": {"enabled": False}}})
    assert found.violations_count == 0, found.generate_report()
    # A reload brings it back.
    page.reload()
    open_tab(page, "Compare")
    expect(cell(page, 0, 1)).to_have_attribute("data-state", "done")
    with page.expect_download(timeout=60_000) as download:
        view.get_by_role("button", name="Save labelled picture").click()
    assert download.value.suggested_filename.endswith(".png")
    with page.expect_download(timeout=60_000) as download:
        view.get_by_role("button", name="Save capsule").click()
    assert download.value.suggested_filename.endswith(".html")
    # The ways of both in one map, at the noise level of the timeline.
    ways = page.locator("#compare-ways .compared-ways")
    ways.get_by_text("Map: the ways from noise to the pictures").click()
    expect(ways).to_have_attribute("data-state", "open", timeout=60_000)
    expect(ways.locator(".lanes li")).to_have_text(["1", "9"])
    expect(ways.locator('[data-part="variance"]')).to_contain_text("of the variance")
    dot = ways.locator(".lane-now").first
    expect(dot).to_have_attribute("data-step", "8")
    level.fill("0")
    expect(dot).to_have_attribute("data-step", "0")
    # Two of the runs that this made, side by side.
    setup.get_by_text("Two runs", exact=True).click()
    picks = setup.locator(".from button")
    expect(picks.nth(1)).to_be_visible()
    picks.nth(0).click()
    picks.nth(1).click()
    expect(view.locator("h2")).to_contain_text("Guidance scale (CFG): ")
    # The address names what is chosen: Back leads to the one setting, and a link opens both runs.
    page.wait_for_function("/^#\\/compare\\/two\\/[^/]+\\/[^/]+$/.test(location.hash)")
    link = page.url
    for _ in range(3):
        page.go_back()
    expect(setup.get_by_label("One setting")).to_be_checked()
    expect(values).to_have_value("1, 9")
    other = page.context.new_page()
    other.goto(link)
    expect(other.locator("#compare-view h2")).to_contain_text("Guidance scale (CFG): ")
    expect(other.locator('#compare-setup .from button[data-letter="A"]')).to_have_count(1)
    other.close()
    for _ in range(3):
        page.go_forward()
    expect(setup.get_by_label("Two runs")).to_be_checked()
    expect(view.locator("h2")).to_contain_text("Guidance scale (CFG): ")
    # So does the file that two runs are saved with, whose comparison is none to make again.
    setup.get_by_text("One setting", exact=True).click()
    runs = [{"run": run} for run in link.rsplit("/", 2)[1:]]
    saved = json.dumps({"comparison": None, "pictures": runs}).encode()
    file = {"name": "comparison.json", "mimeType": "application/json", "buffer": saved}
    setup.locator('[data-part="file"]').set_input_files(files=[file])  # type: ignore[list-item]
    expect(setup.get_by_label("Two runs")).to_be_checked()
    expect(view.locator("h2")).to_contain_text("Guidance scale (CFG): ")
    # Look inside one of them.
    cell(page, 0, 0).locator("button").click()
    expect(page.locator("#player .player")).to_be_visible()


def test_two_pictures_below_each_other_have_their_difference_next_to_the_first(compared: Page):
    page = compared
    setup, view = page.locator("#compare-setup"), page.locator("#compare-view")
    setup.get_by_text("Grid", exact=True).click()
    for name, setting, values in (("x", "guidance_scale", "2"), ("y", "seed", "1, 2")):
        axis = setup.locator(f'[data-axis="{name}"]')
        axis.locator('[data-part="setting"]').select_option(setting)
        axis.locator('[data-part="values"]').fill(values)
    expect(setup.locator('[data-part="cost"]')).to_contain_text("2 pictures")
    setup.locator('[data-do="start"]').click()
    expect(view.locator('[data-at][data-state="done"]')).to_have_count(2, timeout=60_000)
    view.get_by_label("Difference").check()
    first, difference, second = (
        view.locator(where).bounding_box() or {} for where in ('[data-at="0,0,0"]', ".differ", '[data-at="0,1,0"]')
    )
    assert first["y"] == difference["y"] < second["y"] and first["x"] == second["x"] < difference["x"]


def test_the_key_says_what_is_missing(visit):
    page = visit()
    open_tab(page, "Compare")
    expect(page.locator("#compare-setup .from")).to_be_visible()
    page.keyboard.press("Control+Enter")
    # Other tests may have made a run.
    missing = re.compile("no run to compare yet|Choose what is to change")
    expect(page.locator('#compare-setup [data-part="problem"]:visible').first).to_contain_text(missing)


def test_show_me_draws_five_values_and_stop_ends_it(visit, site: Site):
    page = visit()
    page.locator("#settings > button").click()
    page.locator("#guidance .show-me").click()
    view = page.locator("#compare-view")
    expect(view.locator("h2")).to_have_text("Guidance scale", timeout=30_000)
    expect(view.locator('[data-at][data-state="done"]')).to_have_count(5, timeout=60_000)
    expect(view.locator(".viewer > .sentence")).to_contain_text("the picture changes most")


def test_the_map_of_a_race_is_drawn_while_it_runs(compared: Page, site: Site):
    page = compared
    setup, view = page.locator("#compare-setup"), page.locator("#compare-view")
    setup.get_by_text("Samplers", exact=True).click()
    setup.locator('[data-axis="x"] [data-part="values"]').fill("DDIM, Euler, Heun")
    expect(setup.locator('[data-part="cost"]')).to_contain_text("3 pictures")
    site.gate.reached.clear()
    site.gate.hold_at(2)
    setup.locator('[data-do="start"]').click()
    site.gate.wait_for(2)
    ways = page.locator("#compare-ways .compared-ways")
    ways.get_by_text("Map: the ways from noise to the pictures").click()
    looks = []
    page.on("request", lambda request: looks.append(request.url) if "/queue/join" in request.url else None)
    for held in range(3, 6):
        wait_for(lambda: site.backend._tasks._queries)  # the worker answers between two steps
        site.gate.hold_at(held)
        site.gate.wait_for(held)
    expect(ways.locator(".lane-now")).to_have_count(3)
    expect(ways.locator(".lanes li")).to_have_text(["DDIM", "Euler", "Heun"])
    assert ways.get_attribute("data-state") == "running" and ways.locator(".end.lane image").count() == 0
    expect(ways.locator('[data-part="dots"]')).to_contain_text("at the newest steps")
    # No other runs take its place in the viewer.
    page.evaluate("document.dispatchEvent(new CustomEvent('playground:two', {detail: ['one', 'two']}))")
    expect(setup.locator('.from [data-part="problem"]')).to_contain_text("A comparison is being made")
    expect(view.locator("h2")).to_have_text("Sampler")
    # Folded, it asks for nothing.
    ways.get_by_text("Map: the ways from noise to the pictures").click()
    page.wait_for_timeout(1_000)
    looks.clear()
    page.wait_for_timeout(2_000)
    assert looks == []
    ways.get_by_text("Map: the ways from noise to the pictures").click()
    site.gate.open()
    expect(ways).to_have_attribute("data-state", "open", timeout=60_000)
    expect(ways.locator(".end.lane image")).to_have_count(3)
    expect(ways.locator('[data-part="dots"]')).to_contain_text("noise level of the timeline")
    expect(view.locator('[data-part="progress"]')).to_have_text("")
