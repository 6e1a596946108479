"""Answers that the program writes itself: errors, redirects and the pages before Gradio's own."""

from __future__ import annotations

import html
import json
from functools import cache

from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.types import Message, Send

from ui.components.assets import UI, asset
from ui.server.access import Access
from ui.server.http.client_request import ClientRequest
from ui.server.http.routes import PREVIEW_PICTURE

# What Gradio's page expects of a session that it does not know; Gradio itself breaks the connection off afterwards.
_NO_SESSION = {
    "msg": "unexpected_error", "event_id": None, "message": "404: Not Found", "session_not_found": True,
    "success": False,
}  # fmt: skip


TITLE, ABOUT = "Diffusion Playground", "Type a prompt, watch the picture form out of noise, keep it."
PICTURE_ALT = "Grains of noise on the left that become a picture on the right"
PICTURE_FILE = "server/link_preview.png"
# What a preview says of an owner's link and of a guests' link.
OWNERS_LINK = "Open this link in a browser: it makes that browser the owner's."
GUESTS_LINK = "Someone shared this page with you: open the link and sign in with the password that came with it."


def error(status: int, detail: str, headers: dict[str, str] | None = None) -> Response:
    """An error as FastAPI writes it."""
    return JSONResponse({"detail": detail}, status, headers)


def login_page(
    access: Access,
    request: ClientRequest,
    problem: str = "",
    status: int = 401,
    headers: dict[str, str] | None = None,
) -> Response:
    """The page that asks for the password; of the client's words it holds the host name alone."""
    page = _page("login", access).replace("{problem}", problem).replace("{preview}", _preview(access, request))
    return _html(page.replace("{user}", "" if access.user else "hidden"), status, headers)


def used_link_page(access: Access) -> Response:
    """The page for an owner's link that has been followed before, with the way to another one."""
    return _html(_page("used_link", access), 403)


def preview_page(access: Access, request: ClientRequest, text: str) -> Response:
    """What programs see that look at a link before a person opens it; an owner's link stays good."""
    page = _page("link_preview", access).replace("{text}", text).replace("{preview}", _preview(access, request))
    return _html(page, 200)


def health(ready: bool) -> Response:
    """Whether the program lives, or takes requests; it says nothing else."""
    status, text = (200, "ok") if ready else (503, "ending")
    return Response(text, status, media_type="text/plain", headers={"cache-control": "no-store"})


def preview_picture() -> Response:
    """The picture of link previews: the same for all, so that it says nothing of what is made here."""
    return Response(_picture(), media_type="image/png", headers={"cache-control": "public, max-age=86400"})


@cache
def _picture() -> bytes:
    return (UI / PICTURE_FILE).read_bytes()


def _preview(access: Access, request: ClientRequest) -> str:
    """Title, text and picture for link previews (the Open Graph protocol, ogp.me)."""
    picture = f"{request.origin}{access.root_path}{PREVIEW_PICTURE}"
    facts = {
        "og:type": "website", "og:site_name": TITLE, "og:title": TITLE, "og:description": ABOUT, "og:image": picture,
        "og:image:width": "1200", "og:image:height": "630", "og:image:alt": PICTURE_ALT,
    }  # fmt: skip
    lines = [f'<meta property="{name}" content="{html.escape(value)}">' for name, value in facts.items()]
    lines += [
        f'<meta name="description" content="{ABOUT}">',
        '<meta name="twitter:card" content="summary_large_image">',
    ]
    return "\n".join(lines)


def redirect_to_page(access: Access) -> Response:
    """Send the browser to the page itself."""
    return RedirectResponse(f"{access.root_path}/", 303, {"cache-control": "no-store"})


def unknown_session() -> Response:
    """The events of a session that is not known."""
    return Response(f"data: {json.dumps(_NO_SESSION)}\n\n", media_type="text/event-stream")


def without_500(send: Send) -> Send:
    """Turn Gradio's status 500 into an answer that says what to do.

    Gradio answers 500 in JSON when a function refuses its inputs with a message: that is 422.  Any other 500 is what
    Starlette writes before it passes on an exception, which the middleware answers: it is left out.
    """
    left_out = False

    async def changed(message: Message) -> None:
        nonlocal left_out
        if message.get("status") == 500:
            headers = dict(message.get("headers", ()))
            left_out = not headers.get(b"content-type", b"").startswith(b"application/json")
            message = {**message, "status": 422}
        if not left_out:
            await send(message)

    return changed


def _page(name: str, access: Access) -> str:
    style = asset("server/plain_page.css")
    return asset(f"server/{name}.html").replace("{style}", style).replace("{root}", access.root_path)


def _html(page: str, status: int, headers: dict[str, str] | None = None) -> Response:
    return HTMLResponse(page, status, {"cache-control": "no-store", **(headers or {})})
