"""Owner and guests in a real browser and over raw HTTP, both from this very computer."""

from __future__ import annotations

import contextlib
import json
import urllib.error
import urllib.request
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from pipelines.jobs.users import User
from pipelines.request import make_request
from tests.support.site import Site, served, tiny_card
from tests.support.tiny_model import make_tiny_model
from tests.support.visitors import Visitors
from ui.server.access import Access

PASSWORD = "correct horse battery"


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Site, Access]]:
    """A page that is shared."""
    folder = tmp_path_factory.mktemp("shared")
    model = make_tiny_model(folder / "model", prediction_type="v_prediction")
    access = Access(b"k" * 32, 1, password=PASSWORD)
    with served([tiny_card(model)], folder / "pictures", access=access) as site:
        yield site, access


@pytest.fixture
def visit(browser: Browser, shared: tuple[Site, Access]) -> Iterator[Any]:
    """Opens the page as the owner, or as a guest who still has to log in."""
    site, access = shared
    site.settle()
    with contextlib.closing(Visitors(browser)) as new:

        def open_page(owner: bool = False, **options: Any) -> Page:
            return new.open(f"{site.url}?owner={access.link_token()}" if owner else site.url, **options)

        yield open_page
    site.settle()


def log_in(page: Page, password: str = PASSWORD) -> None:
    page.fill("input[name=password]", password)
    page.click("button")


def generated(page: Page) -> None:
    page.locator("#generate").wait_for()
    page.click("#generate")
    page.locator('#stage .stage[data-state="done"]').wait_for()


def test_a_guest_logs_in_makes_a_picture_and_changes_no_model(visit, shared: tuple[Site, Access]):
    site, _ = shared
    page = visit()
    assert page.locator("#generate").count() == 0
    log_in(page, "wrong")
    expect(page.locator(".problem")).to_have_text("Wrong password; try again.")
    log_in(page)
    generated(page)
    assert not site.backend.jobs[-1].user.owner
    page.get_by_role("tab", name="Models").click()
    expect(page.locator('#models [data-part="note"]')).to_contain_text("Only the owner")
    expect(page.locator("#models [data-do=unload], #models [data-do=load]")).to_have_count(0)
    expect(page.locator("#add-model")).to_have_count(0)
    assert str(site.pictures.parent) not in page.content()


def test_a_guest_does_not_see_what_the_owner_makes(visit, shared: tuple[Site, Access]):
    site, _ = shared
    owner = visit(owner=True)
    generated(owner)
    assert site.backend.jobs[-1].user.owner
    name = site.backend.jobs[-1].id
    guest = visit()
    log_in(guest)
    guest.locator("#generate").wait_for()
    # Even with everything that the owner's browser remembers, the guest's page finds nothing.
    kept = owner.evaluate("JSON.stringify(localStorage)")
    assert name not in guest.content()
    guest.evaluate("kept => Object.entries(JSON.parse(kept)).forEach(([k, v]) => localStorage.setItem(k, v))", kept)
    guest.reload()
    expect(guest.locator('#status [data-part="text"]')).to_contain_text("ready")
    guest.wait_for_timeout(500)
    assert guest.locator("#stage .stage").get_attribute("data-run") != name


def test_the_owners_page_has_the_models(visit):
    page = visit(owner=True)
    page.get_by_role("tab", name="Models").click()
    expect(page.locator('#models [data-part="note"]')).to_be_hidden()
    page.locator("#models li button").first.wait_for()
    expect(page.locator("#add-model")).to_be_visible()


def post(site: Site, path: str, body: Any, **headers: str) -> tuple[int, str]:
    request = urllib.request.Request(
        site.url.rstrip("/") + path, json.dumps(body).encode(), {"Content-Type": "application/json", **headers}
    )
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as problem:
        return problem.code, problem.read().decode()


def cookie_of_a_guest(access: Access) -> str:
    return f"{access.guest_cookie_name}={access.log_in('', PASSWORD, 'test')}"


def numbers_of(site: Site, names: set[str]) -> list[int]:
    """Numbers of the page's functions whose Python names are these."""
    return [k for k, fn in site.demo.fns.items() if getattr(fn.fn, "__name__", "") in names]


FORGED = {"X-Forwarded-For": "127.0.0.1", "X-Forwarded-Host": "localhost", "X-Real-IP": "127.0.0.1"}


def called(site: Site, name: str, data: list[Any], **headers: str) -> list[dict[str, Any]]:
    """Call a function by Gradio's name on the page's own way, in the queue; what is said of it until it is over."""
    (number,) = (k for k, fn in site.demo.fns.items() if fn.api_name == name)
    left = len(site.demo.fns[number].inputs) - len(data)
    event = {"model": "tiny", "do": "load"}
    body = {"fn_index": number, "data": [*data, *[None] * left], "event_data": event, "session_hash": f"{name}-calls"}
    status, text = post(site, "/gradio_api/queue/join", body, **headers)
    assert status == 200, text
    asked = urllib.request.Request(f"{site.url}gradio_api/queue/data?session_hash={name}-calls", headers=headers)
    with urllib.request.urlopen(asked, timeout=30) as answer:
        said = [json.loads(line[6:]) for line in answer.read().decode().splitlines() if line.startswith("data: ")]
    assert said[-1]["msg"] == "close_stream"
    return said


