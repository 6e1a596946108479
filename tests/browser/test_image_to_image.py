"""Image to image in a real browser: bring a picture, see its noise, change all of it or a part, go back."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Page, Response, Route, expect

from tests.support import awkward_images
from tests.support.accessibility import violations
from tests.support.shared_site import function_number
from tests.support.site import Site

STEPS = 8
# Where the run with the chosen strength begins.
CHOSEN = "#strength-strip .start[aria-pressed=true] .noisy img"


def noise(path: Path, size: tuple[int, int] = (64, 64), seed: int = 0) -> str:
    """A picture of which no two pixels are alike."""
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return str(path)


def pixels(data: bytes | str | Path) -> np.ndarray:
    with Image.open(io.BytesIO(data) if isinstance(data, bytes) else data) as image:
        return np.asarray(image.convert("RGB"))


def enter(page: Page) -> None:
    page.get_by_role("tab", name="Image to image", exact=True).click()
    page.locator("#source").wait_for()


def bring(page: Page, path: str) -> None:
    """Upload a picture and wait for its noise levels."""
    page.set_input_files("#source input[type=file]", path)
    levels(page)


def levels(page: Page) -> None:
    page.locator('.strength-strip[data-state="open"]').wait_for()
    expect(page.locator("#strength-strip .slot img")).to_have_count(STEPS + 1)


def view(page: Page, name: str) -> None:
    page.get_by_role("tab", name=name, exact=True).click()


def strength(page: Page, value: float) -> None:
    """Type the strength into the slider's number field."""
    field = page.locator("#image-strength input[type=number]")
    field.fill(str(value))
    field.press("Tab")


def make(page: Page, site: Site) -> bytes:
    """Press Generate; the bytes of the PNG that can then be downloaded."""
    before, shown = len(site.backend.jobs), last(page)
    page.click("#image-generate")
    page.wait_for_function("run => document.querySelector('#image-stage .stage')?.dataset.run != run", arg=shown)
    page.locator('#image-stage .stage[data-state="done"]').wait_for()
    assert len(site.backend.jobs) == before + 1
    with page.expect_download() as download:
        page.click('#image-stage [data-part="save"]')
    return download.value.path().read_bytes()


def kept(page: Page, site: Site) -> np.ndarray:
    """The picture that a run would start from now: the one that the strip has at its left end."""
    strength(page, 0)
    expect(page.locator('#strength-strip [data-part="words"]')).to_have_text("No step will run")
    make(page, site)
    view(page, "Where it starts")
    init = site.backend.jobs[-1].request.init
    return np.asarray(site.backend.inputs.get(init.image))


def last(page: Page) -> str | None:
    return page.evaluate("document.querySelector('#image-stage .stage')?.dataset.run ?? null")


def mode(page: Page, name: str) -> None:
    page.locator("#image-mode label", has_text=name).click()


def paint(page: Page, share: float = 0.25) -> None:
    """Stroke across the middle of the picture that can be painted on, and wait until the server has it."""
    canvas = page.locator("#mask-editor canvas")
    expect(page.locator('#mask-editor [data-part="picture"]')).to_have_js_property("complete", True)
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    x, y, far = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2, box["width"] * share / 2
    page.mouse.move(x - far, y)
    page.mouse.down()
    page.mouse.move(x + far, y, steps=12)
    told(page, page.mouse.up)


def told(page: Page, act: Callable[[], None]) -> None:
    """Do what changes the painting; Generate waits until the server has it."""
    act()
    expect(page.locator("#image-generate")).to_be_enabled()


@pytest.fixture
def brought(visit, tmp_path: Path):
    """A visitor who brought a picture of the model's size."""

    def open_it(size: tuple[int, int] = (64, 64), **options) -> tuple[Page, str]:
        page, path = visit(**options), noise(tmp_path / "mine.png", size)
        enter(page)
        bring(page, path)
        return page, path

    return open_it


def test_an_upload_stays_when_the_picture_that_is_offered_on_entering_comes_late(visit, site: Site, tmp_path: Path):
    page, other = visit(), noise(tmp_path / "first.png", seed=1)
    enter(page)
    bring(page, other)
    page.reload()
    page.locator("#generate").wait_for()
    late: list[Route] = []
    number = function_number(site, "enter")

    def hold(route: Route) -> None:
        if route.request.post_data_json["fn_index"] == number and not late:
            late.append(route)
        else:
            route.continue_()

    page.route("**/gradio_api/queue/join*", hold)
    enter(page)
    page.set_input_files("#source input[type=file]", noise(tmp_path / "mine.png", seed=2))
    levels(page)
    expect(page.locator("#source-history li")).to_have_count(2)
    with page.expect_response(lambda answer: "queue/join" in answer.url and f'"fn_index":{number}' in sent(answer)):
        late[0].continue_()
    # What comes after it on the same connection is there once it is.
    strength(page, 0.1)
    assert np.array_equal(kept(page, site), pixels(tmp_path / "mine.png"))
    expect(page.locator("#source-history li")).to_have_count(2)


