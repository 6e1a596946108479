"""The list of keys: it opens with one, and each key that it names does what it says."""

from __future__ import annotations

from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, expect

from tests.support import page_tabs
from tests.support.accessibility import violations
from tests.support.site import Site
from ui.shell.keys import KEYS

# Groups whose keys other modules press.
ELSEWHERE = {"Blend": "test_variations.py"}


def at(page: Page) -> str:
    return page.locator("#stage .strip").get_attribute("aria-valuenow") or ""


def test_every_key_of_the_list_works(visit, site: Site, tmp_path: Path):
    page, tried = visit(reduced_motion="reduce"), set()

    def press(group: str, *names: str) -> None:
        tried.add((group, names))
        page.keyboard.press("+".join("Control" if name == "Ctrl" else name for name in names))

    # Never while someone types, nor twice.
    page.locator("#prompt textarea").press("End")
    page.keyboard.type("?")
    expect(page.locator("#prompt textarea")).to_have_value("a red apple on a yellow background?")
    expect(page.locator(".keys-dialog")).to_be_hidden()
    page.locator("#stage .mat").click(position={"x": 5, "y": 5})
    page.locator('#stage [data-part="inside"], #status [data-part="keys"]').last.focus()
    press("Everywhere", "?")
    expect(page.locator(".keys-dialog")).to_be_visible()
    expect(page.locator(".keys-dialog [data-part=close]")).to_be_focused()
    assert page.locator(".keys-dialog dt").count() == sum(map(len, KEYS.values()))
    press("Everywhere", "Tab")
    expect(page.locator(".keys-dialog .all")).to_be_focused()
    press("Making a picture", "Escape")
    expect(page.locator(".keys-dialog")).to_be_hidden()
    expect(page.locator('#status [data-part="keys"]')).to_be_focused()
    _group(page, press)
    page.click("#settings > button")
    page.locator("#count label", has_text="2").click()
    page.click("#settings > button")
    press("Making a picture", "Ctrl", "Enter")
    page.locator('#stage .stage[data-state="done"]').wait_for()
    _timeline(page, press)
    _full_screen(page, press)
    page.get_by_role("button", name="All 2 things").click()
    page.locator(".builder:visible .things button").first.focus()
    for name in ("ArrowRight", "ArrowLeft", "ArrowDown", "ArrowUp", "ArrowRight"):
        press("Choosing what to draw", name)
    press("Choosing what to draw", "Enter")
    expect(page.locator(".builder:visible [data-part=said]")).to_have_text("an anvil")
    page.keyboard.press("Escape")
    site.gate.hold_at(1)
    page.keyboard.press("Control+Enter")
    page.locator('#stage .stage[data-state="running"]').wait_for()
    page.keyboard.press("Escape")
    site.gate.open()
    page.locator('#stage .stage[data-state="stopped"]').wait_for()
    _history(page, press)
    _crop(page, press, tmp_path / "wide.png")
    others = {group: rows for group, rows in KEYS.items() if group not in ELSEWHERE}
    single = {
        (group, (name,)) for group, rows in others.items() for names, _ in rows for name in names if "Ctrl" not in names
    }
    assert tried == single | {("Making a picture", ("Ctrl", "Enter"))}


def test_the_other_keys_are_pressed_in_the_tests_of_their_components() -> None:
    for group, module in ELSEWHERE.items():
        text = Path(__file__).with_name(module).read_text()
        assert any(f'press("{name}")' in text for names, _ in KEYS[group] for name in names), group


def _group(page: Page, press) -> None:
    """A group of buttons is one stop of the Tab key; the arrows move within it."""
    pills = page.locator("#summary .pill")
    pills.first.focus()
    press("Everywhere", "ArrowRight")
    expect(pills.nth(1)).to_be_focused()
    press("Everywhere", "ArrowLeft")
    expect(pills.first).to_be_focused()
    page.keyboard.press("Tab")
    assert not page.locator("#summary .pill:focus").count()
    # The others can be reached again once the focus has moved.
    expect(page.locator('#summary .pill[tabindex="-1"]')).to_have_count(0)
    page.keyboard.press("Shift+Tab")
    expect(pills.last).to_be_focused()


def _timeline(page: Page, press) -> None:
    page.locator('#stage [data-part="size"], #stage .strip').last.focus()
    press("Timeline", "Home")
    assert at(page) == "0"
    press("Timeline", "ArrowRight")
    assert at(page) == "1"
    press("Timeline", "ArrowLeft")
    assert at(page) == "0"
    press("Timeline", "End")
    assert int(at(page)) >= 7
    press("Timeline", " ")
    expect(page.locator('#stage [data-part="play"]')).to_have_text("Pause")
    page.keyboard.press(" ")
    expect(page.locator('#stage [data-part="play"]')).to_have_text("Play")


def _crop(page: Page, press, wide: Path) -> None:
    Image.new("RGB", (200, 100), "red").save(wide)
    page_tabs.open_tab(page, "Image to image")
    page.set_input_files("#source input[type=file]", str(wide))
    frame = page.locator("#crop .frame")
    expect(frame).to_be_visible()
    frame.focus()
    expect(frame).to_have_attribute("aria-valuenow", "50")
    press("Crop of an image", "ArrowRight")
    expect(frame).to_have_attribute("aria-valuenow", "55")
    press("Crop of an image", "ArrowLeft")
    expect(frame).to_have_attribute("aria-valuenow", "50")


def _full_screen(page: Page, press) -> None:
    page.click('#stage [data-part="full"]')
    large = page.locator("#stage .lightbox [data-part=large]")
    first = large.get_attribute("src") or ""
    press("Full screen", "ArrowRight")
    expect(large).not_to_have_attribute("src", first)
    press("Full screen", "ArrowLeft")
    expect(large).to_have_attribute("src", first)
    press("Full screen", "+")
    expect(large).to_have_attribute("style", "transform: translate(0px, 0px) scale(1.5);")
    press("Full screen", "-")
    expect(large).to_have_attribute("style", "transform: translate(0px, 0px) scale(1);")
    page.keyboard.press("Escape")
    expect(large).to_be_hidden()


def _history(page: Page, press) -> None:
    page.get_by_role("tab", name="History").click()
    tiles = page.locator(".tile")
    tiles.nth(1).wait_for()
    tiles.first.focus()
    for name in ("ArrowRight", "ArrowLeft", "ArrowDown", "ArrowUp"):
        press("History", name)
    # Pictures of other tests lie in the same history, and the grid draws those near the window alone: no counting.
    chosen = page.locator(f'.tile[data-id="{page.locator(".tile:focus").get_attribute("data-id")}"]')
    press("History", "f")
    expect(chosen.locator(".loved")).to_be_visible()
    press("History", " ")
    expect(page.locator(".history .one [data-part=prompt]")).to_be_visible()
    page.keyboard.press("Escape")
    press("History", "Delete")
    expect(chosen).to_have_count(0)
    expect(page.locator(".history .said")).to_contain_text("1 picture moved to the bin.")


def test_axe_finds_nothing_in_the_list(visit):
    page = visit(viewport={"width": 390, "height": 500})
    page.locator('#status [data-part="keys"]').click()
    expect(page.locator(".keys-dialog")).to_be_visible()
    for width in (390, 1280):
        page.set_viewport_size({"width": width, "height": 500})
        page.wait_for_function("width => innerWidth === width", arg=width)
        box = page.locator(".keys-dialog").bounding_box()
        assert box and box["x"] >= 0 and box["x"] + box["width"] <= width and box["y"] + box["height"] <= 500
        assert violations(page) == []
