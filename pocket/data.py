"""Pictures and captions: openly licensed emoji artwork on named background colours.

The artwork comes from the package registry (``fetch``), is rendered once (``load_artwork``) and is composed
anew for every sample (``compose``).  One in ten (concept, colour) pairs never appears in training, nor one in ten
pairs of two concepts (``is_held_out``), so that the evaluation asks for combinations that the model has not seen.
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

# The side of the artwork as a share of the canvas; None is a caption without a size word.
SIDES = {None: (0.66, 0.86), "small": (0.32, 0.44), "large": (0.92, 1.0)}
SIZE_WORDS = {"small": ["small", "tiny", "little"], "large": ["large", "big", "huge"]}
SIZE_WEIGHTS = {None: 0.88, "small": 0.06, "large": 0.06}
PAIR_SIDE = (0.41, 0.48)
PAIRS = 0.12

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
    """A thing that can be drawn: the caption's name, the emoji's label, and other words for it.

    ``tags`` are emojibase's and may be loose ("mane" for the lion); ``synonyms`` are those of ``synonyms.txt``, which
    a person would use instead of the name ("automobile" for the car).  Each belongs to one concept alone.
    """

    name: str
    label: str
    tags: tuple[str, ...] = ()
    synonyms: tuple[str, ...] = ()

    @property
    def slug(self) -> str:
        return re.sub(r"[^a-z0-9]+", "-", re.sub("['\u2019]", "", self.label.lower())).strip("-")


@dataclass(frozen=True)
class Sample:
    """What one training picture shows; with ``other``, that concept stands to the right of the first."""

    concept: int
    style: str | None
    colour: str
    size: str | None = None
    other: int | None = None


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
    synonyms = load_synonyms()
    taken = names | set(COLOURS) | {word for words in synonyms.values() for word in words}
    return [
        Concept(name, label, tuple(
            tag for tag in tags_of[label] if count[tag] == 1 and tag not in taken and re.fullmatch(r"[a-z]{3,}", tag)
        ), synonyms.get(name, ()))
        for name, label in pairs
    ]


def load_synonyms() -> dict[str, tuple[str, ...]]:
    """The other words of ``synonyms.txt``: concept's name -> words."""
    lines = [line for line in (ROOT / "synonyms.txt").read_text().splitlines() if line and line[0] != "#"]
    return {name: tuple(words.split(", ")) for name, _, words in (line.partition(" = ") for line in lines)}


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


