"""Who asks, as the gate has found out, and from which page."""

from __future__ import annotations

from gradio.context import LocalContext

from pipelines.visitors import OWNER, Visitor
from ui.gate import VISITOR


def visitor() -> Visitor:
    """Who sent the request that is being answered; the owner where there is no gate, as in a notebook."""
    request = LocalContext.request.get(None)
    scope = getattr(getattr(request, "request", None), "scope", None)
    return (scope or {}).get(VISITOR, OWNER)


def open_page() -> str:
    """Gradio's name for the page that sent the request that is being answered; "" where there is none."""
    return str(getattr(LocalContext.request.get(None), "session_hash", None) or "")
