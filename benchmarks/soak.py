"""``make soak``: the running program under everything that people do to it, for long, and then killed again and again.

    python -m benchmarks.soak [--minutes 20] [--cases 5000] [--kills 50] [--seed 1]

Prints a table and JSON; the exit status is 1 if a promise is broken.
"""

from __future__ import annotations

import argparse
import io
import json
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.client import HTTPException
from pathlib import Path
from typing import Any

from benchmarks.visits import Server, Visit

# Memory counts from here on; at most this part of the whole.
WARM_UP_SECONDS, WARM_UP_PART = 180.0, 1 / 3
GROWTH = 5.0
# A guest's share of an hour is 120 pictures; a crowd is as many people as come in an hour.
PICTURES_A_GUEST = 40
GUESTS = 4
# Junk comes in waves of about so many.
CASES_AT_ONCE = 1000
# A job that waits longer than so hangs: nobody here asks for more than some seconds of work.
JOB_SECONDS = 180.0
# What a connection does to whoever was talking to a program that is killed.
BROKEN = (OSError, HTTPException, AssertionError, json.JSONDecodeError)


# -- what was promised ------------------------------------------------------------------------------------------------


def whole(folder: Path, names: Sequence[str]) -> list[str]:
    """What is wrong with pictures that visitors were told of, a line each: gone, broken, or without their settings."""
    from PIL import Image

    from pipelines.pictures import read_request

    wrong = []
    for name in names:
        try:
            with Image.open(folder / name, formats=("PNG",)) as image:
                image.load()
            read_request(folder / name)
        except Exception as error:
            wrong.append(f"{name}: {type(error).__name__}: {error}")
    return wrong


def leftovers(data: Path) -> list[str]:
    """Files in the data folder that nobody will finish."""
    return [str(path.relative_to(data)) for path in data.rglob("*.part")]


@dataclass
class Notes:
    """What the crowd has met.  Thread-safe.

    Attributes:
        statuses: of all answers; 0 for none in time.
        done: what was done, by name.
        waits: seconds from the owner's press until the first step.
        pages: seconds of a GET of the page.
        announced: names of the pictures that somebody was told of.
        hung: what took too long, a line each.
        faults: what must not be, a line each.
    """

    statuses: Counter[int] = field(default_factory=Counter)
    done: Counter[str] = field(default_factory=Counter)
    waits: list[float] = field(default_factory=list)
    pages: list[float] = field(default_factory=list)
    announced: list[str] = field(default_factory=list)
    hung: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def saw(self, status: int) -> None:
        """Count an answer."""
        with self._lock:
            self.statuses[status] += 1


# -- the crowd -------------------------------------------------------------------------------------------------------