def sent(answer: Response) -> str:
    return answer.request.post_data or ""


def test_the_strip_of_noise_levels_is_the_strength(brought, site: Site):
    page, _ = brought()
    words, shown = page.locator('#strength-strip [data-part="words"]'), page.locator(CHOSEN)
    expect(words).to_have_text("4 of 8 steps will run")
    # Four strengths around the chosen one, each with where it begins; a click chooses one, and none moves.
    four = page.locator("#strength-strip .start")
    expect(four.locator("b")).to_have_text(["0.3", "0.6", "0.8", "1"])
    expect(four.locator(".noisy img:not([hidden])")).to_have_count(4)
    assert len({one.get_attribute("src") for one in four.locator(".noisy img").all()}) == 4
    four.nth(2).click()
    expect(words).to_have_text("6 of 8 steps will run")
    expect(four.nth(2)).to_have_attribute("aria-pressed", "true")
    expect(four.locator("b")).to_have_text(["0.3", "0.5", "0.8", "1"])
    strength(page, 0.6)
    page.wait_for_timeout(500)
    asked: list[str] = []
    page.on("request", lambda r: asked.append(r.url) if "/queue/join" in r.url else None)
    strip = page.locator("#strength-strip .strip")
    strip.focus()
    seen = {shown.get_attribute("src")}
    page.keyboard.press("ArrowRight")
    expect(words).to_have_text("5 of 8 steps will run")
    expect(page.locator("#image-strength input[type=number]")).to_have_value("0.7")
    seen.add(shown.get_attribute("src"))
    box = strip.bounding_box()
    page.mouse.click(box["x"] + box["width"] - 4, box["y"] + 8)
    expect(words).to_have_text("8 of 8 steps will run")
    expect(page.locator('#strength-strip [data-part="about"]')).to_contain_text("square root of alpha-bar")
    expect(page.locator('#strength-strip [data-part="compare"]')).to_be_visible()
    seen.add(shown.get_attribute("src"))
    assert strip.bounding_box() == box, "nothing jumps"
    page.mouse.down()
    for share, said in ((0.5, "4 of 8 steps will run"), (0.02, "No step will run")):
        page.mouse.move(box["x"] + box["width"] * share, box["y"] + 8)
        expect(words).to_have_text(said)
    page.mouse.up()
    expect(page.locator("#image-strength input[type=range]")).to_have_value("0")
    strength(page, 0.3)
    expect(words).to_have_text("2 of 8 steps will run")
    expect(page.locator("#strength-strip .slot.now")).to_have_count(1)
    assert page.locator("#strength-strip .slot").nth(2).get_attribute("class") == "slot now"
    seen.add(shown.get_attribute("src"))
    assert len(seen) == 4
    page.wait_for_timeout(300)
    assert asked == []
    page.click('#strength-strip [data-part="see"]')
    # Of the four, 0 has no noise to predict from.
    expect(page.locator("#strength-strip .start:not([hidden]) .look img:not([hidden])")).to_have_count(3)
    assert page.locator("#strength-strip .start[aria-pressed=true] .look img").get_attribute("src") not in seen
    assert site.backend.jobs == []


def test_the_strip_says_when_the_run_will_draw_other_noise(brought, site: Site):
    page, _ = brought()
    said = page.locator("#noise-note p")
    expect(said).to_be_hidden()
    page.locator("#image-settings button").first.click()
    page.locator("#image-seed-lock input").uncheck()
    expect(said).to_be_visible()
    expect(said).to_contain_text("the run will use other noise than you see here")
    shown = page.locator("#image-seed input, #image-seed textarea").first.input_value()
    make(page, site)
    assert site.backend.jobs[-1].request.sampling.seed != int(shown)
    view(page, "Where it starts")
    expect(said).to_be_visible()
    page.locator("#image-seed-lock input").check()
    expect(said).to_be_hidden()
    shown = page.locator("#image-seed input, #image-seed textarea").first.input_value()
    make(page, site)
    assert site.backend.jobs[-1].request.sampling.seed == int(shown)


