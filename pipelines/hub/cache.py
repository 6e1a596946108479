"""huggingface_hub's cache: ``models--owner--name/{blobs/<digest>, snapshots/<commit>/<name>, refs/main}``.

It is shared with every other program that uses it.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Generator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from pipelines.hub.errors import DownloadError
from pipelines.hub.progress import POLL_SECONDS, Check
from pipelines.hub.selection import PlannedFile, unique_blobs
from pipelines.system.atomic_files import atomic_write


class HubCache:
    """The cache folder, with the models that this program and others have downloaded.

    Args:
        cache_dir: None for HF_HUB_CACHE.
    """

    def __init__(self, cache_dir: Path | str | None) -> None:
        self._cache_dir = cache_dir

    @property
    def path(self) -> Path:
        """The cache folder; it may not exist yet."""
        from huggingface_hub import constants

        return Path(self._cache_dir or constants.HF_HUB_CACHE).expanduser()

    def repository(self, source: str) -> Path:
        """The folder of a repository."""
        return self.path / f"models--{source.replace('/', '--')}"

    def blob(self, file: PlannedFile) -> Path:
        """Where a file's content lies."""
        return self.repository(file.source) / "blobs" / file.digest

    def partial_blob(self, file: PlannedFile) -> Path:
        """Where a file's content lies while it is arriving."""
        return self.blob(file).with_name(f"{file.digest}.incomplete")

    def snapshot_path(self, file: PlannedFile) -> Path:
        """Where a file appears under its name."""
        return self.repository(file.source) / "snapshots" / file.commit / file.name

    def snapshots(self, source: str) -> list[Path]:
        """Versions of a model in the cache, the current one first, then newest first."""
        folder = self.repository(source)
        try:
            main = (folder / "refs" / "main").read_text(encoding="utf-8").strip()
        except OSError:
            main = ""
        try:
            versions = [path for path in (folder / "snapshots").iterdir() if path.is_dir()]
            return sorted(versions, key=lambda path: (path.name == main, path.stat().st_mtime), reverse=True)
        except OSError:
            return []

    def arrived_bytes(self, files: Sequence[PlannedFile]) -> int:
        """How many bytes of these files are here, unfinished ones included."""
        arrived = 0
        for file, size in unique_blobs(files):
            for path in (self.blob(file), self.snapshot_path(file), self.partial_blob(file)):
                with suppress(OSError):
                    arrived += min(path.stat().st_size, size)
                    break
        return arrived

    def free_bytes(self) -> int:
        """How many bytes are free on the disk with the cache."""
        existing = next(path for path in (self.path, *self.path.absolute().parents) if path.is_dir())
        return shutil.disk_usage(existing).free

    def link(self, file: PlannedFile) -> None:
        """Let a whole blob appear under its name."""
        from huggingface_hub import constants

        blob, path = self.blob(file), self.snapshot_path(file)
        with self.explained_writes():
            path.parent.mkdir(parents=True, exist_ok=True)
            with suppress(FileNotFoundError):
                path.unlink()
            if not constants.HF_HUB_DISABLE_SYMLINKS:
                with suppress(OSError):  # on Windows, not every user may make links
                    path.symlink_to(os.path.relpath(blob, path.parent))
                    return
            os.replace(blob, path)

    def set_main(self, source: str, commit: str) -> None:
        """Make a version the current one of its repository."""
        main = self.repository(source) / "refs" / "main"
        with self.explained_writes():
            main.parent.mkdir(parents=True, exist_ok=True)
            with atomic_write(main) as file:
                file.write(commit.encode())

    def sizes(self) -> dict[str, int]:
        """Bytes on disk of every model by its hub id, unfinished downloads included.

        Files that several versions of a model share are counted once.
        """
        from huggingface_hub import scan_cache_dir

        if not self.path.is_dir():
            return {}
        info = scan_cache_dir(self.path)
        sizes = {repo.repo_id: repo.size_on_disk for repo in info.repos if repo.repo_type == "model"}
        for part in info.incomplete_files:
            kind, _, name = part.file_path.parents[1].name.partition("--")
            if kind == "models":
                source = name.replace("--", "/")
                sizes[source] = sizes.get(source, 0) + part.size_on_disk
        return sizes

    def delete(self, source: str) -> None:
        """Delete a repository."""
        from huggingface_hub import scan_cache_dir

        info = scan_cache_dir(self.path)
        # Copies of a repository have the same commits: give the library this repository alone.
        for repo in info.repos:
            if (repo.repo_type, repo.repo_id) == ("model", source):
                alone = replace(info, repos=frozenset([repo]))
                alone.delete_revisions(*(revision.commit_hash for revision in repo.revisions)).execute()
        # What the library takes for broken, such as a download that was cut early.
        shutil.rmtree(self.repository(source), ignore_errors=True)

    @contextmanager
    def lock(self, source: str, check: Check) -> Generator[None]:
        """Allow one download of a repository at a time on this machine; a killed process releases the lock."""
        from filelock import Timeout
        from huggingface_hub.utils import WeakFileLock

        path = self.path / ".locks" / self.repository(source).name / "fetch.lock"
        with self.explained_writes():
            path.parent.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            while True:
                check()
                try:
                    stack.enter_context(WeakFileLock(path, timeout=2 * POLL_SECONDS))
                    break
                except Timeout:
                    continue
            yield

    @contextmanager
    def explained_writes(self) -> Generator[None]:
        """Turn an error of the disk into a DownloadError with a sentence."""
        try:
            yield
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise DownloadError(
                    f"The disk with {self.path} is full: make room and start again, what has arrived is kept."
                ) from error
            raise DownloadError(
                f"Nothing can be written to {self.path} ({error.strerror or type(error).__name__}): make it writable, "
                "or let HF_HUB_CACHE name another folder."
            ) from error
