"""Clients that send or read slowly, or not at all."""

from __future__ import annotations

import contextlib
import select
import socket
import time
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from benchmarks.hostile_requests import API
from tests.support.shared_site import (
    client_of,
    shared_site,
)
from tests.support.site import Site
from tests.support.waiting import SECONDS, holds_soon
from ui.server import limits, timeouts
from ui.server.access import Access


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Site, Access]]:
    with shared_site(tmp_path_factory.mktemp("slow")) as found:
        yield found


@contextlib.contextmanager
def connections(site: Site, count: int) -> Iterator[list[socket.socket]]:
    """Open connections to the page."""
    place = urlsplit(site.url)
    with contextlib.ExitStack() as stack:
        yield [
            stack.enter_context(socket.create_connection((place.hostname or "", place.port or 80), timeout=10))
            for _ in range(count)
        ]


def seconds_until_closed(line: socket.socket, piece: bytes, pause: float, seconds: float = SECONDS) -> float:
    """Send a piece again and again; the seconds until the server closes the connection, or inf."""
    began = time.monotonic()
    line.settimeout(pause)
    while time.monotonic() - began < seconds:
        try:
            line.sendall(piece)
            if line.recv(1 << 16) == b"":
                return time.monotonic() - began
        except TimeoutError:
            continue
        except OSError:
            return time.monotonic() - began
    return float("inf")


def refusals(open_ones: list[socket.socket], expected: int) -> int:
    """How many connections get status 429; waits for the expected ones, then a moment for more."""
    waiting, count, end = list(open_ones), 0, time.monotonic() + SECONDS
    while time.monotonic() < end:
        ready = select.select(waiting, [], [], 0.3)[0]
        for line in ready:
            waiting.remove(line)
            count += b" 429 " in line.recv(1000)
        if count >= expected and not ready:
            break
    return count


def test_silent_connections_never_keep_the_owner_out(shared, monkeypatch: pytest.MonkeyPatch) -> None:
    # None of them is closed because its time is up.
    monkeypatch.setattr(timeouts, "HEAD_SECONDS", 600.0)
    site, _ = shared
    owner = client_of(shared, "owner")
    there = site.demo.server.server_state.connections
    with connections(site, 3 * timeouts.MAX_IDLE) as many:
        for line in many:
            with contextlib.suppress(OSError):
                line.sendall(b"GET / HTTP/1.1\r\nHost: local")
        assert holds_soon(lambda: len(there) <= timeouts.MAX_IDLE + 2)
        for _ in range(5):
            assert owner.request("GET", "/theme.css").status == 200
        # The owner did not have to wait until they were closed.
        assert len(there) >= timeouts.MAX_IDLE - 2


@pytest.mark.parametrize(
    "begun", [b"", b"G", b"GET / HTTP/1.1\r\nHost: localhost\r\nX: ", b"GET / HTTP/1.1\r\nHost: x\r\n\r\nG"]
)
def test_a_head_that_never_ends_times_out(shared, monkeypatch: pytest.MonkeyPatch, begun: bytes) -> None:
    monkeypatch.setattr(timeouts, "HEAD_SECONDS", 0.5)
    site, _ = shared
    with connections(site, 1) as (line,):
        line.sendall(begun)
        assert seconds_until_closed(line, b"x" if begun else b"", 0.05) < float("inf")


def test_a_body_that_never_ends_times_out(shared, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timeouts, "BODY_SECONDS", 0.5)
    site, _ = shared
    guest = client_of(shared, "guest")
    json, some = "application/json", "multipart/form-data; boundary=x"
    ways_in = ((f"{API}/upload", some), (f"{API}/queue/join", json), (f"{API}/cancel", json), ("/login", some))
    for path, kind in ways_in:
        head = (
            f"POST {path} HTTP/1.1\r\nHost: localhost\r\nCookie: {guest.cookie}\r\nContent-Length: 1000000\r\n"
            f"Content-Type: {kind}\r\nConnection: close\r\n\r\n"
        )
        with connections(site, 1) as (line,):
            begun = (
                b"" if kind == json else b'--x\r\nContent-Disposition: form-data; name="files"; filename="x"\r\n\r\n'
            )
            line.sendall(head.encode() + begun)
            assert 0.3 < seconds_until_closed(line, b" ", 0.05) < float("inf"), path


def test_requests_of_one_guest_and_of_anonymous_clients_are_limited(shared, monkeypatch: pytest.MonkeyPatch) -> None:
    site, _ = shared
    guest = client_of(shared, "guest")
    tails = {
        f"{API}/queue/join": (f"Cookie: {guest.cookie}\r\n", limits.GUEST_REQUESTS),
        "/login": ("", limits.ANONYMOUS_REQUESTS),
    }
    for path, (cookie, most) in tails.items():
        head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\n{cookie}Content-Length: 1000\r\n\r\nx"
        with connections(site, most + 10) as many:
            for line in many:
                line.sendall(head.encode())
            assert refusals(many, 10) == 10
            assert client_of(shared, "owner").request("GET", "/theme.css").status == 200
    # There is room again once they are gone.
    assert holds_soon(lambda: guest.request("GET", "/theme.css").status == 200)


def test_an_answer_that_the_client_does_not_read_is_dropped(shared, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timeouts, "READ_SECONDS", 0.5)
    monkeypatch.setattr(timeouts, "HEAD_SECONDS", 1.0)
    site, _ = shared
    guest = client_of(shared, "guest")
    place = urlsplit(site.url)
    there = site.demo.server.server_state.connections
    assert holds_soon(lambda: not there)
    asked = f"GET /config HTTP/1.1\r\nHost: localhost\r\nCookie: {guest.cookie}\r\n\r\n".encode()
    with contextlib.ExitStack() as stack:
        for _ in range(10):
            line = stack.enter_context(socket.socket())
            line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            line.connect((place.hostname, place.port))
            line.sendall(asked * 100)
        assert holds_soon(lambda: len(there) > 0)
        assert client_of(shared, "owner").request("GET", "/theme.css").status == 200
        assert holds_soon(lambda: not there)