def test_as_many_steps_run_as_were_said_and_open_in_the_theatre(brought, site: Site):
    page, path = brought()
    strength(page, 0.63)
    data = make(page, site)
    assert site.backend.jobs[0].request.steps_run == 5
    assert not np.array_equal(pixels(data), pixels(path))
    view(page, "Before and after")
    expect(page.locator("#before-after img")).to_have_count(2)
    expect(page.locator("#before-after-note")).to_contain_text("Left: the image that the run started from")
    after = page.locator("#before-after img").first.bounding_box()
    view(page, "Result")
    result = page.locator("#image-stage .cell").first.bounding_box()
    for side in ("width", "height", "x", "y"):
        assert after[side] == pytest.approx(result[side], abs=3), side
    page.click('#image-stage [data-part="inside"]')
    expect(page.locator("#player .player")).to_have_attribute("data-run", f"{site.backend.jobs[0].id}:0")
    expect(page.locator("#player .slot")).to_have_count(6)


def test_at_strength_0_the_picture_comes_back_and_the_page_says_so(brought, site: Site):
    page, path = brought()
    strength(page, 0)
    expect(page.locator('#strength-strip [data-part="words"]')).to_have_text("No step will run")
    expect(page.locator('#strength-strip [data-part="about"]')).to_contain_text("comes back exactly as it is")
    assert np.array_equal(pixels(make(page, site)), pixels(path))
    expect(page.locator('#image-stage [data-part="notes"]')).to_contain_text("no step is run")


def test_at_strength_1_the_same_noise_is_tried_without_the_picture(brought, site: Site):
    page, _ = brought()
    strength(page, 1)
    page.click('#strength-strip [data-part="compare"]')
    expect(page.locator("#before-after-note")).to_contain_text("same noise", timeout=30_000)
    with_picture, alone = (job.request for job in site.backend.jobs)
    assert (with_picture.init.noise_only, alone.init.noise_only) == (False, True)
    assert with_picture.sampling == alone.sampling


def test_results_become_inputs_and_every_picture_stays_in_reach(brought, site: Site):
    page, path = brought()
    result = pixels(make(page, site))
    page.click('#image-stage [data-part="send"]')
    expect(page.locator("#source-history li")).to_have_count(2)
    expect(page.locator("#source-history button").nth(1)).to_have_attribute("aria-pressed", "true")
    levels(page)
    assert np.array_equal(kept(page, site), result)
    first = page.locator("#source-history button").nth(0)
    first.click()
    expect(first).to_have_attribute("aria-pressed", "true")
    levels(page)
    assert np.array_equal(kept(page, site), pixels(path))
    page.goto(site.url)
    page.locator("#generate").wait_for()
    # Before the tab is even opened, what comes from the other one joins.
    page.click("#generate")
    page.locator('#stage .stage[data-state="done"]').wait_for()
    page.click('#stage [data-part="send"]')
    expect(page.locator("#source-history li")).to_have_count(3)
    expect(page.locator("#source-history button").nth(2)).to_have_attribute("aria-pressed", "true")
    assert page.locator("#source-history li").all_inner_texts() == ["Yours 1", "Result 1", "Result 2"]
    levels(page)
    assert np.array_equal(kept(page, site), pixels(made_by(site, -1)))


def test_a_picture_of_the_first_tab_is_sent_here(visit, site: Site):
    page = visit()
    page.click("#generate")
    page.locator('#stage .stage[data-state="done"]').wait_for()
    page.click('#stage [data-part="send"]')
    levels(page)
    strength(page, 0)
    page.fill("#image-prompt textarea", "")
    wanted = pixels(next(site.pictures.glob("*.png"), None) if len(site.backend.jobs) != 1 else made_by(site, 0))
    assert np.array_equal(pixels(make(page, site)), wanted)


def made_by(site: Site, number: int) -> Path:
    """The file of a finished job's first picture."""
    return site.backend.jobs[number].poll()[-1].pictures[0].path


