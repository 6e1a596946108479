"""The program as a process of its own: used by many, asked to end, and killed; ``make soak`` does it for longer."""

from __future__ import annotations

import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

import app
from benchmarks.running_program import ROOT, BrowserClient, EventStream, RunningProgram
from benchmarks.soak.kills import run_kills
from benchmarks.soak.record import broken_pictures
from pipelines.images.png import read_request
from tests.support.status_poll import poll_status
from tests.support.waiting import SECONDS, wait_for

# Takes longer than any of these tests.
LONG = {"steps": 100, "count": 4}
SHORT = {"steps": 1, "count": 1, "width": 64, "height": 64}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningProgram]:
    found = RunningProgram(tmp_path_factory.mktemp("data"))
    try:
        yield found
    finally:
        found.kill()


def connections(server: RunningProgram) -> int:
    """Connections that the program still holds."""
    open_ones = psutil.Process(server.process.pid).net_connections("tcp")
    return sum(one.status in (psutil.CONN_ESTABLISHED, psutil.CONN_CLOSE_WAIT) for one in open_ones)


def test_clients_vanish_at_random_and_the_owner_goes_on(server: RunningProgram) -> None:
    dice = random.Random(7)
    owner = server.owner()
    assert owner.press("generate", **SHORT).finish()["state"] == "done"
    for guest in [server.guest() for _ in range(4)]:
        for _ in range(2):
            gone = guest.press("generate", **{**SHORT, "steps": dice.randrange(2, 8)})
            for _, _ in zip(gone.open().updates(), range(dice.randrange(6)), strict=False):
                pass
            gone.disconnect()
        guest.half_upload().close()
    assert owner.press("generate", **SHORT).finish()["state"] == "done"
    wait_for(lambda: "Queue empty" in poll_status(owner, "owner").text)
    wait_for(lambda: connections(server) == 0)
    # Every accepted picture is made: clients that vanish stop none.
    wait_for(lambda: len(list(server.pictures.glob("*.png"))) == 10)


def test_fifty_guests_at_once_and_the_owner_is_next(server: RunningProgram) -> None:
    owner = server.owner()
    guests = [server.guest() for _ in range(25)]
    before = set(server.pictures.glob("*.png"))
    long = guests[0].press("generate", prompt="long", **LONG)
    assert long.until("running")
    with ThreadPoolExecutor(50) as pool:
        crowd = list(pool.map(lambda k: _first_word(guests[k % 25], f"guest {k}"), range(50)))
        refused = [stream.problem() for stream in crowd if stream.problem()]
        # 32 may wait; all others are told why not, and for how long.
        assert len(refused) == 50 - 32
        assert all(re.fullmatch(r"This computer is busy; try again in about (a minute|\d+ minutes)\.", text)
                   for text in refused), refused  # fmt: skip
        mine = owner.press("generate", prompt="mine", **SHORT)
        assert mine.until("queued") and mine.stage()["text"] == "Queued, 2nd in line: 1 picture is made before yours"
        long.stop()
        places = pool.submit(lambda: [mine.stage().get("text", "") for _ in mine.updates()])
        done = list(pool.map(lambda stream: stream.finish(), [one for one in crowd if not one.problem()]))
        assert not any("3rd" in text for text in places.result(SECONDS))
    assert [stage["state"] for stage in done] == ["done"] * 32
    made = sorted(set(server.pictures.glob("*.png")) - before)
    order = [read_request(path).prompt for path in made]
    assert order[0] == "mine" and len(order) == 33 and len(set(order)) == 33


def _first_word(guest: BrowserClient, prompt: str) -> EventStream:
    """Submit a picture and listen until it is accepted or refused."""
    stream = guest.press("generate", prompt=prompt, **SHORT)
    for _ in stream.updates():
        if stream.stage() or stream.problem():
            return stream
    return stream


def test_asked_to_end_it_keeps_what_was_made_and_waits_for_no_client(server: RunningProgram) -> None:
    """The last test of this server: it ends here."""
    guests = [server.guest() for _ in range(3)]
    early = guests[0].press("generate", **SHORT)
    early.finish()
    running = guests[0].press("generate", **LONG)
    assert running.until("running")
    waiting = guests[1].press("generate", **SHORT)
    assert waiting.until("queued")
    half = guests[2].half_upload()
    _, beat = guests[2].open("GET", "/gradio_api/heartbeat/abc")
    wait_for(lambda: connections(server) == 4)
    assert server.stop(60) == 0
    half.close()
    beat.disconnect()
    assert early.announced() and broken_pictures(server.pictures, early.announced()) == []
    # The running job is recorded up to its last step, and no file is half written.
    assert (server.data / "traces" / "guests" / f"{running.stage()['run']}.json").is_file()
    assert not list(server.data.rglob("*.part"))
    assert not list(Path(tempfile.gettempdir()).glob(f"diffusion-playground-{server.process.pid}-*"))


# Every step takes ten minutes, and so does another thread: longer than the tests wait.
SLOW = """
import threading, time, app
create = app.create
app.create = lambda settings, **more: create(settings, on_step=lambda job, step: time.sleep(600), **more)
threading.Thread(target=time.sleep, args=(600,)).start()
app.main()
"""


def test_the_end_takes_less_than_ten_seconds() -> None:
    """The tests below wait for longer, so that they hold on a busy machine, too."""
    assert app.DISCONNECT_SECONDS < app.EXIT_SECONDS < 10


def test_asked_to_end_it_waits_for_no_thread(tmp_path: Path) -> None:
    """Neither for one in a step that takes ten minutes nor for any other."""
    server = RunningProgram(tmp_path, entry=("-c", SLOW))
    try:
        assert server.owner().press("generate", **{**SHORT, "steps": 2}).until("running")
        assert server.stop(60) == 0
    finally:
        server.kill()


def test_asked_to_end_while_it_starts_it_ends(tmp_path: Path) -> None:
    command = [sys.executable, "app.py", "--no-open", "--offline", "--data-dir", str(tmp_path)]
    starting = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        wait_for(lambda: (tmp_path / "pictures").exists() or starting.poll() is not None)
        # Twice: the second signal does not interrupt the end with a traceback.
        starting.send_signal(signal.SIGTERM)
        time.sleep(0.05)
        starting.send_signal(signal.SIGTERM)
        said, _ = starting.communicate(timeout=60)
    finally:
        starting.kill()
    assert starting.returncode in (0, -signal.SIGTERM) and "Traceback" not in said


def test_killed_at_any_moment_it_starts_again_with_every_announced_picture(tmp_path: Path) -> None:
    report = run_kills(tmp_path, kills=1, seed=3)
    assert report.starts == 2 and report.missing == [] and report.left == []
    assert report.announced > 1, "the kills came before any picture was announced, so that nothing was tested"
