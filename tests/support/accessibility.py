"""What axe finds on a page, in both colour schemes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page

LEVELS = ("wcag2a", "wcag2aa")
# What depends on colours; everything else is the same in both schemes.
COLOUR_RULES = ("color-contrast", "link-in-text-block")
# Gradio reads the scheme when the page is loaded.
SWITCH = "dark => { if (document.querySelector('gradio-app')) document.body.classList.toggle('dark', dark); }"
# Colours fade from one to the other.
SETTLED = """() => document.getAnimations().every((one) =>
  one.playState !== 'running' || one.effect.getTiming().iterations === Infinity)"""


def violations(page: Page, context: Any = None, levels: Sequence[str] = LEVELS) -> list[tuple[str, str, list[str]]]:
    """Scheme, rule and the elements that break it.

    Args:
        page: a page of the program, or a file of its own that follows the system's scheme.
        context: which part of it, as axe takes it; None for all.
        levels: tags of axe's rules; in the second scheme only those about colours are tried.
    """
    found = []
    for scheme in ("light", "dark"):
        _set_scheme(page, scheme)
        rules: Any = list(levels) if scheme == "light" else {"type": "rule", "values": list(COLOUR_RULES)}
        # Of what is fine no list is made.
        options = {"runOnly": rules, "resultTypes": ["violations"]}
        said = Axe().run(page, context=context, options=options).response["violations"]
        found += [(scheme, one["id"], [node["html"][:160] for node in one["nodes"]][:4]) for one in said]
    _set_scheme(page, "light")
    return found


def _set_scheme(page: Page, scheme: str) -> None:
    page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
    page.evaluate(SWITCH, scheme == "dark")
    page.wait_for_function(SETTLED)
