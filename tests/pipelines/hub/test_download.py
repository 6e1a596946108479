"""Downloads that are cut, cancelled, killed or damaged, from a small hub on loopback."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipelines.hub.hub import Hub
from pipelines.hub.progress import DownloadStopped, Progress
from pipelines.system.paths import PROJECT
from tests.support.hub_models import NEEDED, SOURCE, UNET, card, error_message, make_hub, names_in
from tests.support.hub_server import HubServer


def test_a_cut_download_resumes_where_it_ended(server: HubServer, hub: Hub, repository: Path) -> None:
    server.cuts, server.cut_after = 8, 30000  # more often than it may fail in a row
    path = hub.download(card())
    assert (path / UNET).read_bytes() == (repository / UNET).read_bytes()
    starts = [asked.start for asked in server.log if asked.path.endswith(UNET)]
    assert starts == sorted(starts) and starts[:3] == [0, 30000, 60000]


def test_without_ranges_a_download_begins_again(server: HubServer, hub: Hub, repository: Path) -> None:
    server.cuts, server.cut_after, server.ranges = 1, 30000, False
    seen: list[Progress] = []
    path = hub.download(card(), seen.append)
    assert names_in(path) == NEEDED and seen[-1].done == seen[-1].total
    text = path / "text_encoder/model.safetensors"
    assert text.read_bytes() == (repository / "text_encoder/model.safetensors").read_bytes()


@pytest.mark.parametrize("way", ["stall", "slow", "refusal"])
def test_a_download_stops_within_a_second_and_resumes_later(
    server: HubServer, tmp_path: Path, way: str, repository: Path
) -> None:
    hub = make_hub(server, tmp_path, timeout=20.0, max_wait=60.0)
    if way == "slow":
        server.slow = 100_000
    elif way == "stall":
        server.stalls, server.stall_after = 1, 35000
    else:
        server.refusals, server.refusal, server.refuses = 1, (429, {"Retry-After": "30"}), "unet/diff"
    began = time.monotonic()
    with pytest.raises(DownloadStopped):
        hub.download(card(), cancelled=lambda: time.monotonic() - began > 0.7)
    assert 0.6 < time.monotonic() - began < 1.7
    assert hub.plan(card()).arrived > 30000 and hub.local_path(card()) is None and server.refusals == 0
    server.slow = 0
    server.log.clear()
    path = hub.download(card())
    assert (path / UNET).read_bytes() == (repository / UNET).read_bytes()
    weights = [(asked.path, asked.start) for asked in server.log if asked.path.endswith(".safetensors")]
    assert sum(start == 0 for _, start in weights) < 3, "everything was fetched again from its beginning"


def test_a_killed_download_resumes_where_it_was(server: HubServer, hub: Hub, tmp_path: Path, repository: Path) -> None:
    server.slow = 200_000
    code = f"""
import sys
from pipelines.hub.hub import Hub
from tests.support.tiny_model import tiny_card
def report(p):
    if p.file == {UNET!r} and p.done > 190_000: print("now", flush=True)
Hub(endpoint={server.address!r}, cache_dir={str(hub.cache_dir)!r}).download(tiny_card({SOURCE!r}), report)
"""
    environment = {**os.environ, "HF_HUB_OFFLINE": "0", "PYTHONPATH": str(PROJECT)}
    process = subprocess.Popen([sys.executable, "-c", code], cwd=PROJECT, env=environment, stdout=subprocess.PIPE)
    try:
        assert process.stdout.readline() == b"now\n"
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait(10)
    server.slow = 0
    there = hub.plan(card()).arrived
    assert hub.local_path(card()) is None and 190_000 < there < hub.plan(card()).total
    server.log.clear()
    path = hub.download(card())
    assert (path / UNET).read_bytes() == (repository / UNET).read_bytes()
    again = [(name, asked.start) for name, asked in zip(server.files(), server.log[1:], strict=True)]
    assert [name for name, _ in again if name.endswith(".safetensors")] == [UNET] and dict(again)[UNET] > 0


def test_a_short_file_is_downloaded_again(server: HubServer, hub: Hub, repository: Path) -> None:
    weights = (hub.download(card()) / UNET).resolve()
    os.truncate(weights, 1000)
    server.log.clear()
    path = hub.download(card())
    assert (path / UNET).read_bytes() == (repository / UNET).read_bytes()
    assert server.files().count(UNET) == 1 and "vae/config.json" not in server.files()


def test_a_damaged_file_is_downloaded_again(server: HubServer, hub: Hub, repository: Path) -> None:
    server.damages = 1
    seen: list[Progress] = []
    path = hub.download(card(), seen.append)
    assert all((path / name).read_bytes() == (repository / name).read_bytes() for name in NEEDED)
    assert seen[-1].done == seen[-1].total
    assert server.files().count("text_encoder/model.safetensors") == 2


def test_bytes_beyond_the_end_are_dropped(server: HubServer, hub: Hub, repository: Path) -> None:
    server.longer = 99
    path = hub.download(card())
    assert (path / UNET).read_bytes() == (repository / UNET).read_bytes()


def test_a_file_that_stays_damaged_is_never_used(server: HubServer, hub: Hub) -> None:
    server.damages = 99
    assert "damaged twice" in error_message(lambda: hub.download(card()))
    assert hub.local_path(card()) is None
    blobs = hub.cache_dir / "models--maker--tiny" / "blobs"
    assert {path.name for path in blobs.iterdir()}.isdisjoint(
        file.digest for file in hub.plan(card()).files if file.name.endswith(".safetensors")
    )


@pytest.mark.parametrize("length", [5000, 10**6])
def test_a_wrong_partial_file_is_thrown_away(server: HubServer, hub: Hub, repository: Path, length: int) -> None:
    file = next(file for file in hub.plan(card()).files if file.name == UNET)
    part = hub.cache_dir / "models--maker--tiny" / "blobs" / f"{file.digest}.incomplete"
    part.parent.mkdir(parents=True)
    part.write_bytes(b"?" * length)
    assert (hub.download(card()) / UNET).read_bytes() == (repository / UNET).read_bytes()
