"""Answers that are the same for every user: the page itself, and Gradio's scripts, style sheets and fonts.

What a client adds to the address of the page is for the browser alone (``ui.server.http.client_request``).  Gradio
renders the page at each visit (it copies the settings of all components and writes examples of the API's
use), and compresses each file for each request.  Here an answer is made once, compressed once, and sent again with an
``ETag``, so that a browser that has it gets no body; files whose names hold a hash of what is in them are never asked
for again.  What a user may see is decided before (``ui.server.middleware``), and users' own values are no part of the
page: they come with its events.
"""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import hashlib
import re
from dataclasses import dataclass
from typing import Any

import brotli
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pipelines.system.lru import LruDict
from ui.server.access import USER_KEY, is_guest
from ui.server.http.faster_scripts import faster
from ui.server.http.preloads import with_preloads

# Kept in all and of one answer, bytes: the page and its files, each as browsers ask for it (compressed or not).
MAX_BYTES, MAX_ANSWER_BYTES = 24 * 2**20, 4 * 2**20
BROTLI_QUALITY, GZIP_LEVEL, LEAST_BYTES = 6, 6, 400
# Built files have a hash in their names, the theme in its query; others may change with another version of Gradio.
_HASHED = re.compile(r"/assets/[^\0?]*-[\w-]{8}\.\w+|[^\0?]*/theme\.css\?v=\w+")
_SAME_FOR_ALL = re.compile(r"/|/config/?|/(assets|static)/[^\0]+|(/gradio_api)?/theme\.css")
FOREVER, A_DAY, ASK_AGAIN = "private, max-age=31536000, immutable", "private, max-age=86400", "private, no-cache"
_PAGE = ("/", "/config", "/config/")
# The page holds the address under which it was asked for.
_ADDRESS = ("host", "x-forwarded-host", "x-forwarded-proto", "x-gradio-server")
_REPLACED = {
    b"content-length", b"content-encoding", b"etag", b"last-modified", b"vary", b"cache-control", b"accept-ranges",
}  # fmt: skip
_TEXT = re.compile(r"text/|application/(javascript|json|manifest)|image/svg")


@dataclass(frozen=True)
class StoredAnswer:
    """A whole answer: its headers, with ``etag`` and ``cache-control``, and its body."""

    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes


class AnswerCache:
    """Answers from memory what is the same for all.

    Args:
        app: answers what is not known yet, and everything else.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        # Guests have one answer made at a time: the page takes a tenth of a second, and each address has its own.
        self._of_guests = asyncio.Semaphore(1)
        self._answers: LruDict[tuple[str, ...], StoredAnswer] = LruDict(
            max_bytes=MAX_BYTES, size=lambda one: len(one.body)
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or let the application do so."""
        if not is_the_same_for_all(scope):
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        address = (str(scope.get("scheme")), *(headers.get(name, "") for name in _ADDRESS))
        key = (address_of(scope), encoding(headers), *address)
        answer = self._answers.get(key)
        if answer is None:
            answer = await self._ask(scope, receive, send, key)
        if answer is not None:
            await _send(answer, headers.get("if-none-match", ""), scope["method"], send)

    async def _ask(self, scope: Scope, receive: Receive, send: Send, key: tuple[str, ...]) -> StoredAnswer | None:
        """The application's answer, which is kept; None if it was sent on, since it is none to keep."""
        user = scope.get(USER_KEY)
        async with self._of_guests if user is not None and is_guest(user) else contextlib.nullcontext():
            if (known := self._answers.get(key)) is not None:  # made while this request waited
                return known
            begun, parts = await _whole(self.app, {**scope, "method": "GET", "headers": _plain(scope)}, receive)
            body = b"".join(parts)
            if begun["status"] == 200 and len(body) <= MAX_ANSWER_BYTES:
                path, kind, loop = *key[:2], asyncio.get_running_loop()
                answer = await loop.run_in_executor(None, packed, path, begun["headers"], body, kind)
                self._answers[key] = answer
                return answer
        await send(begun)
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})
        return None


def is_the_same_for_all(scope: Scope) -> bool:
    """Whether a request asks for the page or for a file of it, as they are; a link to stored values does not."""
    if scope["type"] != "http" or scope["method"] not in ("GET", "HEAD") or b"range" in dict(scope["headers"]):
        return False
    path = scope["path"]
    return bool(_SAME_FOR_ALL.fullmatch(path)) and not (path in _PAGE and scope["query_string"])


def address_of(scope: Scope) -> str:
    """The path with the query, as in the address."""
    query = scope["query_string"].decode("latin-1")
    return f"{scope['path']}?{query}" if query else scope["path"]


def encoding(headers: Headers) -> str:
    """How a body may be compressed for this client: "br", "gzip" or ""."""
    accepted = {one.partition(";")[0].strip() for one in headers.get("accept-encoding", "").lower().split(",")}
    return next((one for one in ("br", "gzip") if one in accepted), "")


def packed(path: str, headers: Any, body: bytes, kind: str) -> StoredAnswer:
    """An answer, compressed if that is worth it, with what a browser needs to keep it."""
    kept = [(name, value) for name, value in headers if name.lower() not in _REPLACED]
    media = Headers(raw=list(headers)).get("content-type", "")
    if path == "/":
        body = with_preloads(body.decode()).encode()
    body = faster(path, body)
    compressed = body
    if kind and _TEXT.match(media) and len(body) >= LEAST_BYTES:
        compressed = brotli.compress(body, quality=BROTLI_QUALITY) if kind == "br" else gzip.compress(body, GZIP_LEVEL)
        kept.append((b"content-encoding", kind.encode()))
    tag = f'"{hashlib.sha256(compressed).hexdigest()[:32]}"'
    kept += [
        (b"content-length", str(len(compressed)).encode()), (b"etag", tag.encode()), (b"vary", b"Accept-Encoding"),
        (b"cache-control", lifetime(path).encode()),
    ]  # fmt: skip
    return StoredAnswer(tuple(kept), compressed)


def lifetime(path: str) -> str:
    """How long a browser may use its copy of a file, by its address."""
    if _HASHED.fullmatch(path):
        return FOREVER
    return A_DAY if path.startswith("/static/") else ASK_AGAIN


async def _whole(app: ASGIApp, scope: Scope, receive: Receive) -> tuple[Message, list[bytes]]:
    """An application's answer: its first message, and its body in parts."""
    begun: Message = {}
    parts: list[bytes] = []

    async def take(message: Message) -> None:
        nonlocal begun
        if message["type"] == "http.response.start":
            begun = message
        else:
            parts.append(message.get("body", b""))

    await app(scope, receive, take)
    return begun, parts


def _plain(scope: Scope) -> list[tuple[bytes, bytes]]:
    """A request's headers without those that ask for less than the whole answer, as it is."""
    left_out = {b"accept-encoding", b"if-none-match", b"if-modified-since"}
    return [(name, value) for name, value in scope["headers"] if name.lower() not in left_out]


async def _send(answer: StoredAnswer, known: str, method: str, send: Send) -> None:
    """Send an answer, or only that the browser's own copy of it is still good."""
    tag = dict(answer.headers)[b"etag"].decode()
    fresh = tag in {one.strip().removeprefix("W/") for one in known.split(",")}
    headers = [pair for pair in answer.headers if not fresh or pair[0] in (b"etag", b"cache-control", b"vary")]
    await send({"type": "http.response.start", "status": 304 if fresh else 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if fresh or method == "HEAD" else answer.body})
