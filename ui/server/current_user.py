"""User and session of the request that Gradio is answering now."""

from __future__ import annotations

from gradio.context import LocalContext

from pipelines.jobs.users import OWNER, User
from ui.server.access import USER_KEY


def current_user() -> User:
    """The user who made the current request; the owner where there is no middleware, as in a notebook."""
    request = LocalContext.request.get(None)
    scope = getattr(getattr(request, "request", None), "scope", None)
    return (scope or {}).get(USER_KEY, OWNER)


def current_session() -> str:
    """Gradio's ``session_hash`` of the page that made the current request; "" outside a request."""
    return str(getattr(LocalContext.request.get(None), "session_hash", None) or "")
