"""The page's address for other devices of the same network."""

from __future__ import annotations

import socket
from types import SimpleNamespace

import pytest

from ui.server import network
from ui.server.network import network_url, own_addresses


@pytest.mark.parametrize(
    ("host", "own", "url"),
    [
        ("127.0.0.1", ["192.168.1.7"], ""), ("::1", ["192.168.1.7"], ""), ("localhost", ["192.168.1.7"], ""),
        ("0.0.0.0", ["192.168.1.7", "10.0.0.2"], "http://192.168.1.7:7860"), ("::", ["10.0.0.2"], "http://10.0.0.2:7860"),
        ("0.0.0.0", [], ""), ("192.168.1.9", [], "http://192.168.1.9:7860"), ("studio.local", [], "http://studio.local:7860"),
        ("fd00::7", [], "http://[fd00::7]:7860"),
    ],
)  # fmt: skip
def test_the_address_is_one_that_others_reach(host: str, own: list[str], url: str) -> None:
    assert network_url(host, 7860, own=own) == url
    assert network_url(host, 7860, "/paint", own) == (f"{url}/paint" if url else "")


def test_containers_and_what_is_down_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    import psutil

    def entry(address: str) -> SimpleNamespace:
        return SimpleNamespace(family=socket.AF_INET, address=address)

    found = {
        "lo": "127.0.0.1", "docker0": "172.17.0.1", "eth0": "10.0.0.2", "wlan0": "192.168.1.7", "eth1": "10.9.9.9",
        "ppp0": "8.8.8.8", "eth2": "169.254.1.1",
    }  # fmt: skip
    monkeypatch.setattr(psutil, "net_if_addrs", lambda: {name: [entry(address)] for name, address in found.items()})
    monkeypatch.setattr(psutil, "net_if_stats", lambda: {name: SimpleNamespace(isup=name != "eth1") for name in found})
    monkeypatch.setattr(network, "_source_address", lambda: "192.168.1.7")
    assert own_addresses() == ["192.168.1.7", "10.0.0.2"]
