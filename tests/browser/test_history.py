"""The History tab: finding, opening, comparing, deleting and using again what was made."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from history.store import History
from pipelines.images.settings_in_files import source_type_of
from pipelines.jobs.users import OWNER, User
from tests.support import foreign_pictures as samples
from tests.support.foreign_pictures import png
from tests.support.history_entries import keep
from tests.support.page_tabs import open_tab
from tests.support.site import Site

COLOURS = ("red", "green", "blue", "orange", "purple", "teal")
MANY = 90
AXE = {"runOnly": ["wcag2a", "wcag2aa"], "resultTypes": ["violations"]}
# Scrolls down, again after each part of the list that arrives, until a picture is there.
TO_THE_END = """id => {
  const box = document.querySelector('.history .scroll');
  box.scrollTop = box.scrollHeight;
  return Boolean(document.querySelector(`.tile[data-id="${id}"]`));
}"""


def clear(history: History) -> None:
    for entry in list(history.catalogue.all(OWNER)):
        history.bin.delete(OWNER, [entry.id])
    history.bin.empty(OWNER)


@pytest.fixture
def made(site: Site) -> Iterator[list[str]]:
    """The ids of many pictures, oldest first: a hundred foxes but for some, one of them a guest's."""
    history = site.history
    clear(history)
    ids = [
        keep(
            history, f"a {COLOURS[k % 6]} fox", COLOURS[k % 6], seed=k, model="tiny", run=f"run{k}", size=(64, 64),
            user=User("guest-1") if k == 5 else OWNER, scheduler="ddim" if k % 2 else "euler",
        )
        for k in range(MANY)
    ]  # fmt: skip
    ids.append(keep(history, "an anvil in snow", "black", seed=7, model="tiny", size=(128, 64), negative_prompt="blur"))
    yield ids
    clear(history)


def count(page: Page) -> str:
    return page.locator(".history .count").inner_text()


def tile(page: Page, entry_id: str):
    return page.locator(f'.tile[data-id="{entry_id}"]')


def test_pictures_are_found_opened_and_used_again(visit, site: Site, made: list[str]):
    page = visit()
    # All pictures is one click away from the strip of recent ones.
    page.locator("#recent a", has_text="All pictures").click()
    expect(page.locator(".history .count")).to_have_text("91 pictures")
    assert page.url.endswith("#/history")
    expect(page.locator(".tile").first).to_have_attribute("data-id", made[-1])
    # Few tiles are in the page, and more come as one scrolls.
    assert page.locator(".tile").count() < 91
    expect(tile(page, made[0])).to_have_count(0)
    page.wait_for_function(TO_THE_END, arg=made[0])
    expect(tile(page, made[0])).to_be_visible()
    expect(tile(page, made[5]).locator(".guest")).to_have_text("Guest")
    # Search as one types, filters, and what is said when nothing is found.
    page.locator(".history [data-part=search]").press_sequentially("an anv")
    expect(page.locator(".history .count")).to_have_text("1 picture")
    page.locator(".history [data-part=search]").fill("zebra")
    expect(page.locator(".history .nothing")).to_contain_text("No picture matches.")
    page.locator(".history .nothing").get_by_role("button", name="Clear filters").click()
    expect(page.locator(".history .count")).to_have_text("91 pictures")
    page.locator(".history [data-filter=scheduler]").select_option("ddim")
    expect(page.locator(".history .count")).to_have_text("46 pictures")
    page.locator(".history [data-filter=size]").select_option("128x64")
    expect(page.locator(".history .count")).to_have_text("1 picture")
    page.locator(".history .filters").get_by_role("button", name="Clear filters").click()
    page.locator(".history [data-part=date]").select_option("1")
    expect(page.locator(".history .count")).to_have_text("91 pictures")
    page.locator(".history .filters").get_by_role("button", name="Clear filters").click()
    _one_picture(page, made)
    _settings_go_to_the_form(page, made)


