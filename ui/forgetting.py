"""What visitors leave behind in Gradio when they vanish, and what has it forgotten: it tidies up after orderly ones."""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path
from typing import Any

# Uploads that broke off are left for so long: a slow one is still being written.
HALVES_SECONDS = 3600.0
# News that lie unread for so long are read by nobody; a page that listens takes them at once.
UNHEARD_SECONDS = 120.0


def halves() -> int:
    """Remove the files of uploads that broke off; how many went.

    Gradio removes those of uploads that it refuses, and no others.
    """
    from gradio.utils import get_upload_folder

    before, gone = time.time() - HALVES_SECONDS, 0
    for path in Path(get_upload_folder()).glob("tmp*"):
        with suppress(OSError):  # another request may be there first
            if path.is_file() and path.stat().st_mtime < before:
                path.unlink()
                gone += 1
    return gone


class Unheard:
    """Forgets news for pages that asked for something and never listened: half a megabyte a picture, for ever.

    Not thread-safe: the server's event loop alone may use it.
    """

    def __init__(self) -> None:
        self._looked = 0.0
        self._heads: dict[str, Any] = {}

    async def forget(self, queue: Any, now: float) -> None:
        """Look through Gradio's queue, at most once in ``UNHEARD_SECONDS``.

        Args:
            queue: of the page (``gr.Blocks._queue``).
            now: seconds of any clock.
        """
        if now - self._looked < UNHEARD_SECONDS:
            return
        self._looked, before = now, self._heads
        pending, events = queue.pending_messages_per_session, queue.pending_event_ids_session
        self._heads = {page: news._queue[0] for page, news in pending.items() if not news.empty()}
        for page, head in list(self._heads.items()):
            if before.get(page) is head:
                del self._heads[page], pending[page]
                # The watching ends; the picture is made all the same.
                await queue.clean_events(session_hash=page)
                events.pop(page, None)
        for page in [page for page, left in events.items() if not left]:  # those who have heard all
            del events[page]
