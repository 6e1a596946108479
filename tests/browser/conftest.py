"""A browser, and the page served on the tiny model."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, expect

from tests.support.site import Gate, Site, served, tiny_card
from tests.support.tiny_loras import make_lora
from tests.support.tiny_model import make_tiny_model
from tests.support.visitors import visitors

# Machines that build may be slow and shared; what is there sooner is seen sooner.
expect.set_options(timeout=20_000)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """One page for all browser tests: the tiny model twice, once with guidance off."""
    folder = tmp_path_factory.mktemp("page")
    model = make_tiny_model(folder / "model", prediction_type="v_prediction")
    about = {"modelspec.trigger_phrase": "inkwash"}
    make_lora(model, "stable_diffusion", folder / "loras" / "ink.safetensors", 0, about)
    Image.new("RGB", (96, 64), "teal").save(folder / "loras" / "ink.preview.png")
    (folder / "words.json").write_text('[{"name": "fox", "tags": ["animal"]}, {"name": "anvil", "tags": ["tool"]}]')
    cards = [
        tiny_card(model, vocabulary=str(folder / "words.json")),
        tiny_card(model, id="other", name="Other", guidance_scale=1.0, prompts=("something else",)),
    ]
    with served(cards, folder / "pictures", Gate()) as site:
        yield site


@pytest.fixture
def site(server: Site) -> Iterator[Site]:
    """The served page, with an open gate and no job left over."""
    server.settle()
    yield server
    server.settle()


@pytest.fixture
def visit(browser: Browser, site: Site) -> Iterator:
    """Open the page as a new visitor; fails the test when the page logs an error."""
    with visitors(browser) as new:

        def open_page(**options) -> Page:
            page = new.open(site.url, **options)
            page.locator("#generate").wait_for()
            return page

        yield open_page
