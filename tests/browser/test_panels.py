"""The panels of the denoising tab in a real browser, on a page of their own and a trace whose numbers are known."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import gradio as gr
import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, expect

from pipelines.jobs.backend import QueryFailed
from tests.support.accessibility import violations
from tests.support.known_trace import Stand, make_trace, stand
from tests.support.visitors import visitors
from ui.inspector import charts, forward_process, guidance
from ui.page import launch_options

HOSTILE = '<img src=x onerror="window.hurt=1">${window.hurt=1}{{hurt}}</script>'
TABS = (("Guidance", guidance), ("Adding noise", forward_process), ("Charts", charts))


def mount(page: Stand) -> gr.Blocks:
    """The three panels in tabs, and a button for each trace."""
    with gr.Blocks(fill_width=True, analytics_enabled=False) as demo:
        page.blocks, page.opened = demo, (opened := gr.State(None))
        buttons = {name: gr.Button(name, elem_id=f"open-{name}") for name in page.backend.traces}
        gr.HTML(html_template="<h2>Panels</h2>", js_on_load=None, apply_default_css=False)
        with gr.Tabs():
            with gr.Tab("First"):
                gr.HTML(html_template="<p>Nothing</p>", js_on_load=None, apply_default_css=False)
            panels = []
            for label, module in TABS:
                with gr.Tab(label):
                    panels.append(module.build(page))
        outputs = [component for panel in panels for component in panel.outputs]
        for name, button in buttons.items():
            button.click(lambda name=name: {"id": name, "picture": 0}, None, opened).then(
                lambda value: [update for panel in panels for update in panel.refresh(value)],
                [opened],
                outputs,
                # A component whose event is on its way is dimmed, and what is dimmed has little contrast.
                show_progress="hidden",
            )
    return demo


@contextmanager
def launched(page: Stand) -> Iterator[str]:
    demo = mount(page)
    try:
        _, url, _ = demo.launch(server_name="127.0.0.1", **launch_options())
        yield url
    finally:
        demo.close()


@pytest.fixture(scope="module")
def served() -> Iterator[tuple[str, Stand]]:
    slow = make_trace("slow")
    slow = type(slow)(**{**{name: getattr(slow, name) for name in slow.__dataclass_fields__}, "seconds": 60.0})
    page = stand(
        one=make_trace("one"),
        pushed=make_trace("pushed", prompt=HOSTILE, negative_prompt=HOSTILE),
        bare=make_trace("bare", guidance_scale=1.0),
        slow=slow,
    )
    with launched(page) as url:
        yield url, page


@pytest.fixture
def visit(browser: Browser, served: tuple[str, Stand]) -> Iterator:
    """Open the page with a trace in a tab; fails the test when the page logs an error."""
    served[1].backend.asked.clear()
    with visitors(browser) as new:

        def show(tab: str, name: str = "one", **options) -> Page:
            page = new.open(served[0], **options)
            page.click(f"#open-{name}")
            choose(page, tab)
            return page

        yield show


def choose(page: Page, tab: str) -> None:
    page.get_by_role("tab", name=tab, exact=True).click()


def to_step(page: Page, index: int) -> None:
    """What the player tells when it shows another step."""
    page.evaluate(
        "index => document.dispatchEvent(new CustomEvent('playground:step', {detail: {run: '', index, total: 6}}))",
        index,
    )


def slide(page: Page, selector: str, value: float) -> None:
    page.eval_on_selector(
        selector, "(e, v) => { e.value = v; e.dispatchEvent(new Event('input', {bubbles: true})); }", value
    )


def shown(page: Page, step: int, g: float) -> None:
    """Wait until the guidance panel shows this."""
    page.locator(f'.guidance-panel[data-state="shown"][data-step="{step}"][data-g="{g:g}"]').wait_for()


def picture(page: Page, cell: int) -> bytes:
    return base64.b64decode(page.locator(".guidance-panel .well img").nth(cell).get_attribute("src").split(",")[1])


def calls(page: Page) -> list[str]:
    """From now on, every request that reaches the server."""
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url) if not request.url.startswith("data:") else None)
    return asked


# -- guidance ---------------------------------------------------------------------------------------------------


def test_guidance_opens_at_the_runs_own_value_and_one_is_the_timelines_picture(visit, served):
    page = visit("Guidance")
    shown(page, 0, 4)
    expect(page.locator(".guidance-panel .own")).to_have_text("this run: 4")
    expect(page.locator('.guidance-panel [data-part="note"]')).to_contain_text("the run's own guidance")
    expect(page.locator(".guidance-panel .well img")).to_have_count(3)
    slide(page, ".guidance-panel input", 1)
    shown(page, 0, 1)
    assert picture(page, 0) == served[1].backend.traces["one"].frames[0][0]


def test_another_guidance_makes_another_picture_and_leaves_the_sides_alone(visit):
    page = visit("Guidance")
    shown(page, 0, 4)
    own, one, nought = (picture(page, cell) for cell in range(3))
    slide(page, ".guidance-panel input", 12)
    shown(page, 0, 12)
    assert picture(page, 0) != own
    assert (picture(page, 1), picture(page, 2)) == (one, nought)
    expect(page.locator('.guidance-panel [data-part="note"]')).to_contain_text(
        "Difference from the run's own guess at g = 4"
    )
    page.click('.guidance-panel [data-part="back"]')
    shown(page, 0, 4)
    assert picture(page, 0) == own


def test_the_panel_follows_the_timeline_after_it_rests(visit, served):
    page = visit("Guidance")
    shown(page, 0, 4)
    served[1].backend.asked.clear()
    for index in (1, 2, 3, 4, 5):
        to_step(page, index)
    expect(page.locator('.guidance-panel [data-part="state"]')).to_have_text("Step 6 of 6 (t = 50)")
    shown(page, 5, 4)
    assert served[1].backend.asked == ["decode 3"]
    # The finished picture stands behind the last step.
    to_step(page, 6)
    expect(page.locator('.guidance-panel [data-part="state"]')).to_have_text("Step 6 of 6 (t = 50)")


def test_pictures_of_an_earlier_step_are_not_passed_off_as_the_players(visit):
    page = visit("Guidance")
    shown(page, 0, 4)
    said = page.evaluate(
        """() => {
          document.dispatchEvent(new CustomEvent('playground:step', {detail: {run: '', index: 3, total: 6}}));
          return document.querySelector('.guidance-panel [data-part="state"]').textContent;
        }"""
    )
    assert said.startswith("Step 1 of 6") and "The player is at step 4" in said
    shown(page, 3, 4)
    expect(page.locator('.guidance-panel [data-part="state"]')).to_have_text("Step 4 of 6 (t = 400)")


def test_turning_the_dial_pauses_the_player(visit):
    page = visit("Guidance")
    shown(page, 0, 4)
    page.evaluate("document.addEventListener('playground:pause', () => { window.paused = true; })")
    slide(page, ".guidance-panel input", 7)
    assert page.evaluate("window.paused") is True


def test_a_quick_drag_ends_on_the_newest_value(visit, served):
    page = visit("Guidance")
    shown(page, 0, 4)
    served[1].backend.asked.clear()
    for g in range(41):
        slide(page, ".guidance-panel input", round(g * 0.25, 1))
    shown(page, 0, 10)
    assert 1 <= len(served[1].backend.asked) < 41


def test_a_hidden_panel_asks_nothing(visit, served):
    page = visit("Guidance")
    shown(page, 0, 4)
    choose(page, "First")
    served[1].backend.asked.clear()
    to_step(page, 3)
    # Longer than the panel waits for the timeline to rest.
    page.wait_for_timeout(600)
    assert served[1].backend.asked == []
    choose(page, "Guidance")
    shown(page, 3, 4)


def test_a_negative_prompt_is_text_and_named(visit):
    page = visit("Guidance", "pushed")
    shown(page, 0, 4)
    expect(page.locator(".guidance-panel figcaption").nth(2)).to_contain_text(HOSTILE)
    expect(page.locator(".guidance-panel figcaption").nth(2)).to_contain_text("What it pushes away from")
    assert page.evaluate("window.hurt") is None


def test_a_run_without_guidance_says_so(visit, served):
    page = visit("Guidance", "bare")
    expect(page.locator('.guidance-panel [data-part="why"]')).to_contain_text("without guidance")
    expect(page.locator(".guidance-panel input")).to_be_hidden()
    assert served[1].backend.asked == []
    page.click("#open-one")
    shown(page, 0, 4)


# -- adding noise -----------------------------------------------------------------------------------------------


def told(page: Page, text: str) -> None:
    expect(page.locator(".forward .verdict")).to_contain_text(text, timeout=20_000)


def test_the_noise_slider_asks_the_server_nothing(visit, served):
    page = visit("Adding noise")
    told(page, "Until t = 400")
    page.locator("#forward-snr .js-plotly-plot").wait_for()
    asked, seen = calls(page), set()
    served[1].backend.asked.clear()
    for i in range(6):
        slide(page, ".forward input", i)
        seen.add(page.locator(".forward .well img").first.get_attribute("src"))
        expect(page.locator('.forward [data-part="t"]')).to_contain_text(
            f"t = {(50, 200, 400, 600, 800, 999)[i]} of 999"
        )
        expect(page.locator(".forward .about").nth(1)).to_contain_text(f"step {6 - i} of 6")
    assert len(seen) == 6
    assert asked == [] and served[1].backend.asked == []


def test_a_keyboard_moves_the_noise_slider(visit):
    page = visit("Adding noise")
    told(page, "Until t = 400")
    page.locator(".forward input").focus()
    page.keyboard.press("End")
    expect(page.locator('.forward [data-part="t"]')).to_contain_text("t = 999")
    page.keyboard.press("ArrowLeft")
    expect(page.locator('.forward [data-part="t"]')).to_contain_text("t = 800")


def test_the_cursor_stands_at_the_chosen_noise(visit):
    page = visit("Adding noise")
    told(page, "Until t = 400")
    page.locator("#forward-snr .js-plotly-plot").wait_for()
    slide(page, ".forward input", 3)
    for name in ("signal", "snr"):
        assert cursor_error(page, f"#forward-{name}", 3) < 1.5


def test_telling_the_prompt_asks_again(visit, served):
    page = visit("Adding noise")
    told(page, "Until t = 400")
    page.get_by_label("Give the model the prompt").check()
    told(page, "single prediction, given the prompt")
    assert [asked for asked in served[1].backend.asked if asked.startswith("believe")] == [
        "believe ''",
        "believe 'a fox'",
    ]
    # After a reload the prompt is given again, and the slider stands where it stood.
    slide(page, ".forward input", 4)
    page.wait_for_function(
        "Object.entries(sessionStorage).some(([key, text]) => key.endsWith('-noise') && text.includes('true'))"
    )
    page.reload()
    page.click("#open-one")
    choose(page, "Adding noise")
    told(page, "single prediction, given the prompt")
    expect(page.get_by_label("Give the model the prompt")).to_be_checked()
    expect(page.locator('.forward [data-part="t"]')).to_contain_text("t = 800")


def test_a_picture_of_ones_own(visit, served, tmp_path: Path):
    page = visit("Adding noise")
    told(page, "Until t = 400")
    page.locator("#forward-source label", has_text="My picture").click()
    told(page, "Choose a picture of your own")
    path = tmp_path / "mine.png"
    Image.new("RGB", (60, 40), "red").save(path)
    page.set_input_files("#forward-upload input[type=file]", path)
    told(page, "single colour")
    assert "encode" in served[1].backend.asked


def test_a_slow_run_is_asked_on_request_alone(visit, served):
    page = visit("Adding noise", "slow")
    told(page, "10 s a step")
    assert not [asked for asked in served[1].backend.asked if asked.startswith("believe")]
    page.get_by_role("button", name="Ask the model").click()
    told(page, "Until t = 400")


def test_noise_that_could_not_be_added_is_asked_for_again(visit, served):
    served[1].backend.problem = QueryFailed("The model could not be loaded.")
    page = visit("Adding noise")
    told(page, "could not be loaded")
    served[1].backend.problem = None
    again = page.locator(".forward").get_by_role("button", name="Try again")
    again.click()
    told(page, "Until t = 400")
    expect(again).to_be_hidden()
    page.locator("#forward-source label", has_text="My picture").click()
    with page.expect_file_chooser() as chosen:
        page.locator(".forward").get_by_role("button", name="Choose an image").click()
    assert chosen.value.element.evaluate("field => Boolean(field.closest('#forward-upload'))")


def test_another_trace_replaces_the_pictures(visit, served):
    page = visit("Adding noise")
    told(page, "Until t = 400")
    served[1].backend.asked.clear()
    page.click("#open-bare")
    page.locator('.forward[data-key="bare 0"][data-said="verdict"]').wait_for()
    assert served[1].backend.asked.count("noised 5") == 1


# -- charts -----------------------------------------------------------------------------------------------------


def cursor_error(page: Page, chart: str, point: int) -> float:
    """Pixels between the drawn cursor and the point that Plotly drew."""
    return page.evaluate(
        """([chart, point]) => {
          const host = document.querySelector(`${chart} .graph`).getBoundingClientRect();
          const plot = document.querySelector(`${chart} .js-plotly-plot`);
          const dot = getComputedStyle(document.querySelector(`${chart} .graph`), '::before');
          const full = plot._fullLayout;
          const x = full.xaxis._offset + full.xaxis.d2p(plot.data[0].x[point]);
          const y = full.yaxis._offset + full.yaxis.d2p(plot.data[0].y[point]);
          const shift = plot.getBoundingClientRect();
          return Math.max(Math.abs(parseFloat(dot.left) - (x + shift.left - host.left)),
                          Math.abs(parseFloat(dot.top) - (y + shift.top - host.top)));
        }""",
        [chart, point],
    )


def drawn(page: Page) -> None:
    for name in charts.CHARTS:
        page.locator(f"#chart-{name} .js-plotly-plot .main-svg").first.wait_for()


@pytest.mark.parametrize("width", [1280, 390])
def test_the_charts_cursor_follows_the_timeline(visit, width: int):
    page = visit("Charts", viewport={"width": width, "height": 800})
    drawn(page)
    asked = calls(page)
    for step in (1, 3, 5):
        to_step(page, step)
        for name in charts.CHARTS:
            assert cursor_error(page, f".chart:has(#chart-{name})", step) < 1.5, (name, step)
        expect(page.locator(".chart-head .now").first).to_contain_text(f"Step {step + 1} of 6")
    assert asked == []


def test_a_chart_fits_after_the_window_changed_behind_its_back(visit):
    page = visit("Charts")
    drawn(page)
    choose(page, "First")
    page.set_viewport_size({"width": 700, "height": 800})
    page.click("#open-bare")
    choose(page, "Charts")
    page.wait_for_function(
        """() => [...document.querySelectorAll('#charts .graph')].every((g) =>
            Math.abs(g.clientWidth - g.querySelector('.main-svg').getBoundingClientRect().width) < 2)"""
    )
    to_step(page, 4)
    assert cursor_error(page, ".chart:has(#chart-change)", 4) < 1.5


def test_axe_finds_nothing_and_a_phone_need_not_scroll_sideways(visit):
    tabs = [label for label, _ in TABS]
    page = visit(tabs[0], viewport={"width": 390, "height": 844})
    ready = {"Guidance": ".guidance-panel[data-state=shown]", "Adding noise": ".forward[data-said=verdict]"}
    for tab in tabs:
        choose(page, tab)
        page.locator(ready[tab]).wait_for() if tab in ready else drawn(page)
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), tab
        assert violations(page, {"include": [[".tabitem"]]}) == [], tab
