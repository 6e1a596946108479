"""The main job in a real browser. The sampler is held at chosen steps by a gate, never by waiting."""

from __future__ import annotations

import io
import re

from PIL import Image
from playwright.sync_api import Page, expect

from tests.support.accessibility import violations
from tests.support.site import Site


def state(page: Page, name: str) -> None:
    """Wait until the film is in this state."""
    page.locator(f'.stage[data-state="{name}"]').wait_for()


def seen(page: Page) -> list[str]:
    """The different preview frames on the timeline."""
    return page.eval_on_selector_all(".slot img", "all => [...new Set(all.map(i => i.src))]")


def seed_of(page: Page) -> str:
    return page.locator('#stage [data-part="keep"]').get_attribute("data-seed") or ""


def make(page: Page, site: Site) -> None:
    page.click("#generate")
    state(page, "done")


def test_opening_the_page_queues_no_job_and_loads_the_model(visit, site: Site):
    page = visit()
    expect(page.locator("#prompt textarea")).to_have_value("a red apple on a yellow background")
    expect(page.locator('#status [data-part="text"]')).to_contain_text("ready", timeout=20_000)
    expect(page.locator(".hint")).to_be_visible()
    assert site.backend.jobs == []


def test_a_picture_forms_step_by_step_and_is_kept(visit, site: Site):
    page = visit()
    page.fill("#prompt textarea", "an anvil on a blue background")
    site.gate.hold_at(5)
    page.click("#generate")
    expect(page.locator('#stage [data-part="words"]')).to_contain_text("Denoising 6 of 8")
    expect(page.locator("#stop")).to_be_visible()
    expect(page.locator("#generate")).to_be_hidden()
    assert len(seen(page)) >= 5
    site.gate.open()
    state(page, "done")
    expect(page.locator("#generate")).to_be_visible()
    stored = next(site.pictures.glob("*.png"))
    with page.expect_download() as download:
        page.click('#stage [data-part="save"]')
    data = download.value.path().read_bytes()
    assert data in [path.read_bytes() for path in site.pictures.glob("*.png")]
    picture = Image.open(io.BytesIO(data))
    assert picture.size == (64, 64)
    assert "an anvil on a blue background" in picture.text["diffusion_playground"]
    assert stored.suffix == ".png"


def test_stop_answers_within_one_step(visit, site: Site):
    page = visit()
    site.gate.hold_at(2)
    page.click("#generate")
    site.gate.wait_for(2)
    expect(page.locator('#stage [data-part="words"]')).to_contain_text("Denoising 3 of 8")
    page.click("#stop")
    site.gate.nudge_until_over(site.backend.jobs[0])
    state(page, "stopped")
    expect(page.locator('#stage [data-part="words"]')).to_have_text("Stopped after 3 steps")
    assert list(site.gate.reached.values()) == [2]
    expect(page.locator("#generate")).to_be_focused()


def test_a_reload_finds_the_running_job(visit, site: Site):
    page = visit()
    site.gate.hold_at(4)
    page.click("#generate")
    expect(page.locator('#stage [data-part="words"]')).to_contain_text("Denoising 5 of 8")
    run = page.locator(".stage").get_attribute("data-run")
    page.reload()
    state(page, "running")
    expect(page.locator(".stage")).to_have_attribute("data-run", run)
    expect(page.locator(".stage")).to_have_attribute("data-seen", "5")
    site.gate.open()
    state(page, "done")
    assert len(site.backend.jobs) == 1


