"""Leaving a run at a step, by keyboard, and asking when it was decided, in a real browser."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from pipelines.events import Step
from pipelines.jobs.job import Job
from pipelines.request import make_request
from tests.support.accessibility import violations
from tests.support.site import Site
from tests.support.waiting import wait_for

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


def test_when_it_was_decided_is_said_and_each_picture_opens_its_run(visit: Callable[..., Page], site: Site) -> None:
    page = visit()
    run = make_and_open(page, site, 1)
    page.locator(".fork-here").click()
    panel = page.locator(".fork-panel")
    expect(panel.locator('[data-part="other"]')).to_have_value("a blue fox")
    expect(panel.locator('[data-part="try"]')).to_have_text(f"Try it at all {STEPS} steps")
    expect(panel.locator('[data-part="cost"]')).to_contain_text(f"{STEPS} pictures, a few steps first")
    panel.locator('[data-part="other"]').fill("")
    panel.locator('[data-part="try"]').click()
    expect(panel.locator('[data-part="problem"]')).to_contain_text("Write another prompt first")
    panel.locator('[data-part="other"]').fill("a blue whale")
    panel.locator('[data-part="try"]').click()
    expect(panel).to_have_attribute("data-decided", "yes")
    expect(panel.locator(".outcomes img")).to_have_count(STEPS)
    expect(panel.locator('[data-part="verdict"]')).to_contain_text("step")
    expect(panel.locator(".branches button")).to_have_count(STEPS + 1)
    panel.locator(".outcomes button").nth(2).click()
    expect(page.locator("#player .player")).not_to_have_attribute("data-run", f"{run}:0")
    expect(page.locator("#run-title")).to_contain_text("A fork: another run up to step 2")


def test_a_strip_is_stopped_from_another_run(
    visit: Callable[..., Page], site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = visit()
    make_and_open(page, site, 1)
    other = make_and_open(page, site, 1)
    first, second, seen = threading.Event(), threading.Event(), []

    def hold(job: Job, step: Step) -> None:
        if job.id not in seen:
            seen.append(job.id)
        held = first if job.id == seen[0] else second
        wait_for(lambda: job.cancelled or held.is_set())

    monkeypatch.setattr(site.backend._workers[0].runner, "on_step", hold)
    page.locator(".fork-here").click()
    panel = page.locator(".fork-panel")
    panel.locator('[data-part="try"]').click()
    expect(panel).to_have_attribute("data-decided", "trying")
    page.locator("#past ol button").nth(1).click()
    expect(panel).to_have_attribute("data-decided", "")
    first.set()
    expect(panel.locator('[data-part="elsewhere"]')).to_contain_text("Another run is left at its steps: 1 of 4 done.")
    panel.locator('[data-part="stop-elsewhere"]').click()
    expect(panel.locator('[data-part="elsewhere"]')).to_be_hidden()
    assert len(seen) == 2 and page.locator("#player .player").get_attribute("data-run") != f"{other}:0"
