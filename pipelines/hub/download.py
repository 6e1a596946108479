"""Downloads one file into the cache: resumes what an earlier download left, and checks the digest of the whole."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import AbstractContextManager, closing, suppress
from functools import partial
from pathlib import Path

from pipelines.hub.cache import HubCache
from pipelines.hub.connection import Connection, IncompleteRead
from pipelines.hub.errors import DownloadError, ModelPage
from pipelines.hub.progress import Check, ProgressMeter
from pipelines.hub.selection import PlannedFile, size_of


def download_file(
    connection: Connection, cache: HubCache, page: ModelPage, file: PlannedFile, meter: ProgressMeter, check: Check
) -> None:
    """Download one file into the cache unless it is there.

    Raises:
        DownloadError: with one sentence to show; what has arrived is kept.
        DownloadStopped: if ``check`` says so.
    """
    if size_of(cache.snapshot_path(file)) == file.bytes:
        return
    blob = cache.blob(file)
    if size_of(blob) != file.bytes:
        with cache.explained_writes():
            blob.parent.mkdir(parents=True, exist_ok=True)
            cache.snapshot_path(file).parent.mkdir(parents=True, exist_ok=True)
        for _ in range(2):  # a damaged file gets a second chance
            with PartialFile(file, cache.partial_blob(file), meter, cache.explained_writes) as part:
                part.resume(check)
                _append_rest(connection, page, file, part, check)
                if part.finish(blob):
                    break
        else:
            raise DownloadError(
                f"{file.name} of {file.source} has arrived damaged twice and was thrown away; try again later."
            )
    cache.link(file)


def _append_rest(connection: Connection, page: ModelPage, file: PlannedFile, part: PartialFile, check: Check) -> None:
    """Append what is missing, over as many connections as it takes."""
    attempt = partial(_append_once, connection, file, part, check)
    connection.retry(page, attempt, check, lambda: part.furthest)


def _append_once(connection: Connection, file: PlannedFile, part: PartialFile, check: Check) -> None:
    if part.size > file.bytes:
        part.restart()
    if part.size == file.bytes:
        return
    with closing(connection.open(file, part.size, check)) as stream:
        if next(stream) != part.size:
            part.restart()  # this hub does not answer with ranges
        for chunk in stream:
            # A longer file than planned is damaged: its digest will differ.
            part.append(chunk[: file.bytes - part.size])
    if part.size != file.bytes:
        raise IncompleteRead


class PartialFile:
    """A file that is arriving; a context manager.  It is hashed as it grows, so that it need not be read again.

    Args:
        file: what it is to become.
        path: where it lies until then.
        meter: counts its bytes.
        explained_writes: turns a disk's errors into a sentence.

    Attributes:
        size: bytes that have arrived.
        furthest: the largest size so far; it does not shrink when the file begins again.
    """

    def __init__(
        self,
        file: PlannedFile,
        path: Path,
        meter: ProgressMeter,
        explained_writes: Callable[[], AbstractContextManager[None]],
    ) -> None:
        self._planned, self._path, self._meter, self._explained_writes = file, path, meter, explained_writes
        self.size = self.furthest = 0

    def __enter__(self) -> PartialFile:
        with self._explained_writes():
            self._file = self._path.open("a+b")
        self._hash = self._planned.new_hash()
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):  # a full disk was reported already
            self._file.close()

    def resume(self, check: Check) -> None:
        """Read and hash what an earlier download left."""
        with self._explained_writes():
            self._file.seek(0)
            while block := self._file.read(2**20):
                check()
                self._hash.update(block)
                self.size += len(block)
        self.furthest = self.size

    def append(self, chunk: bytes) -> None:
        """Write the next bytes."""
        with self._explained_writes():
            self._file.write(chunk)
            self._file.flush()  # so that they stay when this process is killed
        self._hash.update(chunk)
        self.size += len(chunk)
        self.furthest = max(self.furthest, self.size)
        self._meter.add(len(chunk))

    def restart(self) -> None:
        """Begin with an empty file."""
        with self._explained_writes():
            self._file.truncate(0)
        self._meter.add(-min(self.size, self._planned.bytes))
        self.size = 0
        self._hash = self._planned.new_hash()

    def finish(self, target: Path) -> bool:
        """Move the file to its place if its digest is right, else delete it; whether it was right."""
        if self._hash.hexdigest() != self._planned.digest:
            self.restart()
            self._path.unlink(missing_ok=True)
            return False
        with self._explained_writes():
            os.fsync(self._file.fileno())
            self._file.close()
            os.replace(self._path, target)
        return True
