"""The line above the prompt, the shapes, the samplers and the cards of LoRAs."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page, expect

from tests.support.accessibility import violations
from tests.support.site import Site

PROMPT = "#prompt textarea"


def pill(page: Page, name: str):
    return page.locator(f'#in-sight [data-pill="{name}"]')


def press_pill(page: Page, name: str, control: str) -> None:
    """A press opens the drawer at the control, and Escape closes it."""
    pill(page, name).click()
    expect(page.locator(f"{control} :focus")).to_have_count(1)
    expect(page.locator(control)).to_be_in_viewport()
    page.keyboard.press("Escape")
    expect(page.locator(control)).to_be_hidden()


def test_the_line_stands_above_the_prompt_and_opens_each_control(visit, site: Site):
    page = visit(viewport={"width": 1280, "height": 720})
    expect(pill(page, "model")).to_have_text("Tiny")
    line, prompt, generate = (page.locator(name).bounding_box() for name in ("#in-sight", PROMPT, "#generate"))
    assert line and prompt and generate
    assert line["y"] + line["height"] <= prompt["y"] and line["height"] < 40
    assert generate["y"] + generate["height"] < 720
    for name, control in (("model", "#model"), ("scheduler", "#samplers"), ("size", "#width")):
        press_pill(page, name, control)
    expect(pill(page, "lora")).to_be_hidden()
    expect(pill(page, "guides")).to_be_hidden()
    page.fill(PROMPT, "a fox <lora:ink:0.5>")
    expect(pill(page, "lora")).to_have_text("ink 0.5")
    press_pill(page, "lora", "#lora-cards")
    page.fill(PROMPT, "a fox <lora:ink:0.5> <lyco:clay>")
    expect(pill(page, "lora")).to_have_text("2 LoRAs")
    expect(pill(page, "lora")).to_have_attribute("aria-label", "LoRA: ink 0.5, clay 1")
    # What does not fit is shortened; the row stays one line.
    box = page.locator("#in-sight").bounding_box()
    assert box and box["height"] == line["height"]
    page.fill(PROMPT, "a fox")
    expect(pill(page, "lora")).to_be_hidden()


def test_on_a_phone_the_line_stays_above_the_prompt(visit, site: Site):
    page = visit(viewport={"width": 390, "height": 844}, has_touch=True)
    line, prompt = pill(page, "model").bounding_box(), page.locator(PROMPT).bounding_box()
    assert line and prompt and line["height"] >= 44
    assert prompt["y"] - 60 < line["y"] and line["y"] + line["height"] <= prompt["y"]
    pill(page, "size").tap()
    expect(page.locator("#width input")).to_be_focused()
    expect(page.locator("#width input")).to_be_in_viewport()


def test_shapes_are_chosen_and_swapped(visit, site: Site):
    page = visit(viewport={"width": 1280, "height": 720})
    pill(page, "size").click()
    shapes = page.locator("#sizes .shapes .chip")
    expect(shapes.first).to_have_attribute("aria-pressed", "true")
    page.locator("#sizes .chip", has_text="4:3").click()
    expect(page.locator("#width input")).to_have_value("72")
    expect(page.locator("#height input")).to_have_value("56")
    page.locator("#sizes").get_by_role("button", name="Swap").click()
    expect(page.locator("#width input")).to_have_value("56")
    expect(page.locator("#height input")).to_have_value("72")
    expect(page.locator("#sizes .chip", has_text="3:4")).to_have_attribute("aria-pressed", "true")
    expect(pill(page, "size")).to_have_text("56 \u00d7 72")
    assert violations(page, "#settings") == []
    page.click("#generate")
    page.locator('#stage .stage[data-state="done"]').wait_for()
    assert (site.backend.jobs[-1].request.width, site.backend.jobs[-1].request.height) == (56, 72)


def test_a_sampler_is_chosen_from_its_line(visit, site: Site):
    page = visit(viewport={"width": 1280, "height": 720})
    pill(page, "scheduler").click()
    rows = page.locator("#samplers .sampler:visible")
    expect(page.locator("#samplers .sampler[aria-pressed=true]")).to_be_focused()
    before = rows.count()
    expect(page.locator("#samplers .star:visible")).to_have_count(3)
    page.locator('#samplers [data-part="all"]').click()
    assert rows.count() > before + 3
    row = page.locator('#samplers .sampler[data-name="euler_a"]')
    expect(row).to_contain_text("new noise at every step · 20 to 40 steps")
    row.click()
    expect(row).to_have_attribute("aria-pressed", "true")
    expect(page.locator("#scheduler input")).to_have_value("Euler ancestral")
    expect(pill(page, "scheduler")).to_have_text("Euler ancestral")
    assert violations(page, "#settings") == []


@pytest.mark.parametrize("size", [(1280, 720), (390, 844)], ids=["wide", "phone"])
def test_a_lora_is_added_weighed_and_taken_out_on_its_card(visit, site: Site, size: tuple[int, int]):
    page = visit(viewport={"width": size[0], "height": size[1]})
    page.fill(PROMPT, "a fox")
    page.click("#settings > button")
    card = page.locator('#lora-cards .lora[data-name="ink"]')
    expect(card).to_contain_text("Its file does not name its base model.")
    expect(card.locator("img.face")).to_have_attribute("src", re.compile("^data:image/jpeg"))
    card.get_by_role("button", name="Add: ink").click()
    expect(page.locator(PROMPT)).to_have_value("a fox, inkwash <lora:ink:1>")
    card.get_by_role("slider").fill("0.6")
    expect(page.locator(PROMPT)).to_have_value("a fox, inkwash <lora:ink:0.6>")
    expect(card.locator("output")).to_have_text("0.6")
    assert violations(page, "#settings") == []
    card.get_by_role("button", name="Take out: ink").click()
    expect(page.locator(PROMPT)).to_have_value("a fox, inkwash")
    expect(card.get_by_role("slider")).to_be_hidden()
