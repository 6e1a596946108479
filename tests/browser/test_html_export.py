"""The capsule opened from a disk, with no server behind it: it plays, answers keys and fingers, and asks nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, expect

from pipelines.images.provenance import digital_source_type
from tests.support.accessibility import violations
from tests.support.known_trace import draw, jpeg, make_trace
from ui.components.frame_cache import FrameCache
from ui.inspector import lens_frames
from ui.inspector.export import credit_lines
from ui.inspector.html_export import html_export
from ui.tabs.compare.capsule import capsule

HOSTILE = '<img src=x onerror="window.hurt=1">${window.hurt=1}{{hurt}}</script><script>window.hurt=1</script>'
STEPS = 6
Open = Callable[..., Page]


def write(folder: Path, prompt: str, **changes: object) -> Path:
    """A capsule of 6 steps as a file; ``changes`` replace parts of its reel."""
    trace = make_trace(prompt=prompt)
    path = folder / "capsule.html"
    held = {**lens_frames.complete_value(trace, 0, draw, FrameCache()), **changes}
    path.write_text(html_export(held, credit_lines(trace), digital_source_type(trace.request)), encoding="utf-8")
    return path


@pytest.fixture
def open_capsule(browser: Browser, tmp_path: Path) -> Iterator[Open]:
    """Open a capsule without a network; fails the test when it asks for anything or logs an error."""
    contexts, problems = [], []

    def open_it(prompt: str = "a fox", play: bool = False, changes: dict | None = None, **options) -> Page:
        path = write(tmp_path, prompt, play=play, **(changes or {}))
        context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})
        contexts.append(context)
        context.set_offline(True)
        page = context.new_page()
        page.set_default_timeout(10_000)
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("console", lambda said: problems.append(said.text) if said.type == "error" else None)
        page.on("request", lambda r: problems.append(r.url) if r.url[:5] not in ("data:", "file:", "blob:") else None)
        page.goto(path.as_uri())
        page.locator('.player[data-ready="yes"]').wait_for()
        return page

    yield open_it
    for context in contexts:
        context.close()
    assert problems == []


def at(page: Page, index: int) -> None:
    """Wait until the player stands at this step, from 0."""
    expect(page.locator(".player")).to_have_attribute("data-at", str(index))
    expect(page.locator('[data-part="place"]')).to_have_text(f"{index + 1} of {STEPS}")


def pixels(page: Page, side: str = "left") -> str:
    """What a view shows."""
    return page.eval_on_selector(f"[data-view={side}] canvas", "canvas => canvas.toDataURL()")


def drawn(page: Page, old: str, side: str = "left") -> str:
    """Wait until a view shows something else."""
    script = "([side, old]) => document.querySelector(`[data-view=${side}] canvas`).toDataURL() !== old"
    page.wait_for_function(script, arg=[side, old])
    return pixels(page, side)


def test_it_starts_playing_by_itself_and_pauses(open_capsule: Open):
    page = open_capsule(play=True)
    play = page.locator('[data-part="play"]')
    expect(play).to_have_text("Pause")
    page.wait_for_function("() => Number(document.querySelector('.player').dataset.at) >= 2")
    play.click()
    expect(play).to_have_text("Play")
    here = page.locator(".player").get_attribute("data-at")
    page.wait_for_timeout(500)
    expect(page.locator(".player")).to_have_attribute("data-at", here)


def test_it_does_not_move_for_those_who_asked_for_calm(open_capsule: Open):
    page = open_capsule(play=True, reduced_motion="reduce")
    page.wait_for_timeout(700)
    at(page, 0)
    expect(page.locator('[data-part="play"]')).to_have_text("Play")


def test_keys_step_through_it(open_capsule: Open):
    page = open_capsule()
    first = pixels(page)
    page.keyboard.press("ArrowRight")
    at(page, 1)
    drawn(page, first)
    page.keyboard.press("ArrowLeft")
    at(page, 0)
    page.locator('[data-part="strip"]').focus()
    page.keyboard.press("End")
    at(page, STEPS - 1)
    page.keyboard.press("Home")
    at(page, 0)
    page.keyboard.press(" ")
    expect(page.locator('[data-part="play"]')).to_have_text("Pause")


def test_dragging_along_the_strip_scrubs(open_capsule: Open):
    page = open_capsule()
    page.locator('[data-part="strip"]').scroll_into_view_if_needed()
    slots = [slot.bounding_box() for slot in page.locator(".slot").all()]
    assert len(slots) == STEPS
    middle = [(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2) for box in slots]
    page.mouse.move(*middle[1])
    page.mouse.down()
    for index in (1, 3, 5, 2):
        page.mouse.move(*middle[index])
        at(page, index)
    page.mouse.up()
    page.mouse.move(*middle[4])
    at(page, 2)


def test_the_questions_are_asked_next_to_the_player_and_move_it(open_capsule: Open):
    page = open_capsule()
    tour = page.locator(".questions")
    expect(tour.locator('[data-part="count"]')).to_have_text("1 of 5")
    well, text = (page.locator(one).first.bounding_box() for one in (".player .well", ".questions h2"))
    assert text["x"] > well["x"] + well["width"] and text["y"] < well["y"] + well["height"]
    for number, (left, right) in enumerate((("noise", "x0"), ("x0", "change")), start=2):
        tour.get_by_role("button", name="Next").click()
        expect(tour.locator('[data-part="count"]')).to_have_text(f"{number} of 5")
        tour.get_by_role("button", name="Show me").click()
        expect(page.locator("[data-view=left] select")).to_have_value(left)
        expect(page.locator("[data-view=right] select")).to_have_value(right)
    expect(tour.locator(".more button")).to_have_count(0)


def test_another_lens_shows_another_picture_and_its_own_words(open_capsule: Open):
    page = open_capsule()
    # At the first step of this run there is nothing but noise: two lenses agree.
    page.keyboard.press("ArrowRight")
    at(page, 1)
    view = page.locator("[data-view=left]")
    words, before = view.locator('[data-part="about"]').inner_text(), pixels(page)
    offered = view.locator("option").evaluate_all("all => all.filter(o => !o.disabled).map(o => o.value)")
    assert len(offered) == 8
    view.locator("select").select_option("noise")
    drawn(page, before)
    expect(view.locator('[data-part="about"]')).not_to_have_text(words)
    expect(view.locator("a")).to_have_attribute("href", "https://arxiv.org/abs/2006.11239")


def test_both_pictures_stand_at_the_same_step(open_capsule: Open):
    page = open_capsule()
    left, right = pixels(page, "left"), pixels(page, "right")
    assert left != right
    page.keyboard.press("ArrowRight")
    drawn(page, left, "left")
    drawn(page, right, "right")


def test_one_large_picture_instead_of_two(open_capsule: Open):
    page = open_capsule()
    expect(page.locator("[data-view=right]")).to_be_visible()
    page.click('[data-part="double"]')
    expect(page.locator("[data-view=right]")).to_be_hidden()
    page.click('[data-part="double"]')
    expect(page.locator("[data-view=right]")).to_be_visible()


def test_text_of_a_run_is_shown_and_never_run(open_capsule: Open):
    words = {"phase": HOSTILE, "words": HOSTILE}
    steps = [{**step, **words} for step in lens_frames.step_facts(make_trace(), 0)]
    page = open_capsule(HOSTILE, changes={"steps": steps, "note": HOSTILE, "text": HOSTILE, "run": HOSTILE})
    for name in ("title", "note", "text", "phase", "phase-words"):
        expect(page.locator(f'[data-part="{name}"]')).to_have_text(HOSTILE)
    expect(page.locator("td").first).to_have_text(HOSTILE)
    assert page.title().split() == HOSTILE.split()
    page.keyboard.press("ArrowRight")
    at(page, 1)
    assert page.evaluate("window.hurt") is None
    assert page.locator('img:not([src^="data:"])').count() == 0


def test_a_link_of_a_lens_leads_nowhere_but_to_https(open_capsule: Open):
    about = {name: dict(text) for name, text in lens_frames.first_value(make_trace(), 0)["about"].items()}
    about["x_t"]["link"] = "javascript:window.hurt=1"
    page = open_capsule(changes={"about": about})
    expect(page.locator("[data-view=left] a")).to_be_hidden()
    assert page.locator('a[href^="javascript:"]').count() == 0


def test_its_policy_stops_every_other_script_and_picture(browser: Browser, tmp_path: Path):
    context = browser.new_context()
    asked = []
    context.route("http://**/*", lambda route: (asked.append(route.request.url), route.abort()))
    page = context.new_page()
    page.goto(write(tmp_path, "a fox").as_uri())
    page.locator('.player[data-ready="yes"]').wait_for()
    add = "(code) => { const s = document.createElement('script'); s.textContent = code; document.body.append(s); }"
    page.evaluate(add, "window.hurt = 1")
    page.evaluate("() => { const i = new Image(); i.src = 'http://127.0.0.1:9/x.png'; document.body.append(i); }")
    page.evaluate("() => fetch('http://127.0.0.1:9/x').catch(() => {})")
    assert page.evaluate("window.hurt") is None
    assert asked == []
    context.close()


def test_a_phone_shows_one_picture_and_scrolls_down_only(open_capsule: Open):
    page = open_capsule(HOSTILE, viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    expect(page.locator("[data-view=right]")).to_be_hidden()
    well = page.locator("[data-view=left] .well").bounding_box()
    assert well["width"] == pytest.approx(well["height"], abs=1)
    assert well["width"] > 340
    slot = page.locator(".slot").nth(3)
    slot.tap()
    at(page, 3)


def test_nothing_moves_while_it_plays(open_capsule: Open):
    page = open_capsule()
    places = "() => [...document.querySelectorAll('.well, .strip, .controls > *, .facts > *')].map(e => {"
    places += " const b = e.getBoundingClientRect(); return [b.x, b.y, b.width, b.height].map(Math.round); })"
    before = page.evaluate(places)
    for index in range(1, STEPS):
        page.keyboard.press("ArrowRight")
        at(page, index)
        assert page.evaluate(places) == before


def test_axe_finds_nothing(open_capsule: Open):
    # The capsule's policy would keep out the test tool's script as well.
    assert violations(open_capsule(bypass_csp=True)) == []


def test_a_comparison_plays_on_one_timeline(browser: Browser, tmp_path: Path):
    traces = {}
    for k, colour in enumerate(("red", "blue")):
        final = jpeg(Image.new("RGB", (32, 32), colour))
        traces[0, 0, k] = replace(make_trace(f"run{k}", guidance_scale=2.0 + k, prompt=HOSTILE), finals=(final,))
    path = tmp_path / "capsule.html"
    path.write_text(capsule(None, traces), encoding="utf-8")
    context = browser.new_context(viewport={"width": 1280, "height": 720}, reduced_motion="reduce")
    page, problems = context.new_page(), []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("console", lambda said: problems.append(said.text) if said.type == "error" else None)
    page.goto(path.as_uri())
    expect(page.locator(".viewer h2")).to_have_text("Guidance scale (CFG): 2 or 3")
    expect(page.locator(".lane figcaption")).to_have_text(["12 model calls, 0.6 s", "12 model calls, 0.6 s"])
    page.locator('[data-part="at"]').fill("0")
    expect(page.locator(".lane figcaption")).to_have_text(["step 1 of 6", "step 1 of 6"])
    page.get_by_role("button", name="Play from noise").click()
    expect(page.locator(".lane figcaption").first).to_contain_text("model calls", timeout=20_000)
    page.get_by_label("Difference").check()
    expect(page.locator(".differ canvas")).to_be_visible()
    # The ways of both in one map, which follows the same timeline.
    page.get_by_text("Map: the ways from noise to the pictures").click()
    expect(page.locator(".compared-ways .lanes li")).to_have_text(["2", "3"])
    expect(page.locator('.compared-ways [data-part="variance"]')).to_contain_text("of the variance")
    page.locator('[data-part="at"]').fill("0")
    expect(page.locator(".lane-now").first).to_have_attribute("data-step", "0")
    assert page.evaluate("window.hurt") is None and violations(page) == [] and problems == []
    context.close()
