"""The door of the server: who comes in, as what, and by which ways.  Plain ASGI around everything else.

Whoever holds the owner's secret is the owner, whoever gives the password is a guest.  Where a request comes from, and
what it says of that, counts for nothing: what comes through a tunnel comes from this computer too.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import re
import secrets
import threading
import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.cookies import CookieError, SimpleCookie
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from starlette.requests import ClientDisconnect

from pipelines.visitors import OWNER, Visitor
from ui import bodies, forgetting

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

# Where a request's visitor is kept.
VISITOR = "playground.visitor"
HERE = Path(__file__).resolve().parent
# Whoever is on this computer and shows nothing: may make pictures while nothing is shared, and is not the owner.
LOCAL = Visitor("local", free=True, programs=True)
COOKIE_SECONDS = 365 * 86400
# A guest who was not heard of for so long is gone.
PRESENT_SECONDS = 60.0
MAX_FORM = 4096
# Failures that cost nothing, and the longest wait after more.
FREE_TRIES, LONGEST_WAIT = 3, 60.0
# Failures a minute in all, from wherever they come, beyond which everybody waits.
TRIES_A_MINUTE = 30
# Uploads of a guest in an hour: requests and bytes; nobody sends more than MAX_UPLOAD in one.
UPLOADS, UPLOAD_BYTES, MAX_UPLOAD = 60, 300 * 2**20, 64 * 2**20
# And of all guests in an hour: whoever gives the password again is another guest.
GUESTS_UPLOAD_BYTES = 2**30
HOUR = 3600.0
# Seconds without a byte after which whoever sends something is not waited for any more; and bytes that must have come
# for each second beyond.
PATIENCE, SLOWEST = 30.0, 4096
# Requests at once: of one guest (a browser holds 6 at most, two of them as long as the page is open), of all guests,
# and of all who must log in.  Together with ``ui.patience.MAX_IDLE`` less than the 256 files of a process on macOS.
GUEST_REQUESTS, GUESTS_REQUESTS, STRANGERS_REQUESTS = 24, 96, 32
# Calls of functions by one guest in a minute, and pages of one guest in an hour: Gradio keeps the states of so many
# pages, and forgets the oldest when there are more.
CALLS_A_MINUTE, PAGES_AN_HOUR = 600, 120
# Calls at once, of one guest and of all: each may hold one of the threads (``ui.page.MAX_WAITING``), of which some are
# to be left for the owner.
GUEST_CALLS, GUESTS_CALLS = 24, 96
# The ways that the page needs; every other one is shut.  "api" is open to guests only if the owner says so.
_WAYS: tuple[tuple[str, str, str], ...] = (
    ("GET", r"/(config/?|theme\.css|favicon\.ico|robots\.txt|manifest\.json|pwa_icon(/\d+)?)?", "page"),
    ("GET", r"/(static|assets|svelte)/[^\0]+", "page"),
    ("GET", r"/gradio_api/(startup-events|theme\.css|app_id|heartbeat/\w+|upload_progress|queue/data)/?", "page"),
    # Gradio would fetch an address itself and hand on what it finds there.
    ("GET", r"/gradio_api/file=(?!\s*\w+:/)[^\0]+", "page"),
    ("GET", r"/custom_component/[^\0]+|/gradio_api/custom_component/[^\0]+", "page"),
    # Quick events go by "run/predict", where Gradio refuses whatever belongs into the queue.
    ("POST", r"/gradio_api/(queue/join|run/predict|upload|cancel|reset)/?", "page"),
    ("GET", r"/gradio_api/info/?|/gradio_api/call/\w+/\w+", "api"),
    ("POST", r"/gradio_api/call/\w+/?", "api"),
)
WAYS = tuple((method, re.compile(path), kind) for method, path, kind in _WAYS)
POLICY = "; ".join(
    (
        "default-src 'self'",
        # Gradio's own page has scripts in it, and components are made of text.
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
HEADERS: tuple[tuple[bytes, bytes], ...] = (
    (b"content-security-policy", POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(self), microphone=(), geolocation=(), payment=(), usb=()"),
)


class TooManyTries(RuntimeError):
    """A password is not even looked at now; ``seconds`` until it is."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"Too many wrong passwords; try again in {max(1, round(seconds))} seconds.")
        self.seconds = seconds


@dataclass
class _Tries:
    wrong: int = 0
    until: float = 0.0


