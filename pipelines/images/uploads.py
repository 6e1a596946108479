"""Uploaded images: read defensively, and stored by content hash for the runs that use them."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import re
import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.images import geometry
from pipelines.images.decoding_slots import DecodingSlots
from pipelines.images.file_bounds import JPEG_HEAD, PNG_HEAD, SCANS_OF_THE_LARGEST, TooManyParts, bounded
from pipelines.images.guest_uploads import GuestUploads, remove_if_empty
from pipelines.request import InvalidRequest
from pipelines.system.atomic_files import atomic_write
from pipelines.system.guest_bytes import GuestBytes

if TYPE_CHECKING:
    from PIL import Image

FORMATS = ("PNG", "JPEG", "WEBP")
MAX_PIXELS = 64 * 1024 * 1024
# The same for guests, and bytes of a file for everyone.
MAX_GUEST_PIXELS, MAX_FILE_BYTES = 16 * 1024 * 1024, 256 * 2**20
# Rows of a 16-bit picture that are converted at once.
STRIP_ROWS = 64
# A longer side means more than MAX_PIXELS in any usual shape.
MAX_UPLOAD_SIDE = 16384
# Largest ratio of the sides.
MAX_ASPECT = 100
# A guest's image that no run has used for so long is removed.
GUEST_LIFETIME_SECONDS = 86400.0
NOT_STORED = "The picture could not be stored ({reason}); make room on the disk and try again."
UPLOAD_GONE = "The picture that this run starts from is not here any more; choose it again."
NOT_AN_IMAGE = "Can't open this file; use PNG, JPEG or WebP."
BROKEN_IMAGE = "This picture is broken and cannot be read to its end; choose another file, or save it again."
TOO_MANY_PARTS = "This file has more frames, scans or chunks than a picture needs; save it again as plain PNG or JPEG."
FIRST_FRAME = "Only the first frame of this animation is used."
_ORIENTATION = 0x0112
_ID = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True, eq=False)
class Upload:
    """An uploaded image.

    Attributes:
        image: upright pixels, RGB or RGBA, without metadata.
        notes: what the user should know about the conversion, one sentence each.
    """

    image: Image.Image
    notes: tuple[str, ...] = ()


def read_upload(path: Path | str, max_pixels: int = MAX_PIXELS) -> Upload:
    """Read an untrusted file: PNG, JPEG or WebP, regardless of its suffix.

    Only pixels are kept, in sRGB: no location, no text, no colour profile.

    Args:
        path: of the file.
        max_pixels: width x height at most.

    Raises:
        InvalidRequest: if it is empty, of another format, broken, too narrow, too large, or of too many parts.
    """
    path = Path(path)
    if not path.is_file():
        raise InvalidRequest("image", "This file is not here any more; choose the picture again.")
    if path.stat().st_size > MAX_FILE_BYTES:
        raise InvalidRequest("image", f"This file is larger than {MAX_FILE_BYTES >> 20} MB; save the picture smaller.")
    return decode_upload(path.read_bytes(), max_pixels)


def decode_upload(data: bytes, max_pixels: int = MAX_PIXELS, max_aspect: int = MAX_ASPECT) -> Upload:
    """The picture in an untrusted file's bytes; see ``read_upload``."""
    from PIL import Image

    if not data:
        raise InvalidRequest("image", "This file is empty; choose a PNG, JPEG or WebP.")
    try:
        file = bounded(data)
        if file.size is not None:
            _check_size(*file.size, max_pixels, max_aspect)
        with Image.open(io.BytesIO(file.data), formats=FORMATS) as image:
            _check_size(image.width, image.height, max_pixels, max_aspect)
            if file.scans * image.width * image.height > SCANS_OF_THE_LARGEST * max_pixels:
                raise TooManyParts
            image.load()
            upright = _strip_metadata(_upright(_to_rgb(image), _orientation(image)))
        return Upload(upright, (FIRST_FRAME,) if file.animated else ())
    except InvalidRequest:
        raise
    except TooManyParts:
        raise InvalidRequest("image", TOO_MANY_PARTS) from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning, MemoryError):
        raise InvalidRequest("image", _too_large(max_pixels)) from None
    # The exceptions of decoders on broken files are not documented: struct.error, zlib.error, TypeError and more.
    except Exception:
        raise InvalidRequest("image", BROKEN_IMAGE if _has_image_signature(data) else NOT_AN_IMAGE) from None


def _has_image_signature(data: bytes) -> bool:
    """Whether a file has the signature of one of ``FORMATS``."""
    return data.startswith((PNG_HEAD, JPEG_HEAD)) or (data[:4] + data[8:12]) == b"RIFFWEBP"


def _check_size(width: int, height: int, max_pixels: int, max_aspect: int) -> None:
    if width * height > max_pixels or max(width, height) > MAX_UPLOAD_SIDE:
        raise InvalidRequest("image", _too_large(max_pixels))
    if max(width, height) > max_aspect * min(width, height):
        raise InvalidRequest(
            "image", f"This picture is a sliver of {width} x {height} pixels; choose one of a fuller shape."
        )


