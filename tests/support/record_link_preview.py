"""Make the picture of link previews: the page's mark, large, and its name.

python -m tests.support.record_link_preview
"""

from __future__ import annotations

import io

from PIL import Image
from playwright.sync_api import sync_playwright

from tests.support.browser_setup import find_browser, launch_arguments
from ui.components.assets import UI
from ui.server.http.answers import ABOUT, PICTURE_FILE, TITLE
from ui.shell.theme import reading_face

WIDTH, HEIGHT = 1200, 630
COLOURS = 64
# Grains of noise that thin out from left to right, over violet that becomes amber; the disc is the picture.
DRAW = """
const canvas = document.querySelector('canvas');
const context = canvas.getContext('2d');
const [wide, high] = [canvas.width, canvas.height];
let seed = 7;
const random = () => { seed = (seed * 16807) % 2147483647; return seed / 2147483647; };
const sky = context.createLinearGradient(0, 0, wide, 0);
for (const [at, colour] of [[0, '#6d4bd0'], [0.5, '#b3674f'], [1, '#e29a1f']]) sky.addColorStop(at, colour);
context.fillStyle = sky;
context.fillRect(0, 0, wide, high);
context.fillStyle = '#fff6e4';
context.beginPath();
context.arc(wide * 0.74, high * 0.44, high * 0.26, 0, 7);
context.fill();
for (let x = 0; x < wide; x += 10) {
  for (let y = 0; y < high; y += 10) {
    if (random() < (x / wide) * 1.25) continue;
    context.fillStyle = ['#3c2a86', '#8f76e8', '#cfc3ff', '#e29a1f', '#4c379c'][Math.floor(random() * 5)];
    context.fillRect(x, y, 10, 10);
  }
}
"""
PAGE = f"""
<style>{reading_face()}
body {{ margin: 0; background: #111114; color: #ececef; font: 30px/1.3 Lora; width: {WIDTH}px; height: {HEIGHT}px; }}
canvas {{ display: block; }} div {{ padding: 22px 48px; display: flex; align-items: baseline; gap: 32px; }}
div {{ white-space: nowrap; }} b {{ font-weight: 400; font-size: 44px; }}
span {{ color: #b9b9c2; font-size: 24px; }}</style>
<canvas width="{WIDTH}" height="520"></canvas><div><b>{TITLE}</b><span>{ABOUT}</span></div>
"""


def main() -> None:
    """Draw it in a browser and save it with few colours."""
    with sync_playwright() as tool:
        browser = tool.chromium.launch(executable_path=find_browser(), args=launch_arguments())
        page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
        page.set_content(PAGE)
        page.evaluate(f"() => {{ {DRAW} }}")
        page.evaluate("document.fonts.ready")
        shot = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
        browser.close()
    shot.quantize(COLOURS, dither=Image.Dither.NONE).save(UI / PICTURE_FILE, optimize=True)
    print(f"{PICTURE_FILE}: {(UI / PICTURE_FILE).stat().st_size} bytes")


if __name__ == "__main__":
    main()
