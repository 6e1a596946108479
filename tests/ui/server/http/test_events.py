"""Requests that listen: names are bounded, counted, and forgotten."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any
from urllib.parse import unquote

import pytest
from starlette.responses import Response

from pipelines.jobs.users import User
from ui.server import limits
from ui.server.call_validation import InvalidCall
from ui.server.http import session_owners
from ui.server.http.client_request import ClientRequest
from ui.server.http.events import check_listening, forget_upload
from ui.server.http.session_owners import SessionOwners
from ui.server.limits import GuestQuotas

API = "/gradio_api"
GUEST = User("guest")


def blocks() -> Any:
    queue = SimpleNamespace(pending_messages_per_session={}, pending_event_ids_session={}, event_ids_to_events={})
    holder = SimpleNamespace(session_data={})
    return SimpleNamespace(fns={}, _queue=queue, app=SimpleNamespace(state_holder=holder))


def listen(target: str, sessions: SessionOwners, quotas: GuestQuotas, method: str = "GET") -> Response | None:
    path, _, query = target.partition("?")
    # Servers decode the path, and not the query.
    scope = {"type": "http", "method": method, "path": unquote(path), "query_string": query.encode(), "headers": []}
    return check_listening(ClientRequest(scope), GUEST, sessions, quotas, blocks())


TARGETS = (f"{API}/queue/data?session_hash=", f"{API}/heartbeat/", f"{API}/upload_progress?upload_id=")


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", ["x" * 129, "%C3%A4", "a%20b", "x" * 8000])
def test_only_short_names_are_looked_at(target: str, name: str) -> None:
    sessions = SessionOwners()
    with pytest.raises(InvalidCall, match="is not a valid id"):
        listen(target + name, sessions, GuestQuotas())
    assert not sessions._users
    with pytest.raises(InvalidCall):
        listen(f"{API}/upload?upload_id={'x' * 129}", sessions, GuestQuotas(), "POST")


@pytest.mark.parametrize("target", TARGETS)
def test_names_without_number_are_counted_and_not_all_remembered(target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "CALLS_A_MINUTE", 50)
    monkeypatch.setattr(limits, "SESSIONS_AN_HOUR", 30)
    monkeypatch.setattr(session_owners, "MAX_NAMES_OF_GUEST", 10)
    sessions, quotas, refused = SessionOwners(), GuestQuotas(), 0
    for number in range(100):
        try:
            listen(f"{target}{number}", sessions, quotas)
        except InvalidCall as problem:
            refused += problem.status == 429
    assert refused >= 50 and len(sessions._users) == 10


def test_gradio_forgets_the_uploads_that_are_forgotten_here(monkeypatch: pytest.MonkeyPatch) -> None:
    from gradio.routes import file_upload_statuses

    monkeypatch.setattr(session_owners, "MAX_NAMES_OF_GUEST", 3)
    sessions = SessionOwners(forget_upload)
    for name in "abcde":
        listen(f"{API}/upload?upload_id=test-{name}", sessions, GuestQuotas(), "POST")
        file_upload_statuses.track(f"test-{name}")
    kept = [name for name in "abcde" if f"test-{name}" in file_upload_statuses._signals]
    assert kept == ["c", "d", "e"] and "test-a" not in file_upload_statuses._statuses
    for name in "cde":
        forget_upload(f"upload test-{name}")
    assert not any(name.startswith("test-") for name in file_upload_statuses._signals)


def test_pictures_that_are_made_for_a_request_count_as_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "CALLS_A_MINUTE", 3)
    sessions, quotas = SessionOwners(), GuestQuotas()
    for target in ("plain/a", "plain/a?format=webp", "picture/a?format=png"):
        assert listen(f"/history/{target}", sessions, quotas) is None
    for target in ("plain/b", "picture/b?format="):
        with pytest.raises(InvalidCall) as refused:
            listen(f"/history/{target}", sessions, quotas)
        assert refused.value.status == 429
    for target in ("picture/a", "thumbnail/a"):
        assert listen(f"/history/{target}", sessions, quotas) is None, "files that are there cost nothing"
