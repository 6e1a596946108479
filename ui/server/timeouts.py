"""How long the server waits for slow clients, and how many idle connections it keeps.

uvicorn waits forever for a request's head and for a client that does not read its answer, and accepts any number of
connections.  A few hundred silent ones (a "slow loris") would use up the files that a process may open, and lock out
everyone, the owner included.  Its ``limit_concurrency`` does not help: it counts the owner's connections with all
others, and refuses the owner once other clients have taken the last place.

Here a connection without a running request has a few seconds to send a whole head.  If there are too many such
connections, the one that has waited longest is closed: a client that sends a whole head at once always gets in.  After
the head, ``ui.server.limits`` bounds the requests of each client.
"""

from __future__ import annotations

import asyncio
import time
from functools import partial
from typing import Any

from starlette.types import Message, Receive
from uvicorn import Server
from uvicorn.protocols.http.h11_impl import H11Protocol

from ui.server.http.client_request import MAX_HEAD_BYTES

# Seconds for a request's head, from the connection or from the end of the last answer.
HEAD_SECONDS = 20.0
# Seconds in which a client must read some of what was sent.
READ_SECONDS = 30.0
# Seconds without a byte of a request's body, and the bytes that must arrive for each second beyond.
BODY_SECONDS, MIN_BYTES_A_SECOND = 30.0, 4096
# Seconds for the whole body of a login, which is a few bytes.
LOGIN_SECONDS = 5.0
# Connections without a running request.
MAX_IDLE = 64
# Bytes that are parsed at once before others get their turn: chunks of one byte each take 10 microseconds.
SLICE_BYTES = 8192

# Connections in the order in which they became idle.
Idle = dict["TimedProtocol", None]


class TimedProtocol(H11Protocol):
    """uvicorn's protocol with timeouts.

    Args:
        idle: idle connections of the server.
    """

    def __init__(self, *args: Any, idle: Idle, **options: Any) -> None:
        super().__init__(*args, **options)
        self._idle = idle
        self._head_timer: asyncio.TimerHandle | None = None
        self._read_timer: asyncio.TimerHandle | None = None
        self._unparsed = bytearray()

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._update_idle()

    def data_received(self, data: bytes) -> None:
        parses = bool(self._unparsed)
        self._unparsed += data
        if not parses:
            self._parse_slice()

    def _parse_slice(self) -> None:
        """Parse some of what has arrived, and the rest after others had their turn."""
        if self.transport.is_closing():  # its answer closed the connection: nobody reads the rest
            self._unparsed.clear()
            return
        data = bytes(self._unparsed[:SLICE_BYTES])
        super().data_received(data)
        self._update_idle()
        del self._unparsed[: len(data)]
        if self._unparsed:
            self.transport.pause_reading()
            self.loop.call_soon(self._parse_slice)
        elif not self.flow.read_paused:
            self.transport.resume_reading()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._update_idle()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._read_timer = self.loop.call_later(READ_SECONDS, self._abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        _cancel(self._read_timer)
        self._read_timer = None

    def connection_lost(self, exc: Exception | None) -> None:
        self._idle.pop(self, None)
        _cancel(self._head_timer)
        _cancel(self._read_timer)
        self._head_timer = self._read_timer = None
        super().connection_lost(exc)

    def _update_idle(self) -> None:
        """Start or stop the timer for the next head; bytes that complete no head change nothing."""
        if self.cycle is not None and not self.cycle.response_complete:
            self._idle.pop(self, None)
            _cancel(self._head_timer)
            self._head_timer = None
        elif self not in self._idle:
            self._idle[self] = None
            # This also ends closed connections whose last bytes the client does not read.
            self._head_timer = self.loop.call_later(HEAD_SECONDS, self._abort)
            if len(self._idle) > MAX_IDLE:
                next(iter(self._idle))._abort()

    def _abort(self) -> None:
        self._idle.pop(self, None)
        self.transport.abort()


def _cancel(timer: asyncio.TimerHandle | None) -> None:
    if timer is not None:
        timer.cancel()


def guard_connections(server: Server) -> None:
    """Give a running server these timeouts; connections that are open already keep their own."""
    server.config.http_protocol_class = partial(TimedProtocol, idle={})  # type: ignore[assignment]
    # The whole head, so that ``check_head`` answers in a sentence to one that is too large.
    server.config.h11_max_incomplete_event_size = 2 * MAX_HEAD_BYTES
    # Nothing here uses web sockets; uvicorn would log a refused one as an error of the program.
    server.config.ws_protocol_class = None
    # Clients need not know the server's software (``ui.server.middleware`` removes the same from Gradio's answers).
    server.config.encoded_headers = [one for one in server.config.encoded_headers if one[0] != b"server"]


def limit_body_time(receive: Receive, seconds: float = float("inf")) -> Receive:
    """Report a disconnect when a request's body stops arriving, arrives too slowly, or takes more than ``seconds``."""
    more, received, started = True, 0, time.monotonic()

    async def limited() -> Message:
        nonlocal more, received
        if not more:  # the next message is the end of the connection, which comes when the answer is complete
            return await receive()
        left = started + BODY_SECONDS + received / MIN_BYTES_A_SECOND - time.monotonic()
        left = min(BODY_SECONDS, left, started + seconds - time.monotonic())
        try:
            # Python 3.11's wait_for loses a cancellation that comes together with the message.
            async with asyncio.timeout(left):
                message = await receive()
        except TimeoutError:
            return {"type": "http.disconnect"}
        more, received = message.get("more_body", False), received + len(message.get("body", b""))
        return message

    return limited
