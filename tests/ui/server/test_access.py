"""Access control: owner, guests, link tokens, cookies, host names and the owner's key."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from pipelines.jobs.users import OWNER
from tests.support.access_client import KEY, PASSWORD, client, logged_in, make_access
from ui.server.access import LOCAL, Access, owner_key


def test_without_a_password_local_clients_have_access_and_are_not_the_owner() -> None:
    assert client(make_access()).get("/").json() == {"id": "local", "owner": False, "programs": True}


def test_the_link_makes_a_browser_the_owners_once() -> None:
    of = make_access(PASSWORD)
    token, browser = of.link_token(), client(of)
    answer = browser.get(f"/?owner={token}")
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie and "samesite=lax" in cookie.lower() and token not in cookie
    assert browser.get("/").json()["owner"]
    # Used again, it does nothing for the owner, and is refused for others.
    assert browser.get(f"/?owner={token}").status_code == 303
    assert client(of).get(f"/?owner={token}").status_code == 403
    for wrong in ("", "x", token[:-1], token + "x"):
        assert client(of).get(f"/?owner={wrong}").status_code in (401, 403)


def test_the_owner_stays_the_owner_after_a_restart_and_on_one_port_alone() -> None:
    name, value = make_access().owner_cookie
    browser = client(make_access(PASSWORD))
    browser.cookies.set(name, value)
    assert browser.get("/").json()["owner"]
    other = client(Access(KEY, 7861, password=PASSWORD))
    other.cookies.set(name, value)
    assert other.get("/").status_code == 401


def test_the_owners_programs_use_a_bearer_token() -> None:
    of = make_access(PASSWORD)
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
def test_no_header_of_a_request_makes_it_the_owners(headers: dict[str, str]) -> None:
    of = make_access(PASSWORD)
    assert client(of).get("/", headers=headers).status_code == 401
    guest = logged_in(of)
    jar = "; ".join(filter(None, (headers.get("Cookie"), *(f"{k}={v}" for k, v in guest.cookies.items()))))
    told = guest.get("/", headers={**headers, "Cookie": jar}).json()
    assert not told["owner"] and not told["programs"]


def test_each_login_is_another_guest() -> None:
    of = make_access(PASSWORD)
    assert client(of).get("/gradio_api/file=x").status_code == 401
    page = client(of).get("/", headers={"Accept": "text/html"})
    assert page.status_code == 401 and "<form" in page.text and PASSWORD not in page.text
    first, second = logged_in(of), logged_in(of)
    assert first.get("/").json()["id"] != second.get("/").json()["id"]
    assert of.guest_count() == 2
    of.clock.now += 61  # type: ignore[attr-defined]
    assert of.guest_count() == 0


def test_a_browser_that_logs_in_again_is_the_same_guest_also_after_a_restart() -> None:
    of = make_access(PASSWORD)
    guest = logged_in(of)
    name, old = guest.get("/").json()["id"], dict(guest.cookies)
    of.revoke_guests()
    restarted = make_access(PASSWORD)
    restarted.names_key = of.names_key
    for access in (of, restarted):
        browser = client(access)
        browser.cookies.update(old)
        assert browser.get("/").status_code == 401  # the cookie alone opens nothing
        assert browser.post("/login", data={"password": "wrong"}).status_code == 401
        assert browser.post("/login", data={"password": PASSWORD}).status_code == 200
        assert browser.get("/").json()["id"] == name
    (key, value) = next(iter(old.items()))
    first, session, mac = value.split(".")
    for forged in (f"other.{session}.{mac}", f"{first}.{mac}", f"{first}.{session}", f"owner.{session}.{session}", "."):
        browser = client(of)
        browser.cookies.set(key, forged)
        assert browser.post("/login", data={"password": PASSWORD}).status_code == 200
        assert browser.get("/").json()["id"] not in ("owner", "other", "") or forged.startswith(f"{first}.{mac}")
    assert logged_in(make_access(PASSWORD)).get("/").json()["id"] != name


def test_a_browser_is_redirected_and_shown_a_wrong_password() -> None:
    of, html = make_access(PASSWORD), {"Accept": "text/html"}
    wrong = client(of).post("/login", data={"password": "x"}, headers=html)
    assert wrong.status_code == 401 and "Wrong password" in wrong.text and "set-cookie" not in wrong.headers
    right = client(of).post("/login", data={"password": PASSWORD}, headers=html)
    assert (right.status_code, right.headers["location"]) == (303, "/")


def test_the_login_asks_for_a_name_if_there_is_one() -> None:
    of = make_access(PASSWORD, user="anna")
    assert client(of).post("/login", data={"password": PASSWORD}).status_code == 401
    assert client(of).post("/login", data={"password": PASSWORD, "username": "anna"}).status_code == 200
    html = {"Accept": "text/html"}
    assert "<label hidden>Name" in client(make_access(PASSWORD)).get("/", headers=html).text
    assert "<label >Name" in client(of).get("/", headers=html).text


@pytest.mark.parametrize("change", [lambda d: d.revoke_guests(), lambda d: d.allow_guests("another")])
def test_guests_are_logged_out_when_sharing_ends_or_restarts(change: Callable[[Access], None]) -> None:
    of = make_access(PASSWORD)
    guest = logged_in(of)
    assert guest.get("/").status_code == 200
    old = dict(guest.cookies)
    change(of)
    fresh = client(of)
    for name, value in old.items():
        fresh.cookies.set(name, value)
    answer = fresh.get("/")
    assert answer.status_code == 401 or answer.json()["id"] == "local"


def test_a_paused_link_locks_out_guests_and_not_the_owner() -> None:
    of = make_access(PASSWORD)
    guest, owner = logged_in(of), client(of)
    owner.cookies.set(*of.owner_cookie)
    of.paused = True
    assert guest.get("/").status_code == 503 and owner.get("/").status_code == 200


def test_without_a_password_every_login_fails() -> None:
    of = make_access()
    for password in ("", "x"):
        assert client(of).post("/login", data={"password": password}).status_code == 401


def test_host_names_come_with_sharing_and_go_with_it() -> None:
    of = make_access()
    assert client(of, "abc.gradio.live").get("/").status_code == 400
    of.allow_guests(PASSWORD, ["abc.gradio.live"])
    assert client(of, "abc.gradio.live").get("/").status_code == 401
    of.revoke_guests(["abc.gradio.live"])
    assert client(of, "abc.gradio.live").get("/").status_code == 400
    wide = make_access(hosts=frozenset({".gradio.live"}))
    assert (
        wide.is_own_host("x.gradio.live")
        and not wide.is_own_host("gradio.live.evil")
        and not wide.is_own_host("xgradio.live")
    )
    assert make_access(hosts=frozenset({"*"})).is_own_host("any.name:80")


def test_the_key_is_made_once_and_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "data" / "owner.key"
    key = owner_key(path)
    assert len(key) == 32 and owner_key(path) == key and owner_key(tmp_path / "other") != key
    if os.name == "posix":
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.write_bytes(b"short")
    assert len(owner_key(path)) == 32


def test_users_are_identified_by_cookies() -> None:
    assert make_access().identify({}) is LOCAL and make_access(PASSWORD).identify({}) is None
    assert make_access(PASSWORD).identify(dict([make_access().owner_cookie])) is OWNER


PREVIEWS = (
    {"Purpose": "prefetch"}, {"Sec-Purpose": "prefetch;prerender"}, {"User-Agent": "Slackbot-LinkExpanding 1.0"},
    {"Sec-Fetch-Dest": "image"}, {"User-Agent": "some program that nobody knows"}, {"Accept": "text/html"}, {},
)  # fmt: skip


@pytest.mark.parametrize("headers", PREVIEWS)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_program_that_looks_at_the_owners_link_does_not_use_it_up(headers: dict[str, str], method: str) -> None:
    of = make_access(PASSWORD)
    link, browser = f"/?owner={of.link_token()}", client(of)
    for _ in range(3):
        looked = client(of).request(method, link, headers=headers)
        assert looked.status_code in (200, 303)
    assert browser.get(link).status_code == 303 and browser.get("/").json()["owner"]
    used = client(of).get(link, headers={"Accept": "text/html"})
    assert used.status_code == 403 and "--new-link" in used.text and 'href="/"' in used.text and "guest" in used.text


def test_known_previews_get_no_cookie_and_a_browser_uses_the_link_up_at_once() -> None:
    of = make_access(PASSWORD)
    link = f"/?owner={of.link_token()}"
    for headers in PREVIEWS[:4]:
        assert "set-cookie" not in client(of).get(link, headers=headers).headers
    browser = {"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document", "Accept": "text/html"}
    assert client(of).get(link, headers=browser).status_code == 303
    assert client(of).get(link, headers=browser).status_code == 403


def test_the_owners_programs_make_new_links_and_others_do_not() -> None:
    of = make_access(PASSWORD, api=True)
    for other in (client(of), logged_in(of), client(make_access())):
        assert other.post("/owner-link").status_code in (401, 404)
    made = client(of).post("/owner-link", headers={"Authorization": f"Bearer {of.owner_cookie[1]}"})
    assert client(of).get(f"/?owner={made.json()['token']}").status_code == 303
    site = {"Authorization": f"Bearer {of.owner_cookie[1]}", "Origin": "http://evil.example"}
    assert client(of).post("/owner-link", headers=site).status_code == 403


def test_the_page_behind_a_proxy_redirects_and_links_below_its_path() -> None:
    of = make_access(PASSWORD, root_path="/paint", origins=frozenset({"paint.example.org"}))
    browser, html = client(of), {"Accept": "text/html"}
    assert 'action="/paint/login"' in browser.get("/", headers=html).text
    # With the path, as a proxy may leave it, and without.
    for link in ("/paint/?owner=", "/?owner="):
        assert client(of).get(link + of.link_token()).headers["location"] == "/paint/"
    assert client(of).get("/paint").headers["location"] == "/paint/"
    assert client(of).get("/paintings").status_code == 401
    from_page = {"Origin": "https://paint.example.org", "Sec-Fetch-Site": "same-origin"}
    assert browser.post("/paint/login", data={"password": PASSWORD}, headers=from_page).status_code == 200
    assert browser.get("/paint/config").status_code == 200
