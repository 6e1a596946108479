"""How long the server waits for whoever is slow, and on how many at once.

uvicorn waits for a request's head for ever, and for whoever does not read an answer; and it takes as many connections
as come.  A few hundred silent ones (a "slow loris") would use up the files that a process may have open, and nobody,
the owner included, would get in any more.  Its ``limit_concurrency`` is no help: it counts the owner's connections with
all others, and turns the owner away as soon as somebody else has taken the last place.

Here a connection on which no request is being answered has a few seconds to send a whole head.  If there are too many
such connections, the one that has waited longest goes: whoever sends a whole head at once always gets in.  What happens
after that, the door bounds for each visitor (``ui.gate``).
"""

from __future__ import annotations

from functools import partial
from typing import Any

from uvicorn import Server
from uvicorn.protocols.http.h11_impl import H11Protocol

# Seconds for a request's head, from the connection or from the end of the last answer.
HEAD_SECONDS = 20.0
# Seconds in which somebody must have read some of what was sent.
READ_SECONDS = 30.0
# Connections on which nothing is being answered.
MAX_IDLE = 64

# Connections in the order in which they became idle.
Idle = dict["Patient", None]


class Patient(H11Protocol):
    """uvicorn's protocol, with an end to its patience.

    Args:
        idle: of the server.
    """

    def __init__(self, *args: Any, idle: Idle, **options: Any) -> None:
        super().__init__(*args, **options)
        self._idle = idle
        self._head: Any = None
        self._unread: Any = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._settle()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._settle()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._settle()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._unread = self.loop.call_later(READ_SECONDS, self._hang_up)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._unread = _stopped(self._unread)

    def connection_lost(self, exc: Exception | None) -> None:
        self._idle.pop(self, None)
        self._head, self._unread = _stopped(self._head), _stopped(self._unread)
        super().connection_lost(exc)

    def _settle(self) -> None:
        """Wait for a head, or wait no more; bytes that are no whole head change nothing."""
        if self.cycle is not None and not self.cycle.response_complete:
            self._idle.pop(self, None)
            self._head = _stopped(self._head)
        elif self not in self._idle:
            self._idle[self] = None
            # This also ends connections that were closed here and whose last bytes nobody takes.
            self._head = self.loop.call_later(HEAD_SECONDS, self._hang_up)
            if len(self._idle) > MAX_IDLE:
                next(iter(self._idle))._hang_up()

    def _hang_up(self) -> None:
        self._idle.pop(self, None)
        self.transport.abort()


def _stopped(timer: Any) -> None:
    if timer is not None:
        timer.cancel()


def guard(server: Server) -> None:
    """Have a running server lose its patience; connections that are there already keep theirs."""
    server.config.http_protocol_class = partial(Patient, idle={})  # type: ignore[assignment]
    # Nothing here speaks through web sockets; to uvicorn a refusal of one would be an error of the program.
    server.config.ws_protocol_class = None
    # What runs here is nobody's business (the door takes the same out of Gradio's answers).
    server.config.encoded_headers = [one for one in server.config.encoded_headers if one[0] != b"server"]