@dataclass
class Crowd:
    """People who use a program at the same time, until ``over`` is set.

    Args:
        server: the program.
        seed: of all that is drawn.
        seconds: over which the junk is spread.
        cases: junk requests, besides the fixed ones.
    """

    server: Server
    seed: int
    seconds: float = 0.0
    cases: int = 0
    notes: Notes = field(default_factory=Notes)
    over: threading.Event = field(default_factory=threading.Event)
    attacked: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def busy(self, *more: Callable[[random.Random], Any]) -> Iterator[None]:
        """Everybody is there for as long as the context lasts; whoever meets an error tells of it and goes on."""
        people = [self._owner, self._reader, *[self._guest] * GUESTS, *more]
        threads = [
            threading.Thread(target=self._live, args=(work, random.Random(f"{self.seed} {k}")), daemon=True)
            for k, work in enumerate(people)
        ]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self.over.set()
            for thread in threads:
                thread.join(JOB_SECONDS)
            self.notes.hung += [f"{thread.name} never came back" for thread in threads if thread.is_alive()]

    def _live(self, work: Callable[[random.Random], Any], dice: random.Random) -> None:
        while not self.over.is_set():
            try:
                work(dice)
                return
            except TimeoutError:
                self.notes.hung.append(traceback.format_exc(limit=-3))
            except Exception:
                if not self.over.is_set():
                    self.notes.faults.append(traceback.format_exc(limit=-3))
            time.sleep(1)

    def _visit(self, visit: Visit) -> Visit:
        visit.seen = self.notes.saw
        return visit

    def _owner(self, dice: random.Random) -> None:
        """Makes pictures, looks how long that takes to begin, and stops some of them."""
        owner = self._visit(self.server.owner())
        while not self.over.is_set():
            begun = time.perf_counter()
            stream = owner.press("generate", steps=dice.randrange(2, 12), count=dice.choice((1, 1, 2)))
            if stream.until("running", "decoding", "done"):
                self.notes.waits.append(time.perf_counter() - begun)
            if dice.random() < 0.1:
                stream.stop()
            stream.finish()
            self.notes.announced += stream.announced()
            self.notes.done[f"owner's pictures {stream.film().get('state')}"] += 1
            self.over.wait(dice.random())

    def _reader(self, dice: random.Random) -> None:
        """Opens the page again and again."""
        somebody = self._visit(self.server.guest())
        while not self.over.is_set():
            begun = time.perf_counter()
            answer = somebody.ask("GET", "/", more={"Accept": "text/html"})
            self.notes.pages.append(time.perf_counter() - begun)
            if answer.status != 200:
                self.notes.faults.append(f"the page: {answer.status} {answer.text[:200]}")
            self.over.wait(1.0)

    def _guest(self, dice: random.Random) -> None:
        """Does what guests do, and leaves for another before the share of an hour is used up."""
        deeds = (self._make, self._make, self._make, self._stop, self._vanish, self._vanish, self._from_picture,
                 self._half)  # fmt: skip
        while not self.over.is_set():
            guest = self._visit(self.server.guest())
            for _ in range(PICTURES_A_GUEST):
                if self.over.is_set():
                    return
                dice.choice(deeds)(guest, dice)

    def _make(self, guest: Visit, dice: random.Random) -> None:
        stream = guest.press("generate", steps=dice.randrange(1, 8), count=dice.choice((1, 1, 1, 2)))
        stream.finish()
        self.notes.announced += stream.announced()
        self.notes.done[f"guests' pictures {stream.film().get('state', 'refused')}"] += 1

    def _stop(self, guest: Visit, dice: random.Random) -> None:
        stream = guest.press("generate", steps=60, count=2)
        if stream.until("running" if dice.random() < 0.7 else "queued"):
            stream.stop()
        stream.finish()
        self.notes.done["stopped"] += 1

    def _vanish(self, guest: Visit, dice: random.Random) -> None:
        stream = guest.press("generate", steps=dice.randrange(1, 8))
        if dice.random() < 0.8:
            for _, _ in zip(stream.open().steps(), range(dice.randrange(6)), strict=False):
                pass
            self.notes.announced += stream.announced()
        stream.cut()
        self.notes.done["vanished"] += 1

    def _from_picture(self, guest: Visit, dice: random.Random) -> None:
        given = guest.upload("mine.png", drawing(dice))
        names = guest.call("image_to_image", image=given, prompt="a red apple", num_inference_steps=6, strength=0.5)
        self.notes.announced += names
        self.notes.done["from a picture" if names else "from a picture, refused"] += 1

    def _half(self, guest: Visit, dice: random.Random) -> None:
        guest.half_upload(dice.randrange(10_000, 2_000_000)).close()
        self.notes.done["half uploads"] += 1

    def junk(self, dice: random.Random) -> None:
        """Sends what nobody means well with."""
        from tests.security.fuzzing import attack

        begun, parts = time.monotonic(), max(1, round(self.cases / CASES_AT_ONCE))
        for part in range(parts):
            self.over.wait(max(0.0, begun + self.seconds * part / parts - time.monotonic()))
            guest, cases = self.server.guest(), self.cases * (part + 1) // parts - self.cases * part // parts
            found = attack(f"http://127.0.0.1:{self.server.port}/", guest.cookie, cases, dice.randrange(2**31),
                           [str(self.server.data)])  # fmt: skip
            self.notes.faults += found.faults
            self.notes.statuses += found.statuses
            self.notes.done["junk requests"] += found.cases
        self.attacked.set()


