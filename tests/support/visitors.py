"""Visitors of a page: each is new to it, but the browser has read the page's files before, as most visitors' has."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any
from urllib.parse import urlsplit

from playwright.sync_api import Browser, BrowserContext, Error, Page

VIEWPORT = {"width": 1280, "height": 800}
# What a page can be told after it was made; other options need a context of their own.
OF_A_PAGE = {"viewport", "color_scheme", "reduced_motion"}
# Contexts that wait for their next visitor, each with a page that keeps its process, which has compiled the scripts.
_POOL: dict[Browser, list[BrowserContext]] = {}
_KEEPERS: dict[BrowserContext, Page] = {}


class Visitors:
    """The visitors of one test; errors that their pages log are ``problems``."""

    def __init__(self, browser: Browser) -> None:
        self.problems: list[str] = []
        self._browser = browser
        self._pool = _POOL.setdefault(browser, [])
        self._used: list[BrowserContext] = []
        self._own: list[BrowserContext] = []
        self._origins: set[str] = set()

    def open(self, url: str, prepare: Callable[[Page], Any] = lambda page: None, **options: Any) -> Page:
        """Open the page as someone who has never been there.

        Args:
            url: of the page.
            prepare: what to do with the empty page before.
            options: those of a context.
        """
        options = {"viewport": VIEWPORT, **options}
        page = self._context(options).new_page()
        if page.context not in self._own:
            page.set_viewport_size(options.pop("viewport"))
            if options:
                page.emulate_media(**options)
        self._origins.add("://".join(urlsplit(url)[:2]))
        page.set_default_timeout(20_000)
        page.on("pageerror", lambda error: self.problems.append(error.stack or str(error)))
        prepare(page)
        page.goto(url)
        return page

    def _context(self, options: dict[str, Any]) -> BrowserContext:
        if set(options) - OF_A_PAGE:
            self._own.append(self._browser.new_context(**options))
            return self._own[-1]
        found = self._pool.pop() if self._pool else self._browser.new_context(viewport=VIEWPORT)
        self._used.append(found)
        return found

    def close(self) -> None:
        """Close all pages; what they have stored is forgotten."""
        for context in self._own:
            context.close()
        for context in self._used:
            _forget(context, self._origins)
            self._pool.append(context)


def _forget(context: BrowserContext, origins: set[str]) -> None:
    if context not in _KEEPERS:
        _KEEPERS[context] = context.new_page()
        # Pages of one site share a process (``launch_arguments``); a text has no scripts that could go on.
        _KEEPERS[context].goto(f"{next(iter(origins))}/robots.txt")
    keeper = _KEEPERS[context]
    for page in context.pages:
        if page is not keeper:
            page.close()
    session = context.new_cdp_session(keeper)
    for origin in origins:
        session.send("Storage.clearDataForOrigin", {"origin": origin, "storageTypes": "all"})
    session.detach()
    context.clear_cookies()
    context.clear_permissions()


@contextmanager
def visitors(browser: Browser) -> Iterator[Visitors]:
    """The visitors of one test, which fails when a page of theirs logs an error."""
    found = Visitors(browser)
    try:
        yield found
    finally:
        with suppress(Error):  # of a browser that is gone
            found.close()
    assert not found.problems, found.problems
