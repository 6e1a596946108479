"""The Teach tab: pictures given, a word learnt while the user watches, a checkpoint chosen and saved."""

from __future__ import annotations

import re
from pathlib import Path

from axe_playwright_python.sync_playwright import Axe
from PIL import Image
from playwright.sync_api import Page, expect

from tests.support.page_tabs import open_tab


def give(page: Page, folder: Path, count: int = 3) -> None:
    paths = []
    for k in range(count):
        paths.append(folder / f"{k}.png")
        Image.new("RGB", (48, 40), (60 * k, 120, 200)).save(paths[-1])
    page.locator('#teach [data-part="files"]').set_input_files(paths)
    expect(page.locator("#teach .given .tiles figure")).to_have_count(count)


def draw(page: Page) -> None:
    """A picture with the pointer and the keys."""
    page.locator('#teach [data-do="draw"]').click()
    paper = page.locator('#teach [data-paper="canvas"]')
    page.locator('#teach [data-ink="#d0342c"]').click()
    paper.focus()
    for key in (" ", *["ArrowRight"] * 6, "Shift+ArrowDown"):
        page.keyboard.press(key)
    color = "(c, [x, y]) => [...c.getContext('2d').getImageData(x, y, 1, 1).data]"
    assert paper.evaluate(color, [192 + 40, 192]) == [208, 52, 44, 255]
    box = paper.bounding_box()
    assert box
    page.mouse.move(box["x"] + 20, box["y"] + 20)
    page.mouse.down()
    page.mouse.move(box["x"] + 120, box["y"] + 20, steps=4)
    page.mouse.up()
    scale = 384 / box["width"]
    assert paper.evaluate(color, [round(70 * scale), round(20 * scale)]) == [208, 52, 44, 255]
    assert paper.evaluate(color, [10, 370]) == [255, 255, 255, 255]
    page.locator('#teach [data-paper="add"]').click()
    expect(page.locator('#teach [data-paper="told"]')).to_contain_text("1 added")
    found = Axe().run(page, context="#teach", options={"rules": {"color-contrast": {"enabled": False}}})
    assert found.violations_count == 0, found.generate_report()
    page.locator('#teach [data-paper="close"]').click()


def test_a_word_is_taught_watched_and_saved(visit, tmp_path: Path):
    page: Page = visit()
    open_tab(page, "Teach")
    teach = page.locator("#teach .teach")
    expect(teach.locator('[data-part="model"] option')).to_have_text(["Tiny"])
    teach.locator('[data-do="begin"]').click()
    expect(teach.locator('[data-part="problem"]')).to_have_text("Write the new word first, such as zorp.")
    teach.locator('[data-part="word"]').fill("zorp")
    give(page, tmp_path)
    draw(page)
    expect(teach.locator(".given .tiles figure")).to_have_count(4)
    teach.locator("summary").click()
    for name, value in (("steps", "40"), ("own", "0"), ("rank", "2"), ("batch", "2")):
        teach.locator(f'[data-changed="{name}"]').select_option(value)
    teach.locator("summary").click()
    teach.locator('[data-do="begin"]').click()
    expect(teach).to_have_attribute("data-state", "done", timeout=180_000)
    expect(teach.locator(".column")).to_have_count(3, timeout=60_000)
    expect(teach.locator('[data-part="progress"]')).to_contain_text("step 40 of 40")
    expect(teach.locator(".large figure")).to_have_count(4)
    teach.locator(".column").nth(2).press("ArrowLeft")
    expect(teach.locator('.column[aria-checked="true"]')).to_contain_text("20")
    expect(page).to_have_url(re.compile(r"#/teach/run-\d+/20$"))
    teach.locator('[data-do="save"]').click()
    expect(teach.locator('[data-part="saved"]')).to_contain_text("<lora:zorp:1>")
    found = Axe().run(page, context="#teach", options={"rules": {"color-contrast": {"enabled": False}}})
    assert found.violations_count == 0, found.generate_report()
    with page.expect_download() as download:
        teach.locator('[data-do="download"]').click()
    assert download.value.suggested_filename == "zorp-20.safetensors"
    # What was taught and learnt is there again after a reload, and can be used at once.
    page.reload()
    expect(page.locator("#teach .column")).to_have_count(3, timeout=60_000)
    expect(page.locator('#teach .column[aria-checked="true"]')).to_contain_text("20")
    expect(page.locator('#teach [data-part="word"]')).to_have_value("zorp")
    expect(page.locator('#teach [data-changed="steps"]')).to_have_value("40")
    expect(page.locator("#teach .given .tiles figure")).to_have_count(4)
    open_tab(page, "Text to image")
    page.locator("#prompt textarea").fill("a zorp <lora:zorp:1>")
    page.locator("#generate").click()
    expect(page.locator("#stage .stage")).to_have_attribute("data-state", "done", timeout=60_000)
