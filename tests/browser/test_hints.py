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


@pytest.fixture
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The page on a model with few words."""
    folder = tmp_path_factory.mktemp("few-words")
    known = ["a", "an", "on", "red", "background", "yellow", "green", "apple", "fox", "owl"]
    words = {"names": ["owl", "magic wand"], "known": known, "near": {"wizard": [1, 0]}}
    (folder / "neighbours.json").write_text(json.dumps(words))
    card = tiny_card(make_tiny_model(folder / "model"), neighbours=str(folder / "neighbours.json"))
    with served([card], folder / "pictures") as site:
        yield site


@pytest.mark.parametrize("width", [1440, 390])
def test_an_unlearned_word_is_exchanged_for_a_near_one(site: Site, browser: Browser, width: int) -> None:
    page = browser.new_page(viewport={"width": width, "height": 900})
    page.goto(site.url)
    expect(page.locator(PROMPT)).to_have_value("a red apple on a yellow background")
    expect(page.locator(TOLD)).to_be_hidden()
    page.fill(PROMPT, "a Wizard on a red background")
    expect(page.locator(TOLD)).to_contain_text("has not learned \u201cWizard\u201d")
    page.locator(f"{TOLD} .chip", has_text="owl").click()
    expect(page.locator(PROMPT)).to_have_value("an owl on a red background")
    expect(page.locator(TOLD)).to_be_hidden()
    # Markup stays text, and a slip of the pen is told from a strange word.
    page.fill(PROMPT, "a <b>wizard</b>")
    expect(page.locator(f"{TOLD} .chip")).to_have_text(["magic wand", "owl"])
    page.fill(PROMPT, "a yelow fox")
    expect(page.locator(TOLD)).to_contain_text("Did you mean")
    page.close()
