"""Requests that listen to a page's events or to an upload: their names are checked, counted and bound to a user.

Pictures of the history that are made for the request are counted, too.
"""

from __future__ import annotations

import re
from typing import Any

from starlette.responses import Response

from pipelines.jobs.users import User
from ui.server import call_validation
from ui.server.call_validation import InvalidCall
from ui.server.http.answers import error, unknown_session
from ui.server.http.client_request import ClientRequest
from ui.server.http.session_owners import SessionOwners
from ui.server.limits import GuestQuotas

OTHERS_PAGE = "This page was opened by someone else; reload it."
TOO_MANY_CALLS = "Too many calls at once; try again in a minute."
_EVENT = re.compile(r"/gradio_api/call/(\w+)/(\w+)")
_UPLOAD = re.compile(r"/gradio_api/upload(_progress)?/?")
# Pictures that are encoded again for the answer (``history_files``), unless no format is asked for.
_ENCODED = re.compile(r"/history/(picture|plain)/[^/]+")
_SESSION = re.compile(r"/gradio_api/(?:queue/data|heartbeat/([^/]+))/?")
# Before the names of uploads, which are no names of sessions or events.
_OF_UPLOAD = "upload "


def session_of(request: ClientRequest) -> str:
    """The session to which a page listens with this request; "" for other requests."""
    page = _SESSION.fullmatch(request.path)
    return (page[1] or request.query_params.get("session_hash", "")) if page else ""


def check_listening(
    request: ClientRequest, user: User, sessions: SessionOwners, quotas: GuestQuotas, blocks: Any
) -> Response | None:
    """The answer to a request for events or uploads of others, or of a session or event that is not known.

    Args:
        blocks: Gradio's page, or None behind another app.

    Raises:
        InvalidCall: if a name is not valid, or if a guest asks too often.
    """
    if _UPLOAD.fullmatch(request.path):
        return _check_upload(request, user, sessions, quotas, blocks)
    if blocks is None or request.method == "POST":
        return None
    if event := _EVENT.fullmatch(request.path):
        call_validation.check_name(event[1], blocks.fns)
        _count(event[2], "event_id", user, "", quotas)
        if not _is_known_event(blocks._queue, event[2]) or not sessions.claim_event(event[2], user, blocks):
            return error(404, "There is no event of this name, or its result has been fetched.")
    elif made := _ENCODED.fullmatch(request.path):
        if made[1] == "plain" or "format" in request.query_params:
            _count("", "", user, "", quotas)
    elif page := _SESSION.fullmatch(request.path):
        session = session_of(request)
        _count(session, "session_hash", user, session, quotas)
        if not sessions.claim_session(session, user, blocks):
            return error(403, OTHERS_PAGE)
        if not page[1] and session and session not in blocks._queue.pending_messages_per_session:
            return unknown_session()
    return None


def _check_upload(
    request: ClientRequest, user: User, sessions: SessionOwners, quotas: GuestQuotas, blocks: Any
) -> Response | None:
    upload = request.query_params.get("upload_id", "")
    if request.method != "POST":
        _count(upload, "upload_id", user, "", quotas)
    elif upload:  # the upload itself is counted, too
        call_validation.check_id(upload, "upload_id")
    if upload and not sessions.claim_event(_OF_UPLOAD + upload, user, blocks):
        return error(403, OTHERS_PAGE)
    return None


def _count(name: str, field: str, user: User, session: str, quotas: GuestQuotas) -> None:
    """Check a name and count the request as one of a guest's calls."""
    if name:
        call_validation.check_id(name, field)
    if not quotas.allow_call(user, session):
        raise InvalidCall(TOO_MANY_CALLS, 429)


def forget_upload(name: str) -> None:
    """Drop what Gradio keeps of an upload of this name for ever (``SessionOwners.forgotten``)."""
    if name.startswith(_OF_UPLOAD):
        from gradio.routes import file_upload_statuses  # Gradio reads its settings when it is imported

        upload = name.removeprefix(_OF_UPLOAD)
        file_upload_statuses.stop_tracking(upload)
        file_upload_statuses._signals.pop(upload, None)


def _is_known_event(queue: Any, event_id: str) -> bool:
    """Whether Gradio has an event that waits, runs, or whose result has not been fetched."""
    return (
        event_id in queue.event_ids_to_events
        or event_id in queue.pending_messages_per_session
        or any(event_id in ids for ids in queue.pending_event_ids_session.values())
    )
