"""The Models tab in a real browser, with a hub on loopback."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from pipelines.hub import hub as hub_module
from pipelines.hub.hub import Hub
from presets.user_models import UserModels
from tests.support import page_tabs
from tests.support.accessibility import violations
from tests.support.hub_server import HubServer
from tests.support.site import Site, served, tiny_card
from tests.support.tiny_model import make_tiny_model
from tests.support.visitors import visitors


@pytest.fixture(scope="module")
def hub_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Site, HubServer]]:
    """A page with a model that is here, one that is on the hub, and a hub that has one more."""
    from huggingface_hub import constants

    folder = tmp_path_factory.mktemp("models")
    model = make_tiny_model(folder / "model", prediction_type="v_prediction")
    far = tiny_card("maker/far", id="far", name="<b>Far</b>", prompts=("a <i>far</i> fox",))
    cards = [tiny_card(model), far, tiny_card("maker/huge", id="huge", name="Huge", memory_bytes=10**15)]
    with pytest.MonkeyPatch.context() as patch, HubServer({"maker/far": model, "maker/mine": model}) as server:
        patch.setattr(constants, "HF_HUB_OFFLINE", False)
        patch.setattr(hub_module, "HEADROOM", 2**20)
        hub = Hub(endpoint=server.address, cache_dir=folder / "cache", timeout=5.0, backoff=0.1, tries=2)
        user_models = UserModels(folder / "models.json", cards, download_configs=hub.download_configs)
        with served(cards, folder / "pictures", hub=hub, user_models=user_models) as site:
            yield site, server


@pytest.fixture
def models(browser: Browser, hub_site: tuple[Site, HubServer]) -> Iterator:
    """Opens the tab as a new visitor."""
    with visitors(browser) as new:

        def open_tab(**options) -> Page:
            page = new.open(hub_site[0].url, **{"viewport": {"width": 1280, "height": 900}, **options})
            page_tabs.open_tab(page, "Models")
            page.locator("#models li").first.wait_for()
            return page

        yield open_tab


def row(page: Page, name: str) -> Locator:
    return page.locator("#models li").filter(has=page.get_by_role("heading", name=name, exact=True))


def press(place: Locator, name: str) -> None:
    place.get_by_role("button", name=name, exact=True).click()


def test_a_model_is_fetched_used_and_deleted(models, hub_site: tuple[Site, HubServer]):
    site, server = hub_site
    server.slow = 20_000  # 20 seconds, so that the test can stop it on a busy machine too
    page = models()
    far = row(page, "<b>Far</b>")
    press(far, "Download")
    expect(far.locator(".question")).to_contain_text("Its licence")
    assert not any("safetensors" in asked.path and "resolve" in asked.path for asked in server.log)
    press(far, "Not now")
    expect(far.locator(".question")).to_have_count(0)
    press(far, "Download")
    far.locator(".question .main").click()
    expect(far.locator("progress")).to_be_visible()
    expect(far).to_contain_text("Downloading <b>Far</b>: ")
    press(far, "Stop")
    press(far, "Resume download")
    server.slow = 0
    far.locator(".question .main").click()
    # The prompt of an example comes along, and the model is chosen.
    far.get_by_role("button", name="a <i>far</i> fox").click()
    expect(page.locator("#prompt textarea")).to_have_value("a <i>far</i> fox")
    page.click("#settings > button")
    expect(page.locator("#model input")).to_have_value("<b>Far</b>")
    page.click("#generate")
    page.locator('#stage .stage[data-state="done"]').wait_for()
    assert site.backend.jobs[-1].request.model == "far"
    page.get_by_role("tab", name="Models").click()
    expect(far.locator(".where")).to_contain_text("In memory")
    press(far, "Delete")
    expect(far.locator(".question")).to_contain_text("your pictures stay")
    far.locator(".question .main").click()
    expect(far.locator(".where")).to_have_text("Not downloaded")


def test_models_are_grouped_by_what_fits_and_one_is_in_use(models, hub_site: tuple[Site, HubServer]):
    page = models()
    expect(page.locator("#models h2")).to_have_text(["Fits this computer", "Does not fit this computer"])
    expect(page.locator('#models [data-group="too-large"] h3')).to_have_text("Huge")
    expect(page.locator("#models .in-use")).to_have_count(1)
    expect(row(page, "Tiny").locator(".in-use")).to_be_visible()
    # A hub that does not answer: what happens is said at once, and counted.
    server = hub_site[1]
    server.answers.clear()
    far = row(page, "<b>Far</b>")
    press(far, "Download")
    expect(far.locator('[data-part="waits"]')).to_contain_text("Asking the hub how large it is")
    server.answers.set()
    far.locator(".question").wait_for()
    expect(far.locator('[data-part="waits"]')).to_be_hidden()
    press(far, "Not now")


def test_a_model_is_loaded_kept_and_unloaded(models):
    page = models()
    tiny = row(page, "Tiny")
    if tiny.get_by_role("button", name="Unload").count():
        press(tiny, "Unload")
    press(tiny, "Load")
    expect(tiny.locator(".where")).to_contain_text("In memory")
    expect(page.locator("#gauges")).to_contain_text("Tiny")
    press(tiny, "Keep loaded")
    expect(tiny.locator(".where")).to_contain_text("kept")
    press(tiny, "Allow unloading")
    expect(tiny.locator(".where")).not_to_contain_text("kept")
    press(tiny, "Unload")
    expect(tiny.locator(".where")).to_have_text("On this machine")


def test_a_model_of_ones_own_is_added_and_taken_off_again(models, tmp_path: Path):
    page = models()
    page.fill("#add-name input, #add-name textarea", "no such model")
    page.click("#add-button")
    expect(page.locator("#add-problem")).to_contain_text("There is no model 'no such model'")
    folder = make_tiny_model(tmp_path / "my-own")
    for name, heading in (("maker/mine", "maker/mine"), (str(folder), "my-own")):
        page.fill("#add-name input, #add-name textarea", name)
        page.keyboard.press("Enter")
        expect(row(page, heading)).to_be_visible()
        expect(page.locator("#add-problem p")).to_be_hidden()
        press(row(page, heading), "Remove from list")
        expect(row(page, heading)).to_have_count(0)
    assert folder.exists()


def test_a_question_keeps_the_focus_while_the_list_is_polled(models):
    page = models()
    far = row(page, "<b>Far</b>")
    press(far, "Download")
    expect(far.locator(".question button").first).to_be_focused()
    page.wait_for_timeout(4500)
    expect(far.locator(".question button").first).to_be_focused()


def test_axe_finds_nothing_and_a_phone_scrolls_one_way(models):
    page = models(reduced_motion="reduce", viewport={"width": 390, "height": 844})
    press(row(page, "<b>Far</b>"), "Download")
    row(page, "<b>Far</b>").locator(".question").wait_for()
    assert violations(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    # Every tab can be reached.
    for name in ("Denoising", "Text to image", "Models"):
        page_tabs.open_tab(page, name)
        expect(page.get_by_role("tab", name=name, exact=True)).to_have_attribute("aria-selected", "true")
