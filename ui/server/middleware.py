"""The ASGI middleware around Gradio and all of its layers: access control, allowed routes, limits, security headers."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pipelines.jobs.users import OWNER, User
from ui.server import call_validation, limits
from ui.server.access import USER_KEY, Access, is_guest
from ui.server.call_validation import InvalidCall
from ui.server.http import bodies
from ui.server.http.answer_cache import AnswerCache
from ui.server.http.answers import (
    GUESTS_LINK,
    OWNERS_LINK,
    error,
    health,
    login_page,
    preview_page,
    preview_picture,
    redirect_to_page,
    used_link_page,
    without_500,
)
from ui.server.http.bodies import BodyRefused, LoginBodies
from ui.server.http.client_request import ClientRequest, HeadTooLarge, check_head, for_gradio
from ui.server.http.events import OTHERS_PAGE, TOO_MANY_CALLS, check_listening, forget_upload, session_of
from ui.server.http.routes import (
    HEALTHY,
    NEW_LINK,
    PREVIEW_PICTURE,
    READY,
    ROUTES,
    SECURITY_HEADERS,
    STARTUP,
    UPLOAD,
    route_kind,
    safe_headers,
)
from ui.server.http.session_owners import SessionOwners
from ui.server.http.uploads import UPLOAD_LIMIT, Uploads
from ui.server.limits import (
    ANONYMOUS,
    ConcurrentRequests,
    GuestQuotas,
    Held,
    TooManyAttempts,
    has_too_many_calls,
)
from ui.server.session_cleanup import SessionCleanup
from ui.server.timeouts import limit_body_time

__all__ = ["ROUTES", "SECURITY_HEADERS", "AccessMiddleware", "outermost", "route_kind"]

log = logging.getLogger(__name__)
COOKIE_SECONDS = 365 * 86400
# Of one request.
MAX_UPLOAD_BYTES = 64 * 2**20
# Calls longer than this are parsed in a thread, guests' apart from the owner's.
QUICK_BYTES, GUEST_THREADS = 16384, 2
# How often a guest's held answer looks whether the link goes on.
PAUSE_SECONDS = 0.2


def outermost(access: Access | None) -> Callable[[Any], AbstractAsyncContextManager[None]]:
    """A ``lifespan`` that puts ``AnswerCache`` and ``AccessMiddleware`` around an application and all of its layers.

    Without ``access`` everyone may come in, as in a notebook.  Gradio puts layers of its own outside of those that it
    is given: one reflects the origins of other programs on localhost.  The lifespan begins before the server takes its
    first connection.
    """

    @asynccontextmanager
    async def lifespan(app: Any) -> AsyncIterator[None]:
        cache = AnswerCache(app.middleware_stack)
        app.middleware_stack = AccessMiddleware(cache, access) if access else cache
        yield

    return lifespan


class AccessMiddleware:
    """Lets a request through to Gradio if its user may make it.

    Args:
        app: what is behind it.
        access: who may use the server.
    """

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self.app, self.access = app, access
        self._quotas = GuestQuotas(access.clock)
        self._requests, self._held_bytes, self._logins = ConcurrentRequests(), Held(), LoginBodies()
        self._uploads = Uploads(app, self._quotas)
        self._cleanup, self._sessions = SessionCleanup(), SessionOwners(forget_upload)
        self._guest_threads = ThreadPoolExecutor(GUEST_THREADS, "guest calls")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request; nothing that goes wrong leaves a request without an answer, nor shows a traceback."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
        if scope["type"] != "http":  # nothing here uses web sockets
            return
        begun = False

        async def checked_send(message: Message) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = True
                message = {**message, "headers": safe_headers(message.get("headers", ()))}
            await send(message)

        problem: Response | None = None
        try:
            problem = await self._handle(scope, receive, checked_send)
        except ClientDisconnect:  # Gradio would log it as an error of the program
            problem = error(408, "The request is incomplete; send it again.")
        except (BodyRefused, HeadTooLarge, InvalidCall) as refused:
            problem = error(refused.status, str(refused))
        except GuestLoggedOut:
            pass
        except Exception:
            log.exception("A request failed")
            problem = error(500, "Something went wrong here; try again. The log of the program says what.")
        if problem is not None and not begun:
            await problem(scope, receive, checked_send)

    async def _handle(self, scope: Scope, receive: Receive, send: Send) -> Response | None:
        """The answer of this program, or None once Gradio has answered."""
        check_head(scope)
        request = ClientRequest(scope)
        if response := self._strip_root(scope) or self._invalid(request):
            return response
        cookies = {
            name: request.cookie_values(name) for name in (self.access.owner_cookie[0], self.access.guest_cookie_name)
        }
        user = self.access.identify(cookies, request.bearer_token)
        if request.method == "POST" and request.path == "/login":
            return await self._log_in(request, receive)
        if request.method in ("GET", "HEAD") and request.path == "/" and request.query_params.get("owner"):
            return self._follow_link(request, user)
        client = ANONYMOUS if user is None else user.id if is_guest(user) else None
        if not self._requests.has_room(client):
            return error(429, "Too many requests at once; close a window or wait a little.")
        with self._requests.counted(client):
            return await self._answer(request, user, receive, send)

    def _strip_root(self, scope: Scope) -> Response | None:
        """Remove the path under which a proxy shows the page, if the proxy has not."""
        root = self.access.root_path
        if not root or not f"{scope['path']}/".startswith(f"{root}/"):
            return None
        if scope["path"] == root:
            return RedirectResponse(f"{root}/", 307)
        scope["path"] = scope["path"][len(root) :]
        if raw := scope.get("raw_path"):
            scope["raw_path"] = raw[len(root) :] if raw.startswith(f"{root}/".encode()) else scope["path"].encode()
        return None

    def _invalid(self, request: ClientRequest) -> Response | None:
        """The answer to a request that no user may make."""
        if not self.access.is_own_host(request.host):
            return error(400, "Unknown host name.")
        if request.has_ambiguous_body:  # the rest of the connection could be read as another request
            problem = "Content-Length may be given once, and not with Transfer-Encoding."
            return error(400, problem, {"connection": "close"})
        if re.search(r"[\0\\]|(^|/)\.\.?(/|$)", request.path):
            return error(404, "Not found.")
        if request.method not in ("GET", "HEAD", "POST"):
            return error(405, "Method not allowed.")
        if request.is_chunked or (request.method == "POST" and request.content_length is None):
            return error(411, "Content-Length is missing.", {"connection": "close"})
        # A link on another site may open the page; nothing else that another site does is answered.
        leads_here = request.method != "POST" and request.is_navigation and "origin" not in request.headers
        if not leads_here and request.is_from_another_site(self.access.origins):
            return error(403, "Requests from other sites are not allowed; open the page itself.")
        return None

    async def _answer(self, request: ClientRequest, user: User | None, receive: Receive, send: Send) -> Response | None:
        if request.path == PREVIEW_PICTURE and request.method != "POST":
            return preview_picture()
        if request.path in (HEALTHY, READY) and request.method != "POST":
            return health(request.path == HEALTHY or not self.access.ending)
        if user is None:
            if request.path == "/" and request.method != "POST" and request.is_preview_program:
                return preview_page(self.access, request, GUESTS_LINK)
            if request.path.rstrip("/") != STARTUP:  # the server itself requests it when it starts
                html = request.wants_html and request.path == "/"
                return login_page(self.access, request) if html else error(401, "Sign in first.")
            await self.app(self._for_gradio(request.scope), receive, without_500(send))
            return None
        response = self._forbidden(request, user)
        if response is None and request.path == NEW_LINK:
            return JSONResponse({"token": self.access.link_token()})
        return response or await self._forward(request, user, receive, send)

    def _forbidden(self, request: ClientRequest, user: User) -> Response | None:
        """The answer to a request that this user may not make, before a byte of its body is read."""
        if is_guest(user) and self.access.paused:
            return error(503, "The owner has paused this link; try again later.")
        kind = route_kind(request.method, request.path)
        closed = (kind == "api" and is_guest(user) and not self.access.api) or (kind == "owner" and not user.owner)
        if kind is None or closed:
            return error(404, "Not found.")
        size = request.content_length or 0
        if size > MAX_UPLOAD_BYTES:
            return error(413, "The request is too large.")
        if request.path.rstrip("/") == UPLOAD and not self._quotas.has_room_for(user, size):
            return error(429, UPLOAD_LIMIT)
        return check_listening(request, user, self._sessions, self._quotas, _blocks(request.scope))

    def _for_gradio(self, scope: Scope) -> Scope:
        return for_gradio(scope, lambda host: self.access.is_own_host(host) or host.lower() in self.access.origins)

    async def _forward(self, request: ClientRequest, user: User, receive: Receive, send: Send) -> Response | None:
        scope = self._for_gradio(request.scope)
        scope[USER_KEY] = user
        if is_guest(user):
            send = self._hold_while_paused(send)
        if request.method == "POST":
            receive = limit_body_time(receive)
            if call_validation.is_json(request.path):
                return await self._forward_call(request, user, receive, send)
            if request.path.rstrip("/") == UPLOAD:
                await self._uploads.forward(scope, user, receive, send)
                return None
        with self._sessions.listening(session_of(request)):
            await self.app(scope, receive, without_500(send))
        return None

    async def _forward_call(self, request: ClientRequest, user: User, receive: Receive, send: Send) -> Response | None:
        """Forward a call of a function, once its body is checked; refused calls count, too."""
        client, held = user.id, 0

        def allow(size: int) -> bool:
            nonlocal held
            held += size
            bounds = limits.GUEST_CALL_BYTES, limits.ALL_GUEST_CALL_BYTES
            fits = user.unmetered or self._held_bytes.add(client, size, *bounds)
            return fits and self._quotas.allow_call_bytes(user, size)

        try:
            if not self._quotas.may_call(user):
                raise InvalidCall(TOO_MANY_CALLS, 429)
            try:
                body = await bodies.read_body(receive, call_validation.MAX_CALL_BYTES, allow)
                if blocks := _blocks(request.scope):
                    await self._check_call(request, user, body, blocks)
            except (BodyRefused, InvalidCall):
                self._quotas.count_refused_call(user)
                raise
            scope = {**self._for_gradio(request.scope), USER_KEY: user}
            await self.app(scope, bodies.replay(body, receive), without_500(self._claim_event(request, user, send)))
        finally:
            if not user.unmetered:
                self._held_bytes.release(client, held)
        return None

    async def _check_call(self, request: ClientRequest, user: User, body: bytes, blocks: Any) -> None:
        if not request.header("content-type").startswith("application/json"):
            raise InvalidCall("The Content-Type must be application/json.", 415)
        if len(body) <= QUICK_BYTES:
            value = call_validation.parse(body)
        else:
            threads = None if user.unmetered else self._guest_threads
            value = await asyncio.get_running_loop().run_in_executor(threads, call_validation.parse, body)
        call_validation.check_call(request.path, value, blocks.fns)
        session, event = value.get("session_hash") or "", value.get("event_id") or ""
        own = not session or self._sessions.claim_session(session, user, blocks)
        if not own or (event and not self._sessions.claim_event(event, user, blocks)):
            raise InvalidCall(OTHERS_PAGE, 403)
        await self._clean_up(blocks)
        allowed = self._quotas.allow_call(user, session)
        if not allowed or (not user.unmetered and has_too_many_calls(user, _queued_callers(blocks))):
            raise InvalidCall(TOO_MANY_CALLS, 429)

    async def _clean_up(self, blocks: Any) -> None:
        now = time.monotonic()
        if self.access.paused:  # guests' pages cannot read their messages now
            self._cleanup.postpone(now)
        else:
            await self._cleanup.run(blocks._queue, now)

    def _claim_event(self, request: ClientRequest, user: User, send: Send) -> Send:
        """Bind the event that Gradio answers to a call with to its user."""

        async def claiming(message: Message) -> None:
            body = message.get("body", b"")
            if body.startswith(b'{"event_id":') and len(body) < 1000:
                self._sessions.claim_event(str(json.loads(body)["event_id"]), user, _blocks(request.scope))
            await send(message)

        return claiming

    def _hold_while_paused(self, send: Send) -> Send:
        """Send a guest nothing while the link is paused, and nothing more once its guests are logged out."""
        epoch = self.access.guest_epoch
        begun = False

        async def held(message: Message) -> None:
            nonlocal begun
            while self.access.paused and self.access.guest_epoch == epoch:
                await asyncio.sleep(PAUSE_SECONDS)
            if self.access.guest_epoch != epoch:
                if begun:
                    await send({"type": "http.response.body", "body": b"", "more_body": False})
                raise GuestLoggedOut
            begun = True
            await send(message)

        return held

    def _follow_link(self, request: ClientRequest, user: User | None) -> Response:
        """Make a browser the owner's that follows the printed link."""
        if request.method == "HEAD" or request.is_preview:
            return preview_page(self.access, request, OWNERS_LINK)
        cookie = self.access.cookie_for_token(request.query_params["owner"], keep=not request.is_navigation)
        if not cookie and user is not OWNER:
            return used_link_page(self.access)
        response = redirect_to_page(self.access)
        if cookie:
            response.set_cookie(self.access.owner_cookie[0], cookie, COOKIE_SECONDS, httponly=True, samesite="lax")
        return response

    async def _log_in(self, request: ClientRequest, receive: Receive) -> Response:
        try:
            form = bodies.parse_form(await self._logins.read(receive))
        except BodyRefused as refused:
            if refused.status != 413:  # a body that is too long is a wrong password
                raise
            form = {}
        user, password = (form.get(name, [""])[0] for name in ("username", "password"))
        try:
            address, earlier = request.client.host if request.client else "", self.access.guest_cookie_name
            cookie = self.access.log_in(user, password, address, request.cookie_values(earlier))
        except TooManyAttempts as problem:
            wait = {"retry-after": str(max(1, round(problem.seconds)))}
            return self._login_failed(request, str(problem), 429, wait)
        if cookie is None:
            return self._login_failed(request, "Wrong password; try again.", 401)
        response = redirect_to_page(self.access) if request.wants_html else JSONResponse({"detail": "Signed in."})
        # It outlives the share, which ends what it opens, so that the guest finds its history at the next one.
        name = self.access.guest_cookie_name
        response.set_cookie(name, cookie, COOKIE_SECONDS, httponly=True, samesite="lax")
        return response

    def _login_failed(self, request: ClientRequest, problem: str, status: int, headers: Any = None) -> Response:
        if request.wants_html:
            return login_page(self.access, request, problem, status, headers)
        return error(status, problem, headers)


class GuestLoggedOut(Exception):
    """The guest whom an answer goes to has been logged out meanwhile."""


def _queued_callers(blocks: Any) -> list[User]:
    """The users of all calls that wait or run in Gradio's queue."""
    queue = blocks._queue
    events = [event for each in list(queue.event_queue_per_concurrency_id.values()) for event in list(each.queue)]
    events += [event for active in list(queue.active_jobs) if active for event in active]
    users = [event.request.scope.get(USER_KEY) for event in events]
    return [user for user in users if user is not None]


def _blocks(scope: Scope) -> Any:
    """Gradio's page behind the middleware, or None behind another app."""
    get_blocks = getattr(scope.get("app"), "get_blocks", None)
    return get_blocks() if get_blocks else None
