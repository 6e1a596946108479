"""The folder of files that pages fetch and send: copies of pictures, uploads, exports.  Old ones go by themselves.

Gradio's own ``delete_cache`` knows only what its components wrote since the last start: not what this program puts
there, nor what a killed one has left.
"""

from __future__ import annotations

import logging
import threading
import time
from contextlib import suppress
from pathlib import Path

log = logging.getLogger(__name__)
KEEP_SECONDS = 86400.0
EVERY_SECONDS = 1800.0


class Cache:
    """Everything in it can be made again: a file goes once nobody has asked for it anew for a day.

    Args:
        folder: made if it is not there, for this user alone; whatever is in it is this program's.
        keep: seconds that a file stays after it was last handed out.
        every: seconds between two looks.
    """

    def __init__(self, folder: Path, keep: float = KEEP_SECONDS, every: float = EVERY_SECONDS) -> None:
        self.folder, self._keep, self._every = folder, keep, every
        self._over = threading.Event()
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)

    def start(self) -> None:
        """Sweep now and then again and again, in a thread that ends with the program."""
        threading.Thread(target=self._run, name="cache-sweeper", daemon=True).start()

    def stop(self) -> None:
        """End the thread."""
        self._over.set()

    def sweep(self) -> int:
        """Delete what is old, and folders that are empty then; the number of files deleted."""
        gone, before = 0, time.time() - self._keep
        # The deepest first, so that a folder is empty when its turn comes.
        for path in sorted(self.folder.rglob("*"), key=lambda found: len(found.parts), reverse=True):
            with suppress(OSError):  # another program cleans up here, too, or a page fetches it
                if path.is_dir() and not path.is_symlink():
                    path.rmdir() if _age(path) < before else None
                elif _age(path) < before:
                    path.unlink()
                    gone += 1
        return gone

    def _run(self) -> None:
        while True:
            try:
                self.sweep()
            except OSError:
                log.exception("Old files in %s could not be looked at", self.folder)
            if self._over.wait(self._every):
                return


def _age(path: Path) -> float:
    """When a file was last written or handed out: copies keep the time of their original, but not that of the inode."""
    found = path.lstat()
    return max(found.st_mtime, found.st_ctime)
