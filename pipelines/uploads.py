"""Pictures that people bring: read with care, and kept by their content for the runs that start from them."""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines import geometry
from pipelines.request import InvalidRequest

if TYPE_CHECKING:
    from PIL import Image

FORMATS = ("PNG", "JPEG", "WEBP")
MAX_PIXELS = 64 * 1024 * 1024
# Longer than this, a picture has more than MAX_PIXELS in any usual shape; as a sliver it is no use.
MAX_SIDE_IN = 16384
GONE = "The picture that this run starts from is not here any more; choose it again."
NO_PICTURE = "This file is no picture that can be read here; choose a PNG, JPEG or WebP."
_ID = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True, eq=False)
class Upload:
    """A picture that someone brought.

    Attributes:
        image: upright pixels, RGB or RGBA, with nothing else of the file.
        notes: what was done to it that a person should know, one sentence each.
    """

    image: Image.Image
    notes: tuple[str, ...] = ()


def read(path: Path | str) -> Upload:
    """Read a file that anyone may have made: PNG, JPEG or WebP, whatever its name says.

    Only pixels are taken: no place, no text, no profile goes on from here.

    Raises:
        InvalidRequest: with one sentence, if it is empty, no such picture, broken or too large.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    path = Path(path)
    try:
        if path.stat().st_size == 0:
            raise InvalidRequest("This file is empty; choose a PNG, JPEG or WebP.")
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path, formats=FORMATS) as image:
                _check_size(image.width, image.height)
                notes = _notes(image)
                image.load()
                upright = ImageOps.exif_transpose(image)
                return Upload(_bare(_plain(upright)), notes)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise InvalidRequest(_too_large()) from None
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, EOFError, KeyError, MemoryError) as error:
        if isinstance(error, InvalidRequest):
            raise
        known = not isinstance(error, UnidentifiedImageError | FileNotFoundError)
        broken = "This picture is broken and cannot be read to its end; choose another file, or save it anew."
        raise InvalidRequest(broken if known else NO_PICTURE) from None


def read_upload(path: Path | str, width: int, height: int) -> Image.Image:
    """Someone's picture as RGB pixels of this size: turned upright, cut in the middle, transparency on white.

    Raises:
        InvalidRequest: as ``read`` does.
    """
    return geometry.fit(read(path).image, width, height, "crop")


def _check_size(width: int, height: int) -> None:
    if width * height > MAX_PIXELS or max(width, height) > MAX_SIDE_IN:
        raise InvalidRequest(_too_large())
    if max(width, height) > 100 * min(width, height):
        raise InvalidRequest(f"This picture is a sliver of {width} x {height} pixels; choose one of a fuller shape.")


def _too_large() -> str:
    return (
        f"This picture is too large; choose one of at most {MAX_PIXELS // 10**6} million pixels "
        f"and {MAX_SIDE_IN} pixels a side."
    )


def _notes(image: Image.Image) -> tuple[str, ...]:
    moving = "Only the first frame of this animation is used." if getattr(image, "is_animated", False) else ""
    return tuple(note for note in (moving,) if note)


def _plain(image: Image.Image) -> Image.Image:
    """Any of Pillow's modes as RGB or RGBA."""
    if image.mode.startswith("I") or image.mode == "F":
        return _from_16_bit(image)
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        return image.convert("RGBA")
    return image.convert("RGB")


def _from_16_bit(image: Image.Image) -> Image.Image:
    """Grey of 16 bits as RGB; Pillow's own conversion cuts off at 255."""
    import numpy as np
    from PIL import Image

    levels = np.asarray(image, dtype=np.float64) / 257
    return Image.fromarray(levels.clip(0, 255).round().astype(np.uint8)).convert("RGB")


def _bare(image: Image.Image) -> Image.Image:
    """The pixels alone."""
    from PIL import Image

    return Image.frombytes(image.mode, image.size, image.tobytes())


class Inputs:
    """A folder of pictures that runs start from, each under a hash of its pixels.

    The name says nothing of where a picture came from, and the same picture is kept once.

    Args:
        folder: made when the first picture is put there.
    """

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)

    def put(self, image: Image.Image) -> str:
        """Keep a picture (RGB or L) without a loss and return its id, 32 hex digits.

        Raises:
            OSError: if it cannot be written.
        """
        image = _bare(image if image.mode == "L" else geometry.flatten(image))
        facts = f"{image.mode} {image.width} {image.height} ".encode()
        name = hashlib.sha256(facts + image.tobytes()).hexdigest()[:32]
        target = self.folder / f"{name}.png"
        if target.exists():
            os.utime(target)
            return name
        self.folder.mkdir(parents=True, exist_ok=True)
        beside = target.with_name(f".{name}-{secrets.token_hex(4)}.part")
        try:
            with beside.open("xb") as file:
                image.save(file, format="PNG")
                file.flush()
                os.fsync(file.fileno())
            os.replace(beside, target)
        except BaseException:
            beside.unlink(missing_ok=True)
            raise
        return name

    def get(self, name: str) -> Image.Image:
        """The picture with this id.

        Raises:
            InvalidRequest: if it is not there, or not whole.
        """
        from PIL import Image

        path = self.path(name)
        try:
            os.utime(path)
            with Image.open(path, formats=("PNG",)) as image:
                return image.copy()
        except (OSError, SyntaxError, ValueError):
            raise InvalidRequest(GONE) from None

    def path(self, name: str) -> Path:
        """Where the picture with this id is, or would be.

        Raises:
            InvalidRequest: if this is no id.
        """
        if not isinstance(name, str) or not _ID.fullmatch(name):
            raise InvalidRequest(GONE)
        return self.folder / f"{name}.png"

    def clean(self, older_than_seconds: float) -> int:
        """Remove what nobody put or got for so long; how many went."""
        before, gone = time.time() - older_than_seconds, 0
        for path in self.folder.glob("*.png"):
            try:
                if path.stat().st_mtime < before:
                    path.unlink()
                    gone += 1
            except FileNotFoundError:
                continue
        return gone