def _too_large(max_pixels: int) -> str:
    return (
        f"This picture is too large; choose one of at most {max_pixels // 10**6} million pixels "
        f"and {MAX_UPLOAD_SIDE} pixels a side."
    )


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 to 8; 1 if it is missing or broken."""
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


def _to_rgb(image: Image.Image) -> Image.Image:
    """Any of the formats' modes as RGB or RGBA in sRGB."""
    if image.mode.startswith("I"):
        return _from_16_bit(image)
    if image.mode == "CMYK":
        return _from_cmyk(image)
    key = image.info.get("transparency")
    if isinstance(key, tuple) and max(key) > 255:
        # The transparent colour of a 16-bit image, whose pixels were reduced to 8 bits.
        image.info["transparency"] = tuple(level >> 8 for level in key)
    mode = "RGBA" if "A" in image.getbands() or key is not None else "RGB"
    # Without a copy where nothing changes: a picture of 64 million pixels takes 256 MB.
    plain = image if image.mode == mode else image.convert(mode)
    return _to_srgb(plain, image.info.get("icc_profile"))


def _from_16_bit(image: Image.Image) -> Image.Image:
    """Grey of 16 bits as RGB or RGBA, a strip at a time; Pillow's own conversion cuts off at 255."""
    import numpy as np
    from PIL import Image

    key = image.info.get("transparency")
    found = Image.new("RGB" if key is None else "RGBA", image.size)
    for top in range(0, image.height, STRIP_ROWS):
        strip = image.crop((0, top, image.width, min(top + STRIP_ROWS, image.height)))
        levels = np.asarray(strip).astype(np.int32).clip(0, 65535)
        grey = Image.fromarray(((levels + 128) // 257).astype(np.uint8))
        if key is not None:
            alpha = Image.fromarray(np.where(levels == key, 0, 255).astype(np.uint8))
            grey = Image.merge("LA", (grey, alpha))
        found.paste(grey.convert(found.mode), (0, top))
    return found


def _from_cmyk(image: Image.Image) -> Image.Image:
    """Ink amounts as RGB."""
    from PIL import ImageChops

    # Pillow treats all CMYK files as Adobe's, which store inverted values.
    ink = image if "adobe" in image.info else ImageChops.invert(image)
    return _to_srgb(ink, image.info.get("icc_profile")).convert("RGB")


def _to_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """Convert from a colour profile to sRGB; unchanged if the profile is missing, broken or of another mode."""
    from PIL import ImageCms

    mode = "RGB" if image.mode == "CMYK" else image.mode
    try:
        own = ImageCms.ImageCmsProfile(io.BytesIO(profile or b""))
        # An sRGB image must not change by rounding.
        if "srgb" in ImageCms.getProfileDescription(own).lower():
            return image
        return ImageCms.profileToProfile(image, own, ImageCms.createProfile("sRGB"), outputMode=mode) or image
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return image


def _strip_metadata(image: Image.Image) -> Image.Image:
    """The pixels without metadata."""
    from PIL import Image

    # A copy of an opened file is a plain image, which keeps ``info`` and nothing else.
    plain = image if type(image) is Image.Image else image.copy()
    plain.info = {}
    return plain


def upload_id(image: Image.Image) -> str:
    """The id that an image (RGB or L) has in every ``UploadStore``: a hash of its pixels, 32 hex digits."""
    facts = f"{image.mode} {image.width} {image.height} ".encode()
    return hashlib.sha256(facts + image.tobytes()).hexdigest()[:32]


class UploadStore:
    """A folder of uploaded images, each named by a hash of its pixels.

    The name reveals nothing about the upload, and equal images of one user are stored once.  Guests' images are apart,
    in memory and then in the folder ``guests``, and can neither replace nor crowd out the owner's.  Names stand in the
    settings of saved pictures: a guest gets only what the same guest has stored.

    Args:
        folder: created with the first image.
        quota: counts what is written for guests; None for one of this store alone.

    Attributes:
        slots: how many images are decoded at once.
    """

    def __init__(self, folder: Path | str, quota: GuestBytes | None = None) -> None:
        self.folder = Path(folder)
        self.slots = DecodingSlots()
        self._guests = GuestUploads(self.folder / "guests", quota or GuestBytes(self.folder))

    def of(self, guest: str | None) -> UserUploads:
        """This store for one user: a guest's id, or None for the owner."""
        return UserUploads(self, guest)

    def put(self, image: Image.Image, guest: str | None = None) -> str:
        """Store an image (RGB or L) losslessly and return its id, 32 hex digits.

        Raises:
            OSError: if it cannot be written.
        """
        image = image.copy() if image.mode == "L" else geometry.flatten(image)
        image.info = {}
        name = upload_id(image)
        target = self.folder / f"{name}.png"
        if guest is not None:
            if not _touch(self._guests.path(name, guest)):
                file = io.BytesIO()
                image.save(file, format="PNG", compress_level=3)
                self._guests.put(guest, name, file.getvalue())
            return name
        if _touch(target):
            return name
        self.folder.mkdir(parents=True, exist_ok=True)
        with atomic_write(target) as part:
            image.save(part, format="PNG")
        return name

    def save_used(self, names: Iterable[str], guest: str | None) -> None:
        """Write the images that a guest's run uses; the owner's are written already.

        Raises:
            NoBytesLeft: if the guest has used up its share of the disk.
            OSError: if one cannot be written.
        """
        for name in names:
            if guest is not None and not _touch(self._guests.path(name, guest)):
                self._guests.save(guest, name)

    def check_own(self, names: Iterable[str], guest: str | None) -> None:
        """Raise InvalidRequest if one of these is no image of this guest's; None is the owner, who may use all."""
        for name in names if guest is not None else ():
            self.path(name)
            if not self._guests.path(name, guest or "").is_file() and self._guests.get(name, guest) is None:
                raise InvalidRequest("image", UPLOAD_GONE)

    def get(self, name: str, guest: str | None = None) -> Image.Image:
        """The image with this id, of any user, or of this guest.

        Raises:
            InvalidRequest: if it is missing or broken.
        """
        from PIL import Image

        path = self.path(name)

        def find() -> Path | io.BytesIO | None:
            places = [path, *self._guests.paths(name)] if guest is None else [self._guests.path(name, guest)]
            data = self._guests.get(name, guest)
            return next((place for place in places if _touch(place)), io.BytesIO(data) if data is not None else None)

        try:
            # Between two lookups, it may have gone from the memory to the disk.
            file = find() or find()
            if file is None:
                raise InvalidRequest("image", UPLOAD_GONE)
            with Image.open(file, formats=("PNG",)) as image:
                return image.copy()
        except (OSError, SyntaxError, ValueError):
            raise InvalidRequest("image", UPLOAD_GONE) from None

    def path(self, name: str) -> Path:
        """The path of the owner's image with this id; the file need not exist.

        Raises:
            InvalidRequest: if this is no id.
        """
        if not isinstance(name, str) or not _ID.fullmatch(name):
            raise InvalidRequest("image", UPLOAD_GONE)
        return self.folder / f"{name}.png"

    def remove_unused(
        self,
        older_than_seconds: float,
        guests_seconds: float = GUEST_LIFETIME_SECONDS,
        needed: Callable[[], Collection[str]] = tuple,
    ) -> int:
        """Remove images that were neither stored nor read for this long; returns the number of files removed.

        Args:
            older_than_seconds, guests_seconds: for so long, of the owner's and of guests' images.
            needed: the ids of images that stay, however old; asked only if one would go, and what it raises passes.
        """
        own, guests = _files(self.folder, ""), _files(self._guests.folder, "**/")
        old = [path for path in own if _is_older(path, older_than_seconds)]
        old += [path for path in guests if _is_older(path, guests_seconds)]
        kept = needed() if old else ()
        found = 0
        for path in (path for path in old if path.stem not in kept):
            # Another process may have removed it, or (on Windows) still read it.
            with contextlib.suppress(OSError):
                path.unlink()
                found += 1
        for path in self._guests.folder.glob("*/"):
            remove_if_empty(path)
        return found


@dataclass(frozen=True)
class UserUploads:
    """An ``UploadStore`` for one user; reading and decoding take one of the user's slots.  All raise InvalidRequest.

    Attributes:
        store: has the images.
        guest: id of a guest, or None for the owner.
    """

    store: UploadStore
    guest: str | None

    def slot(self) -> contextlib.AbstractContextManager[None]:
        """Hold a slot while several images are read and fitted."""
        return self.store.slots.hold(self.guest)

    def read(self, path: Path | str) -> Upload:
        """Read an untrusted file; guests' pictures may have fewer pixels."""
        with self.slot():
            return read_upload(path, MAX_PIXELS if self.guest is None else MAX_GUEST_PIXELS)

    def read_cropped(self, path: Path | str, width: int, height: int) -> Image.Image:
        """An uploaded image as RGB pixels of this size: upright, cropped to the middle, transparency on white."""
        with self.slot():
            return geometry.fit(self.read(path).image, width, height, "crop")

    def put(self, image: Image.Image) -> str:
        """Store an image (RGB or L) and return its id; one that cannot be written is an InvalidRequest, too."""
        try:
            return self.store.put(image, self.guest)
        except OSError as error:
            raise InvalidRequest("image", NOT_STORED.format(reason=error.strerror or type(error).__name__)) from error

    def get(self, name: str) -> Image.Image:
        """The user's image with this id."""
        with self.slot():
            return self.store.get(name, self.guest)


def _files(folder: Path, below: str) -> list[Path]:
    """Images of a folder, and unfinished ones; ``below`` begins the pattern: ``**/`` for its folders, too."""
    return [*folder.glob(f"{below}*.png"), *folder.glob(f"{below}.*.part")]


def _is_older(path: Path, seconds: float) -> bool:
    try:
        return path.stat().st_mtime < time.time() - seconds
    except OSError:
        return False


def _touch(path: Path) -> bool:
    """Mark a file as used now; False if it does not exist."""
    try:
        os.utime(path)
    except FileNotFoundError:
        return False
    except OSError:  # of another user, or on a disk that cannot be written
        return path.is_file()
    return True
