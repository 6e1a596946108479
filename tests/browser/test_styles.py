"""Styles and wildcards in a real browser: save, import, choose, look at what is sent, draw, and find it again."""

from __future__ import annotations

import json
import re
from pathlib import Path

from playwright.sync_api import Page, expect

from tests.support.accessibility import violations
from tests.support.site import Site

PANEL = "#styles"
DIALOG = f"{PANEL} dialog"
CSV = (
    '\ufeffname,prompt,negative_prompt\r\n"Test glow","golden light,\r\nsoft","harsh"\r\n'
    '"<b data-hit>Bold</b>",bold {prompt},\r\n'
)


def part(page: Page, name: str):
    return page.locator(f'{PANEL} [data-part="{name}"]')


def card(page: Page, name: str):
    return page.locator(f"{DIALOG} .card", has=page.locator(".name", has_text=re.compile(f"^{re.escape(name)}$")))


def open_dialog(page: Page) -> None:
    part(page, "open").click()
    expect(part(page, "said")).not_to_be_empty()


def test_styles_and_wildcards_from_saving_to_the_picture(visit, site: Site, tmp_path: Path) -> None:
    (site.pictures.parent / "styles.json").unlink(missing_ok=True)  # of an earlier try
    words = site.pictures.parent / "wildcards"
    words.mkdir(exist_ok=True)
    (words / "beast.txt").write_text("griffin\nkraken\nphoenix\n")
    (tmp_path / "styles.csv").write_bytes(CSV.encode())
    page = visit()

    # A style is saved from the prompt, others come from a file.
    page.fill("#prompt textarea", "ink drawing of {prompt}")
    open_dialog(page)
    part(page, "name").fill("Test ink")
    part(page, "name").press("Enter")
    expect(part(page, "said")).to_have_text("Saved as Test ink.")
    page.set_input_files(f'{PANEL} [data-part="file"]', tmp_path / "styles.csv")
    expect(part(page, "said")).to_have_text("Read 2 new styles.")
    expect(card(page, "<b data-hit>Bold</b>")).to_be_visible()
    assert page.locator("[data-hit]").count() == 0
    part(page, "query").fill("golden")
    expect(card(page, "Test ink")).to_be_hidden()
    card(page, "Test glow").click()
    part(page, "query").fill("")
    card(page, "Test ink").press("Enter")
    expect(part(page, "said")).to_have_text("Chosen: Test glow, Test ink")
    assert violations(page, DIALOG) == []
    with page.expect_download() as download:
        part(page, "export").click()
    assert "Test ink" in [style["name"] for style in json.loads(Path(download.value.path()).read_text())["styles"]]
    part(page, "done").click()
    expect(page.locator(f'{PANEL} [data-part="chosen"] .chip')).to_have_count(2)

    # What is sent is shown, follows the prompt, and is what is drawn.
    page.fill("#prompt textarea", "a {red|red} __beast__, __gone__")
    part(page, "look").click()
    expect(part(page, "sent")).to_contain_text(re.compile(r"ink drawing of a red (griffin|kraken|phoenix), __gone__"))
    expect(part(page, "sent")).to_contain_text("golden light, soft")
    expect(part(page, "sent")).to_contain_text("There is no wildcard __gone__")
    page.click("#generate")
    page.locator('#stage .stage[data-state="done"]').wait_for()
    request = site.backend.jobs[-1].request
    assert request.typed is not None and request.typed.styles == ("Test glow", "Test ink")
    assert request.prompt == f"ink drawing of a red {request.drawn_for(0)[1]}, __gone__, golden light, soft"
    expect(page.locator("#drawn")).to_have_text(f"Drawn: red, {request.drawn_for(0)[1]}")
    assert violations(page, f"{PANEL} .styles-row") == []

    # The choice survives a reload; a chip takes its style out.
    page.reload()
    page.locator("#generate").wait_for()
    chips = page.locator(f'{PANEL} [data-part="chosen"] .chip')
    expect(chips).to_have_text(["Test glow\u00d7", "Test ink\u00d7"])
    chips.first.click()
    expect(chips).to_have_text(["Test ink\u00d7"])

    # From the history it comes as it was sent, or as it was typed.
    entry = site.history.catalogue.page(site.backend.jobs[-1].user).entries[0]
    page.get_by_role("tab", name="History").click()
    page.locator(f'[data-id="{entry.id}"]').first.click()
    page.locator('#tab-history [data-send="typed"], [data-send="typed"]').first.click()
    expect(page.locator("#prompt textarea")).to_have_value("a {red|red} __beast__, __gone__")
    expect(chips).to_have_text(["Test glow\u00d7", "Test ink\u00d7"])

    # On a phone the dialog fills the screen.
    page.set_viewport_size({"width": 390, "height": 844})
    open_dialog(page)
    expect(card(page, "Test ink")).to_be_in_viewport()
    assert violations(page, DIALOG) == []
    for name in ("Test ink", "Test glow", "<b data-hit>Bold</b>"):
        page.get_by_role("button", name=f"Remove {name}", exact=True).click()
        expect(part(page, "said")).to_have_text(f"{name} is removed.")
    page.keyboard.press("Escape")
    expect(page.locator(DIALOG)).to_be_hidden()
