"""The Share tab in a browser: link, password, guests, blocked words."""

from __future__ import annotations

import threading
from pathlib import Path

from playwright.sync_api import Browser, expect

from tests.support.accessibility import violations
from tests.support.site import Site, served, tiny_card
from tests.support.tiny_model import make_tiny_model
from tests.support.tunnels import URL, make_sharing, make_tunnels, running_programs
from ui.server.access import Access
from ui.server.sharing import Sharing
from ui.server.tunnel import OFFLINE, TunnelError


def test_the_owner_shares_from_the_page(browser: Browser, tmp_path: Path) -> None:
    model = make_tiny_model(tmp_path / "model", prediction_type="v_prediction")
    with make_tunnels(tmp_path) as tunnels:
        found, access = make_sharing(tunnels)
        with served([tiny_card(model)], tmp_path / "pictures", access=access, sharing=found) as site:
            _share_and_use(browser, site, access)


def test_a_service_that_does_not_answer_is_named_and_counted(browser: Browser, tmp_path: Path) -> None:
    answers = threading.Event()

    class Silent:
        """A tunnel whose service is silent until the test lets it fail."""

        alive = False

        def start(self, port: int) -> str:
            answers.wait()
            raise TunnelError(OFFLINE)

        def stop(self) -> None:
            """Nothing runs."""

    access = Access(b"k" * 32, 7860)
    sharing = Sharing(access, 7860, Silent, network_url="http://192.168.1.7:7860")  # type: ignore[arg-type]
    model = make_tiny_model(tmp_path / "model")
    with served([tiny_card(model)], tmp_path / "pictures", access=access, sharing=sharing) as site:
        page = browser.new_page()
        page.goto(f"{site.url}?owner={access.link_token()}#/share")
        expect(page.locator('#share [data-part="network-url"]')).to_have_text("http://192.168.1.7:7860")
        expect(page.locator('#share [data-part="network-code"]')).to_be_visible()
        expect(page.locator('#share [data-part="network-word"]')).to_be_hidden()
        page.get_by_role("button", name="Share this page").click()
        wait = page.locator('#share [data-part="wait"]')
        expect(wait).to_contain_text("Asking the share service for a link")
        expect(wait).to_contain_text("if this computer is offline")
        answers.set()
        expect(page.locator('#share [data-part="problem"]')).to_contain_text("seems to be offline")
        expect(wait).to_be_hidden()
        # A second try says that it goes on, not what the first one said, and ends by itself.
        answers.clear()
        page.get_by_role("button", name="Try again").click()
        expect(wait).to_contain_text("Asking the share service for a link")
        expect(page.locator('#share [data-part="problem"]')).to_be_hidden()
        answers.set()
        expect(page.locator('#share [data-part="problem"]')).to_contain_text("seems to be offline")
        expect(wait).to_be_hidden()
        expect(page.get_by_role("button", name="Try again")).to_be_visible()
        page.close()


def _share_and_use(browser: Browser, site: Site, access: Access) -> None:
    context = browser.new_context()
    page = context.new_page()
    page.set_default_timeout(20_000)
    page.goto(f"{site.url}?owner={access.link_token()}")
    page.get_by_role("tab", name="Share").click()
    page.get_by_role("button", name="Share this page").click()
    expect(page.locator('#share [data-part="url"]')).to_have_text(URL)
    expect(page.locator('#share [data-part="password"]')).to_have_text(access.password)
    expect(page.locator('#share [data-part="code"]')).to_be_visible()
    expect(page.locator('#share [data-part="network-command"]')).to_contain_text("--host 0.0.0.0")
    assert violations(page) == []
    # Others only see the login page.
    other = browser.new_context().new_page()
    other.goto(site.url)
    expect(other.locator("input[name=password]")).to_be_visible()
    other.fill("input[name=password]", access.password)
    other.click("button")
    other.get_by_role("tab", name="Share").click()
    expect(other.locator("#share")).to_contain_text("Only the owner")
    assert access.password not in other.content()
    # The owner's list of words counts for guests, who do not see it.
    page.fill("#blocked-words textarea", "gore")
    page.get_by_role("button", name="Save the list").click()
    expect(page.locator("#blocked-note")).to_contain_text("Saved")
    expect(other.locator("#blocked-words")).to_be_hidden()
    other.get_by_role("tab", name="Text to image").click()
    other.fill("#prompt textarea", "some Gore")
    other.click("#generate")
    expect(other.locator("#prompt-error")).to_contain_text("does not allow")
    page.get_by_role("button", name="Pause guests").click()
    expect(page.get_by_role("button", name="Let guests in")).to_be_visible()
    other.reload()
    expect(other.locator("body")).to_contain_text("paused")
    page.get_by_role("button", name="Stop sharing").click()
    expect(page.get_by_role("button", name="Share this page")).to_be_visible()
    assert running_programs() == 0 and not access.exposed
