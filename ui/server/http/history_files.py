"""Pictures of the history over HTTP: each user gets those of the entries that it may see, and no others."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse, Response
from starlette.routing import Route

from history.database import HistoryUnavailable
from pipelines.images.decoding_slots import BUSY, GUEST_SLOTS, MAX_WAITING, DecodingSlots
from pipelines.images.settings_in_files import FORMATS
from pipelines.jobs.users import OWNER, User
from pipelines.request import InvalidRequest
from ui.server.access import USER_KEY

if TYPE_CHECKING:
    from history.store import History

# What a file is served as; every other one is a download.
MEDIA_TYPES: Mapping[str, str] = {
    ".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".webp": "image/webp",
}  # fmt: skip
# An entry's files never change; only the user's own browser may keep them.
CACHE = {"cache-control": "private, max-age=86400", "vary": "Cookie"}
NOT_FOUND = "There is no such picture."
NO_FORMAT = f"Pictures are served as {', '.join(FORMATS)}."
BROKEN = "The file of this picture is broken; download it as it is."


def history_route(history: History) -> Route:
    """``/history/<thumbnail, picture or plain>/<id of an entry>``; without middleware, as in a notebook, for the owner.

    ``plain`` is the picture without prompt and settings.  With ``?format=png``, ``jpeg`` or ``webp``, picture and plain
    are in that format.
    """
    turns = _Turns(history.export_slots)
    finders: Mapping[str, Callable[[User, str], Path | None]] = {
        "thumbnail": history.thumbnail, "picture": lambda user, entry_id: picture(history, user, entry_id),
    }  # fmt: skip

    def stored(kind: str, user: User, entry: str) -> Response:
        find = finders.get(kind)
        path = find(user, entry) if find else None
        return served(path) if path else PlainTextResponse(NOT_FOUND, 404)

    async def answer(request: Request) -> Response:
        kind, entry = (str(request.path_params.get(name)) for name in ("kind", "entry"))
        user, form = request.scope.get(USER_KEY, OWNER), request.query_params.get("format", "")
        try:
            if kind == "plain" or (kind == "picture" and form):
                return await turns.run(user, lambda: saved(history, user, entry, kind == "picture", form))
            return await run_in_threadpool(stored, kind, user, entry)
        except OSError:  # deleted meanwhile
            return PlainTextResponse(NOT_FOUND, 404)
        except HistoryUnavailable as problem:
            return PlainTextResponse(str(problem), 503)
        except InvalidRequest as problem:
            return PlainTextResponse(str(problem), 429)

    return Route("/history/{kind}/{entry}", answer, methods=["GET"])


class _Turns:
    """Makes files one at a time for each guest, in few threads: those that the owner's page needs stay free.

    Only for the server's event loop.

    Args:
        slots: how many files are made at once, by the page's exports, too.
    """

    def __init__(self, slots: DecodingSlots) -> None:
        self._slots = slots
        self._threads = ThreadPoolExecutor(GUEST_SLOTS, "guest pictures")
        self._waiting: Counter[str] = Counter()
        self._turns: dict[str, asyncio.Lock] = {}

    async def run(self, user: User, make: Callable[[], Response]) -> Response:
        """The answer that ``make`` makes in a thread; raises InvalidRequest if too many others wait."""
        guest = user.guest

        def held() -> Response:
            with self._slots.hold(guest):
                return make()

        if guest is None:
            return await run_in_threadpool(held)
        if self._waiting[guest] > MAX_WAITING:
            raise InvalidRequest("image", BUSY)
        self._waiting[guest] += 1
        try:
            async with self._turns.setdefault(guest, asyncio.Lock()):
                return await asyncio.get_running_loop().run_in_executor(self._threads, held)
        finally:
            self._waiting[guest] -= 1
            if not self._waiting[guest]:
                del self._waiting[guest], self._turns[guest]


def picture(history: History, user: User, entry_id: str) -> Path | None:
    """The file of an entry that a user may see, also from the bin."""
    entry = history.catalogue.find(user, entry_id)
    return history.folders.picture(entry.file) if entry else None


def saved(history: History, user: User, entry_id: str, settings: bool, form: str) -> Response:
    """A picture's file with or without prompt and settings, in its own format or another one; raises OSError."""
    if form and form not in FORMATS:
        return PlainTextResponse(NO_FORMAT, 404)
    try:
        found = history.saved(user, entry_id, settings, form)
    except (ValueError, IndexError):
        return PlainTextResponse(BROKEN, 422)
    if found is None:
        return PlainTextResponse(NOT_FOUND, 404)
    name, data = found
    kind = MEDIA_TYPES.get(Path(name).suffix.lower(), "application/octet-stream")
    return Response(data, media_type=kind, headers=CACHE)


def served(path: Path) -> Response:
    """A picture's file as an answer; raises OSError if it is gone."""
    kind = MEDIA_TYPES.get(path.suffix.lower(), "application/octet-stream")
    return FileResponse(path, media_type=kind, headers=CACHE, stat_result=path.stat())
