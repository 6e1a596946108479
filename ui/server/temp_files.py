"""The one cleaner of Gradio's temporary files: copies of pictures, uploads and exports that pages fetch and send.

Gradio's own ``delete_cache`` only knows what its components wrote since the last start: neither the files that this
program puts there nor unfinished uploads.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

log = logging.getLogger(__name__)
# Age at which a file is deleted, from when it was last written or handed out: all of them can be made again.
MAX_AGE_SECONDS = 86400.0
# The same for unfinished uploads, from the last byte; Gradio leaves their files when the connection breaks.
MAX_UNFINISHED_SECONDS = 3600.0
INTERVAL_SECONDS = 1800.0


class TempFiles:
    """Deletes old files of a folder, in a thread.

    Args:
        folder: of this program alone; created for this user alone if missing.
        max_age: seconds until a file is deleted.
        interval: seconds between two sweeps.
        also: called after each sweep, to clean other folders of the program while it runs.
    """

    def __init__(
        self,
        folder: Path,
        max_age: float = MAX_AGE_SECONDS,
        interval: float = INTERVAL_SECONDS,
        also: Sequence[Callable[[], Any]] = (),
    ) -> None:
        self.folder, self._max_age, self._interval, self._also = folder, max_age, interval, also
        self._stopped = threading.Event()
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)

    def start(self) -> None:
        """Sweep now and after every interval, in a daemon thread."""
        threading.Thread(target=self._run, name="temp-files", daemon=True).start()

    def stop(self) -> None:
        """End the thread."""
        self._stopped.set()

    def sweep(self) -> int:
        """Delete old files, and old folders that are empty; the number of deleted files."""
        deleted = 0
        # The deepest first, so that a folder is empty when its turn comes.
        for path in sorted(self.folder.rglob("*"), key=lambda found: len(found.parts), reverse=True):
            with suppress(OSError):  # it may be gone already, or in use (on Windows)
                if not self._is_old(path):
                    continue
                if path.is_dir() and not path.is_symlink():
                    path.rmdir()
                else:
                    path.unlink()
                    deleted += 1
        return deleted

    def _is_old(self, path: Path) -> bool:
        if path.parent == self.folder and path.name.startswith("tmp") and path.is_file():
            return path.lstat().st_mtime < time.time() - MAX_UNFINISHED_SECONDS
        return _last_used(path) < time.time() - self._max_age

    def _run(self) -> None:
        while True:
            try:
                self.sweep()
                for clean in self._also:
                    clean()
            except OSError:
                log.exception("Cannot clean the temporary files in %s", self.folder)
            if self._stopped.wait(self._interval):
                return


def _last_used(path: Path) -> float:
    """When a file was last written or handed out: a copy keeps the original's mtime, but has a ctime of its own."""
    found = path.lstat()
    return max(found.st_mtime, found.st_ctime)
