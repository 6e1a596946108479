"""Leaving a run at a step, by keyboard, and asking when it was decided, in a real browser."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from pipelines.jobs.backend import QueueFull
from pipelines.request import make_request
from tests.support.accessibility import violations
from tests.support.site import Site

STEPS = 4


def make_and_open(page: Page, site: Site, step: int) -> str:
    """Make a picture, and open this step of it in Denoising; the id of its run."""
    run = site.backend.submit(
        make_request(
            model="tiny",
            prompt="a red fox",
            width=64,
            height=64,
            scheduler="euler",
            num_inference_steps=STEPS,
            guidance_scale=4.0,
            seed=5,
        )
    )
    assert list(run.events())
    page.goto(f"{site.url}#/denoising/{run.id}/{step}")
    page.reload()
    expect(page.locator("#player .player")).to_have_attribute("data-run", f"{run.id}:0")
    return run.id


def test_a_run_is_left_at_a_step_by_keyboard_and_the_fork_opens_in_its_place(
    visit: Callable[..., Page], site: Site
) -> None:
    page = visit(viewport={"width": 390, "height": 800}, has_touch=True)
    run = make_and_open(page, site, 3)
    page.locator(".fork-here").focus()
    page.keyboard.press("Enter")
    panel = page.locator(".fork-panel")
    expect(panel.locator('[data-part="prompt"]')).to_be_focused()
    expect(panel.locator("h3").first).to_have_text(f"From step 3 of {STEPS}")
    expect(panel.locator('[data-part="scheduler"] option', has_text="Euler ancestral")).to_have_count(1)
    expect(panel.locator('[data-part="noise-box"]')).to_be_hidden()
    panel.locator('[data-part="scheduler"]').select_option("euler_a")
    expect(panel.locator('[data-part="noise-box"]')).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.keyboard.press("Control+A")
    panel.locator('[data-part="prompt"]').fill("a red apple")
    # What was typed is there after a reload.
    page.reload()
    page.locator(".fork-here").click()
    expect(panel.locator('[data-part="prompt"]')).to_have_value("a red apple")
    expect(panel.locator('[data-part="scheduler"]')).to_have_value("euler_a")
    expect(panel.locator("h3").first).to_have_text(f"From step 3 of {STEPS}")
    panel.locator('[data-part="go"]').focus()
    page.keyboard.press("Enter")
    expect(page.locator("#player .player")).not_to_have_attribute("data-run", f"{run}:0")
    expect(page.locator("#run-title")).to_contain_text("A fork: another run up to step 2")
    expect(panel.locator('[data-part="prompt"]')).to_have_value("a red apple")
    expect(panel.locator(".branches button")).to_have_count(2)
    panel.locator(".branches button:not([aria-current])").click()
    expect(page.locator("#player .player")).to_have_attribute("data-run", f"{run}:0")
    assert violations(page, ".fork-panel") == []


def full(*_: object) -> None:
    raise QueueFull("Ten pictures wait already.")


def test_when_it_was_decided_is_said_and_each_picture_opens_its_run(
    visit: Callable[..., Page], site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = visit()
    run = make_and_open(page, site, 1)
    page.locator(".fork-here").click()
    panel = page.locator(".fork-panel")
    expect(panel.locator('[data-part="other"]')).to_have_value("a blue fox")
    panel.locator('[data-part="other"]').fill("")
    panel.locator('[data-part="try"]').click()
    expect(panel.locator('[data-part="problem"]')).to_contain_text("Write another prompt first")
    panel.locator('[data-part="other"]').fill("a blue whale")
    with monkeypatch.context() as patched:
        patched.setattr(site.backend, "submit", full)
        panel.locator('[data-part="try"]').click()
        expect(panel.locator('[data-part="problem"]')).to_contain_text("Ten pictures wait")
    panel.get_by_role("button", name="Try again").click()
    expect(panel).to_have_attribute("data-decided", "yes")
    expect(panel.locator(".outcomes img")).to_have_count(STEPS)
    expect(panel.locator('[data-part="verdict"]')).to_contain_text("step")
    expect(panel.locator(".branches button")).to_have_count(STEPS + 1)
    panel.locator(".outcomes button").nth(2).click()
    expect(page.locator("#player .player")).not_to_have_attribute("data-run", f"{run}:0")
    expect(page.locator("#run-title")).to_contain_text("A fork: another run up to step 2")
