"""Link previews: a title and a picture for everyone, and nothing of what is made here."""

from __future__ import annotations

import io
import re

import pytest
from PIL import Image

from tests.support.access_client import PASSWORD, client, logged_in, make_access
from ui.server.http.routes import HEALTHY, PREVIEW_PICTURE, READY

BOT = {"User-Agent": "WhatsApp/2.23.20.0", "Accept": "text/html"}
HOST = "abc123.gradio.live"


def picture_address(page: str) -> str:
    found = re.search('property="og:image" content="([^"]*)"', page)
    assert found
    return found[1]


def test_a_chat_program_learns_title_and_picture_and_nothing_else() -> None:
    of = make_access(PASSWORD, hosts=frozenset({HOST}))
    answer = client(of, HOST).get("/", headers=BOT)
    assert answer.status_code == 200 and "set-cookie" not in answer.headers
    assert 'property="og:title" content="Diffusion Playground"' in answer.text
    assert picture_address(answer.text) == f"https://{HOST}{PREVIEW_PICTURE}"
    assert PASSWORD not in answer.text and "password" in answer.text
    assert client(of, HOST).get("/config", headers=BOT).status_code == 401


def test_a_persons_login_page_has_them_too_and_is_no_success() -> None:
    answer = client(make_access(PASSWORD)).get("/", headers={"Accept": "text/html"})
    assert answer.status_code == 401 and 'type="password"' in answer.text
    assert picture_address(answer.text) == f"http://localhost{PREVIEW_PICTURE}"


def test_health_says_ok_to_anyone_and_nothing_else() -> None:
    of = make_access(PASSWORD)
    for path in (HEALTHY, READY):
        for each in (client(of), logged_in(of)):
            answer = each.get(path)
            assert (answer.status_code, answer.text) == (200, "ok")
            assert answer.headers["cache-control"] == "no-store" and each.head(path).status_code == 200
        assert client(of).post(path).status_code == 401
        assert client(of, "evil.example").get(path).status_code == 400
    of.ending = True
    assert (client(of).get(HEALTHY).text, client(of).get(READY).status_code) == ("ok", 503)


def test_the_picture_needs_no_password() -> None:
    of = make_access(PASSWORD)
    for each in (client(of), logged_in(of)):
        answer = each.get(PREVIEW_PICTURE)
        assert answer.status_code == 200 and answer.headers["content-type"] == "image/png"
        assert Image.open(io.BytesIO(answer.content)).size == (1200, 630)
    assert len(answer.content) < 60_000
    assert client(of).post(PREVIEW_PICTURE).status_code == 401
    assert client(of, "evil.example").get(PREVIEW_PICTURE).status_code == 400


@pytest.mark.parametrize(
    ("host", "headers", "scheme"),
    [
        ("192.168.1.20:7860", {}, "http"), ("studio.local", {}, "http"), ("desk", {}, "http"),
        ("paint.example.org", {}, "https"), ("192.168.1.20", {"X-Forwarded-Proto": "https"}, "https"),
        ("[fe80::1]:7860", {}, "http"),
    ],
)  # fmt: skip
def test_the_pictures_address_is_the_one_that_was_asked(host: str, headers: dict[str, str], scheme: str) -> None:
    answer = client(make_access(PASSWORD, hosts=frozenset({"*"}))).get("/", headers={**BOT, **headers, "Host": host})
    assert picture_address(answer.text) == f"{scheme}://{host}{PREVIEW_PICTURE}"


def test_behind_a_proxy_the_path_is_part_of_the_pictures_address() -> None:
    of = make_access(PASSWORD, root_path="/paint", hosts=frozenset({"home.example"}))
    answer = client(of, "home.example").get("/paint/", headers=BOT)
    assert picture_address(answer.text) == f"https://home.example/paint{PREVIEW_PICTURE}"
    assert client(of, "home.example").get(f"/paint{PREVIEW_PICTURE}").status_code == 200


def test_a_host_name_is_never_markup() -> None:
    odd = client(make_access(PASSWORD, hosts=frozenset({"*"}))).get("/", headers={**BOT, "Host": 'a"><b>x'})
    assert "<b>x" not in odd.text
