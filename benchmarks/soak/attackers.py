"""Clients that attack a running program all the time, in a process of their own.

As a program: ``python -m benchmarks.soak.attackers PORT CLIENTS SEED`` attacks until its input ends, and prints what it
recorded as JSON.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import secrets
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any

from benchmarks.hostile_requests import LEAKS
from benchmarks.raw_attacks import ATTACKS, head, send_raw
from benchmarks.running_program import ROOT, BrowserClient, EventStream, RunningProgram, log_in_guest
from benchmarks.soak.clients import JOB_SECONDS, Work, working
from benchmarks.soak.pictures import bombs, noise_png
from benchmarks.soak.record import Record

# A client somewhere else waits for its network between two requests, and longer after it was refused.
PAUSE_SECONDS, REFUSED_SECONDS = 0.05, 0.5
# Without an answer for so long a raw request hangs: the server waits half a minute for bytes that never come.
RAW_SECONDS = 60.0
# After so many attacks an attacker logs in again, as another guest with new quotas.
ATTACKS_A_GUEST = 40
# What one attacker does at once.
CLAIMS_AT_ONCE, BOMBS_AT_ONCE, STRIPS_AT_ONCE = 6, 4, 8
HEADS = ("quoted cookie", "many headers", "many fields", "long query", "wrong password")
BODIES = ("empty lists", "escapes", "deep", "many keys", "long numbers")
CLAIMS = ("upload claims", "login claims", "two lengths", "tiny chunks")
# Cookies of other programs on the same host.
OTHER_COOKIES = (
    'prefs={"a":1}', "valueless", "=nameless", 'quoted="a; b"', 'half="', "\xfcmlaut=\xe4\xff", "cart[0]=x", "<x>=<y>",
    "playground-owner-PORT=forged", "playground-guest-PORT=who.forged", "playground-guest-PORT", ";;;",
)  # fmt: skip
LARGEST = 2048


@dataclass
class Attackers:
    """Attacks on a program by its port, until ``over`` is set; each kind is a method."""

    port: int
    notes: Record = field(default_factory=Record)
    over: threading.Event = field(default_factory=threading.Event)
    _page: dict[str, Any] = field(default_factory=dict)

    @property
    def kinds(self) -> Sequence[Work]:
        """One attacker of each kind."""
        return (self._heads, self._bodies, self._cookies, self._claims, self._bombs, self._sizes, self._unchanged,
                self._strips)  # fmt: skip

    # -- raw requests ------------------------------------------------------------------------------------------------

    def _heads(self, dice: random.Random) -> None:
        """A stranger's heads: a long quoted cookie, thousands of headers and of query fields."""
        while not self.over.is_set():
            for name in HEADS:
                self._send(name, ATTACKS[name](""))

    def _bodies(self, dice: random.Random) -> None:
        """A guest's calls of 8 MB: empty lists, escapes, depth, keys, long numbers."""
        for guest in self._guests():
            sent = {name: ATTACKS[name](guest.cookie) for name in BODIES}
            for k in self._rounds():
                name = BODIES[k % len(BODIES)]
                self._send(name, sent[name])

    def _cookies(self, dice: random.Random) -> None:
        """A guest among cookies of other programs, who must stay who they are."""
        for guest in self._guests():
            for _ in self._rounds():
                others = [dice.choice(OTHER_COOKIES).replace("PORT", str(self.port)) for _ in range(2)]
                cookie = "; ".join(dice.sample([*others, guest.cookie], 3))
                status = self._send("cookies of others", head("GET", "/config", cookie))
                if status not in (200, 429) and not self.over.is_set():
                    self.notes.faults.append(f"a guest was not known again: {status} for {cookie!r}")

    def _claims(self, dice: random.Random) -> None:
        """A guest's false lengths: bytes that never come, two lengths at once, a byte in each chunk."""
        for guest in self._guests():
            for k in self._rounds(CLAIMS_AT_ONCE):
                name = CLAIMS[k % len(CLAIMS)]
                sent = ATTACKS[name](guest.cookie)
                self._at_once([partial(self._send, name, sent)] * CLAIMS_AT_ONCE)

    def _send(self, name: str, sent: bytes) -> int:
        """Send bytes and judge the answer; its status, 0 for none."""
        if self.over.is_set():
            return 0
        begun = time.monotonic()
        answer = send_raw(f"http://127.0.0.1:{self.port}/", sent, RAW_SECONDS)
        if not answer.status and time.monotonic() - begun >= RAW_SECONDS:
            self.notes.hung.append(f"no answer to {name} in {RAW_SECONDS} s")
        if leak := LEAKS.search(answer.body):
            self.notes.faults.append(f"{name} was told {answer.body[max(0, leak.start() - 80) :][:200]!r}")
        self.notes.count(answer.status)
        self.notes.did(f"attack: {name}")
        self.over.wait(REFUSED_SECONDS if answer.status == 429 else PAUSE_SECONDS)
        return answer.status

    # -- the page's functions ----------------------------------------------------------------------------------------

    def _bombs(self, dice: random.Random) -> None:
        """Small files that unpack to much, several at once."""
        for guest in self._guests():
            for name, data in self._bomb_files.items():
                file = self._upload(guest, name, data)
                self._at_once([partial(self._prepare, guest, file)] * BOMBS_AT_ONCE)
                self.notes.did(f"attack: {name}", BOMBS_AT_ONCE)

    @cached_property
    def _bomb_files(self) -> dict[str, bytes]:
        return bombs()

    def _sizes(self, dice: random.Random) -> None:
        """One upload prepared in many sizes, each of which is kept."""
        for guest in self._guests():
            file, session = self._upload(guest, "large.png", noise_png(dice, 1130, 1130)), secrets.token_hex(6)
            for _ in self._rounds():
                width, height = (64 * dice.randrange(8, LARGEST // 64 + 1) for _ in range(2))
                self._prepare(guest, file, session, image_width=width, image_height=height)
                self.notes.did("attack: prepared sizes")

    def _unchanged(self, dice: random.Random) -> None:
        """Pictures of strength 0, which write megabytes without a step of the model."""
        for guest in self._guests():
            file, session = self._upload(guest, "tiles.png", noise_png(dice, 512, 512, 4)), secrets.token_hex(6)
            size = {"image_width": LARGEST, "image_height": LARGEST}
            self._prepare(guest, file, session, **size)
            for _ in self._rounds():
                how = {"image_strength": 0, "image_count": dice.choice((1, 4)), **size}
                run = self._finish(guest.press("image-generate", session=session, **how))
                self.notes.announced += run.announced()
                self.notes.did(f"attack: strength 0, {run.stage().get('state', 'refused')}")

    def _strips(self, dice: random.Random) -> None:
        """Noise strips of one picture, eight at once."""
        for guest in self._guests():
            file = self._upload(guest, "strip.png", noise_png(dice, 128, 128, 4))
            sessions = [secrets.token_hex(6) for _ in range(STRIPS_AT_ONCE)]
            for session in sessions:
                self._prepare(guest, file, session, image_width=512, image_height=512)
            for _ in self._rounds(STRIPS_AT_ONCE):
                steps = dice.randrange(20, 50)
                self._at_once([partial(self._strip, guest, session, steps) for session in sessions])

    def _strip(self, guest: BrowserClient, session: str, steps: int) -> None:
        strip = self._finish(guest.press("image-steps", "change", session, "strength-strip", image_steps=steps))
        shown = strip.values.get("strength-strip")
        self.notes.did(f"attack: noise strip, {shown.get('state') if isinstance(shown, dict) else 'refused'}")

    def _prepare(self, guest: BrowserClient, file: Any, session: str = "", **values: Any) -> None:
        """Choose an uploaded picture on the image-to-image tab."""
        self._finish(guest.press("source", "change", session, "source-note", source=file, **values))

    def _finish(self, stream: EventStream) -> EventStream:
        """The event after its end, or a pause if it was refused."""
        if stream.joined.status == 200:
            stream.finish()
        self.over.wait(PAUSE_SECONDS if stream.joined.status == 200 else REFUSED_SECONDS)
        return stream

    # -- who attacks -------------------------------------------------------------------------------------------------

    def _guests(self) -> Iterator[BrowserClient]:
        """Guest after guest, each for some attacks."""
        while not self.over.is_set():
            guest = log_in_guest(self.port, self._page)
            guest.on_status = self.notes.count
            yield guest

    def _rounds(self, at_once: int = 1) -> Iterator[int]:
        """Numbers from 0 until one guest has attacked often enough, so many times in each round."""
        yield from itertools.takewhile(lambda _: not self.over.is_set(), range(ATTACKS_A_GUEST // at_once))

    def _upload(self, guest: BrowserClient, name: str, data: bytes) -> Any:
        """What a component takes for an uploaded file; None if it was refused."""
        try:
            return guest.upload(name, data)
        except AssertionError:
            self.notes.did("attack: upload, refused")
            return None

    def _at_once(self, works: Sequence[Callable[[], Any]]) -> None:
        with ThreadPoolExecutor(len(works)) as pool:
            for done in [pool.submit(work) for work in works]:
                done.result()


@contextmanager
def attacking(server: RunningProgram, clients: int, seed: int, notes: Record) -> Iterator[None]:
    """So many attackers for as long as the context lasts; what they recorded is added to ``notes``."""
    command = [sys.executable, "-m", "benchmarks.soak.attackers", str(server.port), str(clients), str(seed)]
    process = subprocess.Popen(command, cwd=ROOT, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        yield
        out, _ = process.communicate(timeout=2 * JOB_SECONDS)
        if process.returncode:
            notes.faults.append(f"the attackers ended with status {process.returncode}")
        else:
            notes.add(json.loads(out))
    except subprocess.TimeoutExpired:
        notes.hung.append("the attackers never ended")
    finally:
        process.kill()
        process.wait()


def _main(port: str, clients: str, seed: str) -> None:
    attackers = Attackers(int(port))
    works = [attackers.kinds[k % len(attackers.kinds)] for k in range(int(clients))]
    with working(works, int(seed), attackers.over, attackers.notes, patience=0):
        sys.stdin.read()
    # What still waits in the program's queue is left there: the program must end well with it.
    print(json.dumps(attackers.notes.to_json()), flush=True)
    os._exit(0)


if __name__ == "__main__":
    _main(*sys.argv[1:])
