"""The public link, its password and its guests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.tunnels import URL, end_programs, make_sharing, make_tunnels, running_programs
from tests.support.waiting import wait_for
from ui.server.sharing import LINK_SECONDS, ShareStatus


@pytest.fixture
def tunnels(tmp_path: Path) -> Iterator[Any]:
    with make_tunnels(tmp_path) as make:
        yield make


def test_each_link_has_a_password_of_its_own_that_ends_with_it(tunnels: Any) -> None:
    found, access = make_sharing(tunnels)
    assert found.status() == ShareStatus() and not access.exposed
    now = found.start()
    assert (now.state, now.url, now.pictures) == ("on", URL, 0)
    assert len(now.password) >= 20 and access.exposed and access.is_own_host("abc123.gradio.live")
    assert LINK_SECONDS - 60 < now.seconds_left <= LINK_SECONDS
    assert found.pause(True).paused and access.paused and not found.pause(False).paused
    assert (
        found.stop() == ShareStatus(attempt=1)
        and not access.exposed
        and not access.is_own_host("abc123.gradio.live")
        and running_programs() == 0
    )
    again = found.start()
    assert again.password != now.password


def test_a_password_given_at_the_start_stays(tunnels: Any) -> None:
    found, access = make_sharing(tunnels, password="standing")
    assert found.start().password == "standing"
    found.stop()
    assert access.password == "standing" and access.identify({}) is None


def test_a_link_that_the_service_closes_is_noticed_and_revoked(tunnels: Any) -> None:
    found, access = make_sharing(tunnels)
    assert found.start().state == "on"
    end_programs()
    wait_for(lambda: found.status().state != "on")
    assert "closed by the service" in found.status().problem and not access.exposed


def test_a_link_that_fails_gives_no_one_access(tunnels: Any) -> None:
    found, access = make_sharing(tunnels, "dies")
    assert found.start().state == "failed" and not access.exposed
    second = found.start()
    # A page tells it from the first one, although it says the same.
    assert second.problem and second.attempt == 2 and found.status() == second
