"""A request's head: bounds, lengths, other sites, previews."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from tests.support.access_client import PASSWORD, client, make_access
from ui.server.http import client_request
from ui.server.http.client_request import ClientRequest


def request(*headers: tuple[str, str], method: str = "GET") -> ClientRequest:
    pairs = [(name.lower().encode(), value.encode("latin-1")) for name, value in headers]
    return ClientRequest({"type": "http", "method": method, "path": "/", "query_string": b"", "headers": pairs})


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("/?" + "&".join(f"a{k}=1" for k in range(52)), [], 400),
        ("/?" + "&" * 5000, [], 400),
        ("/?" + ";".join("a" * 99), [], 400),
        ("/?owner=" + "x" * 9000, [], 414),
        ("/" + "x" * 9000, [], 414),
        ("/", [("Cookie", 'a="' + '\\"' * 30_000 + '"')], 431),
        ("/", [(f"X-{k}", "1") for k in range(200)], 431),
        ("/", [(f"X-{k}", "x" * 1000) for k in range(50)], 431),
        ("/", [("Accept", "x" * 20_000)], 431),
    ],
)
def test_a_head_beyond_the_bounds_is_refused_in_a_sentence(
    path: str, headers: Sequence[tuple[str, str]], status: int
) -> None:
    for of in (make_access(), make_access(PASSWORD)):
        answer = client(of).get(path, headers=[*headers, ("Cookie", "=".join(of.owner_cookie))])
        assert answer.status_code == status and answer.json()["detail"].endswith(".")


def test_a_head_within_the_bounds_is_read() -> None:
    query = "&".join(f"a{k}=1" for k in range(client_request.MAX_QUERY_FIELDS))
    headers = [(f"X-{k}", "x" * 300) for k in range(80)]
    assert client(make_access()).get(f"/?{query}", headers=headers).status_code == 200


@pytest.mark.parametrize("path", ["/gradio_api/upload", "/gradio_api/queue/join", "/login"])
def test_a_length_in_two_ways_is_refused(path: str) -> None:
    for headers in (
        [("Content-Length", "10"), ("Transfer-Encoding", "chunked")],
        [("Transfer-Encoding", "identity"), ("Content-Length", "10")],
        [("Content-Length", "10"), ("Content-Length", "10")],
    ):
        answer = client(make_access(PASSWORD)).post(path, headers=headers, content=b"x" * 10)
        assert answer.status_code == 400 and answer.headers["connection"] == "close"


def test_a_body_of_unknown_length_is_refused() -> None:
    for method, path in (("POST", "/login"), ("POST", "/gradio_api/upload"), ("GET", "/")):
        answer = client(make_access(PASSWORD)).request(method, path, headers={"Transfer-Encoding": "chunked"})
        assert answer.status_code == 411 and answer.headers["connection"] == "close"


@pytest.mark.parametrize("size", ["-1", "+1", "1_0", "²", "1" * 30, "", "0x1"])
def test_an_odd_length_is_none(size: str) -> None:
    assert request(("Content-Length", size)).content_length is None


def test_the_origin_behind_a_proxy_is_its_own_name() -> None:
    sent = request(("Host", "127.0.0.1:7860"), ("Origin", "https://paint.example.org"))
    assert sent.is_from_another_site() and not sent.is_from_another_site(frozenset({"paint.example.org"}))
    for origin in (
        "https://paint.example.org:8443",
        "https://x.paint.example.org",
        "null",
        "[",
        "data://paint.example.org",
    ):
        assert request(("Host", "127.0.0.1"), ("Origin", origin)).is_from_another_site(frozenset({"paint.example.org"}))


@pytest.mark.parametrize(
    "headers",
    [
        {"Purpose": "prefetch"}, {"Sec-Purpose": "prefetch;prerender"}, {"X-Purpose": "preview"}, {"X-Moz": "prefetch"},
        {"User-Agent": "Slackbot-LinkExpanding 1.0 (+https://api.slack.com/robots)"}, {"Sec-Fetch-Dest": "image"},
        {"User-Agent": "facebookexternalhit/1.1"}, {"User-Agent": "WhatsApp/2.23.20.0"}, {"Sec-Fetch-Dest": "empty"},
        {"User-Agent": "TelegramBot (like TwitterBot)"}, {"User-Agent": "Mozilla/5.0 (compatible; Discordbot/2.0)"},
    ],
)  # fmt: skip
def test_programs_that_look_before_people_do_are_told_apart(headers: dict[str, str]) -> None:
    navigates = {"Sec-Fetch-Mode": "navigate"}
    assert request(*(navigates | headers).items()).is_preview
    assert not request(("User-Agent", "Mozilla/5.0 Firefox/140.0"), ("Sec-Fetch-Dest", "document")).is_preview


FORWARDED = (
    ("X-Forwarded-Host", "localhost:8080"), ("X-Forwarded-Host", "evil.example"), ("X-Forwarded-Host", "["),
    ("X-Forwarded-Host", "localhost, evil.example"), ("X-Forwarded-Proto", "https"), ("X-Forwarded-Proto", "file"),
    ("X-Gradio-Server", "http://evil.example"), ("Cookie", "a=b"), ("Accept", "text/html"),
)  # fmt: skip


@pytest.mark.parametrize(
    ("path", "query"), [("/", b""), ("/config", b""), ("/assets/a.js", b""), ("/gradio_api/queue/data", b"page=a")]
)
def test_gradio_sees_what_it_needs_alone(path: str, query: bytes) -> None:
    """It would look for a page that the address names, and render one for each host that is claimed."""
    scope = {**request(*FORWARDED).scope, "path": path, "query_string": b"page=a"}
    found = client_request.for_gradio(scope, make_access().is_own_host)
    assert found["query_string"] == query
    assert [(name.decode(), value.decode()) for name, value in found["headers"]] == [
        ("x-forwarded-host", "localhost:8080"), ("x-forwarded-host", "localhost, evil.example"),
        ("x-forwarded-proto", "https"), ("accept", "text/html"),
    ]  # fmt: skip