def compose(
    art: Image.Image, colour: str, rng: np.random.Generator, size: int = SIZE,
    word: str | None = None, other: Image.Image | None = None,
) -> np.ndarray:
    """Put the artwork on a background: uint8 array (size, size, 3) with random scale, shift and flip.

    ``word`` is a key of ``SIDES``; ``other`` is a second artwork, which stands to the right of the first.
    """
    pixels = np.empty((size, size, 3), np.float32)
    pixels[:] = COLOURS[colour]
    if other is None:
        _paste(pixels, art, SIDES[word], 0, size, rng)
    else:
        _paste(pixels, art, PAIR_SIDE, 0, size // 2, rng)
        _paste(pixels, other, PAIR_SIDE, size // 2, size - size // 2, rng)
    return pixels.clip(0, 255).astype(np.uint8)


def _paste(pixels: np.ndarray, art: Image.Image, sides: tuple[float, float], left: int, width: int, rng) -> None:
    """Draw the artwork into the columns from ``left`` on, near the middle of that room."""
    height = len(pixels)
    side = int(height * rng.uniform(*sides))
    if rng.random() < 0.3:
        art = art.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    art = art.resize((side, side), Image.Resampling.BICUBIC, reducing_gap=2.0)
    x = left + int((width - side) * (0.5 + rng.uniform(-0.3, 0.3)))
    y = int((height - side) * (0.5 + rng.uniform(-0.3, 0.3)))
    layer = np.asarray(art, np.float32)
    pixels[y:y + side, x:x + side] *= 1 - layer[..., 3:] / 255
    pixels[y:y + side, x:x + side] += layer[..., :3]


def is_held_out(concept: Concept, colour: str, other: Concept | None = None) -> bool:
    """Whether this is kept out of training: one in ten, decided by a hash of the names.

    Of two concepts, the pair of them is held out as well as each with the colour.
    """
    if other is not None and (is_held_out(other, colour) or _one_in_ten(f"{concept.name}+{other.name}")):
        return True
    return _one_in_ten(f"{concept.name}|{colour}")


def _one_in_ten(name: str) -> bool:
    return hashlib.sha256(name.encode()).digest()[0] % 10 == 0


def held_out_pairs(concepts: list[Concept]) -> list[tuple[int, str]]:
    """Every held-out (concept index, colour), in a fixed random order."""
    pairs = [(i, c) for i, concept in enumerate(concepts) for c in COLOURS if is_held_out(concept, c)]
    order = np.random.default_rng(0).permutation(len(pairs))
    return [pairs[i] for i in order]


def held_out_twos(concepts: list[Concept], count: int) -> list[Sample]:
    """Pictures of two concepts, each pair held out; ``count`` of them, always the same."""
    rng, chosen = np.random.default_rng(2), []
    while len(chosen) < count:
        one, two = (int(i) for i in rng.integers(len(concepts), size=2))
        colour = list(COLOURS)[int(rng.integers(len(COLOURS)))]
        if one != two and is_held_out(concepts[one], colour, concepts[two]):
            chosen.append(Sample(one, None, colour, other=two))
    return chosen


def draw_sample(concepts: list[Concept], rng: np.random.Generator) -> Sample:
    """A training sample that is not held out; style-free captions are the most frequent."""
    colours = list(COLOURS)
    while True:
        index, other = (int(i) for i in rng.integers(len(concepts), size=2))
        colour = colours[int(rng.integers(len(colours)))]
        second = other if rng.random() < PAIRS and other != index else None
        if not is_held_out(concepts[index], colour, None if second is None else concepts[second]):
            size = None if second is not None else choose(SIZE_WEIGHTS, rng)
            return Sample(index, choose(STYLE_WEIGHTS, rng), colour, size, second)


def choose(weights: dict[str | None, float], rng: np.random.Generator) -> str | None:
    """One of the keys, each as often as its weight says."""
    return list(weights)[int(rng.choice(len(weights), p=list(weights.values())))]


def article(name: str) -> str:
    """The name with its indefinite article where English wants one."""
    if name.endswith("s") and not name.endswith("ss") and name not in SINGULAR:
        return name
    vowel = name[0] in "aeiou" and not name.startswith(("uni", "eu", "ukulele"))
    return f"{'an' if vowel else 'a'} {name}"


SINGULAR = {"bus", "octopus", "lotus", "cactus", "hibiscus", "brontosaurus", "circus", "tyrannosaurus"}


def plural(name: str) -> str:
    """The English plural of a name, by the regular rules and the few irregular words that the vocabulary has."""
    first, _, last = name.rpartition(" ")
    before = f"{first} " if first else ""
    if last.endswith("s") and not last.endswith("ss") and last not in SINGULAR:
        return name
    if last in IRREGULAR:
        return before + IRREGULAR[last]
    if re.search(r"(s|x|z|ch|sh)$", last):
        return before + last + "es"
    if re.search(r"[^aeiou]y$", last):
        return before + last[:-1] + "ies"
    return before + last + "s"


IRREGULAR = {
    "mouse": "mice", "goose": "geese", "foot": "feet", "tooth": "teeth", "wolf": "wolves", "leaf": "leaves",
    "knife": "knives", "fish": "fish", "deer": "deer", "sheep": "sheep", "tomato": "tomatoes", "potato": "potatoes",
    "scarf": "scarves", "loaf": "loaves", "calf": "calves", "bison": "bison", "moose": "moose", "octopus": "octopuses",
    "shrimp": "shrimps", "cactus": "cacti", "die": "dice", "mango": "mangoes", "volcano": "volcanoes",
    "tornado": "tornadoes", "squid": "squid",
}


def caption(
    concept: Concept, style: str | None, colour: str, rng: np.random.Generator | None = None, *,
    size: str | None = None, other: Concept | None = None,
) -> str:
    """A caption for the sample; without ``rng`` the plain form that the evaluation uses.

    With ``rng``, one in five uses another word for the concept, one in twelve a plural and one in four is a short
    form of the sentence.
    """
    if rng is None:
        thing = article(f"{size} {concept.name}" if size else concept.name)
        if other is not None:
            thing = f"{thing} next to {article(other.name)}"
        thing = f"a {style} emoji of {thing}" if style else thing
        return f"{thing} on a{'n' if colour[0] in 'aeiou' else ''} {colour} background"
    thing = _noun(concept, size, rng)
    if other is not None:
        thing = f"{thing} {rng.choice(['next to', 'and', 'beside'], p=[0.6, 0.25, 0.15])} {_noun(other, None, rng)}"
    if style:
        thing = rng.choice([f"a {style} emoji of {thing}", f"{thing}, {style} style", f"{thing} in {style} style"])
    elif rng.random() < 0.15:
        thing = f"an emoji of {thing}"
    an = "an" if colour[0] in "aeiou" else "a"
    endings = [f"on {an} {colour} background", f"on {colour}", f"{colour} background"]
    return f"{thing} {rng.choice(endings, p=[0.75, 0.15, 0.1])}"


def _noun(concept: Concept, size: str | None, rng: np.random.Generator) -> str:
    """The concept in words: its name or another word for it, mostly with the article, sometimes the plural."""
    name, draw = concept.name, rng.random()
    if concept.synonyms and draw < 0.14:
        name = str(rng.choice(concept.synonyms))
    elif concept.tags and draw > 0.94:
        name = str(rng.choice(concept.tags))
    many = rng.random() < 0.08
    name = plural(name) if many else name
    if size:
        name = f"{rng.choice(SIZE_WORDS[size], p=[0.6, 0.2, 0.2])} {name}"
    return name if many or rng.random() < 0.25 else article(name)
