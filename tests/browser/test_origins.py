"""Where a picture comes from: the best possible guess, the nearest training pictures, and the map."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect

from pipelines.trace import seed_runs
from tests.support.accessibility import violations
from tests.support.site import Gate, Site, served, tiny_card
from tests.support.tiny_model import make_tiny_model
from tests.support.toy_sample import write_toy_sample
from tests.support.waiting import wait_for


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The tiny model with a training sample of 40 pictures."""
    folder = tmp_path_factory.mktemp("origins")
    model = make_tiny_model(folder / "model", prediction_type="v_prediction")
    sample = write_toy_sample(folder / "sample.safetensors")
    with pytest.MonkeyPatch.context() as patch:
        # However slow the machine is, all seeds are offered.
        patch.setattr(seed_runs, "MAX_SECONDS", float("inf"))
        with served([tiny_card(model, training_sample=str(sample))], folder / "pictures", Gate()) as site:
            yield site


def to_step(page: Page, index: int) -> None:
    page.evaluate("i => document.dispatchEvent(new CustomEvent('playground:go', {detail: {index: i}}))", index)


def test_a_run_is_compared_with_the_training_and_with_other_seeds(visit) -> None:
    page = visit()
    page.fill("#prompt textarea", "a fox on a sky blue background")
    page.click("#generate")
    page.locator('.stage[data-state="done"]').wait_for(timeout=120_000)
    page.click('#stage [data-part="inside"]')
    page.locator('#player .player[data-ready="yes"]').wait_for()

    page.get_by_role("tab", name="Best possible guess", exact=True).click()
    best = page.locator("#best-guess .origins")
    expect(best.locator(".renders li")).to_have_count(6)
    expect(best.locator('[data-part="verdict"]')).to_contain_text("of 64 prompts of the training")
    best.get_by_role("button", name="Prepare the training pictures").click()
    page.locator('#best-guess .origins[data-state="open"]').wait_for(timeout=60_000)
    expect(best.locator(".three-views figure")).to_have_count(3)
    expect(best.locator('[data-part="sample"]')).to_contain_text("a fox on a sky blue background")
    to_step(page, 5)
    expect(best).to_have_attribute("data-step", "5")
    expect(best.locator(".three-views .about").last).to_contain_text("average of about")
    to_step(page, 0)
    shown = [image.get_attribute("src") for image in best.locator(".three-views img").all()]
    assert len(set(shown)) == 3
    best.get_by_role("button", name="Show both on the timeline").click()
    expect(page.locator("#player [data-view=right] select")).to_have_value("best")
    expect(page.locator('#player [data-view=right] [data-part="about"]')).to_contain_text("It can only copy")
    assert violations(page, {"include": [["#best-guess"]]}) == []

    page.get_by_role("tab", name="Map", exact=True).click()
    ways = page.locator("#trajectory-map .map-panel")
    expect(ways).to_have_attribute("data-ways", "1")
    expect(ways.locator('[data-part="variance"]')).to_contain_text("% of the variance")
    ways.get_by_role("button", name="Add 64 seeds").click()
    expect(ways).to_have_attribute("data-ways", "65", timeout=60_000)
    ways.get_by_role("slider", name="Step on the map").focus()
    page.keyboard.press("ArrowRight")
    expect(ways).to_have_attribute("data-step", "1")
    expect(page.locator("#player .player")).to_have_attribute("data-at", "1")
    assert violations(page, {"include": [["#trajectory-map"]]}) == []


def test_the_map_is_drawn_while_a_picture_is_made(visit, server: Site) -> None:
    page = visit()
    server.gate.hold_at(2)
    page.fill("#prompt textarea", "a fox on a red background")
    page.click("#generate")
    server.gate.wait_for(2)
    page.get_by_role("tab", name="Denoising", exact=True).click()
    page.get_by_role("tab", name="Map", exact=True).click()
    ways = page.locator("#trajectory-map .map-panel")
    expect(ways).to_have_attribute("data-state", "running")
    ways.scroll_into_view_if_needed()  # nothing is asked for while it is out of view
    for held in range(3, 6):
        wait_for(lambda: server.backend._tasks._queries)  # the worker answers between two steps
        server.gate.hold_at(held)
        server.gate.wait_for(held)
        expect(ways).to_have_attribute("data-ways", "1")
        expect(ways.locator('[data-part="state"]')).to_have_text(f"{held} of 8 steps are made")
        # To the newest step; the model's guess there is pointed to.
        expect(ways.locator("line.own")).to_have_count(held - 1)
        expect(ways.locator('circle[data-now="guess"]')).to_be_visible()
    # The colours go by the noise, of which much is left, and not by how many steps are made.
    shares = ways.locator("line.own").evaluate_all(
        "all => all.map((one) => parseInt(one.style.getPropertyValue('--share'), 10))"
    )
    assert shares == sorted(shares) and shares[0] < 10 and shares[-1] < 90
    expect(ways.locator('[data-part="variance"]')).to_contain_text("% of the variance")
    assert violations(page, {"include": [["#trajectory-map"]]}) == []
    server.gate.open()
    expect(ways).to_have_attribute("data-state", "open", timeout=60_000)
    expect(ways.locator("line.own")).to_have_count(8)
    expect(ways.get_by_role("button", name="Add 64 seeds")).to_be_visible()
