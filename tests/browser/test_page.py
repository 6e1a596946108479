"""Nothing is forgotten, and everything is on view: fields, tabs, runs, addresses, recent pictures, the drawer."""

from __future__ import annotations

from dataclasses import replace

from playwright.sync_api import Page, expect

from benchmarks.gpu.graphics_cards import CARDS
from tests.support import page_tabs
from tests.support.accessibility import violations
from tests.support.site import Site
from ui.page import TABS

PROMPT = "#prompt textarea"
# What other tabs that make or inspect pictures have on view without scrolling.
OTHERS_ON_VIEW = {
    "Image to image": ("#image-generate", "#strength-strip .four", "#strength-strip .strip", "#image-recent"),
    "Denoising": ("#player .views canvas >> nth=0", "#player .strip", '#player [data-part="play"]'),
    "Compare": ('#compare-setup button[type="submit"]',),
}


def done(page: Page, film: str = "#stage") -> None:
    page.locator(f'{film} .stage[data-state="done"]').wait_for()


def make(page: Page, prompt: str) -> str:
    """Draw a picture; the id of its run."""
    before = page.locator("#stage .stage").get_attribute("data-run")
    page.fill(PROMPT, prompt)
    page.click("#generate")
    page.wait_for_function("run => document.querySelector('#stage .stage').dataset.run != run", arg=before)
    done(page)
    return page.locator("#stage .stage").get_attribute("data-run") or ""


def settle(page: Page) -> None:
    """Wait until the page has asked the server for everything that it begins with."""
    expect(page.locator('#status [data-part="text"]')).to_contain_text("ready")
    expect(page.locator('#summary [data-pill="model"]')).not_to_be_empty()


def test_fields_survive_a_reload_and_a_second_tab_has_its_own(visit, site: Site):
    page = visit()
    settle(page)
    page.fill(PROMPT, "an anvil on a blue background")
    page.click("#settings > button")
    page.fill("#guidance input[type=number]", "6")
    page.keyboard.press("Tab")
    expect(page.locator("#summary")).to_contain_text("Guidance 6")
    # What a quality sets comes from the server, and is kept as well.
    page.click("#settings > button")
    page.locator("#quality label", has_text="Draft").click()
    page.wait_for_function("document.querySelector('#steps input[type=number]').value === '4'")
    page.wait_for_function("Object.values(sessionStorage).some((text) => /,4,6,/.test(text))")
    page.reload()
    expect(page.locator(PROMPT)).to_have_value("an anvil on a blue background")
    expect(page.locator("#summary")).to_contain_text("Guidance 6")
    expect(page.locator("#quality label", has_text="Draft").locator("input")).to_be_checked()
    other = page.context.new_page()
    other.goto(site.url)
    settle(other)
    other.fill(PROMPT, "a fox")
    expect(other.locator(PROMPT)).to_have_value("a fox")
    other.wait_for_function("Object.values(sessionStorage).some((text) => text.includes('a fox'))")
    page.reload()
    expect(page.locator(PROMPT)).to_have_value("an anvil on a blue background")


def test_a_reload_stays_in_each_tab(visit, site: Site):
    page = visit()
    for entry in TABS.values():
        page_tabs.open_tab(page, entry.label)
        tab = page.get_by_role("tab", name=entry.label, exact=True)
        expect(tab).to_have_attribute("aria-selected", "true")
        page.reload()
        expect(tab).to_have_attribute("aria-selected", "true")
        settle(page)


def test_a_lost_connection_loses_nothing(visit, site: Site):
    page = visit()
    settle(page)
    page.fill(PROMPT, "an anvil on a blue background")
    site.gate.hold_at(2)
    page.click("#generate")
    expect(page.locator('#stage [data-part="words"]')).to_contain_text("Denoising 3 of 8")
    run = page.locator("#stage .stage").get_attribute("data-run") or ""
    page.evaluate("window.before = true")
    page.context.set_offline(True)
    expect(page.locator(".toast-body")).to_be_visible()
    page.context.set_offline(False)
    page.wait_for_function("() => !window.before")
    expect(page.locator("#stage .stage")).to_have_attribute("data-run", run)
    expect(page.locator('#stage [data-part="words"]')).to_contain_text("Denoising 3 of 8")
    expect(page.locator(PROMPT)).to_have_value("an anvil on a blue background")
    site.gate.open()
    done(page)


