"""Guests who know the names of each other's sessions and events, guests of a paused link, and pages of other sites."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from benchmarks.hostile_requests import API, Client, PageFunction, page_functions
from benchmarks.raw_attacks import head, send_raw
from tests.support.shared_site import client_of, form, function_number, png, shared_site
from tests.support.site import Site
from tests.support.waiting import wait_for
from ui.server.access import Access


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Site, Access]]:
    with shared_site(tmp_path_factory.mktemp("sessions")) as found:
        yield found


def generate(site: Site, client: Client, session: str) -> Any:
    """Press the page's button; the answer."""
    number = function_number(site, "generate")
    function: PageFunction = next(one for one in page_functions(client.config()) if one.number == number)
    body = {"fn_index": number, "data": list(function.page_values), "session_hash": session}
    return client.post(f"{API}/queue/join", body)


def test_a_guest_cannot_follow_or_cancel_what_another_guest_runs(shared) -> None:
    site, _ = shared
    site.settle()
    first, second = client_of(shared, "guest"), client_of(shared, "guest")
    site.gate.hold_at(1)
    event = json.loads(generate(site, first, "ofthefirst").body)["event_id"]
    site.gate.wait_for(1)
    number = function_number(site, "generate")
    cancel = {"event_id": event, "session_hash": "ofthefirst", "fn_index": number}
    tick = {"fn_index": function_number(site, "tick"), "data": [], "session_hash": "ofthefirst"}
    for answer in (
        second.request("GET", f"{API}/queue/data?session_hash=ofthefirst", seconds=5),
        second.request("GET", f"{API}/heartbeat/ofthefirst", seconds=5),
        second.post(f"{API}/cancel", cancel),
        second.post(f"{API}/cancel", {**cancel, "session_hash": "ofthesecond"}),
        second.post(f"{API}/reset", {"event_id": event}),
        second.post(f"{API}/run/predict", tick),
        generate(site, second, "ofthefirst"),
    ):
        assert answer.status == 403 and "opened by someone else" in answer.body
    # A client that has not signed in learns nothing either; the guest's own page goes on.
    assert Client(site.url).request("GET", f"{API}/queue/data?session_hash=ofthefirst").status == 401
    site.gate.open()
    assert '"msg":"process_completed"' in first.outcome("ofthefirst").body
    site.settle()


def test_a_guest_cannot_watch_what_another_guest_uploads(shared) -> None:
    first, second = client_of(shared, "guest"), client_of(shared, "guest")
    sent, kind = form([("secret name.png", png())])
    assert first.request("POST", f"{API}/upload?upload_id=u1", sent, kind).status == 200
    assert second.request("GET", f"{API}/upload_progress?upload_id=u1").status == 403
    assert second.request("POST", f"{API}/upload?upload_id=u1", sent, kind).status == 403
    assert first.request("GET", f"{API}/upload_progress?upload_id=u1", seconds=5).status in (200, 404)


def test_events_of_the_api_are_their_callers(shared) -> None:
    _, access = shared
    access.api = True
    try:
        first, second = client_of(shared, "guest"), client_of(shared, "guest")
        asked = first.post(f"{API}/call/text_to_image", {"data": ["a fox", *[None] * 9]})
        path = f"{API}/call/text_to_image/{json.loads(asked.body)['event_id']}"
        assert second.request("GET", path).status == 404
        assert "event: complete" in first.request("GET", path).body
    finally:
        access.api = False


@pytest.mark.parametrize("path", ["text_to_image/unknown", "text_to_image/" + "0" * 32, "no_such_function/unknown"])
def test_an_unknown_event_gets_an_answer(shared, path: str, capfd: pytest.CaptureFixture[str]) -> None:
    answer = client_of(shared, "owner").request("GET", f"{API}/call/{path}")
    assert answer.status == 404 and json.loads(answer.body)["detail"].endswith(".")
    unknown = client_of(shared, "guest").request("GET", f"{API}/queue/data?session_hash=unknown")
    assert unknown.status == 200 and "session_not_found" in unknown.body
    assert "Traceback" not in "".join(capfd.readouterr())


def test_pausing_holds_the_streams_of_guests_and_stopping_ends_them(shared) -> None:
    site, access = shared
    site.settle()
    guest = client_of(shared, "guest")
    site.gate.hold_at(1)
    assert generate(site, guest, "held").status == 200
    site.gate.wait_for(1)
    heard: list[Any] = []
    listener = threading.Thread(target=lambda: heard.append(guest.outcome("held")), daemon=True)
    listener.start()
    listeners = site.demo.app.middleware_stack._sessions._listeners
    wait_for(lambda: listeners["held"])
    access.paused = True
    site.gate.open()
    for job in site.backend.jobs:
        assert list(job.events())
    time.sleep(1.0)
    assert listener.is_alive() and not heard, "the result is not sent while the link is paused"
    assert client_of(shared, "owner").request("GET", "/config").status == 200
    access.paused = False
    listener.join(60)
    assert '"msg":"process_completed"' in heard[0].body
    # Guests who are logged out meanwhile get nothing more, and their connection ends.
    site.gate.hold_at(1)
    assert generate(site, guest, "ended").status == 200
    site.gate.wait_for(1)
    listener = threading.Thread(target=lambda: heard.append(guest.outcome("ended")), daemon=True)
    listener.start()
    wait_for(lambda: listeners["ended"])
    access.revoke_guests()
    site.gate.open()
    listener.join(60)
    assert not listener.is_alive() and '"msg":"process_completed"' not in heard[1].body
    site.settle()


ORIGINS = ("http://localhost:3000", "http://127.0.0.1:3000", "http://localhost", "null", "https://evil.example")


@pytest.mark.parametrize("origin", ORIGINS)
@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS", "HEAD"])
def test_pages_of_other_sites_are_refused_and_told_nothing(shared, origin: str, method: str) -> None:
    site, _ = shared
    own = f"http://{Client(site.url).address.split('/')[2]}"
    for role in ("owner", "guest", "stranger"):
        cookie = client_of(shared, role).cookie
        more = (f"Origin: {origin}", "Access-Control-Request-Method: POST", "Content-Length: 0")
        for path in ("/config", f"{API}/queue/join"):
            answer = send_raw(site.url, head(method, path, cookie, *more[: 3 if method == "POST" else 2]))
            same = origin == "http://localhost" and method != "OPTIONS"
            assert "access-control-" not in answer.head.lower(), answer
            assert same or answer.status in (401, 403, 405), answer
    answer = client_of(shared, "owner").request("GET", "/config", more={"Origin": own})
    assert answer.status == 200 and "access-control-" not in answer.head.lower()


def test_a_link_on_another_site_opens_the_page_and_nothing_else(shared) -> None:
    site, _ = shared
    cookie = client_of(shared, "owner").cookie
    cross = "Sec-Fetch-Site: cross-site"
    opened = (cross, "Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: document")
    assert send_raw(site.url, head("GET", "/", cookie, *opened)).status == 200
    for more in ((cross,), (cross, "Sec-Fetch-Mode: no-cors", "Sec-Fetch-Dest: image"),
                 (cross, "Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: iframe")):  # fmt: skip
        assert send_raw(site.url, head("GET", "/", cookie, *more)).status == 403
