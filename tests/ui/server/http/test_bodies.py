"""Bodies: charged as they arrive, and logins that never come."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from ui.server import timeouts
from ui.server.http.bodies import MAX_LOGINS, BodyRefused, LoginBodies, read_body


def run(work: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    """Run in a thread of its own: the browser of other tests keeps a loop running in this one."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(lambda: asyncio.run(work())).result()


def pieces(*given: bytes, more: bool = False) -> Callable[[], Coroutine[Any, Any, Any]]:
    messages = [{"type": "http.request", "body": piece, "more_body": True} for piece in given]
    messages[-1]["more_body"] = more

    async def receive() -> Any:
        return messages.pop(0) if messages else {"type": "http.disconnect"}

    return receive


def test_a_body_is_read_up_to_its_bound() -> None:
    assert run(lambda: read_body(pieces(b"ab", b"cd"), 4)) == b"abcd"
    for receive, status in ((pieces(b"ab", b"cde"), 413), (pieces(b"ab", more=True), 408)):
        with pytest.raises(BodyRefused) as refused:
            run(lambda receive=receive: read_body(receive, 4))
        assert refused.value.status == status


def test_bytes_are_charged_as_they_arrive() -> None:
    charged: list[int] = []

    def allow(size: int) -> bool:
        charged.append(size)
        return sum(charged) <= 3

    with pytest.raises(BodyRefused) as refused:
        run(lambda: read_body(pieces(b"ab", b"cd", b"ef"), 100, allow))
    assert refused.value.status == 429 and charged == [2, 2]


def test_a_login_that_comes_at_once_is_read_however_many_never_come() -> None:
    async def never() -> Any:
        await asyncio.sleep(600)

    async def flood() -> tuple[list[int], bytes]:
        logins = LoginBodies()
        silent = [asyncio.ensure_future(logins.read(never)) for _ in range(3 * MAX_LOGINS)]
        await asyncio.sleep(0)
        read = await logins.read(pieces(b"password=x"))
        refused = [one.exception().status for one in silent if one.done()]
        for one in silent:
            one.cancel()
        return refused, read

    refused, read = run(flood)
    assert read == b"password=x" and set(refused) == {429} and len(refused) >= 2 * MAX_LOGINS


@pytest.mark.parametrize("turns", range(6))
def test_logins_give_way_however_their_bytes_and_the_newer_ones_coincide(turns: int) -> None:
    async def flood() -> list[int]:
        logins = LoginBodies()
        begun = []
        for count in (MAX_LOGINS, 10):
            begun += [asyncio.ensure_future(logins.read(one_piece())) for _ in range(count)]
            for _ in range(turns):
                await asyncio.sleep(0)
        for _ in range(20):
            await asyncio.sleep(0)
        refused = [one.exception().status for one in begun if one.done()]
        for one in begun:
            one.cancel()
        return refused

    assert run(flood) == [429] * 10


def test_a_login_whose_body_does_not_come_ends_in_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    assert timeouts.LOGIN_SECONDS <= 5.0
    monkeypatch.setattr(timeouts, "LOGIN_SECONDS", 0.05)
    began = time.monotonic()
    with pytest.raises(BodyRefused) as refused:
        run(lambda: LoginBodies().read(one_piece()))
    assert refused.value.status == 408 and time.monotonic() - began < 10


def one_piece() -> Any:
    """A client that sends one byte of its body and never more."""
    given = iter([{"type": "http.request", "body": b"x", "more_body": True}])

    async def receive() -> Any:
        for message in given:
            return message
        await asyncio.sleep(600)

    return receive
