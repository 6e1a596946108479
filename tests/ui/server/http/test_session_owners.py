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


def opened_by_anna(blocks: Any) -> tuple[SessionOwners, Any]:
    """Sessions that she has opened before they had events."""
    owners = SessionOwners()
    assert all(owners.claim_session(name, ANNA, page()) for name in "abca")
    return owners, blocks


def test_a_session_with_events_or_a_listener_is_of_the_user_who_used_it_first() -> None:
    owners, blocks = opened_by_anna(page(waiting=("a",), unread=("b",)))
    assert not owners.claim_session("a", BERT, blocks) and not owners.claim_session("b", BERT, blocks)
    with owners.listening("c"):
        assert not owners.claim_session("c", BERT, blocks) and owners.claim_session("c", ANNA, blocks)
    assert set(blocks.app.state_holder.session_data) == {"a", "b", "c"}


def test_what_a_closed_page_showed_is_gone_for_the_next_user_of_its_name() -> None:
    owners, blocks = SessionOwners(), page()
    assert owners.claim_session("a", ANNA, blocks) and owners.claim_session("a", BERT, blocks)
    assert "a" not in blocks.app.state_holder.session_data


def test_messages_that_nobody_reads_hold_a_session_for_a_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    owners, blocks = opened_by_anna(page(unread=("b",)))
    assert not owners.claim_session("b", BERT, blocks)
    monkeypatch.setattr(session_owners, "UNREAD_SECONDS", 0.0)
    assert owners.claim_session("b", BERT, blocks) and "b" not in blocks._queue.pending_messages_per_session


def test_the_owner_goes_on_with_a_page_that_was_opened_before() -> None:
    owners, blocks = opened_by_anna(page(waiting=("a",)))
    assert owners.claim_session("a", OWNER, blocks)
    assert "a" in blocks.app.state_holder.session_data and not owners.claim_session("a", ANNA, blocks)


def test_an_event_is_of_the_user_who_made_it() -> None:
    owners = SessionOwners()
    assert owners.claim_event("e", ANNA) and owners.claim_event("e", ANNA) and not owners.claim_event("e", BERT)
    assert owners.claim_event("e", OWNER)


def test_a_guests_new_names_take_the_places_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_owners, "MAX_NAMES_OF_GUEST", 3)
    forgotten: list[str] = []
    owners, blocks = SessionOwners(forgotten.append), page()
    for name in "abcad":
        owners.claim_event(name, ANNA, blocks)
    for number in range(20):
        owners.claim_session(f"of bert {number}", BERT, blocks)
    assert not owners.claim_event("a", BERT, blocks) and owners.claim_event("b", BERT, blocks)
    assert forgotten[:2] == ["b", "of bert 0"] and len(owners._users) == 6


@pytest.mark.parametrize("bound", ["MAX_NAMES_OF_GUEST", "MAX_NAMES"])
def test_a_name_in_use_is_never_forgotten(monkeypatch: pytest.MonkeyPatch, bound: str) -> None:
    monkeypatch.setattr(session_owners, bound, 3)
    owners, blocks = opened_by_anna(page(waiting=("a",), unread=("b",)))
    with owners.listening("c"):
        for number in range(20):
            owners.claim_event(f"e{number}", ANNA if bound == "MAX_NAMES_OF_GUEST" else BERT, blocks)
        assert not any(owners.claim_session(name, BERT, blocks) for name in "abc")
    assert len(owners._users) == 4


def test_a_session_in_use_is_of_nobody_who_comes_later_even_if_its_user_is_unknown() -> None:
    owners, blocks = SessionOwners(), page(waiting=("a",))
    with owners.listening("c"):
        assert not owners.claim_session("a", BERT, blocks) and not owners.claim_session("c", BERT, blocks)