def test_raw_requests_from_this_computer_get_a_guests_rights_only(
    shared: tuple[Site, Access], monkeypatch: pytest.MonkeyPatch
):
    site, access = shared
    for headers in ({}, FORGED, {**FORGED, "Host": "127.0.0.1"}):
        body = {"fn_index": 0, "data": [], "session_hash": "x"}
        assert post(site, "/gradio_api/queue/join", body, **headers)[0] == 401
    loaded: list[str] = []
    monkeypatch.setattr(site.backend, "warm_up", loaded.append)
    cookie = cookie_of_a_guest(access)
    assert "Only the owner" in json.dumps(called(site, "act", [], Cookie=cookie, **FORGED))
    assert "Only the owner" in json.dumps(called(site, "add_model", ["/nowhere"], Cookie=cookie, **FORGED))
    assert loaded == []
    # The very same, asked by the owner, is done.
    owner = "=".join(access.owner_cookie)
    assert "Only the owner" not in json.dumps(called(site, "act", [], Cookie=owner))
    assert "Only the owner" not in json.dumps(called(site, "add_model", ["/nowhere"], Cookie=owner))
    assert loaded == ["tiny"]


def test_queued_functions_cannot_be_called_without_the_queue(shared: tuple[Site, Access]):
    site, access = shared
    number = numbers_of(site, {"generate"})[0]
    before = len(site.backend.jobs)
    body = {"fn_index": number, "data": [None] * len(site.demo.fns[number].inputs), "session_hash": "s"}
    assert post(site, "/gradio_api/run/predict", body, Cookie=cookie_of_a_guest(access))[0] == 404
    assert len(site.backend.jobs) == before


def test_the_api_is_closed_to_guests(shared: tuple[Site, Access]):
    site, access = shared
    cookie = cookie_of_a_guest(access)
    assert post(site, "/gradio_api/call/text_to_image", {"data": ["a fox"]}, Cookie=cookie)[0] == 404
    # Nor by the way that the page itself takes.
    before = len(site.backend.jobs)
    assert "use the page" in json.dumps(called(site, "text_to_image", ["a fox"], Cookie=cookie))
    assert len(site.backend.jobs) == before
    # The very same, asked by the owner, makes a picture.
    owner = "=".join(access.owner_cookie)
    assert "use the page" not in json.dumps(called(site, "text_to_image", ["a fox"], Cookie=owner))
    assert len(site.backend.jobs) == before + 1


def test_a_refused_guest_sees_for_how_long_and_keeps_the_prompt(
    visit, shared: tuple[Site, Access], monkeypatch: pytest.MonkeyPatch
):
    site, _ = shared
    site.gate.hold_at(0)
    line = site.backend._tasks.jobs
    monkeypatch.setattr(line, "limit", 2)
    # The last pictures took 50 seconds each; one is made and two wait.
    monkeypatch.setattr(line, "_seconds", deque([50.0] * 5))
    values = {"width": 64, "height": 64, "scheduler": "euler", "num_inference_steps": 2, "guidance_scale": 1.0}
    for k, name in enumerate("abc"):
        site.backend.submit(make_request(model="tiny", prompt="a house", seed=k, **values), User(name))
        site.gate.wait_for(0)
    page = visit()
    log_in(page)
    page.locator("#generate").wait_for()
    page.fill("#prompt textarea", "a fox that I have thought about")
    page.click("#generate")
    expect(page.locator("#run-error")).to_contain_text("This computer is busy; try again in about 3 minutes.")
    expect(page.locator("#prompt textarea")).to_have_value("a fox that I have thought about")
    assert len(site.backend.jobs) == 3
    # Later there is room, and the same press makes the picture.
    site.gate.open()
    for job in site.backend.jobs:
        assert list(job.events())
    generated(page)
    expect(page.locator("#run-error")).not_to_contain_text("busy")
    assert site.backend.jobs[-1].request.prompt == "a fox that I have thought about"


@pytest.mark.parametrize(
    "path",
    ["/etc/passwd", "{data}/owner.key", "{data}/pictures/../owner.key", "../../../../etc/passwd",
     "%2e%2e/%2e%2e/etc/passwd", "..%2f..%2fetc%2fpasswd", "file:///etc/passwd", "//etc/passwd", "{link}", "http://127.0.0.1:1/x"],
)  # fmt: skip
def test_no_file_but_those_of_the_page_is_served(shared: tuple[Site, Access], tmp_path: Path, path: str):
    site, access = shared
    data = site.pictures.parent
    (data / "owner.key").write_bytes(b"secret")
    link = data / "pictures" / "link.png"
    link.parent.mkdir(exist_ok=True)
    if not link.is_symlink():
        link.symlink_to("/etc/passwd")
    target = path.format(data=data, link=link)
    for cookie in (cookie_of_a_guest(access), "=".join(access.owner_cookie)):
        request = urllib.request.Request(f"{site.url}gradio_api/file={target}", headers={"Cookie": cookie})
        with pytest.raises(urllib.error.HTTPError) as problem:
            urllib.request.urlopen(request, timeout=30)
        assert problem.value.code in (400, 403, 404)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_login_page_reads_well(visit, scheme: str):
    page = visit(color_scheme=scheme, viewport={"width": 390, "height": 844})
    found = Axe().run(page, options={"runOnly": ["wcag2a", "wcag2aa"]}).response["violations"]
    assert [v["id"] for v in found] == []
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    expect(page.locator("input[name=password]")).to_be_focused()