def _one_picture(page: Page, made: list[str]) -> None:
    tile(page, made[-1]).click()
    detail = page.locator(".history .one")
    expect(detail.locator("[data-part=prompt]")).to_have_text("an anvil in snow")
    assert page.url.endswith(f"#/history/{made[-1]}")
    expect(detail.locator("[data-part=settings]")).to_contain_text("Negative prompt")
    expect(detail.locator("[data-part=caption]")).to_have_text(re.compile("128 \u00d7 64, shown [23]\u00d7"))
    assert (
        detail.locator("[data-part=picture]").evaluate("image => image.decode().then(() => image.naturalWidth)") == 128
    )
    expect(detail.locator("[data-part=line-text]")).to_have_text("No timeline of this picture is kept.")
    expect(detail.locator("[data-part=inside]")).to_be_hidden()
    # Tags are searched, too.
    detail.locator("[data-part=new-tag]").fill("Metal")
    detail.locator("[data-part=new-tag]").press("Enter")
    expect(detail.locator(".tags li")).to_contain_text("metal")
    page.keyboard.press("Tab")
    page.locator(".history .one .known").focus()
    page.keyboard.press("ArrowRight")
    expect(detail.locator("[data-part=prompt]")).to_have_text("a teal fox")
    page.keyboard.press("f")
    expect(detail.get_by_role("button", name="Favourite")).to_have_attribute("aria-pressed", "true")
    with page.expect_download() as download:
        detail.get_by_role("link", name="Download").click()
    assert download.value.suggested_filename == f"{made[-2]}.png"
    page.go_back()
    expect(page.locator(".history .browse")).to_be_visible()
    expect(tile(page, made[-2]).locator(".loved")).to_be_visible()
    page.go_forward()
    expect(detail.locator("[data-part=prompt]")).to_have_text("a teal fox")
    page.go_back()
    page.locator(".history [data-filter=tag]").select_option("metal")
    expect(page.locator(".history .count")).to_have_text("1 picture")
    page.locator(".history .filters").get_by_role("button", name="Clear filters").click()
    tile(page, made[-2]).click()
    expect(detail.locator("[data-part=prompt]")).to_have_text("a teal fox")


def _settings_go_to_the_form(page: Page, made: list[str]) -> None:
    detail = page.locator(".history .one")
    detail.get_by_role("button", name="Only the seed").click()
    expect(page.locator("#summary [data-pill=seed]")).to_have_text("seed 89")
    expect(page.locator("#summary [data-pill=seed]")).to_have_attribute("aria-pressed", "true")
    expect(page.locator("#prompt textarea")).to_have_value("a red apple on a yellow background")
    page.go_back()
    expect(detail).to_be_visible()
    detail.get_by_role("button", name="All settings").click()
    expect(page.locator("#prompt textarea")).to_have_value("a teal fox")
    page.go_back()
    detail.get_by_role("group", name="Image to image").get_by_role("button", name="Both").click()
    expect(page.locator("#image-prompt textarea")).to_have_value("a teal fox")
    expect(page.locator("#source img")).to_be_visible()
    expect(page.locator("#image-summary [data-pill=seed]")).to_have_text("seed 89")


def test_what_the_disk_refused_is_done_with_one_more_press(
    visit, site: Site, made: list[str], monkeypatch: pytest.MonkeyPatch
):
    page = visit()
    open_tab(page, "History")
    said = page.locator(".history .said")
    again = said.get_by_role("button", name="Try again")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    # It also stands in the strips of recent pictures.
    recent = [{"run": "run89", "picture": 0, "prompt": "", "thumbnail": "data:image/png;base64,"}]
    page.evaluate("recent => localStorage.setItem('playground-recent', JSON.stringify(recent))", recent)
    gone = "wanted => Boolean(JSON.parse(localStorage.getItem('playground-recent'))[0].gone) === wanted"
    for owner, name, key in ((site.history, "set_favourite", "f"), (site.history.bin, "delete", "Delete")):
        tile(page, made[-2]).focus()
        with monkeypatch.context() as patched:
            patched.setattr(owner, name, full)
            page.keyboard.press(key)
            expect(said).to_contain_text("No space left")
        again.click()
        expect(again).to_be_hidden()
    expect(said).to_contain_text("1 picture moved to the bin.")
    assert site.history.catalogue.find(OWNER, made[-2]).deleted is not None
    assert site.history.catalogue.find(OWNER, made[-2]).favourite
    page.wait_for_function(gone, arg=True)
    said.get_by_role("button", name="Undo").click()
    page.wait_for_function(gone, arg=False)


