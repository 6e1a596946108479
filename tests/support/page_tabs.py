"""Turning to a tab of the page, which on a phone may be in the menu at the end of the row."""

from __future__ import annotations

from playwright.sync_api import Page


def open_tab(page: Page, name: str) -> None:
    """Turn to the tab of this name."""
    page.locator('#tabs > .tab-wrapper [role="tab"]').first.wait_for()
    tab = page.get_by_role("tab", name=name, exact=True)
    if tab.count():
        tab.click()
        return
    page.locator("#tabs > .tab-wrapper").get_by_role("button", name="More tabs").click()
    page.locator("#tabs > .tab-wrapper .overflow-dropdown").get_by_role("button", name=name).click()
