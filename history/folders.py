"""Where the files of the history are: pictures, the bin, thumbnails and strips, all inside the data folder."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

# Endings of picture files; the content decides what a file is.
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")


@dataclass(frozen=True)
class Folders:
    """The folders of one history.

    Attributes:
        data: the data folder.
    """

    data: Path

    @property
    def database(self) -> Path:
        """The database file."""
        return self.data / "history.db"

    @property
    def pictures(self) -> Path:
        """Finished pictures."""
        return self.data / "pictures"

    @property
    def bin(self) -> Path:
        """Pictures that were deleted and can come back."""
        return self.data / "bin"

    @property
    def thumbnails(self) -> Path:
        """Thumbnails of large pictures."""
        return self.data / "thumbnails"

    @property
    def strips(self) -> Path:
        """What is left of the timelines of old runs."""
        return self.data / "strips"

    def create(self, folder: Path) -> Path:
        """Create one of the folders if need be, but never the data folder itself: its drive may be missing.

        Raises:
            OSError: if it cannot be created.
        """
        if not self.data.is_dir():
            raise FileNotFoundError(errno.ENOENT, "the data folder has vanished", str(self.data))
        folder.mkdir(exist_ok=True)
        return folder

    def picture(self, file: str) -> Path | None:
        """Where a picture lies, among the pictures or in the bin; None if it is in neither."""
        if not file or Path(file).name != file:
            return None
        return next((path for path in (self.pictures / file, self.bin / file) if path.is_file()), None)

    def delete_trace(self, run: str) -> None:
        """Delete the recorded steps of a run whose pictures are all gone."""
        for folder in (self.data / "traces", self.data / "traces" / "guests"):
            for ending in (".json", ".safetensors"):
                with suppress(OSError):
                    (folder / f"{run}{ending}").unlink(missing_ok=True)

    def strip(self, run: str, place: int) -> Path:
        """The strip of one picture of a run."""
        return self.strips / f"{run}-{place}.jpg"


def picture_files(folder: Path) -> Iterator[str]:
    """The names of the picture files of a folder, unsorted; names of unfinished files begin with a dot."""
    if not folder.is_dir():
        return
    with os.scandir(folder) as found:
        for entry in found:
            if entry.name.lower().endswith(SUFFIXES) and not entry.name.startswith(".") and entry.is_file():
                yield entry.name


def folder_bytes(folder: Path) -> int:
    """Bytes of the files in a folder and below it."""
    if not folder.is_dir():
        return 0
    total = 0
    with os.scandir(folder) as found:
        for entry in found:
            try:
                total += folder_bytes(Path(entry)) if entry.is_dir(follow_symlinks=False) else entry.stat().st_size
            except OSError:  # deleted meanwhile
                continue
    return total