def test_several_pictures_are_selected_compared_deleted_and_restored(visit, site: Site, made: list[str]):
    page = visit()
    open_tab(page, "History")
    expect(page.locator(".history .count")).to_have_text("91 pictures")
    tiles = page.locator(".tile")
    tiles.nth(0).click(modifiers=["Control"])
    compare = page.locator(".history .chosen").get_by_role("button", name="Compare")
    expect(compare).to_be_disabled()
    tiles.nth(1).click(modifiers=["Control"])
    compare.click()
    two = page.locator(".history .two")
    expect(two.locator("tr.differs th")).to_contain_text(["Prompt", "Negative prompt", "Seed", "Size"])
    assert two.locator("tbody tr:not(.differs)").count() == 0
    two.get_by_role("checkbox").uncheck()
    expect(two.locator("tbody tr", has_text="Model")).not_to_have_class("differs")
    two.locator("input[type=range]").fill("20")
    assert two.locator("[data-part=over]").evaluate("box => box.style.getPropertyValue('--at')") == "20%"
    page.keyboard.press("Escape")
    # From the second to the fourth, to the bin, and back.
    tiles.nth(1).click(modifiers=["Control"])
    tiles.nth(3).click(modifiers=["Shift"])
    expect(page.locator(".history [data-part=chosen-count]")).to_have_text("3 selected")
    page.keyboard.press("Delete")
    expect(page.locator(".history .said")).to_contain_text("3 pictures moved to the bin.")
    expect(page.locator(".history .count")).to_have_text("88 pictures")
    page.locator(".history .said").get_by_role("button", name="Undo").click()
    expect(page.locator(".history .count")).to_have_text("91 pictures")
    _bin(page, made, site.history)
    _disk(page, site.history)


def _bin(page: Page, made: list[str], history: History) -> None:
    page.locator(".tile").first.focus()
    page.keyboard.press("Delete")
    expect(page.locator(".history .count")).to_have_text("90 pictures")
    page.keyboard.press("Delete")
    expect(page.locator(".history .count")).to_have_text("89 pictures")
    page.get_by_role("button", name="Bin", exact=True).click()
    expect(page.locator(".history .count")).to_have_text("2 pictures")
    assert page.url.endswith("#/history/bin")
    tile(page, made[-1]).click(modifiers=["Control"])
    page.locator(".history .chosen").get_by_role("button", name="Restore").click()
    expect(page.locator(".history .count")).to_have_text("1 picture")
    assert history.catalogue.find(OWNER, made[-1]).deleted is None
    page.locator(".history").get_by_role("button", name="Empty the bin").click()
    page.locator(".history .sure").get_by_role("button", name="Delete for good").click()
    expect(page.locator(".history .nothing")).to_be_visible()
    expect(page.locator(".history .nothing")).to_contain_text("The bin is empty.")
    assert history.catalogue.find(OWNER, made[-2]) is None
    page.locator(".history .browse").get_by_role("button", name="All pictures").click()
    expect(page.locator(".history .count")).to_have_text("90 pictures")


def _disk(page: Page, history: History) -> None:
    page.locator(".history").get_by_role("button", name="Disk").click()
    dialog = page.locator(".history .disk")
    expect(dialog.locator("[data-part=disk-rows]")).to_contain_text("90 pictures")
    expect(dialog.locator("[data-part=days]")).to_have_value("")
    dialog.locator("[data-part=days]").fill("365")
    dialog.get_by_role("button", name="Save the rule").click()
    expect(dialog.locator("[data-part=rule-said]")).to_contain_text("Saved.")
    assert history.bin.retention.days == 365
    dialog.locator("[data-part=days]").fill("")
    dialog.get_by_role("button", name="Save the rule").click()
    expect(dialog.locator("[data-part=rule-said]")).to_contain_text("Pictures stay")
    assert history.bin.retention.days == 0


def test_a_new_picture_is_there_with_its_timeline_and_opens_in_denoising(visit, site: Site):
    clear(site.history)
    page = visit()
    open_tab(page, "History")
    expect(page.locator(".history .nothing")).to_contain_text("No pictures yet.")
    open_tab(page, "Text to image")
    page.click("#generate")
    page.locator('#stage .stage[data-state="done"]').wait_for()
    open_tab(page, "History")
    expect(page.locator(".history .count")).to_have_text("1 picture")
    page.locator(".tile").click()
    expect(page.locator(".history .one [data-part=strip]")).to_have_attribute("src", re.compile("^data:image/jpeg"))
    address = page.url
    page.locator(".history .one").get_by_role("button", name="Look inside").click()
    expect(page.get_by_role("note").filter(has_text="Your latest picture")).to_be_visible()
    assert "#/denoising/" in page.url
    # A link opens what it names, also in a page that was not there yet.
    page.goto("about:blank")
    page.goto(address)
    expect(page.locator(".history .one [data-part=prompt]")).to_have_text("a red apple on a yellow background")
    page.keyboard.press("Escape")
    expect(page.locator(".tile")).to_have_count(1)


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 390)])
def test_axe_finds_nothing_in_the_history(visit, site: Site, made: list[str], scheme: str, width: int):
    phone = {"has_touch": True} if width < 500 else {}
    page = visit(color_scheme=scheme, viewport={"width": width, "height": 720}, reduced_motion="reduce", **phone)

    def check() -> None:
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        found = Axe().run(page, options=AXE).response["violations"]
        assert [(v["id"], v["nodes"][0]["html"][:160]) for v in found] == []

    open_tab(page, "History")
    expect(page.locator(".history .count")).to_have_text("91 pictures")
    page.get_by_role("button", name="Select", exact=True).click()
    for k in range(2):
        page.locator(".tile").nth(k).click()
    expect(page.locator(".history [data-part=chosen-count]")).to_have_text("2 selected")
    check()
    page.locator(".history .chosen").get_by_role("button", name="Compare").click()
    expect(page.locator(".history .two tbody tr").first).to_be_visible()
    check()
    page.locator(".history .two").get_by_role("button", name="All pictures").click()
    page.locator(".history .chosen").get_by_role("button", name="Clear selection").click()
    page.locator(".tile").first.click()
    expect(page.locator(".history .one [data-part=prompt]")).to_be_visible()
    check()


