"""Thumbnails of pictures, as files; a picture that is small enough is its own."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from history.folders import Folders
from pipelines.images.uploads import MAX_PIXELS, read_upload
from pipelines.request import InvalidRequest
from pipelines.system.atomic_files import atomic_write

if TYPE_CHECKING:
    from PIL import Image

log = logging.getLogger(__name__)
SIDE = 256


class Thumbnails:
    """JPEG files whose longer side is ``SIDE`` pixels, named by their entries.

    Args:
        folders: of the history.
    """

    def __init__(self, folders: Folders) -> None:
        self._folders = folders

    def path(self, entry_id: str) -> Path:
        """Where the thumbnail of an entry is, if it has one of its own; few files a folder, for slow file systems."""
        return self._folders.thumbnails / entry_id[:6] / f"{entry_id}.jpg"

    def write(self, entry_id: str, picture: Image.Image) -> None:
        """Write the thumbnail of a picture that needs one; where that fails, ``get`` tries again."""
        if max(picture.size) <= SIDE:
            return
        small = picture.convert("RGB") if picture.mode != "RGB" else picture.copy()
        small.thumbnail((SIDE, SIDE), reducing_gap=2.0)
        target = self.path(entry_id)
        try:
            self._folders.create(self._folders.thumbnails)
            target.parent.mkdir(exist_ok=True)
            with atomic_write(target, sync=False) as file:
                small.save(file, format="JPEG", quality=85)
        except OSError as error:
            log.warning("A thumbnail could not be written: %s", error)

    def get(self, entry_id: str, picture: Path, size: tuple[int, int]) -> Path:
        """The file to show for a picture of a size: its thumbnail, made now if it is missing, or the picture itself."""
        target = self.path(entry_id)
        if max(size) <= SIDE or target.is_file():
            return picture if max(size) <= SIDE else target
        try:
            found = read_upload(picture, MAX_PIXELS).image
        except InvalidRequest:
            return picture
        self.write(entry_id, found)
        return target if target.is_file() else picture

    def remove(self, entry_id: str) -> None:
        """Remove the thumbnail of an entry."""
        self.path(entry_id).unlink(missing_ok=True)
