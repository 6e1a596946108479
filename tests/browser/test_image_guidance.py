"""Guiding a run with pictures, in a real browser."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import diffusers
import pytest
from PIL import Image, ImageDraw
from playwright.sync_api import Browser, Page, expect

from tests.support.accessibility import violations
from tests.support.site import Site, served, tiny_card
from tests.support.tiny_controlnets import make_controlnet
from tests.support.tiny_ip_adapters import make_adapter
from tests.support.tiny_model import make_tiny_model
from tests.support.visitors import visitors


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A page with a ControlNet and an IP-Adapter for its model."""
    folder = tmp_path_factory.mktemp("guides")
    model = make_tiny_model(folder / "model", prediction_type="v_prediction")
    unet = diffusers.UNet2DConditionModel.from_pretrained(model, subfolder="unet")
    make_controlnet(unet, folder / "loras" / "edges-canny")
    make_adapter(unet, folder / "loras" / "look.safetensors")
    with served([tiny_card(model)], folder / "pictures") as site:
        yield site


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    image = Image.new("RGB", (90, 70), "white")
    ImageDraw.Draw(image).ellipse([20, 10, 70, 60], fill="red")
    image.save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


@pytest.fixture
def page(browser: Browser, site: Site, request: pytest.FixtureRequest) -> Iterator[Page]:
    options = getattr(request, "param", {})
    with visitors(browser) as new:
        page = new.open(site.url, **{"viewport": {"width": 1280, "height": 1200}, **options})
        page.locator("#generate").wait_for()
        yield page


def test_a_map_and_a_look_guide_the_run(page: Page, site: Site, photo: Path):
    page.click("#guides > button")
    page.set_input_files("#map-picture input[type=file]", photo)
    expect(page.locator("#map img")).to_be_visible()
    # Another kind, another map; what cannot be made is said in a sentence.
    before = page.locator("#map img").get_attribute("src")
    page.click("#map-kind label:has-text('None: already a map')")
    expect(page.locator("#map img")).not_to_have_attribute("src", before or "")
    page.click("#map-kind label:has-text('Depth')")
    expect(page.locator("#map-kind-error")).to_contain_text("give a finished map")
    page.click("#map-kind label:has-text('Edges')")
    expect(page.locator("#map-kind-error p")).to_be_hidden()
    page.set_input_files("#look-picture input[type=file]", photo)
    # Pressed at once: what the server has not stored yet guides the run as well.
    page.locator("#look-picture img").wait_for()
    page.click("#generate")
    page.locator('#stage .stage[data-state="done"]').wait_for()
    asked = site.backend.jobs[-1].request
    assert [(c.net, c.kind) for c in asked.controls] == [("edges-canny", "canny")]
    assert asked.reference is not None and asked.reference.adapter == "look"
    with Image.open(next(iter(site.pictures.glob("*.png")))) as kept:
        assert any("edges-canny" in value for value in kept.info.values() if isinstance(value, str)), json.dumps(
            {name: str(value)[:200] for name, value in kept.info.items()}
        )
    # Both images and what is set survive a reload; the closed drawer says what is in use.
    page.fill("#map-weight input[type=number]", "0.5")
    page.keyboard.press("Tab")
    page.wait_for_function(
        "() => Object.values(sessionStorage).some((text) => /[0-9a-f]{32}.,.canny.,.edges-canny.,0.5,/.test(text))"
    )
    page.reload()
    expect(page.locator("#guides > button")).to_contain_text("ControlNet and IP-Adapter")
    page.click("#guides > button")
    expect(page.locator("#map-picture img")).to_be_visible()
    expect(page.locator("#look-picture img")).to_be_visible()
    expect(page.locator("#map-weight input[type=number]")).to_have_value("0.5")


@pytest.mark.parametrize("page", [{"viewport": {"width": 390, "height": 844}}], indirect=True, ids=["phone"])
def test_axe_finds_nothing_and_a_phone_scrolls_one_way(page: Page, photo: Path):
    page.click("#guides > button")
    page.set_input_files("#map-picture input[type=file]", photo)
    expect(page.locator("#map img")).to_be_visible()
    page.wait_for_timeout(500)
    # Gradio's own upload area labels its icons by title alone.
    context = {"include": [["#guides"]], "exclude": [["#map-picture"], ["#look-picture"]]}
    assert violations(page, context) == []
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
