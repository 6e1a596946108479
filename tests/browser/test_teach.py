"""The Teach tab: pictures given, a word learnt while the user watches, a checkpoint chosen and saved."""

from __future__ import annotations

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


def test_a_word_is_taught_watched_and_saved(visit, tmp_path: Path):
    page: Page = visit()
    open_tab(page, "Teach")
    teach = page.locator("#teach .teach")
    expect(teach.locator('[data-part="model"] option')).to_have_text(["Tiny"])
    teach.locator('[data-do="begin"]').click()
    expect(teach.locator('[data-part="problem"]')).to_have_text("Write the new word first, such as zorp.")
    teach.locator('[data-part="word"]').fill("zorp")
    give(page, tmp_path)
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
    teach.locator('[data-do="save"]').click()
    expect(teach.locator('[data-part="saved"]')).to_contain_text("<lora:zorp:1>")
    found = Axe().run(page, context="#teach", options={"rules": {"color-contrast": {"enabled": False}}})
    assert found.violations_count == 0, found.generate_report()
    with page.expect_download() as download:
        teach.locator('[data-do="download"]').click()
    assert download.value.suggested_filename == "zorp-20.safetensors"
    # What was learnt is there again after a reload, and can be used at once.
    page.reload()
    expect(page.locator("#teach .column")).to_have_count(3, timeout=60_000)
    open_tab(page, "Text to image")
    page.locator("#prompt textarea").fill("a zorp <lora:zorp:1>")
    page.locator("#generate").click()
    expect(page.locator("#stage .stage")).to_have_attribute("data-state", "done", timeout=60_000)
