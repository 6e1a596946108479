"""Drafts while typing, in a real browser."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from pipelines.events import Cancelled, Finished
from pipelines.images.png import read_request
from pipelines.jobs import drafts
from tests.support.accessibility import violations
from tests.support.site import Site, served, tiny_card
from tests.support.tiny_model import make_tiny_model
from tests.support.visitors import visitors
from tests.support.waiting import wait_for
from ui.server.access import Access

PROMPT = "a fox on a green background, in the snow"
# In every frame that the browser paints: whether the stage shows a picture, and where things are.
WATCH = """() => {
  window.seen = { blanks: 0, frames: 0, places: new Set(), buttons: new Set() };
  const look = () => {
    const image = document.querySelector('#stage .cell img');
    window.seen.frames += 1;
    if (!image || !image.complete || !image.naturalWidth) window.seen.blanks += 1;
    const boxes = ['#stage .mat', '#stage .strip', '#stage .words', '#generate', '#settings', '#status'];
    window.seen.places.add(boxes.map((name) => {
      const box = document.querySelector(name).getBoundingClientRect();
      return [box.x, box.y, box.width, box.height].map(Math.round).join();
    }).join(' '));
    window.seen.buttons.add(document.querySelector('.workspace').dataset.busy);
    window.frame = requestAnimationFrame(look);
  };
  look();
}"""


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Site, Access]]:
    """A quick model and one that is none, behind a door that makes those without the owner's link guests."""
    folder = tmp_path_factory.mktemp("live")
    model = make_tiny_model(folder / "model", prediction_type="v_prediction")
    quick = tiny_card(model, live=True, guidance_scale=1.0, default_quality="draft")
    access = Access(b"k" * 32, 1)
    with served([quick, tiny_card(model, id="other", name="Other")], folder / "pictures", access=access) as site:
        yield site, access