def drawing(dice: random.Random) -> bytes:
    """A picture that somebody brings, PNG bytes."""
    from PIL import Image

    file = io.BytesIO()
    Image.frombytes("RGB", (160, 120), dice.randbytes(160 * 120 * 3)).save(file, format="PNG")
    return file.getvalue()


# -- for long --------------------------------------------------------------------------------------------------------


def lived(data: Path, seconds: float, cases: int, seed: int) -> dict[str, Any]:
    """The crowd for so many seconds, and what came of it."""
    server = Server(data, "--guest-api")
    try:
        crowd = Crowd(server, seed, seconds, cases)
        warm = min(WARM_UP_SECONDS, seconds * WARM_UP_PART)
        with crowd.busy(*([crowd.junk] if cases else [])):
            memory = sampled(server.process.pid, seconds, warm)
            if cases and not crowd.attacked.wait(2 * JOB_SECONDS):
                crowd.notes.hung.append("the junk requests never came to their end")
        status: int | str = server.stop(10)
    except subprocess.TimeoutExpired:
        status = "did not end within 10 s"
    finally:
        server.kill()
    return told(crowd.notes, memory, status, server)


def sampled(pid: int, seconds: float, warm: float) -> list[int]:
    """The process's memory (RSS, bytes) once a second after the warm-up."""
    import psutil

    process, found = psutil.Process(pid), []
    begun = time.monotonic()
    while (passed := time.monotonic() - begun) < seconds:
        if passed >= warm:
            found.append(process.memory_info().rss)
        time.sleep(1)
    return found


def told(notes: Notes, memory: Sequence[int], status: int | str, server: Server) -> dict[str, Any]:
    """The crowd's notes as figures."""
    tenth = max(1, len(memory) // 10)
    first, last = statistics.median(memory[:tenth]), statistics.median(memory[-tenth:])
    wrong = whole(server.pictures, notes.announced)
    return {
        "memory_mb": [round(first / 2**20), round(last / 2**20)],
        "memory_mb_each_minute": [round(rss / 2**20) for rss in memory[::60]],
        "memory_growth_percent": round((last / first - 1) * 100, 2),
        "owner_wait_seconds": percentiles(notes.waits),
        "page_get_seconds": percentiles(notes.pages),
        "requests": sum(notes.statuses.values()),
        "answers_5xx": sum(n for status, n in notes.statuses.items() if status >= 500),
        "hung": len(notes.hung),
        "announced": len(notes.announced),
        "found": len(notes.announced) - len(wrong),
        "errors_in_log": errors(server.lines),
        "exit_status": status,
        "did": dict(sorted(notes.done.items())),
        "faults": [*notes.hung, *notes.faults, *wrong][:50],
        "faults_in_all": len(notes.hung) + len(notes.faults) + len(wrong),
    }


def errors(lines: Sequence[str]) -> dict[str, int]:
    """The last lines of the tracebacks in a log, and how often each is there."""
    ends: Counter[str] = Counter()
    inside = False
    for line in lines:
        if inside and line[:1].strip():  # the first line that is not set in
            ends[line.strip()[:120]] += not line.startswith("Traceback")
        inside = line.startswith("Traceback") or (inside and not line[:1].strip())
    return dict(ends.most_common(20))


def percentiles(seconds: Sequence[float]) -> dict[str, float]:
    """p50 and p95."""
    if len(seconds) < 2:
        return {"p50": float("nan"), "p95": float("nan")}
    cut = statistics.quantiles(seconds, n=20)
    return {"p50": round(statistics.median(seconds), 3), "p95": round(cut[-1], 3)}


# -- killed ----------------------------------------------------------------------------------------------------------


@dataclass
class Killed:
    """What kills have left.

    Attributes:
        starts: of the program that worked.
        announced: pictures that visitors were told of before a kill.
        missing: those of them that are not there whole, a line each.
        left: what the starts after kills did not repair, a line each.
    """

    starts: int = 0
    announced: int = 0
    missing: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)