def test_pictures_come_in_and_go_out_and_filters_stand_in_the_address(visit, made: list[str], tmp_path: Path):
    page = visit()
    open_tab(page, "History")
    expect(page.locator(".history .count")).to_have_text("91 pictures")
    _import(page, tmp_path)
    _export(page)
    _address(page)


def _import(page: Page, tmp_path: Path) -> None:
    dialog, said = page.locator(".history .transfer"), page.locator(".history .said")
    page.locator(".history").get_by_role("button", name="Import").click()
    dialog.locator("[data-part=folder]").fill("nowhere")
    dialog.get_by_role("button", name="Import").click()
    expect(dialog.locator("[data-part=import-said]")).to_contain_text("There is no such folder")
    with zipfile.ZipFile(tmp_path / "theirs.zip", "w") as archive:
        archive.writestr("a.png", png({"parameters": samples.A1111}))
    (tmp_path / "b.png").write_bytes(png({"parameters": samples.FORGE}))
    with page.expect_file_chooser() as chooser:
        dialog.get_by_role("button", name="Choose pictures or a zip").click()
    chooser.value.set_files([tmp_path / "theirs.zip", tmp_path / "b.png"])
    expect(said).to_contain_text("2 pictures imported.")
    expect(page.locator(".history .count")).to_have_text("93 pictures")


def _export(page: Page) -> None:
    page.locator(".tile").nth(0).click(modifiers=["Control"])
    page.locator(".tile").nth(2).click(modifiers=["Shift"])
    with page.expect_download() as download:
        page.locator(".history .chosen").get_by_role("button", name="Export").click()
    with zipfile.ZipFile(download.value.path()) as archive:
        assert len(archive.namelist()) == 4 and "history.json" in archive.namelist()
    expect(page.locator(".history .said")).to_contain_text("3 pictures exported.")
    page.locator(".history .chosen").get_by_role("button", name="Clear selection").click()


def _address(page: Page) -> None:
    count, search = page.locator(".history .count"), page.locator(".history [data-part=search]")
    search.press_sequentially("fox")
    expect(page).to_have_url(re.compile(r"#/history\?q=fox$"))
    page.locator(".history [data-filter=model]").select_option("tiny")
    expect(count).to_have_text("90 pictures")
    page.locator(".history [data-filter=scheduler]").select_option("ddim")
    expect(count).to_have_text("45 pictures")
    expect(page).to_have_url(re.compile(r"#/history\?q=fox&model=tiny&scheduler=ddim$"))
    page.go_back()
    expect(count).to_have_text("90 pictures")
    expect(page.locator(".history [data-filter=scheduler]")).to_have_value("")
    page.go_forward()
    expect(count).to_have_text("45 pictures")
    # Also over a picture, another tab and a reload.
    page.locator(".tile").first.click()
    detail = page.locator(".history .one")
    with page.expect_download() as download:
        detail.get_by_role("link", name="Save without settings").click()
    saved = download.value.path().read_bytes()
    assert source_type_of(saved) == "trainedAlgorithmicMedia" and b"fox" not in saved
    _reload(page)
    expect(detail.locator("[data-part=prompt]")).to_contain_text("fox")
    page.keyboard.press("Escape")
    expect(count).to_have_text("45 pictures")
    open_tab(page, "Text to image")
    page.go_back()
    expect(search).to_have_value("fox")
    _reload(page)
    expect(count).to_have_text("45 pictures")
    expect(page.locator(".history [data-filter=scheduler]")).to_have_value("ddim")
    page.locator(".history .filters").get_by_role("button", name="Clear filters").click()
    expect(count).to_have_text("93 pictures")
    expect(page).to_have_url(re.compile("#/history$"))


def _reload(page: Page) -> None:
    page.reload()
    page.get_by_role("tab", name="History", exact=True).wait_for()
    page.locator(".history .browse").wait_for(state="attached")