def test_an_address_names_the_step_and_back_returns(visit, site: Site):
    page = visit()
    make(page, "an anvil")
    run = make(page, "a fox")
    page.click('#stage [data-part="inside"]')
    page.wait_for_function("run => location.hash.startsWith(`#/denoising/${run}/`)", arg=run)
    expect(page.locator("#player .player")).to_have_attribute("data-ready", "yes")
    page.click('#player [data-part="play"]')
    page.locator("#player .strip").focus()
    page.keyboard.press("Home")
    page.keyboard.press("ArrowRight")
    page.wait_for_function("location.hash.endsWith('/2')")
    address = page.url
    page.go_back()
    expect(page.locator("#stage .stage")).to_be_visible()
    page.go_forward()
    expect(page.locator("#player .player")).to_be_visible()
    # Another run that is chosen here is a place of its own, to which Back and Forward lead.
    other_run = page.locator(f'#past [data-run]:not([data-run="{run}"])').first
    name = other_run.get_attribute("data-run") or ""
    other_run.click()
    expect(page.locator("#player .player")).to_have_attribute("data-run", f"{name}:0")
    page.go_back()
    expect(page.locator("#player .player")).to_have_attribute("data-run", f"{run}:0")
    page.go_forward()
    expect(page.locator("#player .player")).to_have_attribute("data-run", f"{name}:0")
    # The same link, sent to another browser tab, opens the same run at the same step.
    other = page.context.new_page()
    other.goto(address)
    expect(other.locator("#player .player")).to_have_attribute("data-run", f"{run}:0")
    expect(other.locator("#player .player")).to_have_attribute("data-at", "1")


def test_a_link_to_a_run_that_is_gone_says_so_and_offers_the_latest(visit, site: Site):
    page = visit()
    run = make(page, "a fox")
    page.evaluate("location.hash = '#/denoising/gone%/2'")
    expect(page.locator("#player [data-view=left] .hint")).to_contain_text("This run is no longer kept")
    page.get_by_role("button", name="Open the latest run").click()
    expect(page.locator("#player .player")).to_have_attribute("data-run", f"{run}:0")
    expect(page.get_by_role("button", name="Open the latest run")).to_be_hidden()


def test_a_card_that_is_not_used_is_named_above_the_page_until_that_is_dismissed(visit, site: Site, monkeypatch):
    def use(problem: str) -> None:
        card = replace(CARDS["RTX 3060"], problem=problem)
        monkeypatch.setattr(site.backend._manager.machine, "card", card)

    use("This PyTorch has no kernels for the card; install the build that has them: make run TORCH=cu126.")
    page = visit(viewport={"width": 1280, "height": 720})
    bar = page.locator(".card-notice")
    expect(bar).to_contain_text("install the build that has them: make run TORCH=cu126.")
    settle(page)
    # The stage, the timeline and what is below them stay on view.
    assert page.evaluate("document.documentElement.scrollHeight <= window.innerHeight")
    assert violations(page, ".card-notice") == []
    bar.get_by_role("button", name="Dismiss").click()
    expect(bar).to_be_hidden()
    page.reload()
    expect(bar.locator('[data-part="text"]')).not_to_be_empty()
    expect(bar).to_be_hidden()
    use("The driver of the card is too old; update it.")
    page.reload()
    expect(bar).to_contain_text("The driver of the card is too old")


def test_a_tab_under_the_pointer_is_built_before_the_click(visit, site: Site):
    page = visit()
    page.get_by_role("tab", name="Denoising").hover()
    page.locator("#player .player").wait_for(state="attached")
    expect(page.locator("#stage .stage")).to_be_visible()


