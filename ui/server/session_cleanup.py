"""Clean up Gradio's queue after clients that vanish; Gradio does so only for those that disconnect in order."""

from __future__ import annotations

from typing import Any

# A client that listens takes its messages at once; messages unread for so long are dropped.
UNREAD_SECONDS = 120.0


class SessionCleanup:
    """Drops messages to sessions that started an event and never listened: half a megabyte a picture, kept forever.

    Not thread-safe: only for the server's event loop.
    """

    def __init__(self) -> None:
        self._last_run = 0.0
        self._oldest: dict[str, Any] = {}

    def postpone(self, now: float) -> None:
        """Give every session ``UNREAD_SECONDS`` from now on, since clients cannot read while the link is paused."""
        self._last_run, self._oldest = now, {}

    async def run(self, queue: Any, now: float) -> None:
        """Drop sessions whose oldest message is the same as in the last run, at most once in ``UNREAD_SECONDS``.

        Args:
            queue: Gradio's (``gr.Blocks._queue``).
            now: seconds of any clock.
        """
        if now - self._last_run < UNREAD_SECONDS:
            return
        self._last_run, before = now, self._oldest
        messages, event_ids = queue.pending_messages_per_session, queue.pending_event_ids_session
        self._oldest = {session: unread._queue[0] for session, unread in messages.items() if not unread.empty()}
        for session, message in list(self._oldest.items()):
            if before.get(session) is message:
                del self._oldest[session], messages[session]
                # This ends the event that watches the job; the job itself goes on.
                await queue.clean_events(session_hash=session)
                event_ids.pop(session, None)
        for session in [session for session, left in event_ids.items() if not left]:
            del event_ids[session]
