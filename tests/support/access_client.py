"""Clients of ``AccessMiddleware`` around a small app that says which user the middleware has found."""

from __future__ import annotations

import json
from typing import Any

from starlette.testclient import TestClient

from ui.server.access import USER_KEY, Access
from ui.server.middleware import AccessMiddleware

KEY, PASSWORD = b"k" * 32, "correct horse"


async def behind(scope: Any, receive: Any, send: Any) -> None:
    """Answers with the user that the middleware has found."""
    who = scope[USER_KEY]
    body = json.dumps({"id": who.id, "owner": who.owner, "programs": who.may_use_api}).encode()
    headers = [(b"content-type", b"application/json"), (b"server", b"secret/1.0"), (b"x-frame-options", b"ALLOWALL")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def make_access(password: str = "", **changes: Any) -> Access:
    return Access(KEY, 7860, password=password, clock=Clock(), **changes)


def client(of: Access, host: str = "localhost") -> TestClient:
    return TestClient(AccessMiddleware(behind, of), base_url=f"http://{host}", follow_redirects=False)


def logged_in(of: Access) -> TestClient:
    found = client(of)
    assert found.post("/login", data={"password": PASSWORD}).status_code == 200
    return found
