"""Raw attacks sent by a process of its own, and how long the owner's page takes meanwhile.

As a program: ``python -m tests.support.raw_attacks HOST PORT CLIENTS`` reads lines, each with an attack's name and its
request in base64, and attacks until the next line, or the end.
"""

from __future__ import annotations

import base64
import contextlib
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from urllib.parse import urlsplit

from benchmarks.hostile_requests import Client, exchange
from benchmarks.raw_attacks import ATTACKS, head

# What does no harm: requests of strangers that are refused at once.
CROWD = "crowd"
SENT = {**ATTACKS, CROWD: lambda cookie: head("GET", "/config", cookie)}
ROOT = Path(__file__).resolve().parents[2]


class Attackers:
    """So many clients in a process of its own, which send the same request again and again."""

    def __init__(self, address: str, clients: int = 8) -> None:
        place = urlsplit(address)
        command = [sys.executable, "-m", "tests.support.raw_attacks", str(place.hostname), str(place.port)]
        self._process = subprocess.Popen(
            [*command, str(clients)], cwd=ROOT, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )

    def send(self, attack: str, cookie: str = "", request: bytes = b"") -> None:
        """Send this attack, or this request under its name, from now on; "" sends nothing more."""
        assert self._process.stdin is not None and self._process.stdout is not None
        sent = request or (SENT[attack](cookie) if attack else b"")
        print(attack, base64.b64encode(sent).decode(), sep="\t", file=self._process.stdin, flush=True)
        assert self._process.stdout.readline() == f"{attack}\n"

    def stop(self) -> None:
        """End the process."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait(60)


def seconds_of_page(owner: Client, times: int = 10) -> list[float]:
    """How long the page took, so many times."""
    taken = []
    for _ in range(times):
        began = time.monotonic()
        answer = owner.request("GET", "/")
        taken.append(time.monotonic() - began)
        assert answer.status == 200, answer
    return taken


class _Sender:
    """Sends the present request again and again."""

    def __init__(self, place: tuple[str, int]) -> None:
        self.place, self.sent = place, b""

    def run(self) -> None:
        while True:
            if not self.sent:
                time.sleep(0.05)
            else:
                with contextlib.suppress(OSError):
                    exchange(self.place, self.sent, 5.0, 5.0)


def _main(host: str, port: str, clients: str) -> None:
    sender = _Sender((host, int(port)))
    for _ in range(int(clients)):
        threading.Thread(target=sender.run, daemon=True).start()
    for line in sys.stdin:
        attack, sent = line.rstrip("\n").split("\t")
        sender.sent = base64.b64decode(sent)
        print(attack, flush=True)
    os._exit(0)


if __name__ == "__main__":
    _main(*sys.argv[1:])
