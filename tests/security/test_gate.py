"""The door: who comes in, as what, and by which ways."""

from __future__ import annotations

import asyncio
import json
import os
import stat
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from starlette.testclient import TestClient

from pipelines.visitors import OWNER, Visitor
from ui import bodies
from ui.gate import (
    HEADERS,
    LOCAL,
    LONGEST_WAIT,
    MAX_UPLOAD,
    TRIES_A_MINUTE,
    UPLOAD_BYTES,
    UPLOADS,
    VISITOR,
    Door,
    Gate,
    TooManyTries,
    owner_key,
    way,
)

KEY, PASSWORD = b"k" * 32, "correct horse"


async def behind(scope: Any, receive: Any, send: Any) -> None:
    """What the door protects: says who has come in."""
    who = scope[VISITOR]
    body = json.dumps({"id": who.id, "owner": who.owner, "programs": who.programs}).encode()
    headers = [(b"content-type", b"application/json"), (b"server", b"secret/1.0"), (b"x-frame-options", b"ALLOWALL")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def door(password: str = "", **changes: Any) -> Door:
    return Door(KEY, 7860, password=password, clock=Clock(), **changes)


def client(of: Door, host: str = "localhost") -> TestClient:
    return TestClient(Gate(behind, of), base_url=f"http://{host}", follow_redirects=False)


def logged_in(of: Door) -> TestClient:
    found = client(of)
    assert found.post("/login", data={"password": PASSWORD}).status_code == 200
    return found


# -- who comes in ----------------------------------------------------------------------------------------------------


def test_without_a_password_this_computer_comes_in_and_is_not_the_owner() -> None:
    assert client(door()).get("/").json() == {"id": "local", "owner": False, "programs": True}


def test_the_link_makes_a_browser_the_owners_once() -> None:
    of = door(PASSWORD)
    token, browser = of.link_token(), client(of)
    answer = browser.get(f"/?owner={token}")
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie and "SameSite=Lax" in cookie and token not in cookie
    assert browser.get("/").json()["owner"]
    # The owner may use it again, which does nothing; nobody else can.
    assert browser.get(f"/?owner={token}").status_code == 303
    assert client(of).get(f"/?owner={token}").status_code == 403
    for wrong in ("", "x", token[:-1], token + "x"):
        assert client(of).get(f"/?owner={wrong}").status_code in (401, 403)


def test_the_owner_stays_the_owner_after_a_restart_and_on_one_port_alone() -> None:
    name, value = door().owner_cookie
    browser = client(door(PASSWORD))
    browser.cookies.set(name, value)
    assert browser.get("/").json()["owner"]
    other = client(Door(KEY, 7861, password=PASSWORD))
    other.cookies.set(name, value)
    assert other.get("/").status_code == 401


def test_a_program_of_the_owners_shows_the_key_as_a_word() -> None:
    of = door(PASSWORD)
    assert client(of).get("/", headers={"Authorization": f"Bearer {of.owner_cookie[1]}"}).json()["owner"]
    assert client(of).get("/", headers={"Authorization": "Bearer x"}).status_code == 401


FORGED = (
    {"Host": "127.0.0.1:7860", "X-Forwarded-For": "127.0.0.1"},
    {"Host": "localhost", "Forwarded": "for=127.0.0.1;proto=http;host=localhost", "X-Real-IP": "127.0.0.1"},
    {"Host": "localhost", "X-Forwarded-Host": "localhost", "X-Original-URL": "/", "X-Remote-User": "owner"},
    {"Host": "localhost", "Cookie": "playground-owner-7860=owner"},
    {"Host": "localhost", "Cookie": "playground-owner-7860="},
    {"Host": "localhost", "Authorization": "Bearer owner"},
    {"Host": "localhost", "Authorization": "Basic b3duZXI6b3duZXI="},
)


@pytest.mark.parametrize("headers", FORGED)
def test_nothing_that_a_request_says_of_itself_makes_it_the_owners(headers: dict[str, str]) -> None:
    of = door(PASSWORD)
    assert client(of).get("/", headers=headers).status_code == 401
    guest = logged_in(of)
    jar = "; ".join(filter(None, (headers.get("Cookie"), *(f"{k}={v}" for k, v in guest.cookies.items()))))
    told = guest.get("/", headers={**headers, "Cookie": jar}).json()
    assert not told["owner"] and not told["programs"]


def test_the_password_lets_guests_in_each_as_somebody_else() -> None:
    of = door(PASSWORD)
    assert client(of).get("/gradio_api/file=x").status_code == 401
    page = client(of).get("/", headers={"Accept": "text/html"})
    assert page.status_code == 401 and "<form" in page.text and PASSWORD not in page.text
    first, second = logged_in(of), logged_in(of)
    assert first.get("/").json()["id"] != second.get("/").json()["id"]
    assert of.guests() == 2
    of.clock.now += 61  # type: ignore[attr-defined]
    assert of.guests() == 0


def test_a_browser_is_led_on_and_told_of_a_wrong_password() -> None:
    of, html = door(PASSWORD), {"Accept": "text/html"}
    wrong = client(of).post("/login", data={"password": "x"}, headers=html)
    assert wrong.status_code == 401 and "not the password" in wrong.text and "set-cookie" not in wrong.headers
    right = client(of).post("/login", data={"password": PASSWORD}, headers=html)
    assert (right.status_code, right.headers["location"]) == (303, "/")


def test_a_name_is_asked_for_where_there_is_one() -> None:
    of = door(PASSWORD, user="anna")
    assert client(of).post("/login", data={"password": PASSWORD}).status_code == 401
    assert client(of).post("/login", data={"password": PASSWORD, "username": "anna"}).status_code == 200
    html = {"Accept": "text/html"}
    assert "<label hidden>Name" in client(door(PASSWORD)).get("/", headers=html).text
    assert "<label >Name" in client(of).get("/", headers=html).text


@pytest.mark.parametrize("change", [lambda d: d.shut(), lambda d: d.open_to("another")])
def test_when_sharing_ends_or_begins_anew_guests_are_out(change: Callable[[Door], None]) -> None:
    of = door(PASSWORD)
    guest = logged_in(of)
    assert guest.get("/").status_code == 200
    old = dict(guest.cookies)
    change(of)
    fresh = client(of)
    for name, value in old.items():
        fresh.cookies.set(name, value)
    answer = fresh.get("/")
    assert answer.status_code == 401 or answer.json()["id"] == "local"


def test_guests_wait_outside_while_the_link_is_paused_and_the_owner_does_not() -> None:
    of = door(PASSWORD)
    guest, owner = logged_in(of), client(of)
    owner.cookies.set(*of.owner_cookie)
    of.paused = True
    assert guest.get("/").status_code == 503 and owner.get("/").status_code == 200


def test_no_password_at_all_never_lets_anybody_log_in() -> None:
    of = door()
    for password in ("", "x"):
        assert client(of).post("/login", data={"password": password}).status_code == 401


# -- guessing ---------------------------------------------------------------------------------------------------------


def test_wrong_passwords_are_slowed_by_address() -> None:
    of = door(PASSWORD)
    waits = []
    for _ in range(10):
        try:
            assert of.log_in("", "wrong", "10.0.0.1") is None
        except TooManyTries as problem:
            waits.append(problem.seconds)
            of.clock.now += problem.seconds  # type: ignore[attr-defined]
    assert waits == sorted(waits) and waits[0] >= 1 and len(waits) >= 3
    for _ in range(20):
        try:
            of.log_in("", "wrong", "10.0.0.1")
        except TooManyTries as problem:
            assert problem.seconds <= LONGEST_WAIT
            of.clock.now += problem.seconds  # type: ignore[attr-defined]
    with pytest.raises(TooManyTries):
        of.log_in("", PASSWORD, "10.0.0.1")
    assert of.log_in("", PASSWORD, "10.0.0.2"), "somebody else is not kept out"


def test_wrong_passwords_are_slowed_in_total() -> None:
    of = door(PASSWORD)
    for k in range(TRIES_A_MINUTE):
        assert of.log_in("", "wrong", f"10.0.{k}.1") is None
    with pytest.raises(TooManyTries):
        of.log_in("", PASSWORD, "10.1.0.1")
    of.clock.now += 61  # type: ignore[attr-defined]
    assert of.log_in("", PASSWORD, "10.1.0.1")


def test_whoever_guesses_too_fast_is_told_when_to_come_back() -> None:
    of = door(PASSWORD)
    answers = [client(of).post("/login", data={"password": "x"}) for _ in range(6)]
    assert [a.status_code for a in answers[:3]] == [401] * 3
    assert answers[-1].status_code == 429 and int(answers[-1].headers["retry-after"]) >= 1


@pytest.mark.parametrize("body", [b"x" * 100_000, b"\xff\xfe", b"password", b"&" * 3000, b"password=" + b"x" * 4000])
def test_a_strange_form_is_a_wrong_password(body: bytes) -> None:
    kind = {"Content-Type": "application/x-www-form-urlencoded"}
    assert client(door(PASSWORD)).post("/login", content=body, headers=kind).status_code == 401


# -- names, sites, ways ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "host", ["evil.example", "localhost.evil.example", "", "a b", "localhost@evil", "127.0.0.1.nip.io"]
)
def test_the_server_answers_to_its_own_names_only(host: str) -> None:
    assert client(door()).get("/", headers={"Host": host}).status_code == 400