@pytest.fixture
def visit(browser: Browser, shared: tuple[Site, Access], monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Opens the page: as the owner, or as a guest.  How busy the machine is does not make drafts slow."""
    site, access = shared
    monkeypatch.setattr(drafts, "SLOW_SECONDS", 30.0)
    monkeypatch.setattr(drafts, "PAUSE_SECONDS", 5.0)
    site.settle()
    with visitors(browser) as new:

        def open_page(owner: bool = True, **options: Any) -> Page:
            page = new.open(f"{site.url}?owner={access.link_token()}" if owner else site.url, **options)
            expect(page.locator('#status [data-part="text"]')).to_contain_text("ready")
            return page

        yield open_page
    site.settle()


def test_the_picture_follows_the_words(visit: Any, shared: tuple[Site, Access]) -> None:
    site, _ = shared
    page = visit(viewport={"width": 390, "height": 844}, color_scheme="dark")
    stage, before = page.locator("#stage .stage"), set(site.pictures.glob("*.png"))
    page.get_by_label("Draw while I type").focus()
    page.keyboard.press("Space")
    expect(stage).to_have_attribute("data-state", "done")
    assert len(set(site.pictures.glob("*.png")) - before) == 1
    page.evaluate(WATCH)
    page.fill("#prompt textarea", "")
    # However slow the machine is, each part is typed while there is a draft of the one before.
    for part in (PROMPT[:14], PROMPT[14:28], PROMPT[28:]):
        asked = len(site.backend.jobs)
        page.locator("#prompt textarea").press_sequentially(part, delay=40)
        wait_for(lambda asked=asked: len(site.backend.jobs) > asked)
    expect(stage).to_have_attribute("data-state", "live")
    expect(stage).to_have_attribute("data-state", "done")
    seen = page.evaluate("() => ({...window.seen, places: [...seen.places], buttons: [...seen.buttons]})")
    drawn = site.backend.jobs[1:]
    # No build-up, the last words win, and one picture is kept: the one that was looked at.
    assert 3 <= len(drawn) <= len(PROMPT) and all(job.draft for job in drawn[:-1])
    assert [type(job.poll()[-1]) for job in drawn[-1:]] == [Finished]
    assert all(isinstance(job.poll()[-1], Finished | Cancelled) for job in drawn)
    assert drawn[-1].request.prompt == PROMPT and len({job.request.sampling.seed for job in drawn}) == 1
    assert stage.get_attribute("data-run") == drawn[-1].id
    (kept,) = {read_request(path).prompt for path in set(site.pictures.glob("*.png")) - before} - {
        site.backend.jobs[0].request.prompt
    }
    assert kept == PROMPT
    assert seen["frames"] > 20 and seen["blanks"] == 0
    assert len(seen["places"]) == 1, seen["places"]
    assert seen["buttons"] == ["no"]
    assert violations(page) == []
    # It is an ordinary picture now, and a reload finds it.
    page.click("#generate")
    expect(page.locator("#drafts-note")).to_contain_text("This picture is already kept")
    assert page.evaluate("window.seen.places.size") == 1
    page.reload()
    expect(stage).to_have_attribute("data-run", drawn[-1].id)
    expect(page.locator('#stage [data-part="save"]')).to_be_visible()
    # It is still on, and draws what is on the stage no second time.
    expect(page.get_by_label("Draw while I type")).to_be_checked()
    before = len(site.backend.jobs)
    page.fill("#prompt textarea", "an owl")
    expect(stage).not_to_have_attribute("data-run", drawn[-1].id)
    assert {job.request.prompt for job in site.backend.jobs[before:]} == {"an owl"}


def test_sliders_are_followed_too_and_what_is_slow_turns_itself_off(
    visit: Any, shared: tuple[Site, Access], monkeypatch: pytest.MonkeyPatch
) -> None:
    site, _ = shared
    monkeypatch.setattr(drafts, "PAUSE_SECONDS", 0.5)
    page = visit()
    page.get_by_label("Draw while I type").check()
    page.click("#settings > button")
    stage = page.locator("#stage .stage")
    expect(stage).to_have_attribute("data-state", "done")
    slider = page.locator("#steps input[type=range]")
    slider.scroll_into_view_if_needed()
    box = slider.bounding_box()
    page.mouse.move(box["x"] + 10, box["y"] + box["height"] / 2)
    page.mouse.down()
    for k in range(12):
        page.mouse.move(box["x"] + 10 + k, box["y"] + box["height"] / 2)
        page.wait_for_timeout(60)
    # While the mouse is still down.
    expect(stage).to_have_attribute("data-state", "live")
    page.mouse.up()
    expect(stage).to_have_attribute("data-state", "done")
    steps = int(page.locator("#steps input[type=number]").input_value())
    made = site.backend.jobs[1:]
    assert made[-1].request.sampling.num_inference_steps == steps and len({job.request for job in made}) == len(made)
    monkeypatch.setattr(drafts, "SLOW_SECONDS", 1e-6)
    monkeypatch.setattr(drafts, "TOO_SLOW_FACTOR", 1e9)
    page.click("#settings > button")
    page.fill("#prompt textarea", "something else")
    expect(page.locator("#drafts-note")).to_contain_text("Turned off: a picture takes")
    expect(page.locator("#drafts input")).not_to_be_checked()
    expect(stage).to_have_attribute("data-state", "done")
    # Another model is not quick: there is no toggle, and guests never have one.
    page.click("#settings > button")
    page.click("#model input")
    page.get_by_role("option", name="Other").click()
    expect(page.locator("#drafts")).to_have_count(0)
    # Other is drawn with the quick model on one press, and comes back with its settings when that is turned off.
    monkeypatch.setattr(drafts, "SLOW_SECONDS", 30.0)
    page.fill("#steps input[type=number]", "7")
    page.keyboard.press("Tab")
    page.click("#settings > button")
    page.click("#drafts-model")
    expect(page.locator('#in-sight [data-pill="model"]')).not_to_contain_text("Other")
    expect(page.locator("#drafts input")).to_be_checked()
    page.locator("#drafts input").uncheck()
    expect(page.locator('#in-sight [data-pill="model"]')).to_contain_text("Other")
    page.click("#settings > button")
    expect(page.locator("#steps input[type=number]")).to_have_value("7")
    guest = visit(owner=False)
    expect(guest.locator("#generate")).to_be_visible()
    expect(guest.locator("#drafts")).to_have_count(0)
