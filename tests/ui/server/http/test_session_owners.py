"""Whose an open page is."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from pipelines.jobs.users import OWNER, User
from ui.server.http import session_owners
from ui.server.http.session_owners import SessionOwners

ANNA, BERT = User("anna"), User("bert")


def page(waiting: tuple[str, ...] = (), unread: tuple[str, ...] = ()) -> Any:
    """What Gradio knows of sessions: some with events that wait, some with messages that nobody has read."""
    messages: dict[str, asyncio.Queue[str]] = {name: asyncio.Queue() for name in "abc"}
    for name in unread:
        messages[name].put_nowait("message")
    queue = SimpleNamespace(
        pending_messages_per_session=messages,
        pending_event_ids_session={name: {f"of {name}"} for name in waiting},
        event_ids_to_events={f"of {name}": object() for name in waiting},
    )
    holder = SimpleNamespace(session_data=dict.fromkeys("abc", "what the page shows"))
    return SimpleNamespace(_queue=queue, app=SimpleNamespace(state_holder=holder))


def test_a_session_with_events_or_a_listener_is_of_the_user_who_used_it_first() -> None:
    owners, blocks = SessionOwners(), page(waiting=("a",), unread=("b",))
    assert all(owners.claim_session(name, ANNA, blocks) for name in "abca")
    assert not owners.claim_session("a", BERT, blocks) and not owners.claim_session("b", BERT, blocks)
    with owners.listening("c"):
        assert not owners.claim_session("c", BERT, blocks) and owners.claim_session("c", ANNA, blocks)
    assert set(blocks.app.state_holder.session_data) == {"a", "b", "c"}


def test_what_a_closed_page_showed_is_gone_for_the_next_user_of_its_name() -> None:
    owners, blocks = SessionOwners(), page()
    assert owners.claim_session("a", ANNA, blocks) and owners.claim_session("a", BERT, blocks)
    assert "a" not in blocks.app.state_holder.session_data


def test_messages_that_nobody_reads_hold_a_session_for_a_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    owners, blocks = SessionOwners(), page(unread=("b",))
    assert owners.claim_session("b", ANNA, blocks) and not owners.claim_session("b", BERT, blocks)
    monkeypatch.setattr(session_owners, "UNREAD_SECONDS", 0.0)
    assert owners.claim_session("b", BERT, blocks) and "b" not in blocks._queue.pending_messages_per_session


def test_the_owner_goes_on_with_a_page_that_was_opened_before() -> None:
    owners, blocks = SessionOwners(), page(waiting=("a",))
    assert owners.claim_session("a", ANNA, blocks) and owners.claim_session("a", OWNER, blocks)
    assert "a" in blocks.app.state_holder.session_data and not owners.claim_session("a", ANNA, blocks)


def test_an_event_is_of_the_user_who_made_it() -> None:
    owners = SessionOwners()
    assert owners.claim_event("e", ANNA) and owners.claim_event("e", ANNA) and not owners.claim_event("e", BERT)
    assert owners.claim_event("e", OWNER)


def test_the_sessions_of_closed_pages_are_forgotten_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_owners, "MAX_SESSIONS", 3)
    owners = SessionOwners()
    for name in "abcad":
        owners.claim_event(name, ANNA)
    assert not owners.claim_event("a", BERT) and owners.claim_event("b", BERT)
