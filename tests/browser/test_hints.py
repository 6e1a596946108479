"""A word that the model has not learned, in a real browser: said at once, mended with one click."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, expect

from tests.browser.site import Site, served, tiny_card
from tests.tiny import make_tiny_model

TOLD = ".desk:visible .unlearned"
PROMPT = ".desk:visible .prompt textarea"


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
    files = {name: str(folder / f"{name}.json") for name in ("vocabulary", "neighbours")}
    with served([tiny_card(make_tiny_model(folder / "model"), **files)], folder / "pictures") as site:
        yield site


@pytest.mark.parametrize("width", [1440, 390])
def test_an_unlearned_word_is_exchanged_for_a_near_one(site: Site, browser: Browser, width: int) -> None:
    page = browser.new_page(viewport={"width": width, "height": 900})
    page.goto(site.url)
    expect(page.locator(PROMPT)).to_have_value("a red apple on a yellow background")
    expect(page.locator(f"{TOLD} p")).to_be_empty()
    # Only the word itself is exchanged, and the article that goes with it.
    page.fill(PROMPT, "<lora:Wizard:1> a Wizard on a red background")
    expect(page.locator(f"{TOLD} [role=status]")).to_contain_text("has not learned \u201cWizard\u201d")
    page.locator(f"{TOLD} .chip", has_text="owl").press("Enter")
    expect(page.locator(PROMPT)).to_have_value("<lora:Wizard:1> an owl on a red background")
    expect(page.locator(PROMPT)).to_be_focused()
    expect(page.locator(f"{TOLD} p")).to_be_empty()
    expect(page.locator(f"{TOLD} .chip")).to_have_count(0)
    page.keyboard.press("Control+z")
    expect(page.locator(PROMPT)).to_have_value("<lora:Wizard:1> a Wizard on a red background")
    page.locator(f"{TOLD} .chip", has_text="jeans").click()
    expect(page.locator(PROMPT)).to_have_value("<lora:Wizard:1> jeans on a red background")
    # Markup stays text, and a slip of the pen is told from a strange word.
    page.fill(PROMPT, "a <b>wizard</b>")
    expect(page.locator(f"{TOLD} .chip")).to_have_text(["magic wand", "owl", "jeans"])
    page.fill(PROMPT, "a yelow fox")
    expect(page.locator(TOLD)).to_contain_text("Did you mean")
    # With nothing near, the examples stay.
    page.fill(PROMPT, "a mermaid")
    expect(page.locator(TOLD)).to_contain_text("nor anything near it")
    expect(page.locator(".desk:visible .tries .chip").first).to_be_visible()
    page.close()
