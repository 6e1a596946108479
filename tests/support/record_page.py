"""Make the README's pictures: the real page and models; a run and drafts as a moving WebP, and a still of four tabs.

python -m tests.support.record_page
"""

from __future__ import annotations

import io
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

from presets.catalogue import load
from tests.support.browser_setup import find_browser, launch_arguments
from tests.support.site import Gate, Site, served

DOCS = Path(__file__).parents[2] / "docs"
PROMPT = "a fox on a green background"
FOLLOWED = ("a guitar on", "a guitar on pink", "a rocket on pink", "a rocket on a black background")
WIDTH = 560
# Where this machine keeps things says nothing to others.
HIDE_PLACES = """pairs => {
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    for (const [from, to] of pairs) walker.currentNode.data = walker.currentNode.data.replaceAll(from, to);
  }
}"""
STILL = {"width": 1280, "height": 800}


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
        page.locator('#stage [data-part="words"]', has_text=f"{index + 1} of {steps}").wait_for()
        frames.append((shoot(page), 160))
    site.gate.open()
    page.locator('#stage .stage[data-state="done"]').wait_for()
    frames.append((shoot(page), 1800))
    page.locator("#drafts-model").click()
    page.locator('#stage .stage[data-state="done"]').wait_for()
    page.locator("#drafts-note", has_text="Every change").wait_for()
    for words in FOLLOWED:
        seen = page.locator("#stage .stage").get_attribute("data-run")
        page.fill("#prompt textarea", words)
        page.wait_for_function("seen => document.querySelector('#stage .stage').dataset.run !== seen", arg=seen)
        page.locator('#stage .stage:is([data-state="live"], [data-state="done"])').wait_for()
        frames.append((shoot(page), 900))
    page.locator('#stage [data-part="words"]', has_text="Kept").wait_for()
    frames.append((shoot(page), 2500))
    return frames


def stills(page: Page, site: Site) -> None:
    """One still a tab: a finished picture, one that is changed, a run from inside, the models."""
    page.goto(site.url)
    page.locator('#status [data-part="text"]', has_text="ready").wait_for(timeout=120_000)
    page.fill("#prompt textarea", PROMPT)
    before = page.locator("#stage .stage").get_attribute("data-run")
    page.click("#generate")
    page.wait_for_function("before => document.querySelector('#stage .stage').dataset.run !== before", arg=before)
    page.locator('#stage .stage[data-state="done"]').wait_for(timeout=120_000)
    still(page, "text_to_image")
    page.click('#stage [data-part="inside"]')
    page.locator("#player canvas").first.wait_for()
    page.wait_for_timeout(6000)
    page.locator("#player [data-part=strip]").focus()
    page.keyboard.press("Home")
    for _ in range(9):
        page.keyboard.press("ArrowRight")
    page.wait_for_timeout(500)
    still(page, "denoising")
    page.get_by_role("tab", name="Image to image", exact=True).click()
    # The picture that comes with the model is offered on entering.
    page.locator('.strength-strip[data-state="open"]').wait_for(timeout=120_000)
    page.wait_for_timeout(4000)
    still(page, "image_to_image")
    page.get_by_role("tab", name="Models", exact=True).click()
    page.wait_for_timeout(2000)
    page.evaluate(HIDE_PLACES, [[str(DOCS.parent), "diffusion-playground"], [str(site.pictures.parent), "data"]])
    still(page, "models")


def still(page: Page, name: str) -> None:
    """Save the page as it looks now."""
    shot = Image.open(io.BytesIO(page.screenshot(animations="disabled"))).convert("RGB")
    shot.quantize(56, dither=Image.Dither.NONE).save(DOCS / f"{name}.png", optimize=True)


def main() -> None:
    known = {card.id: card for card in load()}
    card = known["pocket"]
    steps = card.qualities[card.default_quality].num_inference_steps
    with (
        tempfile.TemporaryDirectory() as folder,
        served([card, known["pocket-turbo"]], Path(folder) / "pictures", Gate()) as site,
        sync_playwright() as tool,
    ):
        browser = tool.chromium.launch(executable_path=find_browser(), args=launch_arguments())
        page = browser.new_page(viewport={"width": 1280, "height": 860})
        frames = perform(page, site, steps)
        # A visitor of their own: the page remembers that drafts were drawn, and with which model.
        stills(browser.new_page(viewport=STILL), site)
        browser.close()
    first, *others = (image.convert("RGB") for image, _ in frames)
    times = [milliseconds for _, milliseconds in frames]
    # Noise is what takes room: a GIF of it is twice as large.
    first.save(DOCS / "page.webp", save_all=True, append_images=others, duration=times, loop=0, quality=45, method=6)


if __name__ == "__main__":
    main()
