"""The player in a real browser, on a page of its own: every frame is one flat colour that says its lens and step."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from typing import Any

import gradio as gr
import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, expect

from tests.support.accessibility import LEVELS, violations
from tests.support.visitors import visitors
from ui.inspector.player import PLAYER_HTML, player, script
from ui.page import launch_options

HOSTILE = '<img src=x onerror="window.hurt=1">${window.hurt=1}{{hurt}}</script><script>window.hurt=1</script>'
LENSES = ("x0", "x_t", "noise", "change", "channels", "guidance", "latent")
STEPS = 6
FINISHED = (250, 250, 10)


def colour(name: str, step: int) -> tuple[int, int, int]:
    """What a lens shows at a step."""
    return 30 * LENSES.index(name) + 20, 30 * step + 20, 120


def uri(paint: tuple[int, int, int], side: int = 8) -> str:
    file = io.BytesIO()
    Image.new("RGB", (side, side), paint).save(file, format="PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode("ascii")


def facts(step: int) -> dict[str, Any]:
    """A run from all noise to none; the words grow, so that a page that made no room for them would jump."""
    signal = step / (STEPS - 1)
    return {
        "t": 999 - 160 * step, "alpha_bar": signal, "sigma": (1 - signal) ** 0.5,
        "snr": signal / (1 - signal) if signal < 1 else None, "change": 0.1, "share": signal,
        "phase": "Detail" if step > 2 else "Finding the layout", "words": "It is on its way. " * (1 + 2 * step),
    }  # fmt: skip


def reel(run: str = "one", lenses: tuple[str, ...] = LENSES, **changes: Any) -> dict[str, Any]:
    """A run of six steps with flat frames."""
    about = {
        name: {
            "title": f"Lens {name}", "term": f"term of {name}", "about": f"This is what {name} shows. " * (i + 2),
            "paper": "Ho et al. 2020", "link": "https://arxiv.org/abs/2006.11239",
        }
        for i, name in enumerate(LENSES)
    }  # fmt: skip
    value = {
        "run": run, "title": f"prompt of {run}", "text": "", "note": "", "total": STEPS, "guided": True,
        "steps": [facts(i) for i in range(STEPS)], "about": about, "order": list(LENSES), "views": ["x_t", "x0"],
        "lenses": {name: stage(name) for name in lenses}, "picture": uri(FINISHED), "settings": [], "play": False,
    }  # fmt: skip
    return {**value, **changes}


def stage(name: str) -> dict[str, Any]:
    return {"crisp": name == "latent", "frames": [uri(colour(name, i)) for i in range(STEPS)]}


def checks() -> dict[str, Any]:
    """A lens of two columns, black and white: enlarged with nearest there is no grey between them."""
    file = io.BytesIO()
    image = Image.new("RGB", (2, 2), "black")
    image.paste("white", (1, 0, 2, 2))
    image.save(file, format="PNG")
    frames = ["data:image/png;base64," + base64.b64encode(file.getvalue()).decode("ascii")] * STEPS
    smooth, crisp = ({"crisp": crisp, "frames": frames} for crisp in (False, True))
    return {**reel("checks"), "lenses": {"x_t": smooth, "x0": crisp}}


def hostile() -> dict[str, Any]:
    """Every text of the reel is an attack, and so is the link."""
    about = {
        name: {**dict.fromkeys(("title", "term", "about", "paper"), HOSTILE), "link": "javascript:window.hurt=1"}
        for name in LENSES
    }
    steps = [{**facts(i), "phase": HOSTILE, "words": HOSTILE} for i in range(STEPS)]
    return reel("hostile", title=HOSTILE, text=HOSTILE, note=HOSTILE, steps=steps, about=about)


REELS = {
    "one": reel(turn=5),
    "two": reel("two", turn=6),
    "late": reel("late", turn=4),
    "begun": reel("begun", ("x0",), text="Rendering the lenses: 1 of 7"),
    "more": {"run": "begun", "text": "", "lenses": {name: stage(name) for name in LENSES if name != "x0"}},
    "coarse": reel(
        "coarse",
        lenses=tuple(name for name in LENSES if name != "noise"),
        coarse=["x0"],
        again="Try again",
        note="The model is busy.",
    ),
    "drawn": {"run": "coarse", "note": "", "coarse": [], "lenses": {"x0": stage("noise")}},
    "waiting": {"run": "waiting", "title": "", "text": "Still being made", "total": 0, "steps": [], "lenses": {}},
    "playing": reel("playing", play=True),
    "at": reel("at", at=3),
    "soon": reel("soon:0", at=2),
    "stopped": reel("stopped", picture="", total=9),
    "checks": checks(),
    "hostile": hostile(),
}


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """A page with the player, and a button that gives it each of the reels."""
    with gr.Blocks(fill_width=True, analytics_enabled=False) as demo:
        gr.HTML(html_template="<h1>Player</h1>", js_on_load=None, apply_default_css=False)
        shown = player()
        with gr.Row(elem_id="reels"):
            for name, value in REELS.items():
                gr.Button(name, elem_id=f"give-{name}").click(lambda value=value: value, None, shown)
        shown.again(lambda: REELS["drawn"], None, shown)
    try:
        yield demo.launch(server_name="127.0.0.1", **launch_options())[1]
    finally:
        demo.close()


@pytest.fixture
def visit(browser: Browser, url: str) -> Iterator:
    """Open the page with a reel in the player; fails the test when the page logs an error."""
    with visitors(browser) as new:

        def show(name: str = "one", **options) -> Page:
            page = new.open(url, **options)
            page.locator(".player").wait_for()
            if name:
                give(page, name)
            return page

        yield show


def give(page: Page, name: str) -> None:
    page.click(f"#give-{name}")
    expect(page.locator(".player")).to_have_attribute("data-run", REELS[name]["run"])


def shows(page: Page, side: str, paint: tuple[int, int, int]) -> None:
    """Wait until the middle of a view has this colour."""
    page.wait_for_function(
        """([side, paint]) => {
          const c = document.querySelector(`[data-view=${side}] canvas`);
          const got = c.getContext('2d').getImageData(c.width / 2, c.height / 2, 1, 1).data;
          return paint.every((value, i) => Math.abs(value - got[i]) <= 2);
        }""",
        arg=[side, list(paint)],
    )


def part(page: Page, name: str):
    return page.locator(f'.player [data-part="{name}"]').first


def go(page: Page, **detail: Any) -> None:
    page.evaluate("detail => document.dispatchEvent(new CustomEvent('playground:go', {detail}))", detail)


def choose(page: Page, side: str, name: str) -> None:
    page.locator(f"[data-view={side}] select").select_option(name)


def listen(page: Page) -> None:
    page.evaluate(
        "() => { window.told = []; document.addEventListener('playground:step', e => window.told.push(e.detail)); }"
    )


# -- what is shown ----------------------------------------------------------------------------------------------


def test_each_view_shows_its_lens_at_the_step_and_the_strip_asks_nothing(visit):
    page = visit()
    asked: list[str] = []
    page.on("request", lambda r: asked.append(r.url) if not r.url.startswith(("data:", "blob:")) else None)
    for step in (3, 0, 5):
        page.locator(".player .slot").nth(step).click()
        shows(page, "left", colour("x_t", step))
        shows(page, "right", colour("x0", step))
        expect(part(page, "place")).to_have_text(f"{step + 1} of 6")
    for name in LENSES:
        choose(page, "left", name)
        shows(page, "left", colour(name, 5))
    assert asked == []


def test_the_slot_under_the_pointer_is_the_step_that_is_shown(visit):
    # On a phone the slots are narrow and the last one is not.
    page = visit(viewport={"width": 390, "height": 844})
    for step in range(STEPS + 1):
        box = page.locator(".player .slot").nth(step).bounding_box()
        for share in (0.1, 0.9):
            page.mouse.click(box["x"] + box["width"] * share, box["y"] + 10)
            expect(page.locator(".player")).to_have_attribute("data-at", str(step))


def test_dragging_beyond_the_strip_stays_at_its_ends(visit):
    page = visit()
    box = page.locator(".player .strip").bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 10)
    page.mouse.down()
    page.mouse.move(box["x"] - 40, box["y"] + 10)
    shows(page, "left", colour("x_t", 0))
    page.mouse.move(box["x"] + box["width"] + 40, box["y"] - 60)
    page.mouse.up()
    expect(part(page, "place")).to_have_text("Finished")
    page.mouse.move(box["x"] + 5, box["y"] + 10)
    expect(part(page, "place")).to_have_text("Finished")


def test_the_readouts_say_what_the_step_is(visit):
    page = visit()
    expect(part(page, "mix")).to_have_text("100%")
    # The noise schedule is drawn over the strip, a point a slot.
    points = page.locator(".player .curve polyline").last.get_attribute("points").split()
    assert len(points) == STEPS + 1
    heights = [float(point.split(",")[1]) for point in points]
    assert heights == sorted(heights) and heights[0] == 8 and heights[-1] == 92
    expect(part(page, "snr")).to_have_text("0")
    go(page, index=1)
    for name, text in {
        "place": "2 of 6", "timestep": "839", "mix": "80%", "sigma": "0.894", "snr": "0.25",
        "share": "20%", "phase": "Finding the layout", "phase-words": facts(1)["words"].strip(),
    }.items():  # fmt: skip
        expect(part(page, name)).to_have_text(text)
    go(page, index=5)
    expect(part(page, "snr")).to_have_text("no noise")
    go(page, index=6)
    expect(part(page, "mix")).to_have_text("0%")
    shows(page, "left", FINISHED)
    shows(page, "right", FINISHED)
    expect(page.locator(".player .strip")).to_have_attribute("aria-valuetext", "the finished picture")


def test_crisp_lenses_have_hard_edges(visit):
    page = visit("checks")
    levels = {
        side: page.wait_for_function(
            """side => {
              const c = document.querySelector(`[data-view=${side}] canvas`);
              const row = c.getContext('2d').getImageData(0, c.height / 2, c.width, 1).data;
              const seen = new Set(Array.from({length: c.width}, (_, i) => row[4 * i]));
              return seen.has(255) && seen.size;
            }""",
            arg=side,
        ).json_value()
        for side in ("left", "right")
    }
    assert levels["right"] == 2 < levels["left"]


# -- keys, buttons, playing -------------------------------------------------------------------------------------


def test_keys_step_and_play_and_leave_the_choosers_alone(visit):
    page = visit()
    place = part(page, "place")
    page.evaluate("document.activeElement.blur()")
    for key, said in (("ArrowRight", "2 of 6"), ("ArrowRight", "3 of 6"), ("ArrowLeft", "2 of 6")):
        page.keyboard.press(key)
        expect(place).to_have_text(said)
    page.locator(".player .strip").focus()
    for key, said in (("End", "Finished"), ("Home", "1 of 6"), ("ArrowUp", "2 of 6"), ("ArrowDown", "1 of 6")):
        page.keyboard.press(key)
        expect(place).to_have_text(said)
    page.keyboard.press(" ")
    expect(part(page, "play")).to_have_text("Pause")
    page.keyboard.press(" ")
    expect(part(page, "play")).to_have_text("Play")
    now = place.inner_text()
    page.locator("[data-view=left] select").focus()
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowRight")
    expect(place).to_have_text(now)


def test_the_buttons_step_and_pause(visit):
    page = visit("playing")
    expect(part(page, "play")).to_have_text("Pause")
    part(page, "back").click()
    expect(part(page, "play")).to_have_text("Play")
    go(page, index=2)
    part(page, "on").click()
    expect(part(page, "place")).to_have_text("4 of 6")
    part(page, "back").click()
    expect(part(page, "place")).to_have_text("3 of 6")
    go(page, play=True)
    expect(part(page, "play")).to_have_text("Pause")
    page.evaluate("document.dispatchEvent(new CustomEvent('playground:pause'))")
    expect(part(page, "play")).to_have_text("Play")


def test_at_four_times_the_speed_every_step_is_drawn_and_none_is_blank(visit):
    page = visit()
    shows(page, "right", colour("x0", 0))
    part(page, "loop").click()
    part(page, "speed").select_option("4")
    page.evaluate(
        """() => {
          window.seen = [];
          document.addEventListener('playground:step', ({detail}) => window.seen.push([detail.index,
            ...['left', 'right'].map((side) => {
              const c = document.querySelector(`[data-view=${side}] canvas`);
              return [...c.getContext('2d').getImageData(c.width / 2, c.height / 2, 1, 1).data].slice(0, 3);
            })]));
        }"""
    )
    go(page, index=0, play=True)
    expect(part(page, "place")).to_have_text("Finished")
    expect(part(page, "play")).to_have_text("Play")
    seen = page.evaluate("window.seen")
    wanted = [[i, list(colour("x_t", i)), list(colour("x0", i))] for i in range(STEPS)]
    assert [one for one in seen if one[0]] == [*wanted[1:], [STEPS, list(FINISHED), list(FINISHED)]]


def test_a_loop_begins_again(visit):
    page = visit()
    listen(page)
    part(page, "speed").select_option("4")
    go(page, index=STEPS, play=False)
    part(page, "play").click()
    page.wait_for_function("window.told.filter(d => d.index === 1).length >= 2")
    expect(part(page, "play")).to_have_text("Pause")


def test_it_plays_by_itself_unless_motion_is_unwanted(visit):
    page = visit("playing", reduced_motion="no-preference")
    expect(part(page, "play")).to_have_text("Pause")
    page = visit("playing", reduced_motion="reduce")
    shows(page, "right", colour("x0", 0))
    expect(part(page, "play")).to_have_text("Play")


def test_a_finger_taps_the_strip(visit):
    page = visit(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    box = page.locator(".player .slot").nth(4).bounding_box()
    page.touchscreen.tap(box["x"] + box["width"] / 2, box["y"] + 20)
    expect(part(page, "place")).to_have_text("5 of 6")


# -- what comes in ----------------------------------------------------------------------------------------------


def test_lenses_arrive_one_after_another_and_the_place_is_kept(visit):
    page = visit("begun")
    expect(page.locator("[data-view=left] option[value=noise]")).to_have_text("Lens noise (rendering)")
    expect(page.locator("[data-view=left] option[value=noise]")).to_be_disabled()
    expect(page.locator("[data-view=left] .hint")).to_have_text("Rendering this view.")
    expect(part(page, "text")).to_have_text("Rendering the lenses: 1 of 7")
    go(page, index=3)
    shows(page, "right", colour("x0", 3))
    give(page, "more")
    shows(page, "left", colour("x_t", 3))
    expect(page.locator("[data-view=left] option[value=noise]")).to_have_text("Lens noise")
    expect(page.locator("[data-view=left] .hint")).to_be_hidden()
    expect(part(page, "place")).to_have_text("4 of 6")
    expect(part(page, "title")).to_have_text("prompt of begun")
    expect(part(page, "text")).to_have_text("")


def test_views_that_were_drawn_without_the_model_are_drawn_again_on_request(visit):
    page = visit()
    expect(part(page, "again")).to_be_hidden()
    give(page, "coarse")
    go(page, index=3)
    shows(page, "right", colour("x0", 3))
    part(page, "again").click()
    shows(page, "right", colour("noise", 3))
    shows(page, "left", colour("x_t", 3))
    expect(part(page, "again")).to_be_hidden()
    expect(part(page, "note")).to_have_text("")
    expect(part(page, "place")).to_have_text("4 of 6")


def test_a_view_that_is_asked_for_while_it_is_rendered_says_so_and_comes(visit):
    page = visit("begun")
    go(page, index=2, left="noise", right="change")
    for side in ("left", "right"):
        expect(page.locator(f"[data-view={side}] .hint")).to_have_text("Rendering this view.")
    give(page, "more")
    shows(page, "left", colour("noise", 2))
    shows(page, "right", colour("change", 2))


def test_what_was_chosen_is_there_after_a_reload(visit):
    page = visit()
    choose(page, "left", "change")
    part(page, "speed").select_option("2")
    part(page, "loop").click()
    page.reload()
    expect(part(page, "loop")).to_have_attribute("aria-pressed", "false")
    expect(part(page, "speed")).to_have_value("2")
    give(page, "one")
    shows(page, "left", colour("change", 0))
    # Another run opens with its own.
    give(page, "two")
    shows(page, "left", colour("x_t", 0))


def test_nothing_of_an_older_run_is_left_on_a_view_that_waits(visit):
    page = visit()
    shows(page, "left", colour("x_t", 0))
    give(page, "begun")
    expect(page.locator("[data-view=left] .hint")).to_be_visible()
    shows(page, "left", (0, 0, 0))
    give(page, "waiting")
    expect(page.locator("[data-view=left] .hint")).to_have_text("Still being made")
    shows(page, "right", (0, 0, 0))
    expect(part(page, "play")).to_be_disabled()
    expect(page.locator("[data-view=left] select")).to_be_disabled()


def test_a_new_run_starts_over_and_a_late_value_is_ignored(visit):
    page = visit()
    go(page, index=4)
    give(page, "two")
    expect(part(page, "place")).to_have_text("1 of 6")
    go(page, index=2)
    # The same run once more, as the server repeats it: nothing moves.
    give(page, "two")
    expect(part(page, "place")).to_have_text("3 of 6")
    with page.expect_response(lambda response: "/queue/join" in response.url):
        page.click("#give-late")
    # Long enough for a value to come that must change nothing.
    page.wait_for_timeout(700)
    expect(page.locator(".player")).to_have_attribute("data-run", "two")
    expect(part(page, "title")).to_have_text("prompt of two")


def test_a_stopped_run_has_no_finished_picture(visit):
    page = visit("stopped")
    expect(page.locator(".player .slot")).to_have_count(STEPS)
    go(page, share=1)
    expect(part(page, "place")).to_have_text("6 of 9")
    shows(page, "left", colour("x_t", 5))


def test_texts_of_a_reel_are_never_code(visit):
    page = visit("hostile")
    for name in ("title", "text", "note", "about", "phase", "phase-words"):
        expect(part(page, name)).to_have_text(HOSTILE)
    expect(page.locator("[data-view=left] option").first).to_have_text(HOSTILE)
    expect(page.locator("[data-view=left] [data-part=paper]")).to_be_hidden()
    assert page.locator(".player img[src=x], .player script, .player a[href]").count() == 0
    assert page.evaluate("window.hurt") is None


def test_a_run_that_does_not_play_opens_at_the_step_that_it_names_and_what_a_stage_showed_comes_first(visit):
    page = visit("at")
    expect(part(page, "place")).to_have_text("4 of 6")
    # The thumbnails are what the left view shows.
    choose(page, "left", "noise")
    shown = REELS["at"]["lenses"]["noise"]["frames"][2]
    expect(page.locator(".player .slot img").nth(2)).to_have_attribute("src", shown)
    frames = [{"noise": 1 - i / 6, "guess": uri(colour("x0", i)), "noisy": uri(colour("x_t", i))} for i in range(STEPS)]
    seen = {"run": "soon", "picture": 0, "title": "a fox", "total": STEPS, "frames": frames}
    page.evaluate("detail => document.dispatchEvent(new CustomEvent('playground:inside', {detail}))", seen)
    expect(part(page, "title")).to_have_text("a fox")
    shows(page, "left", colour("x_t", 0))
    shows(page, "right", colour("x0", 0))
    expect(part(page, "timestep")).to_have_text("")
    # The server's values for the same run take over, without a blank in between.
    give(page, "soon")
    expect(part(page, "place")).to_have_text("3 of 6")
    expect(part(page, "timestep")).to_have_text("679")
    expect(page.locator("[data-view=left] option[value=noise]")).to_be_enabled()


# -- others on the page -----------------------------------------------------------------------------------------


def test_it_tells_where_it_stands_and_goes_where_it_is_told(visit):
    page = visit()
    listen(page)
    go(page, share=0.5, left="noise", right="change")
    shows(page, "left", colour("noise", 3))
    shows(page, "right", colour("change", 3))
    page.evaluate("document.dispatchEvent(new CustomEvent('playground:where'))")
    told = page.evaluate("window.told")
    assert told[-1] == told[-2] and told[-1].pop("picture").startswith("data:image/")
    assert told[-1] == {"run": "one", "index": 3, "total": 6, "lens": "noise", "id": "player"}
    go(page, index=99)
    expect(part(page, "place")).to_have_text("Finished")


def test_of_two_players_one_answers_a_key_and_a_hidden_one_none(browser: Browser):
    page = browser.new_page()
    page.set_content(f"<div>{PLAYER_HTML}</div><div>{PLAYER_HTML}</div>")
    page.add_script_tag(
        content=script() + "const all = [...document.querySelectorAll('.player')].map((root) => new Player(root));"
    )
    where = "all.map((one) => one.at)"
    page.evaluate("value => all.forEach((one) => one.take(value))", reel())
    page.keyboard.press("ArrowRight")
    assert sorted(page.evaluate(where)) == [0, 1]
    page.evaluate("all.forEach((one) => one.go(0)); all[0].root.parentElement.hidden = true")
    page.keyboard.press("ArrowRight")
    assert page.evaluate(where) == [0, 1]
    page.evaluate("all[1].root.parentElement.hidden = true")
    page.keyboard.press("ArrowRight")
    assert page.evaluate(where) == [0, 1]
    page.close()


# -- how it stands ----------------------------------------------------------------------------------------------


def test_nothing_moves_when_steps_and_lenses_change(visit):
    page = visit(viewport={"width": 1440, "height": 900})
    for width in (1440, 390):
        page.set_viewport_size({"width": width, "height": 900})
        page.wait_for_function("width => innerWidth === width", arg=width)
        _nothing_moves(page)


def _nothing_moves(page: Page) -> None:
    boxes = """() => [...document.querySelectorAll('.player .well, .player .strip, .player button, .player dt')]
      .filter((e) => e.offsetParent).map((e) => e.getBoundingClientRect())
      .map((r) => [r.left, r.top + scrollY].map(Math.round).join()).join(' ')"""
    seen = set()
    for step in range(STEPS + 1):
        go(page, index=step)
        seen.add(page.evaluate(boxes))
    for name in LENSES:
        choose(page, "left", name)
        seen.add(page.evaluate(boxes))
    assert len(seen) == 1
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


def test_one_view_on_a_phone_and_two_when_asked(visit):
    page = visit(viewport={"width": 390, "height": 844})
    expect(page.locator("[data-view=right]")).to_be_hidden()
    assert page.locator("[data-view=left] .well").bounding_box()["width"] > 330
    page.get_by_role("button", name="Side by side").click()
    shows(page, "right", colour("x0", 0))
    left, right = (page.locator(f"[data-view={side}] .well").bounding_box() for side in ("left", "right"))
    assert left["y"] == right["y"] and left["width"] == right["width"] == left["height"] > 150
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


def test_axe_finds_nothing(visit):
    page = visit("", reduced_motion="reduce")
    for name in ("", "one", "begun"):
        if name:
            give(page, name)
        assert violations(page, {"include": [["#player"]]}, (*LEVELS, "best-practice")) == [], name
