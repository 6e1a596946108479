"""Whose an open page is: Gradio gives a session's events to every client that knows its name."""

from __future__ import annotations

import time
from collections import Counter, OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pipelines.jobs.users import User

# Sessions and events that are remembered; an open page uses its session every few seconds, so that it stays.
MAX_SESSIONS = 100_000
# How long messages wait for a page that called and does not listen yet.
UNREAD_SECONDS = 30.0


class SessionOwners:
    """Binds sessions (``session_hash``) and events (``event_id``) to the user who used them first.

    A session is its user's for as long as a page listens, events wait or run, or messages that have just come are
    unread.  Afterwards another user may choose the same name, and finds nothing of what it held.  The owner may take
    over any session: a page that was opened before the owner's link was followed goes on.  Only for the server's event
    loop.
    """

    def __init__(self) -> None:
        self._users: OrderedDict[str, tuple[str, float]] = OrderedDict()
        self._listeners: Counter[str] = Counter()

    def claim_session(self, session: str, user: User, blocks: Any) -> bool:
        """Whether a session is this user's, or becomes this user's.

        Args:
            blocks: Gradio's page.
        """
        if self._is_of_another(session, user):
            if self._listeners[session] or self._is_in_use(session, blocks._queue):
                return False
            blocks.app.state_holder.session_data.pop(session, None)
            blocks._queue.pending_messages_per_session.pop(session, None)
            blocks._queue.pending_event_ids_session.pop(session, None)
        self._remember(session, user)
        return True

    def _is_in_use(self, session: str, queue: Any) -> bool:
        """Whether events of a session wait or run, or may be read by a page that has just called."""
        events = queue.pending_event_ids_session.get(session, ())
        if any(event in queue.event_ids_to_events for event in events):
            return True
        messages, (_, used) = queue.pending_messages_per_session.get(session), self._users[session]
        return messages is not None and not messages.empty() and time.monotonic() < used + UNREAD_SECONDS

    def claim_event(self, event: str, user: User) -> bool:
        """Whether an event is this user's, or becomes this user's."""
        if self._is_of_another(event, user):
            return False
        self._remember(event, user)
        return True

    @contextmanager
    def listening(self, session: str) -> Iterator[None]:
        """A page listens to its session for as long as the context lasts."""
        self._listeners[session] += 1
        try:
            yield
        finally:
            self._listeners[session] -= 1
            if not self._listeners[session]:
                del self._listeners[session]

    def _is_of_another(self, name: str, user: User) -> bool:
        known = self._users.get(name)
        return known is not None and known[0] != user.id and not user.owner

    def _remember(self, name: str, user: User) -> None:
        self._users[name] = (user.id, time.monotonic())
        self._users.move_to_end(name)
        if len(self._users) > MAX_SESSIONS:
            self._users.popitem(last=False)