def test_tabs_share_the_prompt_and_say_when_theirs_differ(visit, site: Site):
    page, other, note = visit(), "#image-prompt textarea", ".shared:visible"
    settle(page)
    page.fill(PROMPT, "a fox on a blue background")
    page.wait_for_function("Object.values(sessionStorage).some((text) => text.includes('on a blue background'))")
    # Also where the tab is built only when it is opened, without the pointer's having been there.
    page.evaluate("document.querySelector('#tabs button[data-tab-id=\"image-to-image\"]').click()")
    expect(page.locator(other)).to_have_value("a fox on a blue background")
    page.fill(other, "an anvil")
    page.wait_for_function("Object.values(sessionStorage).some((text) => text.includes('an anvil'))")
    page.get_by_role("tab", name="Text to image").click()
    expect(page.locator(PROMPT)).to_have_value("an anvil")
    # Both were changed since they were the same, as after settings were taken over from a picture.
    page.evaluate("sessionStorage.setItem('playground-prompt-same', 'another')")
    page.get_by_role("tab", name="Image to image").click()
    page.fill(other, "an owl")
    page.wait_for_function("Object.values(sessionStorage).some((text) => text.includes('an owl'))")
    page.evaluate("sessionStorage.setItem('playground-prompt-same', 'another')")
    page.get_by_role("tab", name="Text to image").click()
    expect(page.locator(note)).to_contain_text("an owl")
    expect(page.locator(PROMPT)).to_have_value("an anvil")
    page.locator(note).get_by_role("button").click()
    expect(page.locator(PROMPT)).to_have_value("an owl")
    expect(page.locator(note)).to_have_count(0)


def test_recent_pictures_open_with_their_timeline(visit, site: Site):
    page = visit()
    first = make(page, "a fox")
    second = make(page, "an anvil")
    expect(page.locator("#recent .grid button")).to_have_count(2)
    expect(page.locator("#recent .grid button").first).to_have_attribute("title", "an anvil")
    page.reload()
    expect(page.locator("#stage .stage")).to_have_attribute("data-run", second)
    page.locator(f'#recent [data-run="{first}"]').click()
    expect(page.locator("#stage .stage")).to_have_attribute("data-run", first)
    expect(page.locator("#stage .stage")).to_have_attribute("data-seen", "8")
    expect(page.locator('#stage [data-part="save"]')).to_be_visible()
    expect(page.locator(f'#recent [data-run="{first}"]')).to_have_attribute("aria-current", "true")
    # One that ends while another tab is on view is there, too.
    site.gate.hold_at(2)
    page.click("#generate")
    expect(page.locator('#stage [data-part="words"]')).to_contain_text("Denoising 3 of 8")
    # Meanwhile the stage, Stop and a reload belong to it.
    page.locator(f'#recent [data-run="{second}"]').click()
    expect(page.locator('#recent [data-part="wait"]')).to_contain_text("A picture is being made.")
    expect(page.locator('#stage [data-part="words"]')).to_contain_text("Denoising 3 of 8")
    page_tabs.open_tab(page, "Models")
    site.gate.open()
    expect(page.locator("#recent .grid button")).to_have_count(3)
    expect(page.locator('#recent [data-part="wait"]')).to_be_empty()


def test_a_chip_that_is_pressed_while_a_picture_is_made_is_drawn_next(visit, site: Site):
    page = visit()
    settle(page)
    site.gate.hold_at(2)
    page.click("#generate")
    expect(page.locator('#stage [data-part="words"]')).to_contain_text("Denoising 3 of 8")
    chips = page.locator("#examples .example")
    chips.nth(0).click()
    chips.nth(1).click()
    site.gate.open()
    page.wait_for_function(
        "text => document.querySelector('#stage .cell img')?.alt.includes(text)", arg="a fox on a green"
    )
    done(page)
    assert [job.request.prompt for job in site.backend.jobs][1:] == ["a fox on a green background"]


