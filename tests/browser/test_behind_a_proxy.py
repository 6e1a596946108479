"""The page below a path of a reverse proxy, in a real browser."""

from __future__ import annotations

import contextlib
import json
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser

from tests.support.site import served, tiny_card
from tests.support.stripping_proxy import stripping_proxy
from ui.server.access import Access


def root_of(address: str, cookie: str) -> str:
    """The root that Gradio's page is told."""
    asked = urllib.request.Request(f"{address}/config", headers={"Cookie": cookie})
    with urllib.request.urlopen(asked, timeout=60) as answer:
        return json.load(answer)["root"]


@pytest.mark.parametrize(
    "how",
    [
        {},
        {"strips": False},
        {"host": "127.0.0.1", "forwards": True},
        {"host": "127.0.0.1"},
    ],
    ids=["strips", "keeps the path", "another host, forwarded", "another host"],
)
def test_a_picture_is_made_below_a_path_of_a_proxy(
    browser: Browser, tiny_folder: Path, tmp_path: Path, how: dict[str, object]
) -> None:
    access = Access(b"k" * 32, 1, password="correct horse", root_path="/paint")
    with (
        served([tiny_card(tiny_folder)], tmp_path / "pictures", access=access) as site,
        contextlib.ExitStack() as stack,
    ):
        address = stack.enter_context(stripping_proxy(site.url, "/paint", **how))  # type: ignore[arg-type]
        # What ``--allow-host`` and a whole address as ``--root-path`` set.
        access.origins = frozenset({urlsplit(address).netloc})
        if "host" in how and "forwards" not in how:
            site.demo.app.root_path = address
        assert root_of(address, "=".join(access.owner_cookie)) == address
        context = stack.enter_context(contextlib.closing(browser.new_context()))
        page = context.new_page()
        page.set_default_timeout(60_000)
        page.goto(f"{address}/?owner={access.link_token()}")
        assert page.url == f"{address}/"
        page.locator("#generate").wait_for()
        page.fill("#prompt textarea", "a fox")
        page.click("#generate")
        page.locator('#stage .stage[data-state="done"]').wait_for()
        assert site.backend.jobs[-1].user.owner
        guest = stack.enter_context(contextlib.closing(browser.new_context())).new_page()
        guest.goto(f"{address}/")
        guest.fill("input[name=password]", "correct horse")
        guest.click("button")
        guest.locator("#generate").wait_for()
