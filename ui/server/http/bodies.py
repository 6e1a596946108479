"""Bodies of requests: read up to a bound, charged as they arrive, and read again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from urllib.parse import parse_qs

from starlette.types import Message, Receive

from ui.server import timeouts

MAX_LOGIN_BYTES = 4096
# Bodies of logins that are read at once; a new one takes the place of the one that has waited longest.
MAX_LOGINS = 32


class BodyRefused(ValueError):
    """A body that is not read to its end; the message is one sentence, ``status`` the answer's status."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


async def read_body(receive: Receive, max_bytes: int, allow: Callable[[int], bool] = lambda size: True) -> bytes:
    """A request's body.

    Args:
        allow: called with the size of each piece as it arrives; False ends the reading.

    Raises:
        BodyRefused: if it is too large or incomplete, or if ``allow`` does not allow a piece.
    """
    body, more = bytearray(), True
    while more:
        message = await receive()
        piece = message.get("body", b"")
        if message["type"] != "http.request":
            raise BodyRefused("The request is incomplete; send it again.", 408)
        if len(body) + len(piece) > max_bytes:
            raise BodyRefused("The request is too large.", 413)
        if not allow(len(piece)):
            raise BodyRefused("Too many large calls; try again in a minute.", 429)
        body += piece
        more = message.get("more_body", False)
    return bytes(body)


def replay(body: bytes, receive: Receive) -> Receive:
    """A ``receive`` that begins with a body that has been read already."""

    async def replayed() -> Message:
        return messages.pop() if messages else await receive()

    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]
    return replayed


def parse_form(body: bytes) -> dict[str, list[str]]:
    """The fields of a small form; {} for anything else."""
    try:
        return parse_qs(body.decode("utf-8"), max_num_fields=10)
    except ValueError:
        return {}


class LoginBodies:
    """Reads the bodies of logins.  Only for the server's event loop.

    A client that sends its password at once is always heard, however many others send nothing: these cannot be told
    apart by their address, since all come through the tunnel from this computer.
    """

    def __init__(self) -> None:
        self._reading: dict[asyncio.Future[bytes], None] = {}

    async def read(self, receive: Receive) -> bytes:
        """The body of one login.

        Raises:
            BodyRefused: if it is too large, does not come in time, or gives way to newer ones.
        """
        limited = timeouts.limit_body_time(receive, timeouts.LOGIN_SECONDS)
        reading = asyncio.ensure_future(read_body(limited, MAX_LOGIN_BYTES))
        self._reading[reading] = None
        if len(self._reading) > MAX_LOGINS:
            oldest = next(iter(self._reading))
            del self._reading[oldest]
            oldest.cancel()
        try:
            await asyncio.wait([reading])
            if reading.cancelled():
                raise BodyRefused("Too many logins at once; try again.", 429)
            return reading.result()
        finally:
            self._reading.pop(reading, None)
            reading.cancel()
