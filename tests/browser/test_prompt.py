"""The prompt's help in a real browser: the answer before a picture is drawn, rewrites, and the builder."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import partial

import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, expect

from tests.support.accessibility import violations
from tests.support.site import Site, served, tiny_card
from tests.support.tiny_model import make_tiny_model
from tests.support.visitors import visitors

ANSWER = ".workspace:visible .understood"
PROMPT = ".workspace:visible .prompt textarea"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The page on a model with few words."""
    folder = tmp_path_factory.mktemp("few-words")
    concepts = [{"name": name, "tags": []} for name in ("apple", "fox", "owl", "magic wand", "jeans")]
    words = {
        "names": ["owl", "magic wand", "jeans"], "colours": ["red", "yellow", "green"],
        "plain": "a an on and background", "strange": "mermaid", "near": {"wizard": [1, 0, 2]},
    }  # fmt: skip
    (folder / "vocabulary.json").write_text(json.dumps(concepts))
    (folder / "neighbours.json").write_text(json.dumps(words))
    (folder / "guide.json").write_text(json.dumps(guide()))
    Image.new("RGBA", (16 * 3, 16 * 2), "red").save(folder / "sheet.webp")
    files = {name: str(folder / f"{name}.json") for name in ("vocabulary", "neighbours")}
    card = tiny_card(make_tiny_model(folder / "model"), **files, prompt_guide=str(folder / "guide.json"))
    with served([card], folder / "pictures") as site:
        yield site


@pytest.fixture
def visit(browser: Browser, site: Site) -> Iterator[Callable[..., Page]]:
    """Opens the page on the model with few words."""
    with visitors(browser) as new:
        yield partial(new.open, site.url)


def guide() -> dict:
    """What prompts for the model with few words are made of."""
    places = [{"name": "red", "phrase": "on a red background", "colour": "#ff0000"}]
    return {
        "things": {"apple": ["red", "green"], "fox": [], "owl": [], "magic wand": [], "jeans": []}, "places": places,
        "sizes": {"small": ["small"]}, "styles": {"fluent": "", "noto": "a noto emoji of"}, "relations": ["next to"],
        "sheet": {"file": "sheet.webp", "tile": 16, "columns": 3, "credit": "Red squares."},
    }  # fmt: skip


@pytest.mark.parametrize("width", [1440, 390])
def test_an_unlearned_word_is_exchanged_for_a_near_one(site: Site, visit: Callable[..., Page], width: int) -> None:
    page = visit(viewport={"width": width, "height": 900})
    expect(page.locator(PROMPT)).to_have_value("a red apple on a yellow background")
    expect(page.locator(ANSWER)).to_contain_text("Understood: apple")
    generate = page.locator("#generate").bounding_box()
    # Only the word itself is exchanged, and the article that goes with it.
    page.fill(PROMPT, "<lora:Wizard:1> a Wizard and a mermaid on a red background")
    expect(page.locator(f"{ANSWER} [role=status]")).to_have_text(
        "Understood: red background \u00b7 not learned: Wizard, mermaid"
    )
    # The suggestions take the place of the examples: Generate stays where it is, and so does the way to all things.
    expect(page.locator(f"{ANSWER} .chip", has_text="owl")).to_be_visible()
    assert page.locator("#generate").bounding_box() == generate
    expect(page.get_by_role("button", name="All 5 things")).to_be_visible()
    page.locator(f"{ANSWER} .chip", has_text="owl").press("Enter")
    expect(page.locator(PROMPT)).to_have_value("<lora:Wizard:1> an owl and a mermaid on a red background")
    expect(page.locator(PROMPT)).to_be_focused()
    expect(page.locator(ANSWER)).to_contain_text("Understood: owl, red background \u00b7 not learned: mermaid")
    expect(page.locator(f"{ANSWER} .chip")).to_have_count(0)
    page.keyboard.press("Control+z")
    expect(page.locator(PROMPT)).to_have_value("<lora:Wizard:1> a Wizard and a mermaid on a red background")
    page.locator(f"{ANSWER} .chip", has_text="jeans").click()
    expect(page.locator(PROMPT)).to_have_value("<lora:Wizard:1> jeans and a mermaid on a red background")
    # Markup stays text, and a slip of the pen is told from a strange word.
    page.fill(PROMPT, "a <b>wizard</b>")
    expect(page.locator(f"{ANSWER} .chip")).to_have_text(["magic wand", "owl", "jeans"])
    page.fill(PROMPT, "a yelow fox")
    expect(page.locator(ANSWER)).to_contain_text("yelow, meant:")
    # What the model cannot do is said, and one click asks for what it can.
    page.fill(PROMPT, "three red foxes")
    expect(page.locator(ANSWER)).to_contain_text("Understood: fox \u00b7 it cannot recolour or count")
    page.locator(f"{ANSWER} .chip", has_text="a fox on a red background").click()
    expect(page.locator(PROMPT)).to_have_value("a fox on a red background")
    # With nothing near, the examples stay.
    page.fill(PROMPT, "a mermaid")
    expect(page.locator(ANSWER)).to_contain_text("or a larger model")
    expect(page.locator(".workspace:visible .examples .chip").first).to_be_visible()
    if width == 390:
        box = page.locator(ANSWER).bounding_box()
        assert box and box["y"] + box["height"] <= page.locator(PROMPT).bounding_box()["y"]


@pytest.mark.parametrize("width", [1280, 390])
def test_the_builder_makes_a_prompt_from_pictures(site: Site, visit: Callable[..., Page], width: int) -> None:
    page = visit(viewport={"width": width, "height": 720}, reduced_motion="reduce")
    page.get_by_role("button", name="All 5 things").click()
    builder = page.locator(".builder:visible")
    expect(builder.get_by_label("Search")).to_be_focused()
    things = builder.locator(".things")
    expect(things.locator("button")).to_have_count(5)
    page.wait_for_function(
        "getComputedStyle(document.querySelector('.builder[open] .thumb')).backgroundImage.startsWith('url(\"blob:')"
    )
    # One Tab stop for all things; the arrows move among them.
    page.keyboard.press("Tab")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    expect(builder.locator("[data-part=said]")).to_have_text("a fox on a red background")
    builder.get_by_role("button", name="A second thing").click()
    builder.get_by_role("button", name="magic wand").click()
    builder.get_by_role("button", name="Small").click()
    builder.get_by_role("button", name="Noto").click()
    wanted = "a noto emoji of a small fox next to a magic wand on a red background"
    expect(builder.locator("[data-part=said]")).to_have_text(wanted)
    builder.get_by_label("Search").fill("no such")
    expect(builder.locator(".none")).to_contain_text("No such thing")
    builder.get_by_label("Search").fill("")
    assert violations(page) == []
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    # Escape closes it and the focus goes back; the choice is still there when it opens again.
    page.keyboard.press("Escape")
    expect(builder).to_have_count(0)
    expect(page.get_by_role("button", name="All 5 things")).to_be_focused()
    page.keyboard.press("Enter")
    page.locator(".builder:visible").get_by_role("button", name="Draw it").click()
    expect(page.locator(PROMPT)).to_have_value(wanted)
    page.locator('#stage .stage[data-state="done"]').wait_for()
    assert site.backend.jobs[-1].request.prompt == wanted
