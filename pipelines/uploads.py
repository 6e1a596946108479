"""Pictures that people bring: read with care, and kept by their content for the runs that start from them."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines import geometry
from pipelines.files import appearing
from pipelines.request import InvalidRequest

if TYPE_CHECKING:
    from PIL import Image

FORMATS = ("PNG", "JPEG", "WEBP")
MAX_PIXELS = 64 * 1024 * 1024
# Longer than this, a picture has more than MAX_PIXELS in any usual shape.
MAX_SIDE_IN = 16384
# Longer than so many times its other side, it is no use.
MAX_ASPECT = 100
GONE = "The picture that this run starts from is not here any more; choose it again."
NO_PICTURE = "This file is no picture that can be read here; choose a PNG, JPEG or WebP."
BROKEN = "This picture is broken and cannot be read to its end; choose another file, or save it anew."
_ORIENTATION = 0x0112
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

    Only pixels are taken, in sRGB: no place, no text, no profile goes on from here.

    Raises:
        InvalidRequest: with one sentence, if it is empty, no such picture, broken, a sliver or too large.
    """
    path = Path(path)
    if not path.is_file():
        raise InvalidRequest("This file is not here any more; choose the picture again.")
    if path.stat().st_size == 0:
        raise InvalidRequest("This file is empty; choose a PNG, JPEG or WebP.")
    return _decode(path)


def read_upload(path: Path | str, width: int, height: int) -> Image.Image:
    """Someone's picture as RGB pixels of this size: turned upright, cut in the middle, transparency on white.

    Raises:
        InvalidRequest: as ``read`` does.
    """
    return geometry.fit(read(path).image, width, height, "crop")


def _decode(path: Path) -> Upload:
    from PIL import Image

    try:
        with Image.open(path, formats=FORMATS) as image:
            _check_size(image.width, image.height)
            image.load()
            return Upload(_bare(_upright(_plain(image), _orientation(image))), _notes(image))
    except InvalidRequest:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning, MemoryError):
        raise InvalidRequest(_too_large()) from None
    # What a decoder raises on a broken file is listed nowhere: struct.error, zlib.error and TypeError are among it.
    except Exception:
        raise InvalidRequest(BROKEN if _claims_to_be_one(path) else NO_PICTURE) from None


def _claims_to_be_one(path: Path) -> bool:
    """Whether a file begins as one of ``FORMATS`` does."""
    with path.open("rb") as file:
        head = file.read(12)
    return head.startswith((b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff")) or (head[:4] + head[8:]) == b"RIFFWEBP"


def _check_size(width: int, height: int) -> None:
    if width * height > MAX_PIXELS or max(width, height) > MAX_SIDE_IN:
        raise InvalidRequest(_too_large())
    if max(width, height) > MAX_ASPECT * min(width, height):
        raise InvalidRequest(f"This picture is a sliver of {width} x {height} pixels; choose one of a fuller shape.")


def _too_large() -> str:
    return (
        f"This picture is too large; choose one of at most {MAX_PIXELS // 10**6} million pixels "
        f"and {MAX_SIDE_IN} pixels a side."
    )


def _notes(image: Image.Image) -> tuple[str, ...]:
    # A photo with a preview beside it (MPO, a kind of JPEG) has several frames too, but does not move.
    moves = image.format in ("PNG", "WEBP") and getattr(image, "is_animated", False)
    return ("Only the first frame of this animation is used.",) if moves else ()


def _orientation(image: Image.Image) -> int:
    """How the camera was held, 1 to 8 as in EXIF; 1 if the file does not say, or not legibly."""
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except Exception:
        return 1


def _upright(image: Image.Image, orientation: int) -> Image.Image:
    from PIL.Image import Transpose

    turns = {
        2: Transpose.FLIP_LEFT_RIGHT,
        3: Transpose.ROTATE_180,
        4: Transpose.FLIP_TOP_BOTTOM,
        5: Transpose.TRANSPOSE,
        6: Transpose.ROTATE_270,
        7: Transpose.TRANSVERSE,
        8: Transpose.ROTATE_90,
    }
    return image.transpose(turns[orientation]) if orientation in turns else image


def _plain(image: Image.Image) -> Image.Image:
    """Any of the formats' modes as RGB or RGBA in sRGB."""
    if image.mode.startswith("I"):
        return _from_16_bit(image)
    if image.mode == "CMYK":
        return _from_cmyk(image)
    key = image.info.get("transparency")
    if isinstance(key, tuple) and max(key) > 255:
        # The see-through colour of a picture of 16 bits; its pixels were cut to 8.
        image.info["transparency"] = tuple(level >> 8 for level in key)
    plain = image.convert("RGBA" if "A" in image.getbands() or key is not None else "RGB")
    return _to_srgb(plain, image.info.get("icc_profile"))


def _from_16_bit(image: Image.Image) -> Image.Image:
    """Grey of 16 bits as RGB or RGBA; Pillow's own conversion cuts off at 255."""
    import numpy as np
    from PIL import Image

    levels = np.asarray(image, dtype=np.int64)
    grey = Image.fromarray((levels.clip(0, 65535) / 257).round().astype(np.uint8))
    if (key := image.info.get("transparency")) is None:
        return grey.convert("RGB")
    alpha = Image.fromarray(np.where(levels == key, 0, 255).astype(np.uint8))
    return Image.merge("LA", (grey, alpha)).convert("RGBA")


def _from_cmyk(image: Image.Image) -> Image.Image:
    """Ink amounts as RGB."""
    from PIL import ImageChops

    # Pillow takes all of them for Adobe's, which are stored the other way round.
    ink = image if "adobe" in image.info else ImageChops.invert(image)
    return _to_srgb(ink, image.info.get("icc_profile")).convert("RGB")


def _to_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """The colours that a profile means, in sRGB; as they are where it is missing, broken or of another kind."""
    from PIL import ImageCms

    mode = "RGB" if image.mode == "CMYK" else image.mode
    try:
        own = ImageCms.ImageCmsProfile(io.BytesIO(profile or b""))
        # A standard picture is not to change by rounding.
        if "srgb" in ImageCms.getProfileDescription(own).lower():
            return image
        return ImageCms.profileToProfile(image, own, ImageCms.createProfile("sRGB"), outputMode=mode) or image
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return image


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
        if _touched(target):
            return name
        self.folder.mkdir(parents=True, exist_ok=True)
        with appearing(target) as file:
            image.save(file, format="PNG")
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
        """Remove what nobody put or got for so long; how many files went."""
        before, gone = time.time() - older_than_seconds, 0
        for path in [*self.folder.glob("*.png"), *self.folder.glob(".*.part")]:
            # Another process may be there first, or (on Windows) still read it.
            with contextlib.suppress(OSError):
                if path.stat().st_mtime < before:
                    path.unlink()
                    gone += 1
        return gone


def _touched(path: Path) -> bool:
    """Whether the file is there; if so it counts as used now."""
    try:
        os.utime(path)
    except FileNotFoundError:
        return False
    return True
