"""What a prompt of pocket is made of, for the page: ``prompt_guide.json`` and a sheet of thumbnails of all things.

    python -m pocket.world.prompt_guide

The thumbnails are the artwork that a caption without a style word shows, so that the page needs no package of artwork
and no SVG renderer.  A thing's own colours are those that cover a good part of it: "a red rose" asks for nothing that
the model has not seen, "a purple dragon" does.  The page only reads the two files.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from pocket.paths import ROOT
from pocket.world import plain
from pocket.world.artwork import STYLES, fetch, load_artwork
from pocket.world.grammar import article
from pocket.world.vocabulary import load_concepts

FILE, SHEET = ROOT / "prompt_guide.json", ROOT / "prompt_guide.webp"
# Pixels of a thumbnail and of the rim around it, and thumbnails in a row of the sheet.
TILE, RIM, COLUMNS = 56, 2, 24
QUALITY = 40
# Share of a thing that a colour covers from which it is one of the thing's own.
OWN_SHARE = 0.2
# A colour counts for a pixel up to so many times the distance of the nearest one: amber is orange and yellow.
ALIKE = 1.3
CREDIT = "Thumbnails: Fluent Emoji by Microsoft, MIT licence."
PAIRS = "Of two things side by side it draws both right about one time in four."


def make_sheet(pictures: Sequence[Image.Image]) -> Image.Image:
    """All things in rows of ``COLUMNS``, RGBA, on nothing."""
    rows = -(-len(pictures) // COLUMNS)
    sheet = Image.new("RGBA", (COLUMNS * TILE, rows * TILE))
    side = TILE - 2 * RIM
    for k, picture in enumerate(pictures):
        small = picture.resize((side, side), Image.Resampling.LANCZOS).convert("RGBA")
        sheet.paste(small, (k % COLUMNS * TILE + RIM, k // COLUMNS * TILE + RIM))
    return sheet


def own_colours(picture: Image.Image, colours: Mapping[str, Sequence[int]] = plain.COLOURS) -> list[str]:
    """The named colours that cover at least ``OWN_SHARE`` of a thing, in the order of ``colours``.

    Args:
        picture: the thing with premultiplied colours ("RGBa"), or plain RGBA.
        colours: red, green and blue by name, 0 to 255.
    """
    pixels = np.asarray(picture.convert("RGBA"), np.float32)
    solid = pixels[pixels[..., 3] > 127][:, :3]
    if not len(solid):
        return []
    distances = np.linalg.norm(lab(solid)[:, None] - lab(np.array(list(colours.values()), np.float32)), axis=-1)
    shares = (distances <= ALIKE * distances.min(1, keepdims=True)).mean(0)
    return [name for name, share in zip(colours, shares, strict=True) if share >= OWN_SHARE]


def lab(rgb: np.ndarray) -> np.ndarray:
    """CIE L*a*b* of sRGB colours (n, 3), 0 to 255, under D65 (CIE 15:2004), where distances look alike."""
    linear = rgb / 255
    linear = np.where(linear > 0.04045, ((linear + 0.055) / 1.055) ** 2.4, linear / 12.92)
    matrix = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    x, y, z = ((linear @ matrix.T) / [0.9505, 1.0, 1.089]).T
    x, y, z = (np.where(v > 216 / 24389, np.cbrt(v), (24389 / 27 * v + 16) / 116) for v in (x, y, z))
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], -1)


def guide(things: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """What the file holds.

    Args:
        things: each thing's name -> its own colours, in the order of the sheet.
    """
    backgrounds = [
        {"name": name, "phrase": f"on {article(name)} background", "colour": "#{:02x}{:02x}{:02x}".format(*colour)}
        for name, colour in plain.COLOURS.items()
    ]
    styles = {style: f"a {style} emoji of" if k else "" for k, style in enumerate(STYLES)}
    return {
        "things": {name: list(colours) for name, colours in things.items()},
        "places": backgrounds,
        "sizes": plain.SIZE_WORDS,
        "styles": styles,
        "relations": ["next to", "and", "beside"],
        "can": [],
        "pairs": PAIRS,
        "sheet": {"file": SHEET.name, "tile": TILE, "columns": COLUMNS, "credit": CREDIT},
    }


def write(file: Path, found: Mapping[str, Any]) -> None:
    """Write the guide, each part on a line of its own and each thing too, so that a change can be read."""
    things = ",\n".join(f"{json.dumps(name)}: {json.dumps(colours)}" for name, colours in found["things"].items())
    rest = (f"{json.dumps(name)}: {json.dumps(part)}" for name, part in found.items() if name != "things")
    file.write_text("{\n" + ",\n".join([f'"things": {{\n{things}\n}}', *rest]) + "\n}\n")


def main() -> None:
    """Write both files."""
    modules = fetch()
    concepts = load_concepts(modules)
    pictures = load_artwork(modules, concepts, 2 * TILE)[next(iter(STYLES))]
    make_sheet([picture.convert("RGBA") for picture in pictures]).save(
        SHEET, quality=QUALITY, method=6, alpha_quality=70
    )
    write(FILE, guide({c.name: own_colours(p) for c, p in zip(concepts, pictures, strict=True)}))
    print(f"{len(concepts)} things; {SHEET.name} {SHEET.stat().st_size} bytes, {FILE.name} {FILE.stat().st_size} bytes")


if __name__ == "__main__":
    main()
