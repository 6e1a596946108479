"""Pictures and captions: openly licensed emoji artwork on named background colours.

The artwork comes from the package registry (``fetch``), is rendered once (``load_artwork``) and is composed
anew for every sample (``compose``).  One in ten (concept, colour) pairs never appears in training
(``is_held_out``), so that the evaluation asks for combinations that the model has not seen.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).parent
RUNS = ROOT / ".runs"
SIZE = 128
TEXT_LENGTH = 32

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
STYLE_WEIGHTS = {None: 0.5, "fluent": 0.1, "noto": 0.2, "twemoji": 0.2}

COLOURS = {
    "white": (255, 255, 255),
    "black": (0, 0, 0),
    "grey": (128, 128, 128),
    "red": (220, 30, 40),
    "orange": (255, 140, 0),
    "yellow": (255, 221, 30),
    "green": (40, 160, 60),
    "blue": (30, 70, 210),
    "sky blue": (135, 206, 235),
    "purple": (125, 50, 170),
    "pink": (255, 160, 195),
    "brown": (120, 75, 40),
    "teal": (0, 140, 140),
}


@dataclass(frozen=True)
class Concept:
    """A thing that can be drawn: the caption's name, the emoji's label, and tags that mean this concept alone."""

    name: str
    label: str
    tags: tuple[str, ...] = ()

    @property
    def slug(self) -> str:
        return re.sub(r"[^a-z0-9]+", "-", re.sub("['\u2019]", "", self.label.lower())).strip("-")


@dataclass(frozen=True)
class Sample:
    """What one training picture shows."""

    concept: int
    style: str | None
    colour: str


def fetch(folder: Path = RUNS / "npm") -> Path:
    """Install the artwork packages under ``folder`` with npm and return its ``node_modules``."""
    modules = folder / "node_modules"
    if not all((modules / name).is_dir() for name in PACKAGES):
        folder.mkdir(parents=True, exist_ok=True)
        wanted = [f"{name}@{version}" for name, version in PACKAGES.items()]
        subprocess.run(["npm", "install", "--silent", "--prefix", str(folder), *wanted], check=True)
    return modules


def load_concepts(modules: Path) -> list[Concept]:
    """The vocabulary of ``concepts.txt``, each with the emojibase tags that belong to no other concept."""
    entries = json.loads((modules / "emojibase-data/en/data.json").read_text())
    tags_of = {entry["label"]: entry.get("tags", []) for entry in entries}
    pairs = []
    for line in (ROOT / "concepts.txt").read_text().splitlines():
        if line and not line.startswith("#"):
            name, _, label = line.partition(" = ")
            pairs.append((name, next(k for k in tags_of if k.lower() == (label or name).lower())))
    names = {name for name, _ in pairs}
    count: dict[str, int] = {}
    for _, label in pairs:
        for tag in tags_of[label]:
            count[tag] = count.get(tag, 0) + 1
    return [
        Concept(name, label, tuple(
            tag for tag in tags_of[label]
            if count[tag] == 1 and tag not in names and tag not in COLOURS and re.fullmatch(r"[a-z]{3,}", tag)
        ))
        for name, label in pairs
    ]


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


def compose(art: Image.Image, colour: str, rng: np.random.Generator, size: int = SIZE) -> np.ndarray:
    """Put the artwork on a background: uint8 array (size, size, 3) with random scale, shift and flip."""
    side = int(size * rng.uniform(0.66, 0.86))
    if rng.random() < 0.3:
        art = art.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    art = art.resize((side, side), Image.Resampling.BICUBIC, reducing_gap=2.0)
    room = size - side
    x, y = (int(room / 2 + rng.uniform(-0.5, 0.5) * 0.6 * room) for _ in range(2))
    pixels = np.empty((size, size, 3), np.float32)
    pixels[:] = COLOURS[colour]
    layer = np.asarray(art, np.float32)
    pixels[y:y + side, x:x + side] *= 1 - layer[..., 3:] / 255
    pixels[y:y + side, x:x + side] += layer[..., :3]
    return pixels.clip(0, 255).astype(np.uint8)


def is_held_out(concept: Concept, colour: str) -> bool:
    """Whether this pair is kept out of training: one in ten, decided by a hash of the two names."""
    return hashlib.sha256(f"{concept.name}|{colour}".encode()).digest()[0] % 10 == 0


def held_out_pairs(concepts: list[Concept]) -> list[tuple[int, str]]:
    """Every held-out (concept index, colour), in a fixed random order."""
    pairs = [(i, c) for i, concept in enumerate(concepts) for c in COLOURS if is_held_out(concept, c)]
    order = np.random.default_rng(0).permutation(len(pairs))
    return [pairs[i] for i in order]


def draw_sample(concepts: list[Concept], rng: np.random.Generator) -> Sample:
    """A training sample that is not held out; style-free captions are the most frequent."""
    colours = list(COLOURS)
    styles = list(STYLE_WEIGHTS)
    while True:
        index, colour = int(rng.integers(len(concepts))), colours[int(rng.integers(len(colours)))]
        if not is_held_out(concepts[index], colour):
            style = styles[int(rng.choice(len(styles), p=list(STYLE_WEIGHTS.values())))]
            return Sample(index, style, colour)


def article(name: str) -> str:
    """The name with its indefinite article where English wants one."""
    if name.endswith("s") and not name.endswith("ss") and name not in {"bus", "octopus", "lotus", "cactus", "hibiscus"}:
        return name
    return f"{'an' if name[0] in 'aeiou' and not name.startswith('uni') else 'a'} {name}"


def caption(concept: Concept, style: str | None, colour: str, rng: np.random.Generator | None = None) -> str:
    """A caption for the sample; without ``rng`` the plain form that the evaluation uses.

    With ``rng``, one in eight uses a tag as synonym and one in four is a short form of the sentence.
    """
    name = concept.name
    if rng is None:
        thing = f"a {style} emoji of {article(name)}" if style else article(name)
        return f"{thing} on a{'n' if colour[0] in 'aeiou' else ''} {colour} background"
    if concept.tags and rng.random() < 0.125:
        name = concept.tags[int(rng.integers(len(concept.tags)))]
    thing = article(name) if rng.random() < 0.75 else name
    if style:
        thing = rng.choice([f"a {style} emoji of {thing}", f"{thing}, {style} style", f"{thing} in {style} style"])
    elif rng.random() < 0.15:
        thing = f"an emoji of {thing}"
    an = "an" if colour[0] in "aeiou" else "a"
    endings = [f"on {an} {colour} background", f"on {colour}", f"{colour} background"]
    return f"{thing} {rng.choice(endings, p=[0.75, 0.15, 0.1])}"
