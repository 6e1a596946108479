"""The program killed (SIGKILL) again and again while it makes and saves pictures, and what it has left each time."""

from __future__ import annotations

import json
import random
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from http.client import HTTPException
from pathlib import Path

from benchmarks.running_program import BrowserClient, RunningProgram
from benchmarks.soak.clients import JOB_SECONDS
from benchmarks.soak.record import broken_pictures, part_files

# What a client of a killed program can get.
CONNECTION_ERRORS = (OSError, HTTPException, AssertionError, json.JSONDecodeError)


@dataclass
class KillReport:
    """What is left after kills.

    Attributes:
        starts: successful starts of the program.
        announced: pictures that were announced before a kill.
        missing: those of them that are gone or broken, a line each.
        left: what the starts after kills did not repair, a line each.
    """

    starts: int = 0
    announced: int = 0
    missing: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)


def run_kills(data: Path, kills: int, seed: int) -> KillReport:
    """Kill the program (SIGKILL) at random moments while it makes and saves pictures, and start it again each time."""
    dice, report = random.Random(seed), KillReport()
    names: list[str] = []
    for k in range(kills + 1):
        server = RunningProgram(data)
        try:
            report.starts += 1
            report.left += part_files(data)
            if k < kills:
                names += _use_until_killed(server, dice)
            else:
                names += _make_one_more(server)
        finally:
            server.kill()
    report.announced = len(names)
    report.missing = broken_pictures(data / "pictures", names)
    # No picture may be broken, announced or not.
    report.left += broken_pictures(data / "pictures", [path.name for path in (data / "pictures").glob("*.png")])
    return report


def _use_until_killed(server: RunningProgram, dice: random.Random) -> list[str]:
    """Names of the pictures that were announced to four clients before the kill."""
    names: list[str] = []
    clients = [server.owner(), *(server.guest() for _ in range(3))]

    def ask(client: BrowserClient, k: int) -> None:
        with suppress(*CONNECTION_ERRORS):
            while True:
                stream = client.press("generate", steps=1 + k % 3, count=(1, 2, 1, 4)[k], width=64, height=64)
                for _ in stream.updates():
                    # The last announcement counts too, even if the connection breaks right after it.
                    names.extend(stream.announced() if stream.stage().get("state") == "done" else ())

    threads = [threading.Thread(target=ask, args=(client, k), daemon=True) for k, client in enumerate(clients)]
    for thread in threads:
        thread.start()
    # Mostly while pictures are made, sometimes while the model still loads.
    wait_for_picture, more = dice.random() < 0.85, dice.random() * 1.5
    end = time.monotonic() + JOB_SECONDS
    while wait_for_picture and not names and time.monotonic() < end:
        time.sleep(0.02)
    time.sleep(more)
    server.kill()
    for thread in threads:
        thread.join(10)
    return list(dict.fromkeys(names))


def _make_one_more(server: RunningProgram) -> list[str]:
    """Make one more picture after all kills."""
    stream = server.owner().press("generate", steps=2)
    stream.finish()
    assert stream.announced(), "no picture is made after the kills"
    return stream.announced()
