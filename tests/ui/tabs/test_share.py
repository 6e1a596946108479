"""The Share tab: what it shows to the owner and to guests."""

from __future__ import annotations

from tests.support.tunnels import URL
from ui.server.network import NetworkShare
from ui.server.sharing import ShareStatus
from ui.tabs.share import GUEST, panel_value, qr_code, time_left


def test_only_the_owner_sees_the_link() -> None:
    on = ShareStatus("on", URL, "secret", 100.0)
    assert panel_value(on, False) == {"owner": False, "what": GUEST} == panel_value(None, True)
    assert panel_value(on, True)["password"] == "secret"


def test_words_and_code_of_a_link() -> None:
    assert time_left(7 * 86400) == "in at most 7 days" and time_left(90061) == "in at most 1 day and 1 hour"
    assert time_left(59) == "in at most a minute" and time_left(3660) == "in at most 1 hour and 1 minute"
    assert qr_code(URL).startswith("data:image/svg+xml;base64,")


def test_the_address_in_the_same_network_or_the_command_that_makes_it() -> None:
    here = panel_value(ShareStatus(), True, NetworkShare("http://192.168.1.7:7860", "", "secret"))["network"]
    assert (here["url"], here["password"]) == ("http://192.168.1.7:7860", "secret")
    assert here["code"].startswith("data:image/svg+xml;base64,")
    alone = panel_value(ShareStatus(), True, NetworkShare())["network"]
    assert "--host 0.0.0.0" in alone["command"] and "url" not in alone
    assert "network" not in panel_value(ShareStatus(), False, NetworkShare("http://192.168.1.7:7860"))