def test_a_marked_part_changes_and_every_other_pixel_stays(brought, site: Site):
    page, path = brought()
    mode(page, "Part (inpaint)")
    expect(page.locator('#mask-editor [data-part="picture"]')).to_have_attribute("src", re.compile("^data:"))
    # Generate and the whole picture are on view while painting, on a low screen and at 200 %, too.
    for width, height in ((640, 360), (1280, 720)):
        page.set_viewport_size({"width": width, "height": height})
        page.locator("#mask-editor .frame").scroll_into_view_if_needed()
        button = page.locator("#image-generate").bounding_box()
        assert button["y"] >= 0 and button["y"] + button["height"] <= height
        on_top = "([x, y]) => document.elementFromPoint(x, y)?.closest('[id]')?.id === 'image-generate'"
        page.wait_for_function(on_top, arg=[button["x"] + button["width"] / 2, button["y"] + button["height"] / 2])
    picture = page.locator("#mask-editor .frame").bounding_box()
    assert picture["y"] + picture["height"] <= 720
    page.set_viewport_size({"width": 1280, "height": 800})
    page.click("#image-generate")
    expect(page.locator("#source-error")).to_contain_text("Nothing is marked yet")
    view(page, "Mark the part")
    paint(page)
    result = pixels(make(page, site))
    init = site.backend.jobs[0].request.init
    marked = np.asarray(site.backend.inputs.get(init.mask)) > 0
    assert 0.005 < marked.mean() < 0.5
    assert np.array_equal(result[~marked], pixels(path)[~marked])
    assert not np.array_equal(result[marked], pixels(path)[marked])
    told(page, lambda: (view(page, "Mark the part"), page.click('#mask-editor [data-part="invert"]')))
    turned = pixels(make(page, site))
    assert np.array_equal(turned[marked], pixels(path)[marked])
    assert not np.array_equal(turned[~marked], pixels(path)[~marked])


def test_a_run_takes_the_last_stroke_and_strokes_outlive_another_mode(brought, site: Site):
    page, _ = brought()
    mode(page, "Part (inpaint)")
    paint(page)
    page.locator("#mask-editor canvas").click(position={"x": 20, "y": 20})
    make(page, site)
    mask = np.asarray(site.backend.inputs.get(site.backend.jobs[0].request.init.mask))
    assert mask[:8, :8].any() and mask[28:36, 28:36].all()
    mode(page, "Whole image")
    mode(page, "Part (inpaint)")
    expect(page.locator("#mask-editor .mask-editor")).to_have_attribute("data-strokes", "2")
    page.wait_for_timeout(500)
    make(page, site)
    first, second = (job.request.init.mask for job in site.backend.jobs)
    assert first == second
    view(page, "Mark the part")
    told(page, lambda: page.click('#mask-editor [data-part="clear"]'))
    page.click("#image-generate")
    expect(page.locator("#source-error")).to_contain_text("Nothing is marked yet")
    expect(page.locator('#mask-editor [data-part="clear"]')).to_be_disabled()
    # What was cleared comes back.
    told(page, lambda: page.click('#mask-editor [data-part="undo"]'))
    make(page, site)
    assert site.backend.jobs[-1].request.init.mask == first


def test_everything_of_this_tab_is_there_after_a_reload(visit, site: Site, tmp_path: Path):
    page = visit()
    enter(page)
    bring(page, noise(tmp_path / "wide.png", (130, 64)))
    strength(page, 0.35)
    frame = page.locator(".crop .frame")
    frame.focus()
    page.keyboard.press("End")
    expect(frame).to_have_attribute("aria-valuenow", "100")
    levels(page)
    mode(page, "Part (inpaint)")
    paint(page)
    before = page.locator(".mask-editor").get_attribute("data-strokes")
    page.wait_for_function("Object.values(sessionStorage).some((text) => text.includes('\"part\",0.35'))")
    page.reload()
    expect(page.locator("#image-mode label", has_text="Part (inpaint)").locator("input")).to_be_checked()
    expect(page.locator("#image-strength input[type=number]")).to_have_value("0.35")
    expect(page.locator("#image-feather")).to_be_visible()
    expect(frame).to_have_attribute("aria-valuenow", "100")
    view(page, "Mark the part")
    expect(page.locator(".mask-editor")).to_have_attribute("data-strokes", before or "")
    told(page, lambda: None)
    make(page, site)
    init = site.backend.jobs[-1].request.init
    assert init.strength == 0.35 and np.asarray(site.backend.inputs.get(init.mask)).any()
    assert np.array_equal(np.asarray(site.backend.inputs.get(init.image)), pixels(tmp_path / "wide.png")[:, 66:])


