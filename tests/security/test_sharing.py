"""The tunnel and what the page makes of it, with a program that stands in for the real one."""

from __future__ import annotations

import hashlib
import stat
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from playwright.sync_api import Browser, expect

from tests.browser.site import served, tiny_card
from tests.tiny import make_tiny_model
from ui.gate import Door
from ui.share import GUEST, code, left, shown
from ui.sharing import LASTS_SECONDS, Shared, Sharing
from ui.tunnel import Client, NoTunnel, Server, Tunnel, check, gradio_client

STAND_IN = Path(__file__).with_name("tunnel_client.py")
URL = "https://abc123.gradio.live"


def program(folder: Path, mode: str) -> Path:
    """The stand-in as a program of its own."""
    path = folder / f"client-{mode}"
    path.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{STAND_IN}" {mode} "$@"\n')
    path.chmod(path.stat().st_mode | stat.S_IEXEC)
    return path


def client(folder: Path, mode: str = "good", **changes: Any) -> Client:
    path = program(folder, mode)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    values = {"path": path, "digest": digest, "fetch": lambda: None, "server": lambda: Server("127.0.0.1:1", "CERT")}
    return Client(**{**values, **changes})


@pytest.fixture
def tunnels(tmp_path: Path) -> Iterator[Any]:
    made: list[Tunnel] = []

    def make(mode: str = "good", **changes: Any) -> Tunnel:
        made.append(Tunnel(client(tmp_path, mode, **changes), tmp_path / "tunnel"))
        return made[-1]

    yield make
    for tunnel in made:
        tunnel.stop()


def running() -> int:
    """Stand-ins that this process has started and that run now.

    The system's own list is no witness: `ps` cuts its lines at the width of a terminal that is not there.
    """
    children = psutil.Process().children(recursive=True)
    return sum(child.status() != psutil.STATUS_ZOMBIE and str(STAND_IN) in _command(child) for child in children)