def test_a_run_that_makes_no_picture_leaves_the_former_one_in_place(visit, site: Site, monkeypatch):
    page = visit()
    run = make(page, "a fox")
    stage, image = page.locator("#stage .stage"), page.locator("#stage .cell img")
    picture = image.get_attribute("src")

    def broken(*_: object, **__: object) -> None:
        raise ValueError("broken")

    with monkeypatch.context() as patch:
        patch.setattr("pipelines.sampling.denoise.denoise", broken)
        page.click("#generate")
        expect(stage).to_have_attribute("data-state", "failed")
    expect(image).to_have_attribute("src", picture or "")
    expect(stage).to_have_attribute("data-run", run)
    expect(page.locator('#stage [data-part="words"]')).to_contain_text("Something went wrong")
    page.locator('#stage [data-part="retry"]').click()
    done(page)
    assert stage.get_attribute("data-run") not in ("", run)


def test_what_is_wrong_is_mended_with_one_press(visit, site: Site, monkeypatch):
    page = visit()
    settle(page)
    page.fill(PROMPT, "a fox, <lora:none-here:1>, in snow")
    page.click("#generate")
    page.locator("#prompt-error").get_by_role("button", name="Leave out none-here").click()
    done(page)
    expect(page.locator(PROMPT)).to_have_value("a fox, in snow")
    expect(page.locator("#prompt-error p")).to_be_hidden()
    page.click("#settings > button")
    page.fill("#width input", "60")
    page.keyboard.press("Tab")
    before = page.locator("#stage .stage").get_attribute("data-run")
    page.click("#generate")
    page.locator("#width-error").get_by_role("button", name="Use 64").click()
    page.wait_for_function("run => document.querySelector('#stage .stage').dataset.run != run", arg=before)
    expect(page.locator("#width input")).to_have_value("64")
    done(page)

    # What the server mends: half the size where memory ran out.
    def full(*_: object, **__: object) -> None:
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr("pipelines.sampling.denoise.denoise", full)
        page.click("#generate")
        expect(page.locator("#stage .stage")).to_have_attribute("data-state", "failed")
    page.locator('#stage [data-part="retry"]', has_text="Make it smaller").click()
    expect(page.locator("#width input")).to_have_value("32")
    done(page)


def test_a_page_whose_sign_in_has_ended_offers_the_way_back(visit, site: Site):
    page = visit()
    settle(page)
    page.fill(PROMPT, "an anvil")
    page.wait_for_function("Object.values(sessionStorage).some((text) => text.includes('an anvil'))")
    page.route("**/gradio_api/queue/join*", lambda route: route.fulfill(status=401, json={"detail": "Sign in first."}))
    page.click("#generate")
    notice = page.locator(".signed-out")
    expect(notice).to_contain_text("signed out")
    page.unroute("**/gradio_api/queue/join*")
    notice.get_by_role("button", name="Sign in again").click()
    expect(notice).to_have_count(0)
    expect(page.locator(PROMPT)).to_have_value("an anvil")


def test_the_stage_shows_noise_and_swaps_it_for_the_guess(visit, site: Site):
    page = visit()
    site.gate.hold_at(3)
    page.click("#generate")
    expect(page.locator('#stage [data-part="words"]')).to_contain_text("Denoising 4 of 8")
    expect(page.locator("#stage [data-part=count]")).to_contain_text("% noise")
    inset, large = page.locator("#stage [data-part=inset]"), page.locator("#stage .cell img")
    noisy, guess = large.get_attribute("src"), inset.get_attribute("src")
    assert noisy != guess
    # What the guess is stands next to it, wherever it is.
    small_told, large_told = page.locator("#stage [data-part=inset-told]"), page.locator("#stage [data-part=told]")
    expect(small_told).to_contain_text("Your prompt's own answer, before guidance")
    expect(large_told).to_be_hidden()
    page.click("#stage [data-part=swap]")
    assert (large.get_attribute("src"), inset.get_attribute("src")) == (guess, noisy)
    expect(large_told).to_contain_text("Your prompt's own answer, before guidance")
    expect(small_told).to_be_empty()
    points = page.locator("#stage .curve polyline").first.get_attribute("points") or ""
    assert len(points.split()) >= 4
    site.gate.open()
    done(page)
    expect(page.locator("#stage [data-part=count]")).to_have_text("picture")
    expect(page.locator("#stage [data-part=swap]")).to_be_hidden()
    expect(large_told).to_be_hidden()
    # Early on it is a blur, and the line says why.
    page.locator("#stage .strip").focus()
    page.keyboard.press("Home")
    expect(large_told).to_contain_text("A blur: the average of all pictures that still fit")


