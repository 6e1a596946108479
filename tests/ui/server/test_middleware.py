"""The middleware: host names, other sites, routes, headers and bodies."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from starlette.formparsers import MultiPartException

from tests.support.access_client import PASSWORD, client, logged_in, make_access
from ui.server.middleware import SECURITY_HEADERS, AccessMiddleware, route_kind


@pytest.mark.parametrize("body", [b"x" * 100_000, b"\xff\xfe", b"password", b"&" * 3000, b"password=" + b"x" * 4000])
def test_a_malformed_form_is_a_wrong_password(body: bytes) -> None:
    kind = {"Content-Type": "application/x-www-form-urlencoded"}
    assert client(make_access(PASSWORD)).post("/login", content=body, headers=kind).status_code == 401


@pytest.mark.parametrize(
    "host", ["evil.example", "localhost.evil.example", "", "a b", "localhost@evil", "127.0.0.1.nip.io"]
)
def test_the_server_answers_to_its_own_names_only(host: str) -> None:
    assert client(make_access()).get("/", headers={"Host": host}).status_code == 400


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Origin": "http://localhost"}, 200),
        ({"Origin": "http://localhost", "Sec-Fetch-Site": "same-origin"}, 200),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://localhost:1234"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
    ],
)
@pytest.mark.parametrize("path", ["/gradio_api/queue/join", "/gradio_api/upload", "/gradio_api/run/predict"])
def test_requests_from_other_sites_are_refused(headers: dict[str, str], status: int, path: str) -> None:
    file = {"files": ("a.png", b"x")}
    assert client(make_access()).post(path, headers=headers, files=file).status_code == status


def test_two_origin_headers_are_refused() -> None:
    pair = [("origin", "http://localhost"), ("origin", "http://evil.example")]
    assert client(make_access()).post("/gradio_api/upload", headers=pair).status_code == 403


SHUT = """
/gradio_api/run/text_to_image /gradio_api/api/predict /gradio_api/mcp/sse /gradio_api/runs /monitoring
/monitoring/summary /gradio_api/run-history/records /gradio_api/proxy=http://evil /gradio_api/dev/reload
/gradio_api/vibe-edit /gradio_api/deep_link /gradio_api/process_recording /gradio_api/stream/x
/gradio_api/openapi.json /docs /redoc
/openapi.json /logout /gradio_api/token /gradio_api/file/x /static/../app.py /assets/..%5c..%5capp.py
/gradio_api/file=/../../etc/passwd /custom_component/x/client/component/a.js
/gradio_api/custom_component/x/client/component/%1b%5B31mred%0Aforged
/x\\y
"""


@pytest.mark.parametrize("path", SHUT.split())
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_other_routes_are_closed_to_everyone(path: str, method: str) -> None:
    of = make_access()
    owner = client(of)
    owner.cookies.set(*of.owner_cookie)
    assert owner.request(method, path).status_code in (404, 405)


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
def test_other_methods_are_refused(method: str) -> None:
    assert client(make_access()).request(method, "/").status_code == 405


def test_guests_may_use_the_api_only_if_the_owner_allows_it() -> None:
    path = "/gradio_api/call/text_to_image"
    assert logged_in(make_access(PASSWORD)).post(path).status_code == 404
    assert logged_in(make_access(PASSWORD, api=True)).post(path).json()["programs"]
    assert client(make_access()).post(path).status_code == 200


def test_every_answer_has_security_headers() -> None:
    of = make_access(PASSWORD)
    for answer in (client(of).get("/"), client(of).get("/nowhere"), logged_in(of).get("/")):
        told = {name.encode(): value.encode() for name, value in answer.headers.items()}
        assert all(told[name] == value for name, value in SECURITY_HEADERS)
        assert "server" not in answer.headers


def test_the_routes_of_the_page_are_open() -> None:
    for method, path in (
        ("GET", "/"), ("HEAD", "/"), ("GET", "/config"), ("GET", "/assets/index.js"), ("GET", "/gradio_api/queue/data"),
        ("POST", "/gradio_api/queue/join"), ("GET", "/gradio_api/file=/tmp/x.png"), ("POST", "/gradio_api/run/predict"),
    ):  # fmt: skip
        assert route_kind(method, path) == "page"


def test_an_interrupted_body_times_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ui.server.timeouts.BODY_SECONDS", 0.05)
    got: list[str] = []

    async def reads(scope: Any, receive: Any, send: Any) -> None:
        with pytest.raises(MultiPartException, match="incomplete"):
            while (await receive())["type"] == "http.request":
                got.append("piece")
        got.append("ended")

    async def stalls() -> Any:
        if not got:
            return {"type": "http.request", "body": b"--x", "more_body": True}
        await asyncio.sleep(60)

    async def nothing(message: Any) -> None:
        pass

    scope = {
        "type": "http", "method": "POST", "path": "/gradio_api/upload", "query_string": b"", "client": ("1", 1),
        "headers": [
            (b"host", b"localhost"), (b"content-length", b"10"), (b"content-type", b"multipart/form-data; boundary=x"),
        ],
    }  # fmt: skip
    # In a thread of its own: the browser of other tests keeps a loop running in this one.
    with ThreadPoolExecutor(1) as pool:
        pool.submit(
            lambda: asyncio.run(asyncio.wait_for(AccessMiddleware(reads, make_access())(scope, stalls, nothing), 5))
        ).result()
    assert got == ["piece", "ended"]