def test_names_come_with_sharing_and_go_with_it() -> None:
    of = door()
    assert client(of, "abc.gradio.live").get("/").status_code == 400
    of.open_to(PASSWORD, ["abc.gradio.live"])
    assert client(of, "abc.gradio.live").get("/").status_code == 401
    of.shut(["abc.gradio.live"])
    assert client(of, "abc.gradio.live").get("/").status_code == 400
    wide = door(hosts=frozenset({".gradio.live"}))
    assert wide.knows("x.gradio.live") and not wide.knows("gradio.live.evil") and not wide.knows("xgradio.live")
    assert door(hosts=frozenset({"*"})).knows("any.name:80")


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
def test_pages_of_other_sites_change_nothing_here(headers: dict[str, str], status: int, path: str) -> None:
    assert client(door()).post(path, headers=headers).status_code == status


def test_two_origins_are_not_one() -> None:
    pair = [("origin", "http://localhost"), ("origin", "http://evil.example")]
    assert client(door()).post("/gradio_api/upload", headers=pair).status_code == 403


SHUT = """
/gradio_api/run/text_to_image /gradio_api/api/predict /gradio_api/mcp/sse /gradio_api/runs /monitoring
/monitoring/summary /gradio_api/run-history/records /gradio_api/proxy=http://evil /gradio_api/dev/reload
/gradio_api/vibe-edit /gradio_api/deep_link /gradio_api/process_recording /gradio_api/stream/x
/gradio_api/openapi.json /docs /redoc
/openapi.json /logout /gradio_api/token /gradio_api/file/x /static/../app.py /assets/..%5c..%5capp.py
/gradio_api/file=/../../etc/passwd
/x\\y
"""