def test_two_tabs_of_one_browser_keep_their_own_pictures(visit, site: Site):
    """Also one that has made nothing, when the connection is lost while both wait, and when they load again."""
    one = visit()
    two, idle = (one.context.new_page() for _ in range(2))
    for page in (two, idle):
        page.goto(site.url)
        page.locator("#generate").wait_for()
    site.gate.hold_at(2)
    one.click("#generate")
    expect(one.locator('#stage [data-part="words"]')).to_contain_text("Denoising 3 of 8")
    two.click("#generate")
    expect(two.locator('#stage [data-part="words"]')).to_contain_text("Queued")
    runs = [job.id for job in site.backend.jobs]
    # Gradio notices the loss at the streams that are cut, and loads each page again once the server answers.
    for page in (one, two):
        page.evaluate("window.before = true")
    one.context.set_offline(True)
    for page in (one, two):
        expect(page.locator(".toast-body")).to_be_visible()
    one.context.set_offline(False)
    for page in (one, two):
        page.wait_for_function("() => !window.before")
    for page, run, words in ((one, runs[0], "Denoising 3 of 8"), (two, runs[1], "Queued")):
        expect(page.locator(".stage")).to_have_attribute("data-run", run)
        expect(page.locator('#stage [data-part="words"]')).to_contain_text(words)
    site.gate.open()
    for page, run in ((one, runs[0]), (two, runs[1])):
        state(page, "done")
        expect(page.locator(".stage")).to_have_attribute("data-run", run)
        page.reload()
        state(page, "done")
        expect(page.locator(".stage")).to_have_attribute("data-run", run)
    idle.reload()
    idle.locator("#generate").wait_for()
    expect(idle.locator(".stage")).not_to_have_attribute("data-state", "done")
    # A new tab finds the latest.
    late = one.context.new_page()
    late.goto(site.url)
    state(late, "done")
    expect(late.locator(".stage")).to_have_attribute("data-run", runs[1])


def test_two_visitors_one_stops_the_other_finishes(visit, site: Site):
    one, two = visit(), visit()
    site.gate.hold_at(2)
    one.click("#generate")
    site.gate.wait_for(2)
    two.click("#generate")
    expect(two.locator('#stage [data-part="words"]')).to_contain_text("Queued, 2nd in line")
    expect(two.get_by_text("Queue empty")).to_be_hidden()
    one.click("#stop")
    site.gate.nudge_until_over(site.backend.jobs[0])
    state(one, "stopped")
    site.gate.open()
    state(two, "done")
    expect(one.locator(".stage")).to_have_attribute("data-state", "stopped")


def test_the_timeline_is_scrubbed_without_the_server(visit, site: Site):
    page = visit()
    make(page, site)
    expect(page.locator("#status [data-part=queue]")).to_have_text("Queue empty")
    asked = []
    page.on("request", lambda r: asked.append(r.url) if not r.url.startswith("data:") else None)
    page.evaluate("document.activeElement.blur()")
    box = page.locator("#stage .strip").bounding_box()
    page.mouse.click(box["x"] + 4, box["y"] + 10)
    expect(page.locator('#stage [data-part="words"]')).to_contain_text("Step 1 of 8")
    page.keyboard.press("ArrowRight")
    expect(page.locator('#stage [data-part="words"]')).to_contain_text("Step 2 of 8")
    page.locator("#stage .strip").focus()
    page.keyboard.press("End")
    expect(page.locator('#stage [data-part="words"]')).to_contain_text("8 steps in")
    page.keyboard.press(" ")
    expect(page.locator('#stage [data-part="play"]')).to_have_text("Pause")
    expect(page.locator('#stage [data-part="play"]')).to_have_text("Play")
    # The status line asks on its own clock, with a queue-less call; nothing else may.
    events = [url for url in asked if "/queue/join" in url]
    assert events == []


def test_keys_generate_and_stop(visit, site: Site):
    page = visit()
    site.gate.hold_at(1)
    page.locator("#prompt textarea").focus()
    page.keyboard.press("Control+Enter")
    site.gate.wait_for(1)
    state(page, "running")
    page.keyboard.press("Escape")
    site.gate.nudge_until_over(site.backend.jobs[0])
    state(page, "stopped")