@dataclass
class Door:
    """Who may come in.  Thread-safe.

    Args:
        key: the owner's secret, 32 bytes; see ``owner_key``.
        port: of the server; cookies of one host count for all its ports, so their names say which.
        hosts: names under which the server may be asked, besides those of this computer; "*" for any.
        user, password: what guests give; without a password nobody but this computer's own programs come in.  Those
            that it begins with stay, whatever is shared meanwhile.
        api: whether guests may use the API.
        clock: seconds; tests turn it.
    """

    key: bytes
    port: int = 0
    hosts: frozenset[str] = frozenset()
    user: str = ""
    password: str = ""
    api: bool = False
    clock: Callable[[], float] = time.monotonic
    paused: bool = False
    _standing: tuple[str, str] = ("", "")
    _session: bytes = field(default_factory=lambda: secrets.token_bytes(32))
    _links: set[str] = field(default_factory=set)
    _tries: dict[str, _Tries] = field(default_factory=dict)
    _wrong: deque[float] = field(default_factory=deque)
    _seen: dict[str, float] = field(default_factory=dict)
    _sent: dict[str, deque[tuple[float, int]]] = field(default_factory=dict)
    _calls: dict[str, deque[float]] = field(default_factory=dict)
    _pages: dict[str, dict[str, float]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self._standing = (self.user, self.password)

    @property
    def exposed(self) -> bool:
        """Whether others than this computer's own programs may come in."""
        return bool(self.password)

    def open_to(self, password: str, hosts: Iterable[str] = ()) -> str:
        """Let guests in under these names too, who give this password; guests of before must log in anew.

        Returns:
            The password that counts: the one that the door began with, if there was one.
        """
        with self._lock:
            if not self._standing[1]:
                self.user, self.password = "", password
            self.paused = False
            self.hosts = self.hosts | frozenset(hosts)
            self._session = secrets.token_bytes(32)
            return self.password

    def shut(self, hosts: Iterable[str] = ()) -> None:
        """Let nobody in any more who came with ``open_to``; these names are not answered any more."""
        with self._lock:
            self.user, self.password = self._standing
            self.paused = False
            self.hosts = self.hosts - frozenset(hosts)
            self._session = secrets.token_bytes(32)
            self._seen.clear()

    def knows(self, host: str) -> bool:
        """Whether the server may be asked under this name (a Host header, with or without a port)."""
        name = _name_of(f"//{host}") if host and not re.search(r"[\s/\\@]", host) else ""
        if name in ("localhost", "127.0.0.1", "::1") or name in self.hosts:
            return True
        # Every name, or every name below one, as in .example.org.
        return bool(name) and any(known == "*" or (known[0] == "." and name.endswith(known)) for known in self.hosts)

    # -- the owner ---------------------------------------------------------------------------------------------

    def link_token(self) -> str:
        """A word that makes a browser the owner's, once."""
        token = secrets.token_urlsafe(24)
        with self._lock:
            self._links.add(token)
        return token

    def use_link(self, token: str) -> bool:
        """Whether this is such a word; it counts once."""
        shown = token.encode("utf-8", "replace")
        with self._lock:
            found = next((link for link in self._links if hmac.compare_digest(link.encode(), shown)), None)
            self._links.discard(found or "")
        return found is not None

    @property
    def owner_cookie(self) -> tuple[str, str]:
        """Name and value of what the owner's browser keeps."""
        return f"playground-owner-{self.port}", self._mac(self.key, "owner")

    # -- guests ------------------------------------------------------------------------------------------------

    @property
    def guest_cookie_name(self) -> str:
        """Name of what a guest's browser keeps."""
        return f"playground-guest-{self.port}"

    def log_in(self, user: str, password: str, address: str) -> str | None:
        """The value of a new guest's cookie, or None if the password is wrong.

        Raises:
            TooManyTries: after too many wrong ones from there, or in all.
        """
        with self._lock:
            now = self.clock()
            self._slow_down(address, now)
            right = hmac.compare_digest(user.encode(), self.user.encode()) or not self.user
            right &= hmac.compare_digest(password.encode(), self.password.encode())
            if not (right and self.password):
                self._failed(address, now)
                return None
            self._tries.pop(address, None)
            name = secrets.token_urlsafe(12)
            return f"{name}.{self._mac(self._session, name)}"

    def _slow_down(self, address: str, now: float) -> None:
        while self._wrong and self._wrong[0] < now - 60:
            self._wrong.popleft()
        if len(self._wrong) >= TRIES_A_MINUTE:
            raise TooManyTries(self._wrong[0] + 60 - now)
        tries = self._tries.get(address)
        if tries and tries.until > now:
            raise TooManyTries(tries.until - now)

    def _failed(self, address: str, now: float) -> None:
        self._wrong.append(now)
        # Addresses are forgotten an hour after their last wait, so that the list stays short.
        self._tries = {name: tries for name, tries in self._tries.items() if tries.until > now - 3600}
        tries = self._tries.setdefault(address, _Tries())
        tries.wrong += 1
        more = tries.wrong - FREE_TRIES
        tries.until = now + (min(LONGEST_WAIT, 2.0**more) if more > 0 else 0.0)

    # -- who is who --------------------------------------------------------------------------------------------

    def visitor(self, cookies: Mapping[str, str], token: str = "") -> Visitor | None:
        """Who shows these cookies, or this word (``Authorization: Bearer``); None for somebody who must log in."""
        name, value = self.owner_cookie
        shown = cookies.get(name, "") or token
        if shown and hmac.compare_digest(shown.encode(), value.encode()):
            return OWNER
        guest, _, mac = cookies.get(self.guest_cookie_name, "").partition(".")
        if guest and self.exposed and hmac.compare_digest(mac.encode(), self._mac(self._session, guest).encode()):
            with self._lock:
                now = self.clock()
                if guest not in self._seen:  # whoever has left is forgotten when somebody comes
                    self._seen = {name: seen for name, seen in self._seen.items() if seen >= now - PRESENT_SECONDS}
                self._seen[guest] = now
            return Visitor(guest, programs=self.api)
        return None if self.exposed else LOCAL

    def guests(self) -> int:
        """Guests who were heard of in the last minute."""
        with self._lock:
            since = self.clock() - PRESENT_SECONDS
            return sum(seen >= since for seen in self._seen.values())

    def takes(self, visitor: Visitor, size: int) -> bool:
        """Whether a guest may send so many bytes more in this hour; they are counted if so."""
        if visitor.free:
            return True
        with self._lock:
            since = self.clock() - HOUR
            self._sent = {name: kept for name, all_of in self._sent.items()
                          if (kept := deque(one for one in all_of if one[0] > since))}  # fmt: skip
            everybodys = sum(one[1] for all_of in self._sent.values() for one in all_of)
            sent = self._sent.setdefault(visitor.id, deque())
            if everybodys + size > GUESTS_UPLOAD_BYTES:
                return False
            if len(sent) >= UPLOADS or sum(one[1] for one in sent) + size > UPLOAD_BYTES:
                return False
            sent.append((self.clock(), size))
            return True

    def calls(self, visitor: Visitor, page: str) -> bool:
        """Whether a guest may call a function now, from this page (Gradio's ``session_hash``); it is counted if so."""
        if visitor.free:
            return True
        with self._lock:
            now = self.clock()
            self._calls = {name: kept for name, all_of in self._calls.items()
                           if (kept := deque(at for at in all_of if at > now - 60))}  # fmt: skip
            self._pages = {name: kept for name, all_of in self._pages.items()
                           if (kept := {page: at for page, at in all_of.items() if at > now - HOUR})}  # fmt: skip
            calls, pages = self._calls.setdefault(visitor.id, deque()), self._pages.setdefault(visitor.id, {})
            if len(calls) >= CALLS_A_MINUTE or (page not in pages and len(pages) >= PAGES_AN_HOUR):
                return False
            calls.append(now)
            pages[page] = now
            return True

    @staticmethod
    def _mac(key: bytes, text: str) -> str:
        return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()


def owner_key(path: Path) -> bytes:
    """The owner's secret of this computer: made once, readable by its owner alone.

    Raises:
        OSError: if it can be neither read nor written.
    """
    import os

    try:
        found = path.read_bytes()
        if len(found) == 32:
            return found
        path.unlink()
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
    key = secrets.token_bytes(32)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(key)
    return key


class Gate:
    """The middleware.

    Args:
        app: everything behind it.
        door: who may come in.
    """

    def __init__(self, app: App, door: Door) -> None:
        self.app, self.door = app, door
        # Requests that are being answered: of each guest, and of all who must log in ("").
        self._now: Counter[str] = Counter()
        self._unheard = forgetting.Unheard()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":
            return  # nothing here speaks through web sockets
        ask = _Asked(scope)
        answer = _with_headers(send)
        refusal = self._refusal(ask)
        if refusal is not None:
            await _answer(answer, *refusal)
            return
        visitor = self.door.visitor(ask.cookies, ask.token)
        name = None if visitor is OWNER or visitor is LOCAL else visitor.id if visitor else ""
        if name is not None and self._is_crowded(name):
            await _answer(answer, 429, "Too much is asked for at once; close a window or wait a little.")
            return
        with self._counted(name):
            await self._answered(ask, visitor, scope, receive, answer)

    def _is_crowded(self, name: str) -> bool:
        """Whether a guest, or somebody who must log in (""), asks for more at once than there is room for."""
        if not name:
            return self._now[""] >= STRANGERS_REQUESTS
        return self._now[name] >= GUEST_REQUESTS or self._now.total() - self._now[""] >= GUESTS_REQUESTS

    @contextmanager
    def _counted(self, name: str | None) -> Iterator[None]:
        if name is None:
            yield
            return
        self._now[name] += 1
        try:
            yield
        finally:
            self._now[name] -= 1
            self._now += Counter()  # without those who ask for nothing

    async def _answered(
        self, ask: _Asked, visitor: Visitor | None, scope: Scope, receive: Receive, answer: Send
    ) -> None:
        if ask.path == "/login" and ask.method == "POST":
            await self._log_in(ask, receive, answer)
        elif ask.method == "GET" and ask.path == "/" and "owner" in ask.query:
            await self._make_owner(ask, answer)
        else:
            await self._let_in(ask, visitor, scope, receive, answer)

    def _refusal(self, ask: _Asked) -> tuple[int, str] | None:
        """Why a request is not even looked at."""
        if not self.door.knows(ask.host):
            return 400, "This server does not go by that name."
        if re.search(r"[\0\\]|(^|/)\.\.?(/|$)", ask.path):
            return 404, "There is nothing here."
        if ask.method not in ("GET", "HEAD", "POST"):
            return 405, "This cannot be done here."
        if ask.method == "POST" and ask.is_foreign:
            return 403, "Another site has asked for this; open the page itself."
        return None

    async def _let_in(self, ask: _Asked, visitor: Visitor | None, scope: Scope, receive: Receive, send: Send) -> None:
        if visitor is None:
            page = ask.wants_page and ask.path == "/"
            # The server asks this of itself when it starts.
            if ask.path.rstrip("/") == "/gradio_api/startup-events":
                await self.app(scope, receive, send)
            else:
                await (_login_page(send, self.door) if page else _answer(send, 401, "Log in first."))
            return
        guest = not visitor.owner and visitor is not LOCAL
        if guest and self.door.paused:
            await _answer(send, 503, "The owner has paused this link; try again later.")
            return
        kind = way(ask.method, ask.path)
        if kind is None or (kind == "api" and guest and not self.door.api):
            await _answer(send, 404, "There is nothing here.")
            return
        if refusal := self._too_much(ask, visitor):
            await _answer(send, *refusal)
            return
        if ask.path.rstrip("/") == "/gradio_api/upload":
            await asyncio.to_thread(forgetting.halves)
        scope[VISITOR] = visitor
        if ask.method == "POST":
            receive = _patient(receive)
        if ask.method == "POST" and bodies.is_json(ask.path):
            await self._call(ask, visitor, scope, receive, send)
        else:
            try:
                await self.app(scope, receive, send)
            except ClientDisconnect:  # Gradio would call it an error of the program
                await _answer(send, 408, "This did not come to its end; send it again.")

    async def _call(self, ask: _Asked, visitor: Visitor, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a call of a function through, if it is one."""
        body = await _body(receive, bodies.MAX_CALL)
        if body is None:
            await _answer(send, 413, "This is too large, or did not come to its end.")
            return
        try:
            if blocks := _blocks(scope):
                if not ask.header("content-type").startswith("application/json"):
                    raise bodies.BadCall("Send JSON, and say so (Content-Type).", 415)
                page = bodies.check(ask.path, body, blocks.fns)
                await self._unheard.forget(blocks._queue, time.monotonic())
                if not self.door.calls(visitor, page) or (not visitor.free and _is_busy(blocks, visitor)):
                    raise bodies.BadCall("You have asked for too much at once; try again in a minute.", 429)
        except bodies.BadCall as problem:
            await _answer(send, problem.status, str(problem))
            return
        await self.app(scope, _replayed(body, receive), _refusing(send))

    def _too_much(self, ask: _Asked, visitor: Visitor) -> tuple[int, str] | None:
        """Why something that is sent is not taken, before a byte of it is read."""
        if ask.method != "POST":
            return None
        size = ask.header("content-length")
        if not size.isdecimal():
            return 411, "Say how much is sent (Content-Length)."
        if int(size) > MAX_UPLOAD:
            return 413, "This is too large."
        if ask.path.rstrip("/") == "/gradio_api/upload" and not self.door.takes(visitor, int(size)):
            return 429, "You have sent your share of this hour; try again later."
        return None

    async def _make_owner(self, ask: _Asked, send: Send) -> None:
        if self.door.use_link(ask.query["owner"][0]):
            name, value = self.door.owner_cookie
            await _go(send, "/", f"{name}={value}; Path=/; HttpOnly; SameSite=Lax; Max-Age={COOKIE_SECONDS}")
        elif self.door.visitor(ask.cookies) is OWNER:
            await _go(send, "/")
        else:
            await _answer(send, 403, "This link has been used; start the program again for a new one.")

    async def _log_in(self, ask: _Asked, receive: Receive, send: Send) -> None:
        form = await _form(_patient(receive))
        user, password = (form.get(name, [""])[0] for name in ("username", "password"))
        try:
            cookie = self.door.log_in(user, password, ask.address)
        except TooManyTries as problem:
            wait = [(b"retry-after", str(max(1, round(problem.seconds))).encode())]
            if ask.wants_page:
                await _login_page(send, self.door, str(problem), 429, wait)
            else:
                await _answer(send, 429, str(problem), wait)
            return
        if cookie is None:
            words = "That is not the password; try again."
            await (_login_page(send, self.door, words) if ask.wants_page else _answer(send, 401, words))
            return
        kept = f"{self.door.guest_cookie_name}={cookie}; Path=/; HttpOnly; SameSite=Lax"
        if ask.wants_page:
            await _go(send, "/", kept)
        else:
            await _answer(send, 200, "You are in.", [(b"set-cookie", kept.encode())])


def way(method: str, path: str) -> str | None:
    """Whether the page ("page") or a program ("api") has business there; None for everybody else."""
    method = "GET" if method == "HEAD" else method
    return next((kind for verb, pattern, kind in WAYS if verb == method and pattern.fullmatch(path)), None)


class _Asked:
    """What a request says."""

    def __init__(self, scope: Scope) -> None:
        self.method, self.path = scope["method"], scope["path"]
        self._headers = [(name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in scope["headers"]]
        self.query = parse_qs(scope.get("query_string", b"").decode("latin-1"), max_num_fields=50)
        self.address = (scope.get("client") or ("",))[0]

    def header(self, name: str) -> str:
        """The one value of a header; "" if it is missing or there are several."""
        found = [value for key, value in self._headers if key == name]
        return found[0] if len(found) == 1 else ""

    @property
    def host(self) -> str:
        return self.header("host")

    @property
    def wants_page(self) -> bool:
        return "text/html" in self.header("accept")

    @property
    def token(self) -> str:
        kind, _, token = self.header("authorization").partition(" ")
        return token.strip() if kind.lower() == "bearer" else ""

    @property
    def cookies(self) -> dict[str, str]:
        try:
            return {name: morsel.value for name, morsel in SimpleCookie(self.header("cookie")).items()}
        except CookieError:
            return {}

    @property
    def is_foreign(self) -> bool:
        """Whether a page of another site asks; programs that are no browsers say neither of the two."""
        if self.header("sec-fetch-site") not in ("", "same-origin", "none"):
            return True
        if not any(key == "origin" for key, _ in self._headers):
            return False
        try:
            return urlsplit(self.header("origin")).netloc != self.host
        except ValueError:
            return True


def _name_of(address: str) -> str:
    try:
        return urlsplit(address).hostname or ""
    except ValueError:  # brackets that do not close
        return ""


def _patient(receive: Receive) -> Receive:
    """Wait for the next piece only so long, and not for crumbs; then whoever sends it is gone."""

    async def received() -> MutableMapping[str, Any]:
        nonlocal more, came
        if not more:  # what comes now is the end of the connection, which takes as long as the answer does
            return await receive()
        try:
            left = began + PATIENCE + came / SLOWEST - time.monotonic()
            message = await asyncio.wait_for(receive(), min(PATIENCE, left))
        except TimeoutError:
            return {"type": "http.disconnect"}
        more, came = message.get("more_body", False), came + len(message.get("body", b""))
        return message

    more, came, began = True, 0, time.monotonic()
    return received


async def _body(receive: Receive, most: int) -> bytes | None:
    """All that is sent, or None if it is too much or whoever sends it has gone."""
    body, more = bytearray(), True
    while more:
        message = await receive()
        body += message.get("body", b"")
        if message["type"] != "http.request" or len(body) > most:
            return None
        more = message.get("more_body", False)
    return bytes(body)


def _replayed(body: bytes, receive: Receive) -> Receive:
    """What was read once more, and then whatever comes."""

    async def received() -> MutableMapping[str, Any]:
        return read.pop() if read else await receive()

    read: list[MutableMapping[str, Any]] = [{"type": "http.request", "body": body, "more_body": False}]
    return received


def _refusing(send: Send) -> Send:
    """Say 422 where Gradio says 500: it does so whenever a function refuses what it was given, with a sentence."""

    async def sent(message: MutableMapping[str, Any]) -> None:
        kinds = dict(message.get("headers", ()))
        if message.get("status") == 500 and kinds.get(b"content-type", b"").startswith(b"application/json"):
            message = {**message, "status": 422}
        await send(message)

    return sent


def _is_busy(blocks: Any, guest: Visitor) -> bool:
    """Whether a guest, or all of them, have as many calls waiting or running as they may have."""
    queue = blocks._queue
    waiting = [event for one in list(queue.event_queue_per_concurrency_id.values()) for event in list(one.queue)]
    waiting += [event for events in list(queue.active_jobs) if events for event in events]
    callers = [event.request.scope.get(VISITOR) for event in waiting]
    guests = [one.id for one in callers if one is not None and not one.free]
    return guests.count(guest.id) >= GUEST_CALLS or len(guests) >= GUESTS_CALLS


def _blocks(scope: Scope) -> Any:
    """Gradio's page behind the door; None where something else is."""
    found = getattr(scope.get("app"), "get_blocks", None)
    return found() if found else None


def _with_headers(send: Send) -> Send:
    """Add what browsers are told to every answer."""

    async def sent(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            ours = {name for name, _ in HEADERS} | {b"server"}
            kept = [(name, value) for name, value in message.get("headers", ()) if name.lower() not in ours]
            message = {**message, "headers": [*kept, *HEADERS]}
        await send(message)

    return sent


async def _answer(send: Send, status: int, text: str, more: Iterable[tuple[bytes, bytes]] = ()) -> None:
    body = json.dumps({"detail": text}).encode()
    await _send(send, status, b"application/json", body, more)


async def _go(send: Send, to: str, cookie: str = "") -> None:
    more = [(b"location", to.encode()), (b"cache-control", b"no-store")]
    await _send(send, 303, b"text/plain", b"", [*more, *([(b"set-cookie", cookie.encode())] if cookie else [])])


async def _send(send: Send, status: int, kind: bytes, body: bytes, more: Iterable[tuple[bytes, bytes]]) -> None:
    length = str(len(body)).encode()
    headers = [(b"content-type", kind + b"; charset=utf-8"), (b"content-length", length), *more]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _login_page(
    send: Send, door: Door, problem: str = "", status: int = 401, more: Iterable[tuple[bytes, bytes]] = ()
) -> None:
    page = (HERE / "login.html").read_text(encoding="utf-8")
    # Nothing in these two comes from a visitor.
    page = page.replace("{problem}", problem).replace("{user}", "" if door.user else "hidden")
    await _send(send, status, b"text/html", page.encode(), [(b"cache-control", b"no-store"), *more])


async def _form(receive: Receive) -> dict[str, list[str]]:
    """A small form; {} for anything else."""
    body, more = b"", True
    while more and len(body) <= MAX_FORM:
        message = await receive()
        if message["type"] != "http.request":
            return {}
        body += message.get("body", b"")
        more = message.get("more_body", False)
    if len(body) > MAX_FORM:
        return {}
    try:
        return parse_qs(body.decode("utf-8"), max_num_fields=10)
    except ValueError:
        return {}
