"""Sharing: a public link with a password, for as long as the owner wants it."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

from ui.gate import Door
from ui.tunnel import NoTunnel, Tunnel

# Gradio keeps a link "for up to 1 week (best effort)".
LASTS_SECONDS = 7 * 86400.0
# 16 bytes: 128 bits.
PASSWORD_BYTES = 16


@dataclass(frozen=True)
class Shared:
    """How it is now.

    Attributes:
        state: off, starting, on or failed.
        url, password: of the link.
        seconds_left: until the link ends by itself.
        guests: who were heard of in the last minute.
        pictures: that guests have made since the link is there.
        paused: whether guests wait outside.
        problem: why it failed, one sentence.
    """

    state: str = "off"
    url: str = ""
    password: str = ""
    seconds_left: float = 0.0
    guests: int = 0
    pictures: int = 0
    paused: bool = False
    problem: str = ""


class Sharing:
    """One public link at a time.  Thread-safe.

    Args:
        door: lets guests in.
        port: of the server.
        tunnel: makes a tunnel; asked for each link anew.
        made: pictures that guests have made since the program began.
    """

    def __init__(
        self, door: Door, port: int, tunnel: Callable[[], Tunnel], made: Callable[[], int] = lambda: 0
    ) -> None:
        self._door, self._port, self._make, self._made = door, port, tunnel, made
        self._lock = threading.Lock()
        self._tunnel: Tunnel | None = None
        self._now = Shared()
        self._since, self._before = 0.0, 0

    def look(self) -> Shared:
        """How it is now."""
        with self._lock:
            if self._now.state == "on" and (self._tunnel is None or not self._tunnel.alive):
                self._shut(Shared("failed", problem="The link has ended by itself; share again for a new one."))
            now = self._now
            if now.state != "on":
                return now
            left = max(0.0, self._since + LASTS_SECONDS - time.monotonic())
            guests, pictures = self._door.guests(), self._made() - self._before
            return Shared("on", now.url, now.password, left, guests, pictures, self._door.paused)

    def start(self) -> Shared:
        """Make the link; waits until it is there or cannot be."""
        with self._lock:
            if self._now.state in ("on", "starting"):
                return self._now
            self._now = Shared("starting")
        try:
            tunnel = self._make()
            url = tunnel.start(self._port)
        except NoTunnel as problem:
            with self._lock:
                self._now = Shared("failed", problem=str(problem))
                return self._now
        password = secrets.token_urlsafe(PASSWORD_BYTES)
        with self._lock:
            if self._now.state != "starting":  # somebody has stopped it meanwhile
                tunnel.stop()
                return self._now
            self._tunnel, self._since, self._before = tunnel, time.monotonic(), self._made()
            password = self._door.open_to(password, [urlsplit(url).hostname or ""])
            self._now = Shared("on", url, password)
        return self.look()

    def stop(self) -> Shared:
        """End the link: no guest comes in any more."""
        with self._lock:
            self._shut(Shared())
            return self._now

    def pause(self, paused: bool) -> Shared:
        """Keep guests outside, or let them in again."""
        self._door.paused = paused
        return self.look()

    def _shut(self, then: Shared) -> None:
        tunnel, url, self._tunnel = self._tunnel, self._now.url, None
        self._now = then
        if url:
            self._door.shut([urlsplit(url).hostname or ""])
        if tunnel is not None:
            tunnel.stop()
