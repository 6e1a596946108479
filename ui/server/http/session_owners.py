"""Whose an open page is: Gradio gives a session's events to every client that knows its name."""

from __future__ import annotations

import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from pipelines.jobs.users import User

# Names of sessions, events and uploads that are remembered, of one guest and of all users together.
MAX_NAMES_OF_GUEST, MAX_NAMES = 2000, 100_000
# How long messages wait for a page that called and does not listen yet.
UNREAD_SECONDS = 30.0


class SessionOwners:
    """Binds sessions (``session_hash``), events (``event_id``) and uploads to the user who used them first.

    A session is its user's for as long as a page listens, events wait or run, or messages that have just come are
    unread.  Afterwards another user may choose the same name, and finds nothing of what it held.  The owner may take
    over any session: a page that was opened before the owner's link was followed goes on.  A guest's new names take the
    places of its own oldest ones, never those of others, and never that of a name in use.  Only for the server's event
    loop.

    Args:
        forgotten: called with each name that is no longer remembered.
    """

    def __init__(self, forgotten: Callable[[str], None] = lambda name: None) -> None:
        self._users: OrderedDict[str, tuple[str, float]] = OrderedDict()
        self._names: dict[str, OrderedDict[str, None]] = {}
        self._listeners: Counter[str] = Counter()
        self._forgotten = forgotten

    def claim_session(self, session: str, user: User, blocks: Any) -> bool:
        """Whether a session is this user's, or becomes this user's.

        Args:
            blocks: Gradio's page.
        """
        if not self._is_own(session, user):
            if self._is_in_use(session, blocks._queue):
                return False
            blocks.app.state_holder.session_data.pop(session, None)
            blocks._queue.pending_messages_per_session.pop(session, None)
            blocks._queue.pending_event_ids_session.pop(session, None)
        self._remember(session, user, blocks)
        return True

    def claim_event(self, event: str, user: User, blocks: Any = None) -> bool:
        """Whether an event or an upload is this user's, or becomes this user's.

        Args:
            blocks: Gradio's page, if there is one.
        """
        known = self._users.get(event)
        if known is not None and not self._is_own(event, user):
            return False
        self._remember(event, user, blocks)
        return True

    def _is_own(self, name: str, user: User) -> bool:
        known = self._users.get(name)
        return user.owner or (known is not None and known[0] == user.id)

    def _is_in_use(self, name: str, queue: Any) -> bool:
        """Whether a page listens, events wait or run, or messages may be read by a page that has just called."""
        if self._listeners[name]:
            return True
        events = queue.pending_event_ids_session.get(name, ())
        if name in queue.event_ids_to_events or any(event in queue.event_ids_to_events for event in events):
            return True
        messages, (_, used) = queue.pending_messages_per_session.get(name), self._users.get(name, ("", 0.0))
        return messages is not None and not messages.empty() and time.monotonic() < used + UNREAD_SECONDS

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

    def _remember(self, name: str, user: User, blocks: Any) -> None:
        if name in self._users:
            self._forget(name, self._users[name][0])
        own = self._names.setdefault(user.id, OrderedDict())
        self._users[name], own[name] = (user.id, time.monotonic()), None
        if user.guest and len(own) > MAX_NAMES_OF_GUEST:
            self._drop_oldest(own, blocks)
        if len(self._users) > MAX_NAMES:
            self._drop_oldest(self._users, blocks)

    def _drop_oldest(self, names: OrderedDict[str, Any], blocks: Any) -> None:
        """Forget the oldest of these names that is not in use; the newest one stays."""
        queue, newest = getattr(blocks, "_queue", None), next(reversed(names))
        for name in names:
            in_use = self._is_in_use(name, queue) if queue is not None else bool(self._listeners[name])
            if name != newest and not in_use:
                self._forget(name, self._users[name][0])
                self._forgotten(name)
                return

    def _forget(self, name: str, user_id: str) -> None:
        del self._users[name], self._names[user_id][name]
        if not self._names[user_id]:
            del self._names[user_id]
