"""The page in a real browser: row 5, from the click to the value that shows the picture."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from benchmarks.rows.program import ServedProgram, card_of, program
from benchmarks.rows.results import Result, interleaved, ratio
from benchmarks.rows.workshop import STEPS, Bench, open_workshop

BROWSERS = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
WIDTH, HEIGHT = 1280, 720
# Milliseconds from the click to the stage's taking the picture; drawing comes after it.
CLICK = """async () => {
  const stage = document.querySelector('#stage .stage');
  const button = document.querySelector('.generate-button button, button.generate-button');
  const there = new Promise((resolve) => new MutationObserver((_, watcher) => {
    if (!['shown', 'done'].includes(stage.dataset.state) || stage.dataset.run === before) return;
    watcher.disconnect();
    resolve(performance.now());
  }).observe(stage, {attributes: true}));
  const before = stage.dataset.run;
  const started = performance.now();
  button.click();
  const shown = await there;
  while (stage.dataset.state !== 'done') await new Promise((resolve) => setTimeout(resolve, 20));
  return (shown - started) / 1000;
}"""


def clicked(bench: Bench) -> Iterator[Result]:
    """Row 5."""
    card = card_of(bench)
    quality = card.qualities[card.default_quality]
    with open_workshop(bench, card) as shop, program(bench, card) as served, browser_page(served) as page:
        served.warm_up(STEPS)
        ask = {"scheduler": quality.scheduler}
        times = interleaved(
            {
                "clicked": lambda: float(page.evaluate(CLICK)),
                "inside": lambda: shop.until_picture(shop.request(quality.num_inference_steps, **ask)),
            },
            bench.rounds,
        )
    longest = round(1000 * max(times["clicked"]))
    what = "click to picture on the page / in process"
    yield ratio(5, what, times["clicked"], times["inside"], 1.3, longest_ms=longest)


@contextmanager
def browser_page(served: ServedProgram) -> Iterator[Any]:
    """The program's page in a browser of the system; raises RuntimeError where there is none."""
    with browser_of(served) as visitor:
        page = visitor()
        page.goto(f"http://127.0.0.1:{served.server.port}")
        page.wait_for_selector(".generate-button", timeout=120_000)
        page.wait_for_timeout(3000)
        yield page


@contextmanager
def browser_of(served: ServedProgram) -> Iterator[Callable[[], Any]]:
    """A browser of the system; each call gives an empty page of an owner who has nothing of the program's page yet.

    Raises:
        RuntimeError: if there is no browser.
    """
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        raise RuntimeError("playwright is not installed") from None
    path = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    arguments = ["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
    name, _, value = served.owner.cookie.partition("=")
    cookie = {"name": name, "value": value, "url": f"http://127.0.0.1:{served.server.port}"}
    with sync_playwright() as tool:
        browser = tool.chromium.launch(executable_path=path, args=arguments)

        def visitor() -> Any:
            context = browser.new_context(viewport={"width": WIDTH, "height": HEIGHT})
            context.add_cookies([cookie])
            return context.new_page()

        try:
            yield visitor
        finally:
            browser.close()
