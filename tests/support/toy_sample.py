"""A training sample of discs and squares, quick to draw and to encode."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw
from safetensors.numpy import save

from pipelines.training_sample.pictures import RECIPE, SamplePictures, columns_of
from pipelines.training_sample.recipe import SampleRecipe

TILE = 32
THINGS = {"fox": "a fox", "owl": "an owl", "red apple": "a red apple", "bus": "a bus"}


def toy_recipe(**changes: Any) -> SampleRecipe:
    """Four things on two backgrounds in two styles, 64 px."""
    values: dict[str, Any] = {
        "seed": 3, "count": 40, "pixels": 64, "tile": TILE, "things": THINGS, "synonyms": {"fox": ["vixen"]},
        "colours": {"green": (40, 160, 60), "sky blue": (135, 206, 235)},
        "backgrounds": {"green": "on a green background", "sky blue": "on a sky blue background"},
        "styles": ("fluent", "noto"), "style_weights": {"": 0.7, "noto": 0.3},
        "size_weights": {"": 0.8, "small": 0.2}, "sides": {"": (0.66, 0.86), "small": (0.32, 0.44)},
        "size_words": {"small": ("small", "tiny")}, "pairs": 0.2, "pair_side": (0.41, 0.48),
    }  # fmt: skip
    return SampleRecipe.model_validate(values | changes)


def toy_art(recipe: SampleRecipe) -> dict[str, np.ndarray]:
    """Discs in one style and squares in the others, a colour for each thing: uint8 (n, TILE, TILE, 4)."""
    inks = [(230, 120, 30), (110, 70, 160), (220, 20, 30), (250, 210, 40)]
    return {style: np.stack([_piece(ink, not k) for ink in inks]) for k, style in enumerate(recipe.styles)}


def _piece(ink: tuple[int, int, int], disc: bool) -> np.ndarray:
    art = Image.new("RGBA", (TILE, TILE), (0, 0, 0, 0))
    pen = ImageDraw.Draw(art)
    (pen.ellipse if disc else pen.rectangle)((3, 3, TILE - 4, TILE - 4), (*ink, 255))
    pen.rectangle((8, 8, 12, 18), (10, 10, 10, 255))
    return np.asarray(art.convert("RGBa"))


def toy_pictures(**changes: Any) -> SamplePictures:
    """The sample in memory."""
    recipe = toy_recipe(**changes)
    return SamplePictures(recipe, toy_art(recipe))


def write_toy_sample(file: Path, **changes: Any) -> Path:
    """The sample as a file."""
    recipe = toy_recipe(**changes)
    sheets = {style: _sheet(art) for style, art in toy_art(recipe).items()}
    file.write_bytes(save(sheets, {RECIPE: recipe.model_dump_json()}))
    return file


def _sheet(art: np.ndarray) -> np.ndarray:
    columns = columns_of(len(art))
    sheet = Image.new("RGBA", (columns * TILE, -(-len(art) // columns) * TILE))
    for k, one in enumerate(art):
        piece = Image.frombytes("RGBa", (TILE, TILE), one.tobytes()).convert("RGBA")
        sheet.paste(piece, (k % columns * TILE, k // columns * TILE))
    file = io.BytesIO()
    sheet.save(file, "WEBP", lossless=True)
    return np.frombuffer(file.getvalue(), np.uint8)