@pytest.mark.parametrize("path", SHUT.split())
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_what_the_page_does_not_need_is_shut_for_everybody(path: str, method: str) -> None:
    of = door()
    owner = client(of)
    owner.cookies.set(*of.owner_cookie)
    assert owner.request(method, path).status_code in (404, 405)


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
def test_other_methods_are_shut(method: str) -> None:
    assert client(door()).request(method, "/").status_code == 405


def test_programs_of_guests_come_in_only_if_the_owner_says_so() -> None:
    path = "/gradio_api/call/text_to_image"
    assert logged_in(door(PASSWORD)).post(path).status_code == 404
    assert logged_in(door(PASSWORD, api=True)).post(path).json()["programs"]
    assert client(door()).post(path).status_code == 200


def test_every_answer_tells_browsers_to_be_careful() -> None:
    of = door(PASSWORD)
    for answer in (client(of).get("/"), client(of).get("/nowhere"), logged_in(of).get("/")):
        told = {name.encode(): value.encode() for name, value in answer.headers.items()}
        assert all(told[name] == value for name, value in HEADERS)
        assert "server" not in answer.headers


def test_the_ways_of_the_page_are_open() -> None:
    for method, path in (
        ("GET", "/"), ("HEAD", "/"), ("GET", "/config"), ("GET", "/assets/index.js"), ("GET", "/gradio_api/queue/data"),
        ("POST", "/gradio_api/queue/join"), ("GET", "/gradio_api/file=/tmp/x.png"), ("POST", "/gradio_api/run/predict"),
    ):  # fmt: skip
        assert way(method, path) == "page"