def test_painting_can_be_undone_and_erased(brought, site: Site):
    page, _ = brought()
    mode(page, "Part (inpaint)")
    paint(page)
    told(page, lambda: page.click('#mask-editor [data-part="undo"]'))
    page.click("#image-generate")
    expect(page.locator("#source-error")).to_contain_text("Nothing is marked yet")
    paint(page)
    page.click('#mask-editor [data-part="erase"]')
    paint(page)
    expect(page.locator("#mask-editor .mask-editor")).to_have_attribute("data-strokes", "2")
    page.click("#image-generate")
    expect(page.locator("#source-error")).to_contain_text("Nothing is marked yet")
    page.wait_for_timeout(500)
    assert site.backend.jobs == []


def test_only_the_marked_part_keeps_the_size_of_a_larger_picture(brought, site: Site):
    page, path = brought((150, 100))
    mode(page, "Part (inpaint)")
    page.locator("#image-only input").check()
    expect(page.locator("#image-padding")).to_be_visible()
    paint(page, 0.1)
    result = pixels(make(page, site))
    init = site.backend.jobs[0].request.init
    marked = np.asarray(site.backend.inputs.get(init.mask)) > 0
    assert init.only_masked and result.shape == (100, 150, 3)
    assert np.array_equal(result[~marked], pixels(path)[~marked])


def test_the_canvas_grows_and_the_picture_stays_on_it(brought, site: Site):
    page, path = brought()
    mode(page, "Extend (outpaint)")
    expect(page.locator("#source-note")).to_contain_text("The canvas is 96 x 64 pixels now")
    page.locator("#image-up input").fill("8")
    page.locator("#image-up input").press("Tab")
    expect(page.locator("#source-note")).to_contain_text("The canvas is 96 x 72 pixels now")
    page.wait_for_timeout(300)
    result = pixels(make(page, site))
    assert result.shape == (72, 96, 3)
    assert np.array_equal(result[8:, 16:80], pixels(path))


# Files of each kind that is refused, no two with one sentence in a row; tests/pipelines/images/test_uploads.py has all.
REFUSED = ("empty", "svg", "png-bomb", "eps", "webp-bomb", "sliver", "30000-wide", "jpeg-cut-at-50%", "gif")


def test_bad_files_get_one_sentence_each_and_the_page_goes_on(visit, site: Site, tmp_path: Path):
    page = visit()
    enter(page)
    said, files = page.locator("#source-error p"), {one.name: one for one in awkward_images.refused()}
    for name in REFUSED:
        # Its name says that it is a picture.
        (tmp_path / f"{name}.png").write_bytes(files[name].data)
        page.set_input_files("#source input[type=file]", str(tmp_path / f"{name}.png"))
        expect(said).to_contain_text(files[name].sentence)
        text = said.inner_text().removesuffix("Choose an image").rstrip()
        assert text.count(".") == 1 and text.endswith("."), name
    page.click("#image-generate")
    expect(said).to_contain_text("Choose an image to start from first")
    assert site.backend.jobs == []
    moving = next(one for one in awkward_images.fine() if one.name == "webp-moving")
    (tmp_path / "moving.webp").write_bytes(moving.data)
    bring(page, str(tmp_path / "moving.webp"))
    expect(said).to_be_hidden()
    expect(page.locator("#source-note p")).to_have_text(moving.notes[0])
    expect(page.locator("#source-history li")).to_have_count(1)


def test_the_fit_is_seen_before_anything_runs_and_by_nobody_else(visit, site: Site, tmp_path: Path):
    page, wide = visit(), np.zeros((64, 160, 4), np.uint8)
    wide[:, 80:] = (200, 30, 60, 255)
    Image.fromarray(wide).save(tmp_path / "half-clear.png")
    enter(page)
    bring(page, str(tmp_path / "half-clear.png"))
    strength(page, 0)
    shown = page.locator(CHOSEN)
    seen = [shown.get_attribute("src")]
    crop = page.locator(".crop .frame")
    expect(crop).to_be_visible()
    # The open drawer covers it.
    page.click("#image-fit-drawer > button")
    for name in ("Pad", "Stretch"):
        page.locator("#image-fit label", has_text=name).click()
        expect(shown).not_to_have_attribute("src", seen[-1] or "")
        seen.append(shown.get_attribute("src"))
        expect(crop).to_be_hidden()
    assert len(set(seen)) == 3
    assert site.backend.jobs == []
    other = visit()
    enter(other)
    expect(other.locator('#strength-strip [data-part="hint"]')).to_contain_text("Choose an image")
    expect(other.locator("#source-history li")).to_have_count(0)
    assert other.locator("#source img").count() == 0


