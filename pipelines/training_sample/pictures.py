"""The pictures of a training sample, composed from stored artwork: NumPy and Pillow alone, no SVG renderer."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
from PIL import Image
from pydantic import ValidationError

from pipelines.system.safetensors_header import read_header
from pipelines.training_sample.recipe import SampleRecipe, Shown

# Bytes of a sample's file.
MAX_FILE_BYTES = 4 * 2**20
RECIPE = "recipe"


class SampleError(RuntimeError):
    """A training sample that cannot be used; the message is one sentence for the user."""


class SamplePictures:
    """A recipe with its artwork.

    Attributes:
        recipe: how the pictures are drawn.
        art: for each style the pieces in the order of the things, premultiplied RGBA, uint8 (n, tile, tile, 4).
    """

    def __init__(self, recipe: SampleRecipe, art: dict[str, np.ndarray]) -> None:
        self.recipe, self.art = recipe, art

    @classmethod
    def open(cls, file: Path) -> SamplePictures:
        """Read a sample's file: a recipe in the header, and a sheet of artwork in AVIF or WebP for each style.

        Raises:
            SampleError: if it is missing, too large or broken.
        """
        try:
            recipe, sheets = _read(file)
            return cls(recipe, {style: _cut(sheets[style], recipe) for style in recipe.styles})
        except (OSError, ValueError, KeyError, TypeError, RecursionError, ValidationError, SyntaxError) as error:
            raise SampleError(
                f"The training sample {file.name} cannot be read ({type(error).__name__}); install the program again."
            ) from None

    def shown(self, k: int) -> Shown:
        """What picture k shows."""
        return self.recipe.draw(self._generator(k))

    def draw(self, k: int) -> tuple[Shown, np.ndarray]:
        """What picture k shows, and its pixels: uint8 (pixels, pixels, 3); always the same."""
        rng = self._generator(k)
        shown = self.recipe.draw(rng)
        return shown, self.compose(shown, rng)

    def _generator(self, k: int) -> np.random.Generator:
        return np.random.default_rng((self.recipe.seed, k))

    def compose(self, shown: Shown, rng: np.random.Generator) -> np.ndarray:
        """The artwork on its background, with random scale, shift and flip: uint8 (pixels, pixels, 3)."""
        recipe, size = self.recipe, self.recipe.pixels
        pixels = np.empty((size, size, 3), np.float32)
        pixels[:] = recipe.colours[shown.colour]
        art = self.art[shown.style or recipe.styles[0]]
        if shown.other is None:
            _paste(pixels, art[shown.thing], recipe.sides[shown.size], 0, size, rng)
        else:
            _paste(pixels, art[shown.thing], recipe.pair_side, 0, size // 2, rng)
            _paste(pixels, art[shown.other], recipe.pair_side, size // 2, size - size // 2, rng)
        return pixels.clip(0, 255).astype(np.uint8)


def _paste(
    pixels: np.ndarray, art: np.ndarray, sides: tuple[float, float], left: int, width: int, rng: np.random.Generator
) -> None:
    """Draw artwork into the columns from ``left`` on, near the middle of that room."""
    height = len(pixels)
    side = int(height * rng.uniform(*sides))
    if rng.random() < 0.3:
        art = art[:, ::-1]
    layer = np.asarray(
        premultiplied(art).resize((side, side), Image.Resampling.BICUBIC, reducing_gap=2.0), dtype=np.float32
    )
    x = left + int((width - side) * (0.5 + rng.uniform(-0.3, 0.3)))
    y = int((height - side) * (0.5 + rng.uniform(-0.3, 0.3)))
    pixels[y : y + side, x : x + side] *= 1 - layer[..., 3:] / 255
    pixels[y : y + side, x : x + side] += layer[..., :3]


def premultiplied(art: np.ndarray) -> Image.Image:
    """Premultiplied RGBA, uint8 (h, w, 4), as a picture in Pillow's mode "RGBa"."""
    return Image.frombytes("RGBa", art.shape[1::-1], np.ascontiguousarray(art).tobytes())


def _read(file: Path) -> tuple[SampleRecipe, dict[str, bytes]]:
    """The recipe, and the bytes of each style's sheet."""
    from safetensors.numpy import load

    if file.stat().st_size > MAX_FILE_BYTES:
        raise ValueError("too large")
    metadata = read_header(file).metadata
    recipe = SampleRecipe.model_validate(json.loads(metadata[RECIPE]))
    return recipe, {style: sheet.astype(np.uint8).tobytes() for style, sheet in load(file.read_bytes()).items()}


def _cut(sheet: bytes, recipe: SampleRecipe) -> np.ndarray:
    """A sheet with all pieces in one column of ``columns``, cut: premultiplied RGBA, uint8 (n, tile, tile, 4)."""
    image = Image.open(io.BytesIO(sheet), formats=("AVIF", "WEBP"))
    tile, count = recipe.tile, len(recipe.names)
    columns = columns_of(count)
    if image.size != (columns * tile, -(-count // columns) * tile):
        raise ValueError("a sheet of another size")
    pixels = np.asarray(image.convert("RGBA").convert("RGBa"))
    rows = pixels.reshape(-1, tile, columns, tile, 4).swapaxes(1, 2)
    return np.ascontiguousarray(rows.reshape(-1, tile, tile, 4)[:count])


def columns_of(count: int) -> int:
    """Pieces in a row of a sheet that is about as wide as high."""
    return max(1, round(count**0.5))
