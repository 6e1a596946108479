"""Sharing: a public link with a password, until the owner stops it."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from urllib.parse import urlsplit

from ui.server.access import Access
from ui.server.network import NetworkShare
from ui.server.tunnel import Tunnel, TunnelError

# Gradio keeps a link "for up to 1 week (best effort)".
LINK_SECONDS = 7 * 86400.0
# 16 bytes: 128 bits.
PASSWORD_BYTES = 16


@dataclass(frozen=True)
class ShareStatus:
    """The state of the link.

    Attributes:
        state: off, starting, on or failed.
        url, password: of the link.
        seconds_left: until the link expires.
        guests: with a request in the last minute.
        pictures: made by guests since the link was created.
        paused: whether guests are locked out for now.
        problem: why it failed, one sentence.
        attempt: how many links were asked for so far; tells a second failure from the first.
    """

    state: str = "off"
    url: str = ""
    password: str = ""
    seconds_left: float = 0.0
    guests: int = 0
    pictures: int = 0
    paused: bool = False
    problem: str = ""
    attempt: int = 0


class Sharing:
    """At most one public link.  Thread-safe.

    Args:
        access: gets the link's password and host name.
        port: of the server.
        create_tunnel: called for each new link.
        guest_pictures: pictures made by guests since the start of the program.
        network_url: the page's address for devices of the same network; "" if they do not reach it.
    """

    def __init__(
        self,
        access: Access,
        port: int,
        create_tunnel: Callable[[], Tunnel],
        guest_pictures: Callable[[], int] = lambda: 0,
        network_url: str = "",
    ) -> None:
        self._access, self._port = access, port
        self._create_tunnel, self._guest_pictures = create_tunnel, guest_pictures
        self._network_url = network_url
        self._lock = threading.Lock()
        self._tunnel: Tunnel | None = None
        self._status = ShareStatus()
        self._attempt = 0
        self._started, self._pictures_before = 0.0, 0

    def status(self) -> ShareStatus:
        """The state of the link now."""
        with self._lock:
            if self._status.state == "on" and (self._tunnel is None or not self._tunnel.alive):
                self._end(
                    ShareStatus("failed", problem="The link was closed by the service; share again for a new one.")
                )
            status = replace(self._status, attempt=self._attempt)
            if status.state != "on":
                return status
            left = max(0.0, self._started + LINK_SECONDS - time.monotonic())
            guests, pictures = self._access.guest_count(), self._guest_pictures() - self._pictures_before
            paused = self._access.paused
            return replace(status, seconds_left=left, guests=guests, pictures=pictures, paused=paused)

    @property
    def network(self) -> NetworkShare:
        """How devices of the same network reach the page."""
        return NetworkShare(self._network_url, self._access.user, self._access.password)

    def start(self) -> ShareStatus:
        """Create the link; returns once it works or has failed."""
        with self._lock:
            if self._status.state in ("on", "starting"):
                return replace(self._status, attempt=self._attempt)
            self._attempt += 1
            self._status = ShareStatus("starting")
        try:
            tunnel = self._create_tunnel()
            url = tunnel.start(self._port)
        except TunnelError as problem:
            with self._lock:
                self._status = ShareStatus("failed", problem=str(problem))
            return self.status()
        password = secrets.token_urlsafe(PASSWORD_BYTES)
        with self._lock:
            if self._status.state != "starting":  # stopped meanwhile
                tunnel.stop()
                return replace(self._status, attempt=self._attempt)
            self._tunnel, self._started, self._pictures_before = tunnel, time.monotonic(), self._guest_pictures()
            password = self._access.allow_guests(password, [urlsplit(url).hostname or ""])
            self._status = ShareStatus("on", url, password)
        return self.status()

    def stop(self) -> ShareStatus:
        """End the link and log its guests out."""
        with self._lock:
            self._end(ShareStatus())
            return replace(self._status, attempt=self._attempt)

    def pause(self, paused: bool) -> ShareStatus:
        """Lock guests out for a while, or let them in again."""
        self._access.paused = paused
        return self.status()

    def _end(self, status: ShareStatus) -> None:
        tunnel, url, self._tunnel = self._tunnel, self._status.url, None
        self._status = status
        if url:
            self._access.revoke_guests([urlsplit(url).hostname or ""])
        if tunnel is not None:
            tunnel.stop()
