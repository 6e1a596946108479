"""The page and its files: made once, compressed once, not sent again to a browser that has them."""

from __future__ import annotations

import asyncio
import gzip
from typing import Any

import brotli
import pytest
from starlette.testclient import TestClient

from pipelines.jobs.users import OWNER, User
from tests.support.access_client import PASSWORD, make_access
from ui.server.access import USER_KEY
from ui.server.http.answer_cache import A_DAY, ASK_AGAIN, FOREVER, MAX_ANSWER_BYTES, AnswerCache
from ui.server.middleware import AccessMiddleware

SCRIPT = "/assets/index-DphvyggB.js"


class App:
    """Counts its requests, and answers each with its own number."""

    def __init__(self, status: int = 200, size: int = 2000, media: bytes = b"text/html") -> None:
        self.asked: list[str] = []
        self.status, self.size, self.media = status, size, media

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        headers = dict(scope["headers"])
        self.asked.append(scope["path"])
        kept = [(b"content-type", self.media), (b"etag", b"of-gradio"), (b"x-more", b"yes")]
        await send({"type": "http.response.start", "status": self.status, "headers": kept})
        body = f"{len(self.asked)} {headers.get(b'host', b'').decode()} ".encode()
        await send({"type": "http.response.body", "body": body, "more_body": True})
        await send({"type": "http.response.body", "body": b"x" * self.size})


def client(app: App) -> TestClient:
    return TestClient(AnswerCache(app))


def test_an_answer_is_made_once_and_compressed() -> None:
    app = App()
    of = client(app)
    first, second = (of.get("/", headers={"Accept-Encoding": "gzip, br"}) for _ in range(2))
    assert first.text == second.text and first.text.startswith("1 testserver x")
    assert app.asked == ["/"]
    assert first.headers["content-encoding"] == "br" and int(first.headers["content-length"]) < 100
    assert first.headers["x-more"] == "yes" and first.headers["vary"] == "Accept-Encoding"


@pytest.mark.parametrize(
    ("accepted", "unpack"), [("gzip", gzip.decompress), ("deflate, br;q=0.9", brotli.decompress), ("", bytes)]
)
def test_each_client_gets_a_body_that_it_can_read(accepted: str, unpack: Any) -> None:
    with client(App()).stream("GET", SCRIPT, headers={"Accept-Encoding": accepted}) as answer:
        assert unpack(b"".join(answer.iter_raw())).endswith(b"xxx")


def test_a_browser_that_has_it_gets_no_body() -> None:
    of = client(App())
    tag = of.get("/").headers["etag"]
    again = of.get("/", headers={"If-None-Match": f'"other", W/{tag}'})
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
    assert of.get("/", headers={"If-None-Match": '"other"'}).status_code == 200
    head = of.head("/")
    assert head.content == b"" and head.headers["etag"] == tag


@pytest.mark.parametrize(
    ("path", "lifetime"),
    [
        ("/", ASK_AGAIN), (SCRIPT, FOREVER), ("/assets/svelte/svelte.js", ASK_AGAIN), ("/static/img/logo.svg", A_DAY),
        ("/theme.css?v=0123abcd", FOREVER), ("/theme.css", ASK_AGAIN),
    ],
)  # fmt: skip
def test_files_whose_names_change_with_them_are_never_asked_for_again(path: str, lifetime: str) -> None:
    assert client(App(media=b"text/css")).get(path).headers["cache-control"] == lifetime


def test_the_page_is_made_for_each_address_under_which_it_is_asked_for() -> None:
    app = App()
    of = client(app)
    asked = [{"Host": "a"}, {"Host": "b"}, {"Host": "a"}, {"Host": "a", "X-Forwarded-Proto": "https"}]
    assert [of.get("/", headers=one).text[:3] for one in asked] == ["1 a", "2 b", "1 a", "3 a"]


@pytest.mark.parametrize(
    "path",
    ["/?deep_link=abc", "/gradio_api/file=/a.png", "/config?page=a", "/gradio_api/queue/data?session_hash=a"],
)
def test_what_differs_between_users_is_always_asked_for(path: str) -> None:
    app = App()
    app.asked.clear()
    of = client(app)
    for _ in range(2):
        assert of.get(path, headers={"Accept-Encoding": ""}).headers["etag"] == "of-gradio"
    assert len(app.asked) == 2


def test_strangers_get_nothing_that_is_in_memory() -> None:
    of = make_access(PASSWORD)
    app = AccessMiddleware(AnswerCache(App()), of)
    guest, stranger = (TestClient(app, base_url="http://localhost") for _ in range(2))
    assert guest.post("/login", data={"password": PASSWORD}, follow_redirects=False).status_code == 200
    tag = guest.get(SCRIPT).headers["etag"]
    assert guest.get("/").status_code == 200
    for path in ("/", SCRIPT, "/theme.css"):
        answer = stranger.get(path, headers={"If-None-Match": tag})
        assert answer.status_code == 401 and "etag" not in answer.headers


def test_problems_and_huge_files_are_sent_on_and_not_kept() -> None:
    for app in (App(status=404), App(size=MAX_ANSWER_BYTES)):
        of = client(app)
        answers = [of.get(SCRIPT), of.get(SCRIPT)]
        assert [one.status_code for one in answers] == [app.status] * 2 and len(app.asked) == 2
        assert answers[0].text.startswith("1 ") and answers[1].text.startswith("2 ")
        assert of.head(SCRIPT).content == b""


def test_only_reading_is_answered_from_memory() -> None:
    app = App()
    of = client(app)
    of.get("/")
    of.post("/")
    of.get("/", headers={"Range": "bytes=0-3"})
    assert len(app.asked) == 3


def test_guests_have_one_page_made_at_a_time_and_the_owner_does_not_wait_for_them() -> None:
    """The page takes a tenth of a second to make, and each address under which it is asked for has its own."""
    making: list[str] = []
    release = asyncio.Event()

    async def slow(scope: Any, receive: Any, send: Any) -> None:
        making.append(scope[USER_KEY].id)
        await release.wait()
        await App()(scope, receive, send)

    async def ask(cache: AnswerCache, user: User, port: int, path: str = "/") -> int:
        scope = {
            "type": "http", "method": "GET", "path": path, "query_string": b"", "scheme": "http", USER_KEY: user,
            "headers": [(b"host", f"localhost:{port}".encode())],
        }  # fmt: skip
        sent: list[Any] = []

        async def send(message: Any) -> None:
            sent.append(message)

        await cache(scope, None, send)
        return sent[0]["status"]

    async def run() -> list[int]:
        cache = AnswerCache(slow)
        guests = [
            asyncio.create_task(ask(cache, User(str(k)), k // 2, path)) for k in range(8) for path in ("/", "/config")
        ]
        owner = asyncio.create_task(ask(cache, OWNER, 99))
        for _ in range(20):
            await asyncio.sleep(0)
        assert making == ["0", "owner"]
        release.set()
        return await asyncio.gather(*guests, owner)

    assert asyncio.run(run()) == [200] * 17
    # What was made while another one waited is not made again.
    assert len(making) == 9
