"""Hubs that stall, refuse, are busy or cannot be reached, and the access token."""

from __future__ import annotations

import logging
import socket
import time
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest

from pipelines.hub.errors import DownloadError
from pipelines.hub.hub import Hub
from tests.support.hub_models import NEEDED, SOURCE, TOKEN, card, error_message, make_hub, names_in
from tests.support.hub_server import HubServer


def test_a_connection_without_progress_is_given_up(server: HubServer, hub: Hub) -> None:
    server.cuts, server.cut_after, server.ranges = 99, 20000, False
    assert "keeps breaking off" in error_message(lambda: hub.download(card()))
    server.cuts, server.ranges = 0, True
    hub.download(card())
    assert 20000 in [asked.start for asked in server.log]


def test_a_stalled_connection_is_replaced(server: HubServer, hub: Hub) -> None:
    server.stalls, server.stall_after = 1, 10000
    began = time.monotonic()
    assert names_in(hub.download(card())) == NEEDED
    assert 0.9 < time.monotonic() - began < 4
    assert 10000 in [asked.start for asked in server.log]


def test_a_silent_hub_is_given_up(server: HubServer, tmp_path: Path) -> None:
    server.stalls, server.stall_after = 99, 0
    began = time.monotonic()
    assert "was silent for 1 second, again and again" in error_message(
        lambda: make_hub(server, tmp_path, timeout=0.5, tries=2).download(card())
    )
    assert time.monotonic() - began < 3


@pytest.mark.parametrize(
    ("status", "headers", "words"),
    [
        (401, {"X-Error-Code": "GatedRepo"}, ("agree at https://example.org/tiny", "HF_TOKEN")),
        (403, {"X-Error-Code": "GatedRepo"}, ("agree at https://example.org/tiny", "HF_TOKEN")),
        (401, {"X-Error-Message": "Invalid credentials in Authorization header"}, ("HF_TOKEN", "valid")),
        (403, {}, ("HF_TOKEN", "https://example.org/tiny")),
        (401, {"X-Error-Code": "RepoNotFound"}, ("There is no Tiny", "private")),
        (404, {"X-Error-Code": "RepoNotFound"}, ("There is no Tiny at https://example.org/tiny",)),
        (404, {"X-Error-Code": "EntryNotFound"}, ("no longer on the hub",)),
        (410, {}, ("error 410",)),
    ],
)
@pytest.mark.parametrize("where", ["/api/", "model_index", "/text_encoder/model"])
def test_refusals_say_what_to_do(
    server: HubServer, hub: Hub, status: int, headers: dict[str, str], words: tuple[str, ...], where: str
) -> None:
    server.refusals, server.refusal, server.refuses = 1, (status, headers), where
    text = error_message(lambda: hub.download(card()))
    assert all(word in text for word in words), text
    assert server.refusals == 0 and sum(where in asked.path for asked in server.log) == 1, "asked again in vain"


@pytest.mark.parametrize("headers", [{"Retry-After": "1"}, {"RateLimit": '"api";r=0;t=1'}])
def test_retry_after_is_respected(server: HubServer, hub: Hub, headers: dict[str, str]) -> None:
    server.refusals, server.refusal = 1, (429, headers)
    began = time.monotonic()
    assert names_in(hub.download(card())) == NEEDED and time.monotonic() - began >= 1


@pytest.mark.parametrize(
    ("headers", "words"),
    [
        (lambda: {"Retry-After": "600"}, "try again in 10 minutes"),
        (lambda: {"Retry-After": formatdate(time.time() + 7000, usegmt=True)}, "try again in 2 hours"),
        (lambda: {"RateLimit": '"api";r=0;t=240'}, "try again in 4 minutes"),
        (lambda: {}, "try again in some minutes"),
        (lambda: {"Retry-After": "soon"}, "try again in some minutes"),
    ],
)
def test_a_long_retry_after_is_given_up(server: HubServer, hub: Hub, headers: Any, words: str) -> None:
    server.refusals, server.refusal = 99, (429, headers())
    assert words in error_message(lambda: hub.download(card()))


def test_server_errors_are_retried_then_given_up(server: HubServer, hub: Hub) -> None:
    server.refusals, server.refusal = 2, (503, {})
    hub.plan(card())
    server.refusals = 99
    assert "out of order (error 503)" in error_message(lambda: hub.plan(card()))


def test_an_expired_signed_address_is_renewed(server: HubServer, hub: Hub) -> None:
    server.store, server.refusals, server.refusal, server.refuses = True, 1, (403, {}), f"localhost/{SOURCE}"
    assert names_in(hub.download(card())) == NEEDED and server.refusals == 0


def test_a_missing_network_is_named(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{free.getsockname()[1]}"
    lonely = Hub(endpoint=address, cache_dir=tmp_path, tries=2, backoff=0.01)
    assert "cannot be reached: check the network" in error_message(lambda: lonely.download(card()))


@pytest.mark.parametrize("address", ["nonsense", "http://[bad", "ftp://hub.example", "https://"])
def test_a_wrong_endpoint_is_named(address: str, tmp_path: Path) -> None:
    hub = Hub(offline=False, endpoint=address, cache_dir=tmp_path)
    with pytest.raises(DownloadError, match="HF_ENDPOINT is .* correct or unset it"):
        hub.plan(card())
    assert hub.download_configs("some/model") is None


def test_only_the_hub_receives_the_token(
    server: HubServer, hub: Hub, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server.store, server.cuts, server.cut_after = True, 2, 10000
    server.refusals, server.refusal, server.refuses = 1, (503, {}), "unet"
    with caplog.at_level(logging.DEBUG):
        hub.download(card())
    assert {asked.token for asked in server.log if asked.host == "127.0.0.1"} == {f"Bearer {TOKEN}"}
    assert {asked.token for asked in server.log if asked.host == "localhost"} == {""}
    assert server.refusals == 0 and TOKEN not in caplog.text
    written = [path for path in hub.cache_dir.rglob("*") if path.is_file()]
    assert written and all(TOKEN.encode() not in path.read_bytes() for path in written)


@pytest.mark.parametrize("status", [401, 403, 429, 500])
def test_no_message_contains_the_token(
    server: HubServer, hub: Hub, caplog: pytest.LogCaptureFixture, status: int
) -> None:
    server.refusals, server.refusal = 99, (status, {"X-Error-Message": "bad"})
    with caplog.at_level(logging.DEBUG), pytest.raises(DownloadError) as caught:
        hub.download(card())
    texts = "".join(str(error) for error in (caught.value, caught.value.__cause__, caught.value.__context__))
    assert TOKEN not in texts and TOKEN not in caplog.text
    assert server.log[0].token == f"Bearer {TOKEN}"
