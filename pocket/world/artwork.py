"""Openly licensed emoji artwork in three styles, from the package registry."""

from __future__ import annotations

import io
import json
import os
import subprocess
from pathlib import Path

import numpy as np
from PIL import Image

from pocket.paths import RUNS
from pocket.world.vocabulary import Concept, load_things

PACKAGES = {
    "@iconify-json/fluent-emoji-flat": "1.2.6",
    "@iconify-json/noto": "1.2.9",
    "@iconify-json/twemoji": "1.2.5",
    "emojibase-data": "17.0.0",
}
# The first style is what a caption without a style word shows.
STYLES = {
    "fluent": "@iconify-json/fluent-emoji-flat",
    "noto": "@iconify-json/noto",
    "twemoji": "@iconify-json/twemoji",
}
SIZE = 192
ARCHIVE = RUNS / "artwork.npz"


def fetch(folder: Path = RUNS / "npm") -> Path:
    """Install the artwork packages under ``folder`` with npm and return its ``node_modules``."""
    modules = folder / "node_modules"
    if not all((modules / name).is_dir() for name in PACKAGES):
        folder.mkdir(parents=True, exist_ok=True)
        wanted = [f"{name}@{version}" for name, version in PACKAGES.items()]
        subprocess.run(["npm", "install", "--silent", "--prefix", str(folder), *wanted], check=True)
    return modules


def _svg(icons: dict, slug: str) -> str:
    slug = icons.get("aliases", {}).get(slug, {}).get("parent", slug)
    icon = icons["icons"][slug]
    width, height = icon.get("width", icons.get("width")), icon.get("height", icons.get("height"))
    return f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}">{icon["body"]}</svg>'


def load_artwork(modules: Path, concepts: list[Concept], size: int = 160) -> dict[str, list[Image.Image]]:
    """Render every concept in every style: style -> list of RGBA pictures of ``size`` px, in the concepts' order."""
    import resvg_py

    artwork = {}
    for style, package in STYLES.items():
        icons = json.loads((modules / package / "icons.json").read_text())
        artwork[style] = []
        for concept in concepts:
            png = resvg_py.svg_to_bytes(svg_string=_svg(icons, concept.slug), width=size, height=size)
            artwork[style].append(Image.open(io.BytesIO(bytes(png))).convert("RGBa"))
    return artwork


def make_archive(file: Path) -> None:
    """Fetch, render and write everything that drawing needs (10 MB)."""
    modules = fetch()
    things = load_things(modules)
    write_archive(file, things, load_artwork(modules, things, SIZE))


def write_archive(file: Path, things: list[Concept], artwork: dict[str, list[Image.Image]]) -> None:
    """Write the things' words and all artwork, losslessly compressed, to one file."""
    words = [[t.name, t.label, list(t.tags), list(t.synonyms)] for t in things]
    pictures = {f"{style}/{i}": _png(art) for style, arts in artwork.items() for i, art in enumerate(arts)}
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_suffix(f".{os.getpid()}.npz")
    np.savez(partial, words=np.array(json.dumps(words)), **pictures)
    partial.replace(file)


def _png(art: Image.Image) -> np.ndarray:
    """The picture as a PNG file's bytes, uint8 (n,); it is kept with premultiplied colours, as if they were plain."""
    buffer = io.BytesIO()
    Image.frombytes("RGBA", art.size, art.tobytes()).save(buffer, "PNG", compress_level=9)
    return np.frombuffer(buffer.getvalue(), np.uint8)


def load_words(file: Path = ARCHIVE) -> list[Concept]:
    """The things of an archive, without their pictures; the archive is made where there is none."""
    if not file.exists():
        make_archive(file)
    words = json.loads(str(np.load(file)["words"]))
    return [Concept(name, label, tuple(tags), tuple(synonyms)) for name, label, tags, synonyms in words]


class Artwork:
    """All things in all styles.

    Attributes:
        things: what there is, in order.
        pictures: style -> for each thing premultiplied RGBA, uint8 (h, w, 4) of about 192 px.
    """

    def __init__(self, file: Path = ARCHIVE) -> None:
        self.things, archive = load_words(file), np.load(file)
        self.pictures = {style: [_pixels(archive[f"{style}/{i}"]) for i in range(len(self.things))] for style in STYLES}


def _pixels(png: np.ndarray) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png.tobytes()), formats=("PNG",)))
