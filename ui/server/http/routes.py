"""The routes that the page needs, and the headers of every answer."""

from __future__ import annotations

import re
from collections.abc import Iterable

UPLOAD, STARTUP = "/gradio_api/upload", "/gradio_api/startup-events"
# Where the program asks the one that runs for another link of the owner's (``app.py --new-link``).
NEW_LINK = "/owner-link"
# The picture of link previews: chat programs fetch it without a password.
PREVIEW_PICTURE = "/link-preview.png"
# Where the host of a container asks whether the program lives, and whether it takes requests; no password is needed.
HEALTHY, READY = "/healthz", "/readyz"
# Every other route is closed: Gradio's custom components, of which the page has none, would print what a client writes.
# "api" is open to guests only if the owner allows it, "owner" to the owner alone.
_ROUTES: tuple[tuple[str, str, str], ...] = (
    ("GET", r"/(config/?|theme\.css|favicon\.ico|robots\.txt|manifest\.json|pwa_icon(/\d+)?)?", "page"),
    ("GET", r"/(static|assets|svelte)/[^\0]+", "page"),
    ("GET", r"/gradio_api/(startup-events|theme\.css|app_id|heartbeat/\w+|upload_progress|queue/data)/?", "page"),
    # Not for URLs: Gradio would fetch them and pass their content on.
    ("GET", r"/gradio_api/file=(?!\s*\w+:/)[^\0]+", "page"),
    ("GET", r"/history/(thumbnail|picture|plain)/[^/\0]+", "page"),
    # Events without a queue use "run/predict", where Gradio refuses all others.
    ("POST", r"/gradio_api/(queue/join|run/predict|upload|cancel|reset)/?", "page"),
    ("GET", r"/gradio_api/info/?|/gradio_api/call/\w+/\w+", "api"),
    ("POST", r"/gradio_api/call/\w+/?", "api"),
    ("POST", NEW_LINK, "owner"),
)
ROUTES = tuple((method, re.compile(path), kind) for method, path, kind in _ROUTES)
POLICY = "; ".join(
    (
        "default-src 'self'",
        # Gradio's own page has inline scripts, and builds components from text.
        "script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:",
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data: blob:",
        "media-src 'self' data: blob: mediastream:",
        "font-src 'self' data:",
        "connect-src 'self' data: blob:",
        "worker-src 'self' blob:",
        "frame-src 'self' blob: data:",
        "object-src 'none'",
        "base-uri 'self'",
        "form-action 'self'",
        "frame-ancestors 'none'",
    )
)
SECURITY_HEADERS: tuple[tuple[bytes, bytes], ...] = (
    (b"content-security-policy", POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(self), microphone=(), geolocation=(), payment=(), usb=()"),
)
# Names of answers' headers that let pages of other sites read them; Gradio's own layer adds some.
_CROSS_ORIGIN = b"access-control-"


def route_kind(method: str, path: str) -> str | None:
    """Whether the page ("page"), API clients ("api") or the owner's programs ("owner") use a route; None if closed."""
    method = "GET" if method == "HEAD" else method
    return next((kind for verb, pattern, kind in ROUTES if verb == method and pattern.fullmatch(path)), None)


def safe_headers(headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """An answer's headers with ``SECURITY_HEADERS``, without the server's name and what opens it to other sites."""
    replaced = {name for name, _ in SECURITY_HEADERS} | {b"server"}
    kept = ((name, value) for name, value in headers if name.lower() not in replaced)
    return [*(pair for pair in kept if not pair[0].lower().startswith(_CROSS_ORIGIN)), *SECURITY_HEADERS]
