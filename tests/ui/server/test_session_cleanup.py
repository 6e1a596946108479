"""Clean up Gradio's queue: sessions without a reader are dropped, others stay."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

from ui.server.session_cleanup import UNREAD_SECONDS, SessionCleanup


def test_sessions_with_unread_messages_are_dropped_after_two_runs() -> None:
    cleaned: list[str] = []

    async def clean_events(session_hash: str) -> None:
        cleaned.append(session_hash)

    async def run() -> SimpleNamespace:
        silent, listening = asyncio.Queue[object](), asyncio.Queue[object]()
        silent.put_nowait(object())
        listening.put_nowait(object())
        queue = SimpleNamespace(
            pending_messages_per_session={"silent": silent, "listening": listening},
            pending_event_ids_session={"silent": {"a"}, "listening": {"b"}, "done": set()},
            clean_events=clean_events,
        )
        cleanup = SessionCleanup()
        await cleanup.run(queue, UNREAD_SECONDS)
        assert list(queue.pending_event_ids_session) == ["silent", "listening"]
        listening.get_nowait()
        listening.put_nowait(object())
        await cleanup.run(queue, 1.5 * UNREAD_SECONDS)  # too early
        assert cleaned == []
        await cleanup.run(queue, 2 * UNREAD_SECONDS)
        return queue

    # In a thread of its own: the browser of other tests keeps a loop running in this one.
    with ThreadPoolExecutor(1) as pool:
        queue = pool.submit(lambda: asyncio.run(run())).result()
    assert cleaned == ["silent"]
    assert list(queue.pending_messages_per_session) == list(queue.pending_event_ids_session) == ["listening"]
