"""The released weights' training sample for the page: how training composed its pictures, and the artwork for it.

    python -m pocket.world.training_sample

Writes ``pocket/training_sample.safetensors``: the recipe in the header, and for each style an AVIF sheet of all things,
so that the page needs neither a package of artwork nor an SVG renderer.
"""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from PIL import Image
from safetensors.numpy import save

from pipelines.training_sample.pictures import RECIPE, columns_of
from pipelines.training_sample.recipe import SampleRecipe
from pocket.paths import ROOT
from pocket.world import plain
from pocket.world.artwork import STYLES, fetch, load_artwork
from pocket.world.grammar import article
from pocket.world.vocabulary import Concept, load_concepts

FILE = ROOT / "training_sample.safetensors"
SEED, COUNT = 2412_20292, 16_000
# Pixels of a piece of artwork's side, and AVIF's quality: three pictures in five show the first style.
TILE = 64
QUALITIES = {"fluent": 58, "noto": 44, "twemoji": 46}


def recipe(concepts: Sequence[Concept]) -> SampleRecipe:
    """How ``pocket.world.plain`` draws these concepts."""
    names = [concept.name for concept in concepts]
    return SampleRecipe(
        seed=SEED,
        count=COUNT,
        pixels=plain.SIZE,
        tile=TILE,
        things={name: article(name) for name in names},
        synonyms={concept.name: concept.synonyms for concept in concepts if concept.synonyms},
        colours={name: (colour[0], colour[1], colour[2]) for name, colour in plain.COLOURS.items()},
        backgrounds={name: f"on {article(name)} background" for name in plain.COLOURS},
        styles=tuple(STYLES),
        style_weights=_said(plain.STYLE_WEIGHTS),
        size_weights=_said(plain.SIZE_WEIGHTS),
        sides=_said(plain.SIDES),
        size_words={size: tuple(words) for size, words in plain.SIZE_WORDS.items()},
        pairs=plain.PAIRS,
        pair_side=plain.PAIR_SIDE,
    )


def _said(table: dict) -> dict:
    """A table of the training, where None stands for what is not said."""
    return {key or "": value for key, value in table.items()}


def sheet(pictures: Sequence[Image.Image], tile: int) -> Image.Image:
    """All pieces ("RGBa") in rows, RGBA."""
    columns = columns_of(len(pictures))
    found = Image.new("RGBA", (columns * tile, -(-len(pictures) // columns) * tile))
    for k, picture in enumerate(pictures):
        small = picture.resize((tile, tile), Image.Resampling.LANCZOS).convert("RGBA")
        found.paste(small, (k % columns * tile, k // columns * tile))
    return found


def encode(image: Image.Image, quality: int) -> np.ndarray:
    """A sheet as the bytes of an AVIF file, uint8 (n,)."""
    file = io.BytesIO()
    image.save(file, "AVIF", quality=quality, speed=6)
    return np.frombuffer(file.getvalue(), np.uint8)


def main() -> None:
    """Write the file."""
    modules = fetch()
    concepts = load_concepts(modules)
    artwork = load_artwork(modules, concepts)
    sheets = {style: encode(sheet(pictures, TILE), QUALITIES[style]) for style, pictures in artwork.items()}
    FILE.write_bytes(save(sheets, {RECIPE: recipe(concepts).model_dump_json()}))
    sizes = ", ".join(f"{style} {len(data)}" for style, data in sheets.items())
    print(f"{len(concepts)} things; {sizes}; {FILE.name} {FILE.stat().st_size} bytes")


if __name__ == "__main__":
    main()