def test_seeds_are_shown_kept_and_drawn_again(visit, site: Site):
    page = visit()
    make(page, site)
    first = seed_of(page)
    page.click("#settings > button")
    expect(page.locator("#seed input, #seed textarea")).to_have_value(first)
    page.click('#stage [data-part="keep"]')
    expect(page.locator("#seed-lock input")).to_be_checked()
    page.click("#generate")
    page.wait_for_function("run => document.querySelector('.stage').dataset.run != run", arg=site.backend.jobs[0].id)
    state(page, "done")
    assert seed_of(page) == first
    expect(page.locator(".cell img").first).to_have_attribute("src", re.compile("^http"))
    page.click('#stage [data-part="again"]')
    page.wait_for_function("old => document.querySelector('#stage [data-part=keep]').dataset.seed != old", arg=first)
    state(page, "done")
    assert seed_of(page) != first


def test_several_pictures_are_a_grid(visit, site: Site):
    page = visit()
    page.click("#settings > button")
    page.locator("#count label", has_text="4").click()
    make(page, site)
    expect(page.locator(".cell img")).to_have_count(4)
    page.locator(".cell").nth(2).click()
    expect(page.locator(".cell:visible")).to_have_count(1)
    assert int(seed_of(page)) == site.backend.jobs[0].request.sampling.seed + 2
    expect(page.locator('#stage [data-part="save"]')).to_have_text("Save 3 of 4")
    page.click('#stage [data-part="all"]')
    expect(page.locator(".cell:visible")).to_have_count(4)


def test_settings_explain_themselves(visit, site: Site):
    page = visit()
    page.locator("#quality label", has_text="Draft").click()
    page.click("#settings > button")
    expect(page.locator("#steps input[type=number]")).to_have_value("4")
    page.fill("#steps input[type=number]", "5")
    page.keyboard.press("Tab")
    expect(page.locator("#quality input:checked")).to_have_count(0)
    page.fill("#guidance input[type=number]", "1")
    page.keyboard.press("Tab")
    expect(page.locator("#negative textarea, #negative input")).to_be_disabled()
    expect(page.locator("#negative")).to_contain_text("guidance of 1 or below")


def test_a_wrong_setting_is_explained_beside_it(visit, site: Site):
    page = visit()
    page.click("#settings > button")
    page.fill("#seed input, #seed textarea", "many")
    page.locator("#seed-lock input").check()
    page.fill("#width input", "13")
    page.keyboard.press("Tab")
    page.click("#generate")
    expect(page.locator("#seed-error")).to_contain_text("Seed must be a whole number")
    page.fill("#seed input, #seed textarea", "7")
    page.click("#generate")
    expect(page.locator("#width-error")).to_contain_text("Width must be a multiple of 8, such as 8 or 16.")
    expect(page.locator("#width input")).to_have_attribute("aria-invalid", "true")
    assert violations(page, "#settings") == []
    expect(page.locator("#seed-error")).to_be_hidden()
    expect(page.locator("#width-error")).to_be_in_viewport()
    page.fill("#width input", "64")
    make(page, site)
    expect(page.locator("#width-error")).to_be_hidden()
    assert seed_of(page) == "7"


def test_another_model_brings_its_own_defaults(visit, site: Site):
    page = visit()
    page.click("#settings > button")
    page.click("#model input")
    page.get_by_role("option", name="Other").click()
    expect(page.locator("#prompt textarea")).to_have_value("something else")
    expect(page.locator("#negative textarea, #negative input")).to_be_disabled()
    # The foot speaks of the model that is chosen, and of the one that draws.
    foot = page.locator('#status [data-part="text"]')
    expect(foot).to_have_text(re.compile(r"^other draws the next picture; tiny on .* is ready$"))
    site.gate.hold_at(2)
    page.click("#generate")
    expect(page.locator('#stage [data-part="words"]')).to_contain_text("Denoising 3 of 8")
    expect(foot).to_have_text(re.compile(r"^other (on .*, drawing|is drawing)$"))
    site.gate.open()
    page.locator('#stage .stage[data-state="done"]').wait_for()
    expect(foot).to_have_text(re.compile(r"^other on .*, ready$"))
    assert site.backend.jobs[0].request.model == "other"


