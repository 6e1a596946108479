"""Pictures of the history over HTTP: each user gets those of the entries that it may see, and no others."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse, Response
from starlette.routing import Route

from history.database import HistoryUnavailable
from pipelines.images.settings_in_files import FORMATS
from pipelines.jobs.users import OWNER, User
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
    finders: Mapping[str, Callable[[User, str], Path | None]] = {
        "thumbnail": history.thumbnail, "picture": lambda user, entry_id: picture(history, user, entry_id),
    }  # fmt: skip

    def answer(request: Request) -> Response:
        kind, entry, user = *map(request.path_params.get, ("kind", "entry")), request.scope.get(USER_KEY, OWNER)
        form = request.query_params.get("format", "")
        try:
            if kind == "plain" or (kind == "picture" and form):
                return saved(history, user, str(entry), kind == "picture", form)
            find = finders.get(str(kind))
            path = find(user, str(entry)) if find else None
            return served(path) if path else PlainTextResponse(NOT_FOUND, 404)
        except OSError:  # deleted meanwhile
            return PlainTextResponse(NOT_FOUND, 404)
        except HistoryUnavailable as problem:
            return PlainTextResponse(str(problem), 503)

    return Route("/history/{kind}/{entry}", answer, methods=["GET"])


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