def test_the_crop_is_a_frame_on_the_thumbnail_and_no_former_picture_is_shown(visit, site: Site, tmp_path: Path):
    page, wide = visit(), np.zeros((64, 192, 3), np.uint8)
    wide[:, :64], wide[:, 64:128], wide[:, 128:] = (200, 30, 60), (30, 200, 60), (30, 60, 200)
    Image.fromarray(wide).save(tmp_path / "three.png")
    enter(page)
    page.evaluate(
        """() => { window.states = [];
          const view = document.querySelector('.strength-strip');
          const visible = (image) => image.checkVisibility({visibilityProperty: true});
          new MutationObserver(() => {
            const seen = [...view.querySelectorAll('img')].filter(visible).length;
            window.states.push([view.dataset.state, seen, view.querySelector('[data-part=words]').textContent]); })
            .observe(view, {attributes: true, attributeFilter: ['data-state']}); }"""
    )
    bring(page, str(tmp_path / "three.png"))
    frame = page.locator(".crop .frame")
    expect(frame).to_have_attribute("aria-valuenow", "50")

    def used() -> list[int]:
        """The colour in the middle of what a run would start from."""
        strength(page, 0)
        return kept(page, site)[32, 32].tolist()

    assert used() == [30, 200, 60]

    def updated(act: Callable[[], None]) -> None:
        """Do what changes the image; the view was emptied, and its levels are there again."""
        busy = "() => window.states.filter(([state]) => state === 'busy').length"
        before = page.evaluate(busy)
        act()
        page.wait_for_function(f"before => ({busy})() > before", arg=before)
        levels(page)

    frame.focus()
    updated(lambda: page.keyboard.press("End"))
    expect(frame).to_have_attribute("aria-valuenow", "100")
    assert used() == [30, 60, 200]
    box = frame.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 20)
    page.mouse.down()
    page.mouse.move(box["x"] - 600, box["y"] + 20, steps=3)
    updated(page.mouse.up)
    expect(frame).to_have_attribute("aria-valuenow", "0")
    assert used() == [200, 30, 60]
    # Another image: the former one is gone from the view at once, and the frame is in the middle again.
    updated(lambda: page.set_input_files("#source input[type=file]", noise(tmp_path / "tall.png", (64, 192))))
    expect(frame).to_have_attribute("aria-valuenow", "50")
    expect(frame).to_have_attribute("aria-orientation", "vertical")
    seen = page.evaluate("window.states")
    assert [text for state, count, text in seen if state == "busy" and (count or text != "Updating")] == []
    assert sum(state == "busy" for state, _, _ in seen) >= 3


def test_without_a_picture_the_page_asks_for_one(visit, site: Site):
    page = visit()
    enter(page)
    expect(page.locator('#strength-strip [data-part="hint"]')).to_contain_text("Choose an image")
    page.click("#image-generate")
    expect(page.locator("#source-error")).to_contain_text("Choose an image to start from first")
    assert site.backend.jobs == []


def test_each_tab_stops_its_own_run_and_finds_it_after_a_reload(brought, site: Site):
    page, _ = brought()
    strength(page, 1)
    site.gate.hold_at(2)
    page.click("#image-generate")
    expect(page.locator('#image-stage [data-part="words"]')).to_contain_text("Denoising 3 of 8")
    expect(page.locator("#image-stop")).to_be_visible()
    page.get_by_role("tab", name="Text to image", exact=True).click()
    expect(page.locator("#generate")).to_be_visible()
    page.reload()
    page.locator("#generate").wait_for()
    enter(page)
    view(page, "Result")
    expect(page.locator('#image-stage [data-part="words"]')).to_contain_text("Denoising 3 of 8")
    page.click("#image-stop")
    site.gate.nudge_until_over(site.backend.jobs[0])
    page.locator('#image-stage .stage[data-state="stopped"]').wait_for()


def test_axe_finds_nothing_and_a_phone_scrolls_one_way(brought, site: Site):
    page, _ = brought(reduced_motion="reduce", viewport={"width": 390, "height": 844})
    make(page, site)
    page.click('#image-stage [data-part="send"]')
    levels(page)
    for name in ("Where it starts", "Result"):
        view(page, name)
        page.wait_for_timeout(300)
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), name
        # Gradio's own upload area labels its icons by title alone.
        assert violations(page, {"include": [["#image-workspace"]]}) == [], name
    mode(page, "Part (inpaint)")
    page.locator("#mask-editor canvas").wait_for()
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