def test_the_vocabulary_is_searched_and_fills_the_prompt(visit, site: Site):
    page = visit()
    page.get_by_role("button", name="All 2 things").click()
    page.fill(".builder:visible input", "tool")
    expect(page.locator(".builder:visible .things button:visible")).to_have_text(["anvil"])
    page.locator(".builder:visible .things button:visible").click()
    page.get_by_role("button", name="Put into the prompt").click()
    assert page.input_value("#prompt textarea") == "an anvil"
    page.locator(".examples .chip", has_text="Surprise me").click()
    make(page, site)
    assert site.backend.jobs[0].request.prompt in ("a fox", "an anvil")


def test_text_is_never_code(visit, site: Site):
    page = visit()
    for text in ('<img src=x onerror="window.hurt=1">', "${window.hurt=1}{{hurt}}", "${unclosed"):
        before = page.locator(".stage").get_attribute("data-run")
        page.fill("#prompt textarea", text)
        page.click("#generate")
        expect(page.locator(".stage")).not_to_have_attribute("data-run", before or "")
        state(page, "done")
        page.reload()
        state(page, "done")
        expect(page.locator("#prompt textarea")).to_have_value(text)
        assert page.evaluate("window.hurt") is None
        assert site.backend.jobs[-1].request.prompt == text


def test_a_lora_is_chosen_weighed_and_worn(visit, site: Site):
    page = visit()
    page.locator("#prompt textarea").fill("a fox")
    page.click("#settings > button")
    page.click("#lora input")
    page.get_by_role("option", name="ink (say: inkwash)").click()
    expect(page.locator("#prompt textarea")).to_have_value("a fox, inkwash <lora:ink:1>")
    expect(page.locator("#lora input")).to_have_value("")
    page.click("#settings > button")
    page.locator("#prompt textarea").fill("a fox, inkwash <lora:ink:0.5>")
    make(page, site)
    made = site.backend.jobs[-1].request
    assert made.prompt == "a fox, inkwash" and [(lora.name, lora.weight) for lora in made.loras] == [("ink", 0.5)]
    page.locator("#prompt textarea").fill("a fox <lora:gone>")
    page.click("#generate")
    expect(page.locator("#prompt-error")).to_contain_text("names the LoRA 'gone', which is not here")
    # On a phone, where the prompt stands at the bottom, the sentence comes into view above it.
    page.set_viewport_size({"width": 390, "height": 844})
    page.evaluate("scrollTo(0, 0)")
    page.locator("#prompt textarea").fill("a fox <lora:lost>")
    page.click("#generate")
    expect(page.locator("#prompt-error")).to_contain_text("names the LoRA 'lost'")
    expect(page.locator("#prompt-error")).to_be_in_viewport()


def test_the_stage_stays_where_it_is_and_is_the_largest_thing(visit, site: Site):
    page = visit(viewport={"width": 1440, "height": 900})
    _stays_and_is_large(page, site, (1440, 900))
    page.set_viewport_size({"width": 390, "height": 844})
    page.wait_for_function("innerWidth === 390")
    _stays_and_is_large(page, site, (390, 844))


def _stays_and_is_large(page: Page, site: Site, size: tuple[int, int]) -> None:
    before = page.locator("#stage .mat").bounding_box()
    site.gate.hold_at(2)
    page.click("#generate")
    state(page, "running")
    during = page.locator("#stage .mat").bounding_box()
    site.gate.open()
    state(page, "done")
    assert before == during == page.locator("#stage .mat").bounding_box()
    assert before["width"] >= 0.55 * size[0] and before["height"] >= 0.45 * size[1]
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


def test_axe_finds_nothing(visit, site: Site):
    page = visit()
    page.click("#settings > button")
    page.locator("#model").wait_for()
    make(page, site)
    assert violations(page) == []