def killed(data: Path, kills: int, seed: int) -> Killed:
    """Kill the program (SIGKILL) at moments that are drawn, while it makes and saves pictures; start it each time."""
    dice, report = random.Random(seed), Killed()
    names: list[str] = []
    for k in range(kills + 1):
        server = Server(data)
        try:
            report.starts += 1
            report.left += leftovers(data)
            if k < kills:
                names += _until_killed(server, dice)
            else:
                names += _calmly(server)
        finally:
            server.kill()
    report.announced = len(names)
    report.missing = whole(data / "pictures", names)
    # Nor may there be a picture that is not whole, told of or not.
    report.left += whole(data / "pictures", [path.name for path in (data / "pictures").glob("*.png")])
    return report


def _until_killed(server: Server, dice: random.Random) -> list[str]:
    """Names of the pictures that four visitors were told of before the end."""
    names: list[str] = []
    visits = [server.owner(), *(server.guest() for _ in range(3))]

    def ask(visit: Visit, k: int) -> None:
        with suppress(*BROKEN):
            while True:
                stream = visit.press("generate", steps=1 + k % 3, count=(1, 2, 1, 4)[k], width=64, height=64)
                for _ in stream.steps():
                    # What is told last counts too, even if the stream breaks right then.
                    names.extend(stream.announced() if stream.film().get("state") == "done" else ())

    threads = [threading.Thread(target=ask, args=(visit, k), daemon=True) for k, visit in enumerate(visits)]
    for thread in threads:
        thread.start()
    # Mostly while pictures come, sometimes while the model still loads.
    patient, more = dice.random() < 0.85, dice.random() * 1.5
    end = time.monotonic() + JOB_SECONDS
    while patient and not names and time.monotonic() < end:
        time.sleep(0.02)
    time.sleep(more)
    server.kill()
    for thread in threads:
        thread.join(10)
    return list(dict.fromkeys(names))


def _calmly(server: Server) -> list[str]:
    """One more picture, after all that."""
    stream = server.owner().press("generate", steps=2)
    stream.finish()
    assert stream.announced(), "after the kills no picture is made any more"
    return stream.announced()


# -- the report ------------------------------------------------------------------------------------------------------


def broken(found: dict[str, Any]) -> list[str]:
    """Promises that were not kept, one sentence each."""
    promises = (
        (found["memory_growth_percent"] < GROWTH, f"Memory grew by {found['memory_growth_percent']} %."),
        (not found["answers_5xx"], f"{found['answers_5xx']} answers were 5xx."),
        (not found["hung"], f"{found['hung']} requests hung."),
        (found["announced"] and found["found"] == found["announced"], "A picture that was announced is not there."),
        (found["exit_status"] == 0, f"Asked to end, it did not do so well: {found['exit_status']}."),
        (not found["faults_in_all"], f"{found['faults_in_all']} things went wrong; see faults."),
    )
    return [words for kept, words in promises if not kept]


def table(rows: dict[str, Any]) -> str:
    """Names and figures, a line each."""
    width = max(map(len, rows))
    return "\n".join(f"{name:<{width}}  {value}" for name, value in rows.items() if name not in ("faults", "did"))


def main(argv: Sequence[str] | None = None) -> int:
    """Run it all; 0 if every promise was kept."""
    parser = argparse.ArgumentParser(prog="benchmarks.soak", description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=20.0, help="of mixed load (default: 20)")
    parser.add_argument("--cases", type=int, default=5000, help="junk requests (default: 5000)")
    parser.add_argument("--kills", type=int, default=50, help="kill -9 (default: 50)")
    parser.add_argument("--seed", type=int, default=1, help="of everything that is drawn")
    given = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        found = lived(Path(folder) / "lived", given.minutes * 60, given.cases, given.seed)
        problems = broken(found)
        if given.kills:
            kills = killed(Path(folder) / "killed", given.kills, given.seed)
            found |= {"kills": given.kills, "starts": kills.starts, "announced_before_kills": kills.announced,
                      "missing_after_kills": kills.missing, "left_after_kills": kills.left}  # fmt: skip
            problems += [f"After a kill: {line}" for line in (*kills.missing, *kills.left)]
    print(json.dumps({**found, "broken": problems}, indent=1))
    print(table(found))
    print("\n".join(problems) or "Every promise was kept.")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
