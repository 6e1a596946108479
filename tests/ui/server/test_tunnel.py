"""The tunnel, with a stand-in for the share service's program."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.tunnels import URL, make_tunnels, running_programs, stand_in_client
from ui.server.tunnel import Tunnel, TunnelError, gradio_client, verify


@pytest.fixture
def tunnels(tmp_path: Path) -> Iterator[Any]:
    with make_tunnels(tmp_path) as make:
        yield make


@pytest.mark.parametrize("mode", ["good", "chatty"])
def test_a_tunnel_starts_and_stops(tunnels: Any, tmp_path: Path, mode: str) -> None:
    tunnel = tunnels(mode)
    assert tunnel.start(7860) == URL and tunnel.alive and running_programs() == 1
    assert (tmp_path / "tunnel" / "share-server.pem").read_text() == "CERT"
    assert tunnel.start(7860) == URL and running_programs() == 1
    tunnel.stop()
    assert not tunnel.alive and tunnel.url == "" and running_programs() == 0


@pytest.mark.parametrize(
    ("mode", "words", "seconds"),
    [
        ("refused", "refused the tunnel", 60.0),
        ("dies", "ended before", 60.0),
        ("strange", "did not answer", 2.0),
        ("silent", "did not answer", 2.0),
    ],
)
def test_a_tunnel_that_fails_is_one_sentence_and_leaves_nothing(
    tunnels: Any, mode: str, words: str, seconds: float
) -> None:
    tunnel = tunnels(mode)
    with pytest.raises(TunnelError, match=words) as caught:
        tunnel.start(7860, timeout=seconds)
    assert "\n" not in str(caught.value) and not tunnel.alive and running_programs() == 0


def test_a_program_that_ignores_sigterm_is_killed(tunnels: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ui.server.tunnel.STOP_SECONDS", 0.3)
    tunnel = tunnels("stubborn")
    tunnel.start(7860)
    tunnel.stop()
    assert running_programs() == 0


def test_a_changed_program_is_deleted_and_not_run(tunnels: Any, tmp_path: Path) -> None:
    tunnel = tunnels("good", digest="0" * 64)
    with pytest.raises(TunnelError, match="wrong checksum"):
        tunnel.start(7860)
    assert not (tmp_path / "client-good").exists() and running_programs() == 0
    # It is verified before each use, not only before the first.
    good = stand_in_client(tmp_path)
    verify(good.path, good.digest)
    good.path.write_text(good.path.read_text() + "# evil\n")
    with pytest.raises(TunnelError):
        Tunnel(good, tmp_path).start(7860)


def test_offline_is_one_sentence(tunnels: Any, tmp_path: Path) -> None:
    def fails(*_: object) -> Any:
        raise OSError("Network is unreachable")

    with pytest.raises(TunnelError, match="offline"):
        tunnels(find_server=fails).start(7860)
    missing = stand_in_client(tmp_path, download=fails)
    missing.path.unlink()
    with pytest.raises(TunnelError, match="offline"):
        Tunnel(missing, tmp_path).start(7860)


def test_the_installed_gradio_names_a_program_and_its_digest() -> None:
    found = gradio_client()
    assert len(found.digest) == 64 and found.path.name.startswith("frpc")
