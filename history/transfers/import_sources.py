"""Where imported pictures come from: folders, single files, and zips, whose members are read one at a time."""

from __future__ import annotations

import logging
import os
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from history.folders import SUFFIXES, Folders
from history.taking_in import MAX_FILE_BYTES
from history.transfers import export_listing
from history.transfers.export_listing import Listed
from pipelines.system.text import printable

log = logging.getLogger(__name__)
ZIP = ".zip"
# Bounds: folders below each other, members of a zip, and how much smaller a member may be than its content.  Pictures
# are compressed already; the last one is what deflate can reach.
MAX_DEPTH, MAX_MEMBERS, MAX_RATIO, MAX_DEFLATE = 12, 1_000_000, 100, 1100


class Unreadable(ValueError):
    """A file that cannot be read, or is larger than any picture."""


@dataclass(frozen=True)
class Found:
    """A picture file.

    Attributes:
        name: of the file, without its folder, as UTF-8 can write it.
        changed: when it was last changed, seconds since the epoch.
        read: its bytes; raises Unreadable.  Call it before the next one is asked for.
        listed: what the listing of an export says of it; None if it is in none.
    """

    name: str
    changed: float
    read: Callable[[], bytes]
    listed: Listed | None = None


def pictures_in(source: Path, folders: Folders, cancelled: Callable[[], bool] = lambda: False) -> Iterator[Found]:
    """The picture files of a folder and those below it, of a zip, or the file itself.

    Links below the folder are not followed, and what is no file, such as a pipe, is left out.

    Args:
        source: a folder or a file; the content of a zip is untrusted.
        folders: of the history, whose own folder is left out.
        cancelled: polled while folders are read, which ends early then: there may be no picture in many of them.
    """
    if source.is_dir():
        # An export that was unpacked.
        listing = _listing_in(source)
        yield from (_file(path, listing.get(path.name)) for path in _below(source, folders, cancelled))
    elif not source.is_file():
        return
    elif source.suffix.lower() == ZIP:
        yield from _in_zip(source)
    else:
        yield _file(source)


def _below(folder: Path, folders: Folders, cancelled: Callable[[], bool], depth: int = 0) -> Iterator[Path]:
    """Picture files below a folder, by name."""
    if depth > MAX_DEPTH or folder.resolve() == folders.data.resolve():
        return
    try:
        found = sorted(_entries(folder, cancelled), key=lambda entry: entry.name)
    except OSError as error:
        log.warning("%s is left out: %s", folder, error)
        return
    for entry in found:
        if cancelled():
            return
        if entry.is_dir(follow_symlinks=False):
            yield from _below(Path(entry.path), folders, cancelled, depth + 1)
        elif _is_picture(entry.name) and entry.is_file(follow_symlinks=False):
            yield Path(entry.path)


def _entries(folder: Path, cancelled: Callable[[], bool]) -> Iterator[os.DirEntry[str]]:
    """What is in a folder, as far as it is read before it is cancelled."""
    with os.scandir(folder) as entries:
        for number, entry in enumerate(entries):
            if number % 1000 == 0 and cancelled():
                return
            yield entry


def _is_picture(name: str) -> bool:
    return name.lower().endswith(SUFFIXES) and not name.startswith(".")


def _listing_in(folder: Path) -> Mapping[str, Listed]:
    path = folder / export_listing.NAME
    if path.is_symlink() or not path.is_file():
        return {}
    try:
        with path.open("rb") as file:
            return export_listing.read(file.read(export_listing.MAX_BYTES + 1))
    except OSError:
        return {}


def _file(path: Path, listed: Listed | None = None) -> Found:
    def read() -> bytes:
        try:
            # It may have become something else since it was found: a pipe would never end.
            if not path.is_file():
                raise Unreadable(f"{path.name} is no file.")
            if path.stat().st_size > MAX_FILE_BYTES:
                raise Unreadable(f"{path.name} is too large.")
            return path.read_bytes()
        except OSError as error:
            raise Unreadable(str(error)) from error

    try:
        changed = path.stat().st_mtime
    except OSError:
        changed = 0.0
    return Found(printable(path.name), changed, read, listed)


def _in_zip(path: Path) -> Iterator[Found]:
    """The pictures of a zip; one that is broken is itself a file that cannot be read."""
    try:
        with zipfile.ZipFile(path) as archive:
            listing = _listing_of(archive)
            for member in archive.infolist()[:MAX_MEMBERS]:
                name = member.filename.replace("\\", "/").rpartition("/")[2]
                # What a Mac adds to each file begins with a dot.
                if not member.is_dir() and _is_picture(name):
                    yield _member(archive, member, name, listing.get(name))
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        log.info("%s is not imported: %s", path.name, error)
        yield Found(printable(path.name), 0.0, _nothing)


def _nothing() -> bytes:
    raise Unreadable("This is no zip that can be read.")


def _listing_of(archive: zipfile.ZipFile) -> Mapping[str, Listed]:
    """The listing of an export; {} in any other zip."""
    try:
        # Entries are much alike, so no ratio tells a bomb from a listing: the bytes alone are bounded.
        member = archive.getinfo(export_listing.NAME)
        return export_listing.read(_content(archive, member, export_listing.MAX_BYTES, MAX_DEFLATE))
    except KeyError:
        return {}
    except Unreadable as problem:
        log.warning("The tags and favourites of an export are not read: %s", problem)
        return {}


def _member(archive: zipfile.ZipFile, member: zipfile.ZipInfo, name: str, listed: Listed | None) -> Found:
    try:
        changed = time.mktime((*member.date_time, 0, 0, -1))
    except (OverflowError, ValueError, TypeError):
        changed = 0.0
    return Found(name, changed, lambda: _content(archive, member, MAX_FILE_BYTES), listed)


def _content(archive: zipfile.ZipFile, member: zipfile.ZipInfo, most: int, ratio: int = MAX_RATIO) -> bytes:
    """The bytes of a member; raises Unreadable."""
    # The sizes are claims: what is read is bounded, too.
    if member.file_size > min(most, ratio * member.compress_size + 2**20):
        raise Unreadable(f"{member.filename} is too large.")
    try:
        with archive.open(member) as file:
            return file.read(member.file_size + 1)
    except (zipfile.BadZipFile, OSError, RuntimeError, NotImplementedError, EOFError, zlib.error) as error:
        raise Unreadable(str(error)) from error
