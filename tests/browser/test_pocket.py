"""The shipped model on the page: the picture has the background that was asked for."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import expect

from pipelines.images.png import read_request
from pipelines.jobs import drafts
from presets import catalogue
from tests.support.site import Gate, Site, served
from tests.support.waiting import wait_for


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """In place of the tiny model's page: pocket and its quick form, as the catalogue has them."""
    cards = [catalogue.card_for(name, catalogue.load()) for name in ("pocket", "pocket-turbo")]
    with served(cards, tmp_path_factory.mktemp("pocket") / "pictures", Gate()) as site:
        yield site


def border(data: bytes) -> tuple[float, float, float]:
    """The median colour of the outermost pixels."""
    image = Image.open(io.BytesIO(data)).convert("RGB")
    width, height = image.size
    edge = [image.getpixel((x, y)) for x in range(width) for y in (0, height - 1)]
    edge += [image.getpixel((x, y)) for y in range(height) for x in (0, width - 1)]
    return tuple(sorted(channel)[len(edge) // 2] for channel in zip(*edge, strict=True))


def prompts(paths: Iterable[Path]) -> set[str]:
    return {read_request(path).prompt for path in paths}


def test_the_first_visit_plays_the_recording_and_queues_nothing(visit, site: Site):
    page = visit()
    stage = page.locator(".stage")
    expect(stage).to_have_attribute("data-state", "recording")
    assert int(stage.get_attribute("data-seen")) >= 5
    expect(page.locator('#stage [data-part="words"]')).to_contain_text("A recorded run", timeout=20_000)
    assert page.input_value("#prompt textarea")
    assert site.backend.jobs == []


def test_a_first_look_inside_waits_for_nothing_and_four_strengths_are_looked_at(visit, site: Site):
    page = visit()
    expect(page.locator(".stage")).to_have_attribute("data-state", "recording")
    page.wait_for_timeout(500)  # Gradio attaches its listeners
    page.click('#stage [data-part="inside"]')
    page.locator('.player[data-ready="yes"]').wait_for()
    page.wait_for_function(
        "() => { const all = [...document.querySelectorAll('#player [data-view=left] option')];"
        " return all.length > 5 && all.every(o => !o.disabled); }"
    )
    expect(page.locator("#run-title")).to_contain_text("where its guess changes most")
    page.get_by_role("tab", name="Image to image", exact=True).click()
    # The picture of the recording, at the model's own strength; the model is asked without a click.
    expect(page.locator("#strength-strip .start b")).to_have_text(["0.2", "0.4", "0.6", "0.8"])
    expect(page.locator("#strength-strip .look img:not([hidden])")).to_have_count(4)
    expect(page.locator("#image-strength input[type=number]")).to_have_value("0.4")
    expect(page.locator(".crop")).to_be_hidden()
    assert site.backend.jobs == []


def test_people_who_want_less_motion_see_the_recording_at_rest(visit, site: Site):
    page = visit(reduced_motion="reduce")
    expect(page.locator('#stage [data-part="words"]')).to_contain_text("A recorded run")
    expect(page.locator('#stage [data-part="play"]')).to_have_text("Play")


def test_the_picture_has_the_background_that_was_asked_for(visit, site: Site):
    page = visit()
    page.fill("#prompt textarea", "a red apple on a yellow background")
    page.click("#generate")
    page.locator('.stage[data-state="done"]').wait_for(timeout=120_000)
    frames = page.eval_on_selector_all(".slot img", "all => new Set(all.map(i => i.src)).size")
    assert frames >= 5
    with page.expect_download() as download:
        page.click('#stage [data-part="save"]')
    red, green, blue = border(Path(download.value.path()).read_bytes())
    assert red > 180 and green > 150 and blue < 130, (red, green, blue)


def test_one_press_chooses_the_quick_form_and_the_picture_follows_the_words(
    visit, site: Site, monkeypatch: pytest.MonkeyPatch
):
    # How busy the machine is does not make drafts slow.
    monkeypatch.setattr(drafts, "SLOW_SECONDS", 60.0)
    page = visit()
    before = set(site.pictures.glob("*.png"))
    page.get_by_role("button", name="Draw while I type, with Pocket turbo").click()
    expect(page.locator("#drafts input")).to_be_checked()
    expect(page.locator("#drafts-model")).to_have_count(0)
    expect(page.get_by_role("radio", name="Fine 4")).to_be_checked()
    page.fill("#prompt textarea", "a guitar on a")
    page.locator("#prompt textarea").press_sequentially(" pink background", delay=40)
    # A slow machine may keep what was typed so far, too.
    wait_for(lambda: "a guitar on a pink background" in prompts(set(site.pictures.glob("*.png")) - before))
    expect(page.locator("#stage [data-part=words]")).to_contain_text("Kept", timeout=60_000)
    job = site.backend.jobs[-1]
    assert (job.request.model, job.request.prompt) == ("pocket-turbo", "a guitar on a pink background")
    sampling = job.request.sampling
    assert (sampling.scheduler, sampling.num_inference_steps, sampling.guidance_scale) == ("lcm", 4, 1)
    (kept,) = [
        path for path in set(site.pictures.glob("*.png")) - before if read_request(path).prompt == job.request.prompt
    ]
    red, green, blue = border(kept.read_bytes())
    assert red > 230 and 130 < green < 190 and 165 < blue < 225, (red, green, blue)
    page.click("#settings > button")
    expect(page.locator("#scheduler")).to_contain_text("For models distilled to a few steps")
