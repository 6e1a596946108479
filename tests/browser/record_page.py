"""Make the README's moving picture: the real page, the real models, one generation and one that follows the words.

    python -m tests.browser.record_page
"""

from __future__ import annotations

import io
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

from presets.catalogue import load
from tests.browser.site import Gate, Site, served
from tests.browser_setup import find_browser, launch_arguments

TARGET = Path(__file__).parents[2] / "ui" / "page.gif"
PROMPT = "a fox on a green background"
FOLLOWED = ("a guitar on", "a guitar on pink", "a rocket on pink", "a rocket on a black background")
WIDTH = 760


def shoot(page: Page) -> Image.Image:
    """The page as it looks now, scaled down."""
    shot = Image.open(io.BytesIO(page.screenshot(animations="disabled"))).convert("RGB")
    return shot.resize((WIDTH, shot.height * WIDTH // shot.width), Image.Resampling.LANCZOS)


def perform(page: Page, site: Site, steps: int) -> list[tuple[Image.Image, int]]:
    """Type, generate, go back on the timeline; each frame with its milliseconds."""
    page.goto(site.url)
    page.locator('#status [data-part="text"]', has_text="ready").wait_for(timeout=120_000)
    frames = []
    for end in range(4, len(PROMPT) + 1, 5):
        page.fill("#prompt textarea", PROMPT[:end])
        frames.append((shoot(page), 160))
    page.fill("#prompt textarea", PROMPT)
    frames.append((shoot(page), 700))
    site.gate.hold_at(0)
    page.click("#generate")
    for index in range(steps):
        site.gate.hold_at(index)
        site.gate.wait_for(index)
        page.locator('[data-part="words"]', has_text=f"{index + 1} of {steps}").wait_for()
        frames.append((shoot(page), 160))
    site.gate.open()
    page.locator('.film[data-state="done"]').wait_for()
    frames.append((shoot(page), 1800))
    page.locator("#live-quicker").click()
    page.locator('.film[data-state="done"]').wait_for()
    page.locator("#live-note", has_text="Every change").wait_for()
    for words in FOLLOWED:
        seen = page.locator(".film").get_attribute("data-run")
        page.fill("#prompt textarea", words)
        page.wait_for_function("seen => document.querySelector('.film').dataset.run !== seen", arg=seen)
        page.locator('.film[data-state="live"], .film[data-state="done"]').wait_for()
        frames.append((shoot(page), 900))
    page.locator('[data-part="words"]', has_text="Kept").wait_for()
    frames.append((shoot(page), 2500))
    return frames


def main() -> None:
    known = {card.id: card for card in load()}
    card = known["pocket"]
    steps = card.qualities[card.default_quality].num_inference_steps
    with (
        tempfile.TemporaryDirectory() as pictures,
        served([card, known["pocket-turbo"]], Path(pictures), Gate()) as site,
        sync_playwright() as tool,
    ):
        browser = tool.chromium.launch(executable_path=find_browser(), args=launch_arguments())
        page = browser.new_page(viewport={"width": 1280, "height": 860})
        frames = perform(page, site, steps)
        browser.close()
    images = [image.quantize(200, dither=Image.Dither.NONE) for image, _ in frames]
    times = [milliseconds for _, milliseconds in frames]
    images[0].save(TARGET, save_all=True, append_images=images[1:], duration=times, loop=0, optimize=True)


if __name__ == "__main__":
    main()