def _command(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


@pytest.mark.parametrize("mode", ["good", "chatty"])
def test_a_tunnel_is_made_and_ended(tunnels: Any, tmp_path: Path, mode: str) -> None:
    tunnel = tunnels(mode)
    assert tunnel.start(7860) == URL and tunnel.alive and running() == 1
    assert (tmp_path / "tunnel" / "share-server.pem").read_text() == "CERT"
    assert tunnel.start(7860) == URL and running() == 1
    tunnel.stop()
    assert not tunnel.alive and tunnel.url == "" and running() == 0


@pytest.mark.parametrize(
    ("mode", "words"),
    [("refused", "has refused"), ("dies", "ended before"), ("strange", "not answered"), ("silent", "not answered")],
)
def test_a_tunnel_that_cannot_be_is_one_sentence_and_leaves_nothing(tunnels: Any, mode: str, words: str) -> None:
    tunnel = tunnels(mode)
    with pytest.raises(NoTunnel, match=words) as caught:
        tunnel.start(7860, patience=2.0)
    assert "\n" not in str(caught.value) and not tunnel.alive and running() == 0


def test_a_program_that_does_not_want_to_end_is_ended(tunnels: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ui.tunnel.STOP_SECONDS", 0.3)
    tunnel = tunnels("stubborn")
    tunnel.start(7860)
    tunnel.stop()
    assert running() == 0


def test_a_program_that_was_changed_is_removed_and_not_run(tunnels: Any, tmp_path: Path) -> None:
    tunnel = tunnels("good", digest="0" * 64)
    with pytest.raises(NoTunnel, match="not the one it should be"):
        tunnel.start(7860)
    assert not (tmp_path / "client-good").exists() and running() == 0
    # It is looked at before each use, not the first alone.
    good = client(tmp_path)
    check(good.path, good.digest)
    good.path.write_text(good.path.read_text() + "# evil\n")
    with pytest.raises(NoTunnel):
        Tunnel(good, tmp_path).start(7860)


def test_offline_is_one_sentence(tunnels: Any, tmp_path: Path) -> None:
    def fails(*_: object) -> Any:
        raise OSError("Network is unreachable")

    with pytest.raises(NoTunnel, match="could not be asked .* check the connection"):
        tunnels(server=fails).start(7860)
    missing = client(tmp_path, fetch=fails)
    missing.path.unlink()
    with pytest.raises(NoTunnel, match="could not be fetched .* check the connection"):
        Tunnel(missing, tmp_path).start(7860)


def test_the_installed_gradio_names_a_program_and_its_digest() -> None:
    found = gradio_client()
    assert len(found.digest) == 64 and found.path.name.startswith("frpc")


# -- a link, its password and its guests -----------------------------------------------------------------------------


def sharing(tunnels: Any, mode: str = "good", **changes: Any) -> tuple[Sharing, Door]:
    door = Door(b"k" * 32, 7860, **changes)
    return Sharing(door, 7860, lambda: tunnels(mode), lambda: 5), door


def test_a_link_has_a_password_of_its_own_and_dies_with_it(tunnels: Any) -> None:
    found, door = sharing(tunnels)
    assert found.look() == Shared() and not door.exposed
    now = found.start()
    assert (now.state, now.url, now.pictures) == ("on", URL, 0)
    assert len(now.password) >= 20 and door.exposed and door.knows("abc123.gradio.live")
    assert LASTS_SECONDS - 60 < now.seconds_left <= LASTS_SECONDS
    assert found.pause(True).paused and door.paused and not found.pause(False).paused
    assert found.stop() == Shared() and not door.exposed and not door.knows("abc123.gradio.live") and running() == 0
    again = found.start()
    assert again.password != now.password


def test_a_password_that_was_there_before_stays(tunnels: Any) -> None:
    found, door = sharing(tunnels, password="standing")
    assert found.start().password == "standing"
    found.stop()
    assert door.password == "standing" and door.visitor({}) is None


def test_a_link_that_ends_by_itself_is_noticed_and_shut(tunnels: Any) -> None:
    found, door = sharing(tunnels, "brief")
    assert found.start().state == "on"
    end = time.monotonic() + 20
    while found.look().state == "on":
        assert time.monotonic() < end
        time.sleep(0.05)
    assert "ended by itself" in found.look().problem and not door.exposed


def test_a_link_that_cannot_be_leaves_the_door_as_it_was(tunnels: Any) -> None:
    found, door = sharing(tunnels, "dies")
    assert found.start().state == "failed" and not door.exposed
    assert found.start().problem


def test_only_the_owner_is_told_of_the_link() -> None:
    on = Shared("on", URL, "secret", 100.0)
    assert shown(on, False) == {"owner": False, "what": GUEST} == shown(None, True)
    assert shown(on, True)["password"] == "secret"


def test_words_and_code_of_a_link() -> None:
    assert left(7 * 86400) == "in at most 7 days" and left(90061) == "in at most 1 day and 1 hour"
    assert left(59) == "in at most a minute" and left(3660) == "in at most 1 hour and 1 minute"
    assert code(URL).startswith("data:image/svg+xml;base64,")


def test_the_owner_shares_from_the_page(browser: Browser, tunnels: Any, tmp_path: Path):
    model = make_tiny_model(tmp_path / "model", prediction_type="v_prediction")
    found, door = sharing(tunnels)
    with served([tiny_card(model)], tmp_path / "pictures", door=door, sharing=found) as site:
        context = browser.new_context()
        page = context.new_page()
        page.set_default_timeout(20_000)
        page.goto(f"{site.url}?owner={door.link_token()}")
        page.get_by_role("tab", name="Share").click()
        page.get_by_role("button", name="Share this page").click()
        expect(page.locator('#share [data-part="url"]')).to_have_text(URL)
        expect(page.locator('#share [data-part="password"]')).to_have_text(door.password)
        expect(page.locator("#share img")).to_be_visible()
        # Somebody else sees nothing of it, but for the page that asks for the password.
        other = browser.new_context().new_page()
        other.goto(site.url)
        expect(other.locator("input[name=password]")).to_be_visible()
        other.fill("input[name=password]", door.password)
        other.click("button")
        other.get_by_role("tab", name="Share").click()
        expect(other.locator("#share")).to_contain_text("Only the owner")
        assert door.password not in other.content()
        # The owner's list of words counts for guests, who do not see it.
        page.fill("#blocked-words textarea", "gore")
        page.get_by_role("button", name="Save the list").click()
        expect(page.locator("#blocked-said")).to_contain_text("Saved")
        expect(other.locator("#blocked-words")).to_be_hidden()
        other.get_by_role("tab", name="Text to image").click()
        other.fill("#prompt textarea", "some Gore")
        other.click("#generate")
        expect(other.locator("#prompt-error")).to_contain_text("does not allow")
        page.get_by_role("button", name="Pause guests").click()
        expect(page.get_by_role("button", name="Let guests in again")).to_be_visible()
        other.reload()
        expect(other.locator("body")).to_contain_text("paused")
        page.get_by_role("button", name="Stop sharing").click()
        expect(page.get_by_role("button", name="Share this page")).to_be_visible()
        assert running() == 0 and not door.exposed
