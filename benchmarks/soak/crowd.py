"""An owner, readers and guests who use one program at the same time, and one who sends it malformed requests."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from benchmarks.running_program import BrowserClient, RunningProgram
from benchmarks.soak.clients import working
from benchmarks.soak.pictures import noise_png
from benchmarks.soak.record import Record

# A guest's share of an hour is 120 pictures.
PICTURES_A_GUEST = 40
GUESTS = 4
# Sides of guests' pictures, pixels: more sizes than stay compiled at a time.
SIDES = (128, 128, 128, 64, 96, 160)
# Hostile requests come in waves of about so many.
CASES_AT_ONCE = 1000


@dataclass
class Crowd:
    """Clients that use a program at the same time, until ``over`` is set.

    Args:
        server: the program.
        seed: of all random choices.
        seconds: over which the hostile requests are spread.
        cases: random hostile requests, in addition to the fixed ones; none at all for 0.
    """

    server: RunningProgram
    seed: int
    seconds: float = 0.0
    cases: int = 0
    notes: Record = field(default_factory=Record)
    over: threading.Event = field(default_factory=threading.Event)
    attacked: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def busy(self) -> Iterator[None]:
        """Run all clients for as long as the context lasts; a client records an error and goes on."""
        self.server.owner()  # follows the owner's link, which works once
        works = [self._owner, self._reader, self._guest_reader, *[self._guest] * GUESTS]
        works += [self._send_hostile] if self.cases else []
        with working(works, self.seed, self.over, self.notes):
            yield

    def _recorded(self, client: BrowserClient) -> BrowserClient:
        client.on_status = self.notes.count
        return client

    def _owner(self, dice: random.Random) -> None:
        """Make pictures, measure how long they take to start, and stop some of them."""
        owner = self._recorded(self.server.owner())
        while not self.over.is_set():
            begun = time.perf_counter()
            stream = owner.press("generate", steps=dice.randrange(2, 12), count=dice.choice((1, 1, 2)))
            if stream.until("running", "decoding", "done"):
                self.notes.waits.append(time.perf_counter() - begun)
            stopped = dice.random() < 0.1
            if stopped:
                stream.stop()
            if stream.finish().get("state") == "done" and not stopped:
                self.notes.finished.append(time.perf_counter() - begun)
            self.notes.announced += stream.announced()
            self.notes.did(f"owner's pictures {stream.stage().get('state')}")
            self.over.wait(dice.random())

    def _reader(self, dice: random.Random) -> None:
        """The owner opens the page again and again."""
        self._read("owner", self._recorded(self.server.owner()))

    def _guest_reader(self, dice: random.Random) -> None:
        """So does a guest."""
        self._read("guest", self._recorded(self.server.guest()))

    def _read(self, who: str, client: BrowserClient) -> None:
        while not self.over.is_set():
            begun = time.perf_counter()
            answer = client.request("GET", "/", more={"Accept": "text/html"})
            self.notes.took(who, time.perf_counter() - begun)
            if answer.status != 200:
                self.notes.faults.append(f"the page of the {who}: {answer.status} {answer.text[:200]}")
            self.over.wait(1.0)

    def _guest(self, dice: random.Random) -> None:
        """Do what guests do, and log in again as another guest before the hour's share is used up."""
        actions = (self._make, self._make, self._make, self._stop, self._vanish, self._vanish, self._from_picture,
                 self._half)  # fmt: skip
        while not self.over.is_set():
            guest = self._recorded(self.server.guest())
            for _ in range(PICTURES_A_GUEST):
                if self.over.is_set():
                    return
                dice.choice(actions)(guest, dice)

    def _make(self, guest: BrowserClient, dice: random.Random) -> None:
        side = dice.choice(SIDES)
        how = {"steps": dice.randrange(1, 8), "count": dice.choice((1, 1, 1, 2)), "width": side, "height": side}
        stream = guest.press("generate", **how)
        stream.finish()
        self.notes.announced += stream.announced()
        self.notes.did(f"guests' pictures {stream.stage().get('state', 'refused')}")

    def _stop(self, guest: BrowserClient, dice: random.Random) -> None:
        stream = guest.press("generate", steps=60, count=2)
        if stream.until("running" if dice.random() < 0.7 else "queued"):
            stream.stop()
        stream.finish()
        self.notes.did("stopped")

    def _vanish(self, guest: BrowserClient, dice: random.Random) -> None:
        stream = guest.press("generate", steps=dice.randrange(1, 8))
        if dice.random() < 0.8:
            for _, _ in zip(stream.open().updates(), range(dice.randrange(6)), strict=False):
                pass
            self.notes.announced += stream.announced()
        stream.disconnect()
        self.notes.did("vanished")

    def _from_picture(self, guest: BrowserClient, dice: random.Random) -> None:
        given = guest.upload("mine.png", noise_png(dice, 160, 120))
        names = guest.call("image_to_image", image=given, prompt="a red apple", num_inference_steps=6, strength=0.5)
        self.notes.announced += names
        self.notes.did("from a picture" if names else "from a picture, refused")

    def _half(self, guest: BrowserClient, dice: random.Random) -> None:
        guest.half_upload(dice.randrange(10_000, 2_000_000)).close()
        self.notes.did("half uploads")

    def _send_hostile(self, dice: random.Random) -> None:
        """Send hostile requests, in waves."""
        from benchmarks.hostile_requests import attack

        begun, parts = time.monotonic(), max(1, round(self.cases / CASES_AT_ONCE))
        for part in range(parts):
            self.over.wait(max(0.0, begun + self.seconds * part / parts - time.monotonic()))
            guest, cases = self.server.guest(), self.cases * (part + 1) // parts - self.cases * part // parts
            found = attack(f"http://127.0.0.1:{self.server.port}/", guest.cookie, cases, dice.randrange(2**31),
                           [str(self.server.data)], self.over.is_set)  # fmt: skip
            self.notes.faults += found.faults
            self.notes.statuses += found.statuses
            self.notes.did("hostile requests", found.cases)
        self.attacked.set()
