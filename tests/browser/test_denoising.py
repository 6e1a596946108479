"""The denoising tab in a real browser: what opens, what plays, what is saved, and when the server is asked."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Page, expect

from tests.support.accessibility import violations
from tests.support.site import Site

LENSES = ("x0", "x_t", "noise", "change", "channels", "guidance", "latent")
QUESTIONS = 5
HOSTILE = '<img src=x onerror="window.hurt=1">${window.hurt=1}{{hurt}}</script><script>window.hurt=1</script>'


def tab(page: Page, name: str) -> None:
    page.get_by_role("tab", name=name, exact=True).click()


def make(page: Page, prompt: str = "", count: str = "") -> None:
    """Make a picture in the first tab."""
    if prompt:
        page.fill("#prompt textarea", prompt)
    if count:
        page.click("#settings > button")
        page.locator("#count label", has_text=count).click()
        page.click("#settings > button")
    page.click("#generate")
    page.locator('.stage[data-state="done"]').wait_for()


# What is there once a sub-tab has drawn itself.
LOOKS = {
    "Guidance": "#guidance-panel .three-views img >> nth=2",
    "Adding noise": "#forward .three-views img >> nth=2",
    "Charts": "#charts .js-plotly-plot >> nth=3",
    "Which word drew what": ".word-maps .chip >> nth=1",
    "Text encoder": '.text-lens [data-part="ask"]',
    "Save": '#export [data-kind="capsule"]',
}


def look(page: Page, name: str) -> None:
    """Open a sub-tab and wait until it has drawn itself."""
    tab(page, name)
    page.locator(LOOKS[name]).wait_for()


def ready(page: Page, run: str = "") -> None:
    """Wait until every lens of a run is there."""
    if run:
        expect(page.locator("#player .player")).to_have_attribute("data-run", run)
    page.locator('#player .player[data-ready="yes"]').wait_for()
    page.wait_for_function(
        "() => { const all = [...document.querySelectorAll('#player [data-view=left] option')];"
        " return all.length > 5 && all.every(o => !o.disabled); }"
    )


def still(page: Page) -> None:
    """Stop playing, at the first step."""
    if page.locator('#player [data-part="play"]').inner_text() == "Pause":
        page.click('#player [data-part="play"]')
    go(page, index=0)


def go(page: Page, **detail: object) -> None:
    page.evaluate("d => document.dispatchEvent(new CustomEvent('playground:go', {detail: d}))", detail)


def pixels(page: Page, side: str) -> str:
    """What the canvas of a view shows."""
    return page.eval_on_selector(f"#player [data-view={side}] canvas", "c => c.toDataURL()")


def place(page: Page, selector: str) -> list[float]:
    """Left, top, width and height on the page, however far it is scrolled."""
    return page.eval_on_selector(
        selector,
        "e => { const b = e.getBoundingClientRect(); return [b.x + scrollX, b.y + scrollY, b.width, b.height]; }",
    )


def step(page: Page) -> str:
    return page.locator('#player [data-part="place"]').inner_text()


@pytest.fixture
def looked(visit, site: Site):
    """A visitor who made a picture and looks inside, all lenses drawn, at step 1."""

    def open_it(prompt: str = "", **options) -> Page:
        page = visit(**options)
        make(page, prompt)
        page.click('#stage [data-part="inside"]')
        ready(page, f"{site.backend.jobs[-1].id}:0")
        still(page)
        return page

    return open_it


def test_with_nothing_made_the_tab_says_where_pictures_come_from(visit, site: Site):
    page = visit()
    tab(page, "Denoising")
    expect(page.locator("#player [data-view=left] .hint")).to_contain_text("Make a picture in Text to image")
    expect(page.locator('#player [data-part="play"]')).to_be_disabled()
    # No question, and so no button that goes through them.
    expect(page.locator('.questions [data-part="empty"]')).to_be_visible()
    expect(page.locator('.questions [data-part="step"]')).to_be_hidden()
    assert site.backend.jobs == []


def test_look_inside_opens_this_picture_at_its_loudest_step(visit, site: Site):
    page = visit()
    make(page, "an anvil")
    page.click('#stage [data-part="inside"]')
    expect(page.get_by_role("tab", name="Denoising")).to_have_attribute("aria-selected", "true")
    expect(page.locator('#player [data-part="title"]')).to_have_text("an anvil")
    expect(page.locator("#run-title")).to_contain_text("Your latest picture")
    ready(page, f"{site.backend.jobs[0].id}:0")
    expect(page.locator('#player [data-part="play"]')).to_have_text("Play")
    expect(page.locator("#player .slot")).to_have_count(9)
    loudest = site.backend.trace(site.backend.jobs[0].id).loudest_step(0) + 1
    expect(page.locator('#player [data-part="place"]')).to_have_text(f"{loudest} of 8")
    expect(page.locator("#run-title")).to_contain_text(f"Opened at step {loudest}, where its guess changes most.")


def test_entering_the_tab_opens_the_last_generation_and_later_ones(visit, site: Site):
    page = visit()
    make(page, "one")
    tab(page, "Denoising")
    expect(page.locator('#player [data-part="title"]')).to_have_text("one")
    tab(page, "Text to image")
    page.fill("#prompt textarea", "two")
    page.click("#generate")
    tab(page, "Denoising")
    expect(page.locator('#player [data-part="title"]')).to_have_text("two")
    ready(page, f"{site.backend.jobs[1].id}:0")
    tab(page, "Text to image")
    tab(page, "Denoising")
    ready(page, f"{site.backend.jobs[1].id}:0")
    # The runs are listed, newest first; one click opens one, and it stays open.
    past = page.locator("#past button[data-run]")
    expect(past.nth(0)).to_have_attribute("data-run", site.backend.jobs[1].id)
    expect(past.nth(0)).to_have_attribute("aria-current", "true")
    expect(past.nth(1)).to_have_attribute("title", re.compile("^one, 8 steps, seed "))
    past.nth(1).click()
    ready(page, f"{site.backend.jobs[0].id}:0")
    expect(page.locator('#player [data-part="title"]')).to_have_text("one")
    expect(page.locator("#run-title")).to_contain_text("An earlier picture of yours")
    expect(page.locator('#past button[aria-current="true"]')).to_have_attribute("data-run", site.backend.jobs[0].id)
    tab(page, "Text to image")
    tab(page, "Denoising")
    expect(page.locator("#player .player")).to_have_attribute("data-run", f"{site.backend.jobs[0].id}:0")


def test_a_picture_that_is_still_made_is_waited_for(visit, site: Site):
    page = visit()
    site.gate.hold_at(3)
    page.click("#generate")
    site.gate.wait_for(3)
    tab(page, "Denoising")
    expect(page.locator("#player [data-view=left] .hint")).to_contain_text("still being made")
    expect(page.locator("#player [data-view=left] .hint")).to_contain_text("4 of 8")
    site.gate.open()
    ready(page, f"{site.backend.jobs[0].id}:0")


def test_a_stopped_run_can_be_looked_into_as_far_as_it_went(visit, site: Site):
    page = visit()
    site.gate.hold_at(4)
    page.click("#generate")
    site.gate.wait_for(4)
    page.click("#stop")
    site.gate.nudge_until_over(site.backend.jobs[0])
    page.locator('.stage[data-state="stopped"]').wait_for()
    page.click('#stage [data-part="inside"]')
    ready(page, f"{site.backend.jobs[0].id}:0")
    expect(page.locator("#player .slot")).to_have_count(5)
    expect(page.locator('#player [data-part="note"]')).to_contain_text("Stopped after 5 of 8 steps")
    expect(page.locator("#questions li")).to_have_count(QUESTIONS)


def test_each_picture_of_several_is_opened(visit, site: Site):
    page = visit()
    make(page, count="2")
    page.locator("#stage .cell").nth(1).click()
    page.click('#stage [data-part="inside"]')
    job = site.backend.jobs[0]
    ready(page, f"{job.id}:1")
    expect(page.locator("#questions")).to_contain_text(f"seed {job.request.sampling.seed + 1}:")
    still(page)
    before = pixels(page, "right")
    page.locator("#picture-choice label", has_text="Picture 1").click()
    ready(page, f"{job.id}:0")
    expect(page.locator("#questions")).to_contain_text(f"seed {job.request.sampling.seed}:")
    still(page)
    assert pixels(page, "right") != before


def test_nothing_is_asked_while_playing_scrubbing_and_changing_lenses(looked):
    page = looked()
    look(page, "Charts")
    expect(page.locator('#status [data-part="queue"]')).to_have_text("Queue empty")
    asked = []
    page.on("request", lambda r: asked.append(r.url) if not r.url.startswith(("data:", "blob:")) else None)
    drawn = int(page.get_attribute("#player .player", "data-draws"))
    box = page.locator("#player .strip").bounding_box()
    page.mouse.move(box["x"] + 5, box["y"] + 10)
    page.mouse.down()
    for share in (0.2, 0.4, 0.6, 0.8, 0.99):
        page.mouse.move(box["x"] + box["width"] * share, box["y"] + 10)
    page.mouse.up()
    expect(page.locator('#player [data-part="place"]')).to_have_text("Finished")
    page.locator("#player .strip").focus()
    page.keyboard.press("Home")
    page.keyboard.press("ArrowRight")
    assert step(page) == "2 of 8"
    for name in LENSES:
        page.locator("#player [data-view=left] select").select_option(name)
    page.locator("#player .strip").focus()
    page.keyboard.press(" ")
    page.wait_for_function("document.querySelector('.player').dataset.at === '6'")
    page.keyboard.press(" ")
    assert int(page.get_attribute("#player .player", "data-draws")) > drawn + 10
    # The status line asks on its own clock, with a queue-less call; nothing else may.
    assert [url for url in asked if "/queue/join" in url] == []
    assert [url for url in asked if "gradio_api" not in url] == []


def test_every_lens_shows_something_of_its_own(looked):
    page = looked()
    go(page, index=4)
    shown = {}
    for name in LENSES:
        page.locator("#player [data-view=left] select").select_option(name)
        expect(page.locator("#player [data-view=left] .hint")).to_be_hidden()
        shown[name] = pixels(page, "left")
        assert len(page.locator('#player [data-view=left] [data-part="about"]').inner_text().split()) > 15
        assert page.locator('#player [data-view=left] [data-part="paper"]').get_attribute("href").startswith("https://")
    assert len(set(shown.values())) == len(LENSES)


def test_the_five_questions_move_the_player(looked):
    page = looked()
    expect(page.locator("#questions li")).to_have_count(QUESTIONS)
    wanted = (("x_t", "x0"), ("noise", "x0"), ("x0", "change"), ("guidance", "x0"), ("latent", "x0"))
    for item, (left, right) in zip(page.locator("#questions li").all(), wanted, strict=True):
        assert len(item.inner_text().split()) > 50
        # The player moves and the page does not, even if the player is partly out of view.
        page.evaluate("window.scrollTo(0, 160)")
        scrolled = page.evaluate("window.scrollY")
        page.click('#questions [data-part="show"]')
        expect(page.locator("#player [data-view=left] select")).to_have_value(left)
        expect(page.locator("#player [data-view=right] select")).to_have_value(right)
        page.wait_for_timeout(150)
        assert page.evaluate("window.scrollY") == scrolled
        if page.locator('#questions [data-part="next"]').is_enabled():
            page.click('#questions [data-part="next"]')
    expect(page.locator('#questions [data-part="count"]')).to_have_text("5 of 5")
    last = page.locator("#questions li:not([hidden]) h2").inner_text()
    expect(page.locator("#questions [role=status]")).to_have_text(f"Question 5 of 5: {last}")
    expect(page.locator('#player [data-part="place"]')).to_have_text("8 of 8")


def saved(page: Page, kind: str) -> tuple[str, bytes]:
    """Press a button of the save panel; the name and bytes of what is downloaded."""
    with page.expect_download() as download:
        page.click(f'#export [data-kind="{kind}"]')
    return download.value.suggested_filename, Path(download.value.path()).read_bytes()


def test_every_kind_is_saved_and_its_link_stays(looked):
    page = looked("a fox, on ice")
    page.locator("#player [data-view=left] select").select_option("noise")
    look(page, "Save")
    expect(page.locator('#export [data-part="lens"]')).to_contain_text("predicted noise")
    for kind, form in (("gif", "GIF"), ("webp", "WEBP")):
        name, data = saved(page, kind)
        assert name.startswith("a-fox-on-ice-") and f"-noise.{kind}" in name
        stage = Image.open(io.BytesIO(data))
        # Pillow joins frames that are the same.
        assert stage.format == form and stage.n_frames >= 4
    name, data = saved(page, "mp4")
    assert name.endswith(".mp4") and data[4:8] == b"ftyp"
    name, data = saved(page, "filmstrip")
    strip = Image.open(io.BytesIO(data))
    assert strip.format == "PNG" and strip.width > strip.height and "a fox, on ice" in json.dumps(strip.text)
    name, data = saved(page, "capsule")
    assert name.endswith(".html") and b"a fox, on ice" in data
    expect(page.locator('#export [data-part="files"] a')).to_have_count(5)
    expect(page.locator("#export .problem")).to_be_hidden()


def test_a_lens_that_is_not_there_is_refused_with_a_sentence(looked):
    page = looked()
    look(page, "Save")
    page.evaluate(
        "document.dispatchEvent(new CustomEvent('playground:step', {detail: {run: 'x', index: 0, lens: '../../etc'}}))"
    )
    page.click('#export [data-kind="gif"]')
    expect(page.locator("#export .problem")).to_contain_text("cannot be saved")
    expect(page.locator('#export [data-kind="gif"]')).to_be_enabled()


def test_guesses_at_another_guidance_are_answered(looked):
    page = looked()
    look(page, "Guidance")
    before = page.locator("#guidance-panel .three-views img").first.get_attribute("src")
    page.locator("#guess-g").fill("9")
    expect(page.locator("#guidance-panel .three-views img").first).not_to_have_attribute("src", before)


def test_a_prompt_is_text_everywhere(looked):
    page = looked(HOSTILE)
    expect(page.locator('#player [data-part="title"]')).to_have_text(HOSTILE)
    for name in LOOKS:
        look(page, name)
    look(page, "Save")
    _, capsule = saved(page, "capsule")
    page.reload()
    page.locator("#generate").wait_for()
    tab(page, "Denoising")
    ready(page)
    assert page.evaluate("window.hurt") is None
    assert HOSTILE.encode() not in capsule


def test_another_browser_can_not_guess_a_run(looked, visit, site: Site):
    looked()
    other = visit()
    other.evaluate("""document.querySelector('#stage').dispatchEvent(new Event('x'))""")
    tab(other, "Denoising")
    expect(other.locator("#player [data-view=left] .hint")).to_contain_text("Make a picture")


@pytest.mark.parametrize("sizes", [((1440, 900), (1366, 768)), ((390, 844),)], ids=["wide", "narrow"])
def test_it_fits_and_nothing_jumps(looked, site: Site, sizes: tuple[tuple[int, int], ...]):
    page = looked(viewport={"width": sizes[0][0], "height": sizes[0][1]})
    for size in sizes:
        page.set_viewport_size({"width": size[0], "height": size[1]})
        still(page)
        _fits_and_does_not_jump(page, size)


def _fits_and_does_not_jump(page: Page, size: tuple[int, int]) -> None:
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    strip, below = place(page, "#player .strip"), place(page, "#panels")
    for name in LENSES:
        page.locator("#player [data-view=left] select").select_option(name)
        assert place(page, "#player .strip") == strip, name
    for index in (0, 4, 8):
        go(page, index=index)
        assert place(page, "#panels")[:2] == below[:2], index
    for name in LOOKS:
        look(page, name)
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), name
        assert place(page, "#player .strip") == strip, name
    if size[0] > 800:
        _, top, _, height = place(page, '#player [data-part="play"]')
        assert top + height <= size[1], "the buttons are on the first screen"


def test_axe_finds_nothing(looked):
    page = looked()
    # The whole page once, and then what a sub-tab changes.
    for name, part in zip(LOOKS, (None, *[{"include": [["#panels"]]}] * (len(LOOKS) - 1)), strict=True):
        look(page, name)
        assert violations(page, part) == [], name