# -- what is sent ----------------------------------------------------------------------------------------------------


def test_a_guest_sends_a_share_of_the_hour_and_the_owner_as_much_as_is_wanted() -> None:
    of = door(PASSWORD)
    guest, owner, path = logged_in(of), client(of), "/gradio_api/upload"
    owner.cookies.set(*of.owner_cookie)
    assert [guest.post(path, content=b"x").status_code for _ in range(UPLOADS)] == [200] * UPLOADS
    assert guest.post(path, content=b"x").status_code == 429
    assert logged_in(of).post(path, content=b"x").status_code == 200
    assert {owner.post(path, content=b"x").status_code for _ in range(UPLOADS + 5)} == {200}
    of.clock.now += 3601  # type: ignore[attr-defined]
    guest = logged_in(of)
    assert guest.post(path, content=b"x").status_code == 200


def test_bytes_count_too_and_what_is_too_large_is_not_read() -> None:
    of = door(PASSWORD)
    visitor = Visitor("anna")
    assert of.takes(visitor, UPLOAD_BYTES - 1) and not of.takes(visitor, 2) and of.takes(visitor, 1)
    answer = client(door()).post("/gradio_api/upload", headers={"Content-Length": str(MAX_UPLOAD + 1)}, content=b"")
    assert answer.status_code == 413
    for size in ("-1", "1e3", "", "x"):
        bad = client(door()).post("/gradio_api/upload", headers={"Content-Length": size}, content=b"")
        assert bad.status_code == 411


def test_whoever_stops_sending_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ui.gate.PATIENCE", 0.05)
    got: list[str] = []

    async def reads(scope: Any, receive: Any, send: Any) -> None:
        while (message := await receive())["type"] == "http.request" and message.get("more_body"):
            got.append("piece")
        got.append(message["type"])

    async def stalls() -> Any:
        if not got:
            return {"type": "http.request", "body": b"x", "more_body": True}
        await asyncio.sleep(60)

    async def nothing(message: Any) -> None:
        pass

    scope = {
        "type": "http", "method": "POST", "path": "/gradio_api/upload", "query_string": b"", "client": ("1", 1),
        "headers": [(b"host", b"localhost"), (b"content-length", b"10")],
    }  # fmt: skip
    # In a thread of its own: the browser of other tests keeps a loop running in this one.
    with ThreadPoolExecutor(1) as pool:
        pool.submit(lambda: asyncio.run(asyncio.wait_for(Gate(reads, door())(scope, stalls, nothing), 5))).result()
    assert got == ["piece", "http.disconnect"]


# -- the key ----------------------------------------------------------------------------------------------------------


def test_the_key_is_made_once_and_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "data" / "owner.key"
    key = owner_key(path)
    assert len(key) == 32 and owner_key(path) == key and owner_key(tmp_path / "other") != key
    if os.name == "posix":
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.write_bytes(b"short")
    assert len(owner_key(path)) == 32


def test_who_is_who_is_told_from_cookies_alone() -> None:
    assert door().visitor({}) is LOCAL and door(PASSWORD).visitor({}) is None
    assert door(PASSWORD).visitor(dict([door().owner_cookie])) is OWNER


@pytest.mark.parametrize("said", [None, {}, {"seed": "7"}, True, False])
def test_what_the_page_sends_with_an_event_passes(said: Any) -> None:
    body = json.dumps({"fn_index": 3, "data": [True], "event_data": said, "session_hash": "page"}).encode()
    functions = {3: SimpleNamespace(fn=print, inputs=["a box to tick"], collects_event_data=False)}
    assert bodies.check("/gradio_api/queue/join", body, functions) == "page"