def test_everything_is_on_view_without_scrolling(visit, site: Site):
    page = visit(viewport={"width": 1280, "height": 720})
    make(page, "a fox")
    for width, height in ((1280, 720), (1440, 900)):
        page.set_viewport_size({"width": width, "height": height})
        page.wait_for_function("height => window.innerHeight === height", arg=height)
        for name in ("#generate", "#stage .mat", "#stage .strip", '#stage [data-part="inside"]', "#status", "#recent"):
            box = page.locator(name).bounding_box()
            assert box and box["y"] >= 0 and box["y"] + box["height"] <= height, name
        assert page.evaluate("document.documentElement.scrollHeight <= window.innerHeight")
    page.set_viewport_size({"width": 1280, "height": 720})
    for tab, names in OTHERS_ON_VIEW.items():
        page_tabs.open_tab(page, tab)
        for name in names:
            page.locator(name).wait_for()
            box = page.locator(name).bounding_box()
            assert box and box["y"] >= 0 and box["y"] + box["height"] <= 720, name


def test_on_a_phone_the_stage_comes_first_and_the_prompt_stays(visit, site: Site):
    page = visit(viewport={"width": 390, "height": 844})
    stage, prompt, generate = (page.locator(name).bounding_box() for name in ("#stage .mat", PROMPT, "#generate"))
    assert stage and prompt and generate
    assert stage["y"] < prompt["y"] < generate["y"] < 844 and generate["height"] >= 44
    page.mouse.wheel(0, 600)
    assert page.locator("#generate").bounding_box() == generate
    for name in ("#quality label", "#recent .all", '#summary [data-pill="seed"]'):
        box = page.locator(name).first.bounding_box()
        assert box and box["height"] >= 44, name
    make(page, "a fox")
    page.get_by_role("button", name="Full screen").click()
    page.locator("#stage .lightbox [data-part=close]").click()
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


def test_the_lock_answers_and_the_drawer_closes_with_escape(visit, site: Site):
    page = visit()
    settle(page)
    pill = page.locator('#summary [data-pill="seed"]')
    expect(pill).to_have_attribute("aria-pressed", "false")
    pill.click()
    expect(pill).to_have_attribute("aria-pressed", "true")
    expect(pill).to_contain_text("seed ")
    page.locator('#summary [data-pill="size"]').click()
    expect(page.locator("#width input")).to_be_focused()
    page.keyboard.press("Escape")
    expect(page.locator("#width input")).to_be_hidden()
    expect(page.locator("#settings > button")).to_be_focused()


def test_full_screen_zooms_and_goes_to_the_next_picture(visit, site: Site):
    page = visit()
    page.click("#settings > button")
    page.locator("#count label", has_text="2").click()
    page.click("#settings > button")
    make(page, "a fox")
    page.click('#stage [data-part="full"]')
    large = page.locator("#stage .lightbox [data-part=large]")
    expect(large).to_be_visible()
    first = large.get_attribute("src")
    page.keyboard.press("ArrowRight")
    expect(large).not_to_have_attribute("src", first or "")
    page.keyboard.press("+")
    expect(large).to_have_attribute("style", "transform: translate(0px, 0px) scale(1.5);")
    page.keyboard.press("Escape")
    expect(large).to_be_hidden()
    # Each of them is in Recent: a click opens that one, and the rest keep their places.
    titles = [page.locator("#recent .grid button").nth(k).get_attribute("data-picture") for k in range(2)]
    assert titles == ["0", "1"]
    page.locator("#recent .grid button").nth(1).click()
    expect(page.locator("#stage .cell:visible")).to_have_count(1)
    current = page.locator('#recent .grid button[aria-current="true"]')
    expect(current).to_have_count(1)
    expect(current).to_have_attribute("data-picture", "1")
    page.reload()
    expect(page.locator("#stage .cell:visible")).to_have_count(2)
    page.locator("#recent .grid button").nth(1).click()
    expect(page.locator("#stage .cell:visible")).to_have_count(1)
