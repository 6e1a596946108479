"""Uploads: bytes and files are charged as they arrive, before Gradio opens a temporary file for each of them."""

from __future__ import annotations

from starlette.datastructures import Headers
from starlette.formparsers import MultiPartException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pipelines.jobs.users import User
from pipelines.system.text import file_problem
from ui.server import limits
from ui.server.http.answers import without_500
from ui.server.http.bodies import BodyRefused
from ui.server.http.upload_form import UploadForm
from ui.server.limits import GuestQuotas, Held

UPLOAD_LIMIT = "You have reached this hour's upload limit; try again later."


class Uploads:
    """Forwards uploads.  Only for the server's event loop.

    Args:
        app: Gradio.
        quotas: of guests' uploads and bytes.
    """

    def __init__(self, app: ASGIApp, quotas: GuestQuotas) -> None:
        self._app, self._quotas = app, quotas
        self._files = Held()

    async def forward(self, scope: Scope, user: User, receive: Receive, send: Send) -> None:
        """Forward one upload.

        Raises:
            BodyRefused: if it is no complete form of files, larger than allowed, or cannot be written.
        """
        if not self._quotas.allow_upload(user):
            raise BodyRefused(UPLOAD_LIMIT, 429)
        upload = _Upload(Headers(scope=scope).get("content-type", ""), user, receive, self._quotas, self._files)

        async def send_if_allowed(message: Message) -> None:
            if not upload.problem:
                await send(message)

        try:
            await self._app(scope, upload.receive, without_500(send_if_allowed))
        except MultiPartException:  # Gradio answers it itself
            if not upload.problem:
                raise
        except OSError as problem:  # the disk is full, or too many files are open
            upload.problem = upload.problem or BodyRefused(file_problem(problem), 507)
        finally:
            upload.release()
        if upload.problem:
            raise upload.problem


class _Upload:
    """The body of one upload."""

    def __init__(self, content_type: str, user: User, receive: Receive, quotas: GuestQuotas, files: Held) -> None:
        self.problem: BodyRefused | None = None
        self._user, self._receive, self._quotas, self._files = user, receive, quotas, files
        self._received, self._held, self._more = 0, 0, True
        self._form = UploadForm(content_type)

    async def receive(self) -> Message:
        """The next message; Gradio deletes the files of an upload that ends with a ``MultiPartException``."""
        message = await self._receive()
        if self._more:
            self.problem = self._problem_of(message)
            if self.problem:
                raise MultiPartException(str(self.problem))
        return message

    def release(self) -> None:
        """Forget the files that were held, and an upload of which not one byte came."""
        if self.problem and not self._received:
            self._quotas.forget_upload(self._user)
        if self._held:
            self._files.release(self._user.id, self._held)

    def _problem_of(self, message: Message) -> BodyRefused | None:
        if message["type"] != "http.request":
            return BodyRefused("The request is incomplete; send it again.", 408)
        piece, self._more = message.get("body", b""), message.get("more_body", False)
        self._received += len(piece)
        if not self._quotas.allow_upload_bytes(self._user, len(piece)):
            return BodyRefused(UPLOAD_LIMIT, 429)
        try:
            begun = self._form.add(piece, self._more)
        except BodyRefused as refused:
            return refused
        most = limits.OWNERS_FILES_A_REQUEST if self._user.unmetered else limits.GUEST_FILES_A_REQUEST
        if self._form.parts > most:
            return BodyRefused(f"More than {most} files at once; send them one after another.", 413)
        if begun and not self._user.unmetered:
            self._held += begun
            if not self._files.add(self._user.id, begun, limits.GUEST_FILES, limits.ALL_GUEST_FILES):
                return BodyRefused("Too many files at once; try again in a minute.", 429)
        return None
