"""A picture is dropped on the page: its settings are shown, and what is chosen fills the form."""

from __future__ import annotations

import base64

from playwright.sync_api import Page, expect

from tests.support import foreign_pictures as samples
from tests.support.accessibility import violations
from tests.support.foreign_pictures import png
from tests.support.page_tabs import open_tab
from tests.support.site import Site

HOSTILE = '<img src=x onerror="window.broken = 1">${window.broken = 1}{{7}}'
TEXT = samples.A1111.replace(samples.PROMPT, f"a (curious:1.2) fox {HOSTILE}").replace(
    "Model: v1-5-pruned-emaonly", "Model: Tiny"
)
TEXT = TEXT.replace("<lora:ink wash:0.8>", "<lora:ink:0.8>")
# A file over an element, as the browser announces it, let go or not.
DRAG = """([selector, name, data, kinds]) => {
  const files = new DataTransfer();
  const bytes = Uint8Array.from(atob(data), (c) => c.charCodeAt(0));
  files.items.add(new File([bytes], name, { type: 'image/png' }));
  const target = document.querySelector(selector);
  const options = { dataTransfer: files, bubbles: true, cancelable: true };
  for (const kind of kinds) target.dispatchEvent(new DragEvent(kind, options));
}"""


def drag(page: Page, selector: str, data: bytes, *kinds: str) -> None:
    page.evaluate(DRAG, [selector, "theirs.png", base64.b64encode(data).decode(), list(kinds)])


def drop(page: Page, selector: str, data: bytes) -> None:
    drag(page, selector, data, "dragenter", "dragover", "drop")


def test_a_dropped_picture_shows_its_settings_and_fills_the_form(visit, site: Site):
    page, data = visit(), png({"parameters": TEXT})
    panel, here = page.locator(".picture-settings"), page.locator(".drop-here")
    drag(page, "#stage", data, "dragenter", "dragover")
    expect(here).to_be_visible()
    drag(page, "#stage", data, "dragleave")
    expect(here).to_be_hidden()
    drop(page, "#stage", data)
    expect(panel.locator("[data-part=program]")).to_have_text("Made with AUTOMATIC1111, 8 \u00d7 8")
    rows = panel.locator("tbody tr")
    expect(rows.filter(has_text="Sampler")).to_contain_text("DPM++ 2M Karras")
    expect(rows.filter(has_text="LoRA")).to_contain_text("ink")
    # What is not trusted is text.
    expect(rows.first).to_contain_text(HOSTILE)
    assert page.evaluate("window.broken") is None
    panel.locator("[data-part=unused-box] summary").click()
    expect(panel.locator("[data-part=unused]")).to_contain_text("vae-ft-mse")
    panel.locator("[data-part=text-box] summary").click()
    expect(panel.locator("[data-part=text]")).to_contain_text("Hires upscale: 2")
    assert violations(page, ".picture-settings") == []
    # The seed alone, then all but it.
    boxes = panel.locator("tbody input:not([disabled])")
    for box in boxes.all():
        box.set_checked(box.get_attribute("data-take") == "seed")
    panel.get_by_role("button", name="Take over").click()
    expect(panel).to_be_hidden()
    expect(page.locator("#summary [data-pill=seed]")).to_have_text("seed 1234567890")
    expect(page.locator("#prompt textarea")).to_have_value("a red apple on a yellow background")
    _all_settings_and_the_picture(page, site, data)


def _all_settings_and_the_picture(page: Page, site: Site, data: bytes) -> None:
    panel = page.locator(".picture-settings")
    open_tab(page, "History")
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="Read a picture").click()
    chooser.value.set_files({"name": "theirs.png", "mimeType": "image/png", "buffer": data})
    expect(panel.locator("[data-part=program]")).to_have_text("Made with AUTOMATIC1111, 8 \u00d7 8")
    panel.get_by_role("checkbox", name="Use the picture to start from").check()
    expect(panel.locator("[data-part=to]")).to_have_value("image-to-image")
    panel.get_by_role("button", name="Take over").click()
    expect(page.locator("#source img")).to_be_visible()
    prompt = page.locator("#image-prompt textarea")
    expect(prompt).to_have_value(f"a (curious:1.2) fox {HOSTILE}\nsecond line <lora:ink:0.8>")
    page.locator("#image-settings > button").click()
    expect(page.locator("#image-steps input[type=number]")).to_have_value("20")
    expect(page.locator("#image-guidance input[type=number]")).to_have_value("7")
    expect(page.locator("#image-strength input[type=number]")).to_have_value("0.35")
    expect(page.locator("#image-width input")).to_have_value("512")
    expect(page.locator("#image-scheduler input")).to_have_value("DPM++ 2M Karras")
    assert site.backend.jobs == [], "nothing runs by itself"
    page.locator("#image-settings > button").click()
    # Upload fields keep what is dropped on them.
    before = page.locator("#source img").get_attribute("src")
    page.locator("#source").get_by_role("button", name="Remove Image").click()
    field = "#source button[aria-dropeffect]"
    page.locator(field).wait_for()
    drop(page, field, png({"parameters": samples.FORGE}))
    expect(page.locator("#source img")).to_be_visible()
    assert page.locator("#source img").get_attribute("src") != before
    expect(panel).to_be_hidden()


def test_a_picture_without_settings_can_be_started_from_on_a_phone(visit):
    page = visit(viewport={"width": 390, "height": 800}, has_touch=True)
    panel = page.locator(".picture-settings")
    drop(page, "body", b"no picture")
    expect(panel.locator("[data-part=said]")).to_contain_text("Can't open this file")
    expect(panel.locator("[data-part=foot]")).to_be_hidden()
    page.keyboard.press("Escape")
    expect(panel).to_be_hidden()
    drop(page, "body", png({"Comment": "by hand"}))
    expect(panel.locator("[data-part=said]")).to_contain_text("holds no settings")
    expect(panel.locator("[data-part=text]")).to_have_text("Comment: by hand")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    panel.get_by_role("button", name="Take over").click()
    expect(page.locator("#source img")).to_be_visible()
