"""Requests that nobody means well with, sent to a running server; and what must hold of every answer to them.

``attack`` is for the short tests and, with more cases, for a long run.
"""

from __future__ import annotations

import functools
import json
import re
import socket
import string
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

API = "/gradio_api"
# What no answer may hold, whoever asks: it would tell of the program's insides or of this computer's files.
LEAKS = re.compile(r'Traceback|File \\?"|site-packages|/usr/|\.py\b[^a-z]{1,3}line|pydantic\.dev')
SECONDS = 30.0
AT_ONCE = 6
# Characters that go wrong somewhere: controls, half a surrogate pair, direction marks, one beyond 16 bits.
ODD = "\0\x01\x08\x1b\x7f\x85\u2028\u202e\ufeff\ufffe\U0001f600\ud800\udfff'\"<>&;|`$%\\/"
# JSON as no library would write it.
RAW = (
    b"", b"{", b"null", b"[]", b"0", b'""', b"NaN", b"[NaN]", b"\xff\xfe", b"{}{}", b"{" * 3000, b"[" * 100_000,
    b'{"a":' * 2000, b'{"data": [1e999999]}', b'{"data": [NaN, Infinity, -Infinity], "fn_index": 0}',
    b'{"data": "\xed\xa0\x80"}', b'{"data": ' + b"9" * 5000 + b"}", b'{"data": [], "data": [], "fn_index": 1}',
    b'{"data": ' + b"[" * 900 + b"]" * 900 + b', "fn_index": 0, "session_hash": "s"}', b"[" * 150 + b"]" * 150,
)  # fmt: skip


@dataclass(frozen=True)
class Answer:
    """What came back; status 0 where the server hung up without a word."""

    status: int
    head: str
    body: str


@dataclass(frozen=True)
class Way:
    """One function of the page.

    Attributes:
        number: Gradio's ``fn_index``.
        name: under which it may be called, "" if it has none.
        given: what the page itself would send, a value an input.
        queued: whether it belongs into the queue.
    """

    number: int
    name: str
    given: tuple[Any, ...]
    queued: bool


@dataclass
class Report:
    """What an attack came to.

    Attributes:
        cases: requests that were sent.
        statuses: how often each status came back.
        faults: what must not be, one line each.
    """

    cases: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def note(self, what: str, answer: Answer, secrets: Iterable[str]) -> None:
        """Count an answer, and write down what is wrong with it."""
        with self._lock:
            self.cases += 1
            self.statuses[answer.status] += 1
        if answer.status >= 500 or not answer.status:
            self.faults.append(f"{answer.status} for {what}: {answer.body[:200]}")
        told = LEAKS.search(answer.body) or next((s for s in secrets if s in answer.body), None)
        if told:
            found = told if isinstance(told, str) else told.group(0)
            at = answer.body.find(found)
            self.faults.append(f"told {answer.body[max(0, at - 80) : at + 120]!r} for {what}")


@dataclass(frozen=True)
class Caller:
    """Somebody who asks a server.

    Args:
        address: of the page, ``http://host:port/``.
        cookie: what is shown; "" for a stranger.
    """

    address: str
    cookie: str = ""

    def ask(
        self, method: str, path: str, body: bytes = b"", kind: str = "application/json", seconds: float = SECONDS,
        more: Mapping[str, str] | None = None, first: float = SECONDS,
    ) -> Answer:  # fmt: skip
        """Send one request as it is, nothing in it mended, and read the answer to its end or for so long.

        Args:
            seconds: from the first byte of the answer.
            first: seconds until that.
        """
        place = urlsplit(self.address)
        head = {"Host": place.netloc, "Connection": "close", "Content-Type": kind}
        head |= {"Cookie": self.cookie} if self.cookie else {}
        head |= {"Content-Length": str(len(body))} if method == "POST" else {}
        head |= more or {}
        lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in head.items()), "", ""]
        sent = "\r\n".join(lines).encode("latin-1", "replace") + body
        return read(exchange((place.hostname or "", place.port or 80), sent, seconds, first))

    def post(self, path: str, value: Any, **more: Any) -> Answer:
        """Send JSON; NaN, infinities and halves of surrogates are written as Python does."""
        return self.ask("POST", path, json.dumps(value).encode(), **more)

    def outcome(self, session: str, seconds: float = SECONDS) -> Answer:
        """What the queue says to a session until it has no more to say."""
        return self.ask("GET", f"{API}/queue/data?session_hash={session}", seconds=seconds)

    def config(self) -> dict[str, Any]:
        """What the page is made of."""
        return json.loads(self.ask("GET", "/config").body)


def exchange(place: tuple[str, int], sent: bytes, seconds: float, first: float) -> bytes:
    """Send bytes, and all that comes back until the other side has done or the time is over."""
    got, until = bytearray(), time.monotonic() + first
    with socket.create_connection(place, timeout=SECONDS) as line:
        # Whoever is refused early may find the line shut while the rest is being sent.
        with suppress(OSError):
            line.sendall(sent)
        with suppress(OSError):
            while time.monotonic() < until:
                line.settimeout(max(0.01, until - time.monotonic()))
                piece = line.recv(1 << 16)
                if not piece:
                    break
                until = until if got else time.monotonic() + seconds
                got += piece
    return bytes(got)


def read(raw: bytes) -> Answer:
    """An answer's status, head and body; pieces of a body in pieces keep their lengths."""
    raw = re.sub(rb"\AHTTP/1\.1 100 [^\r]*\r\n\r\n", b"", raw)
    head, _, body = raw.partition(b"\r\n\r\n")
    found = re.match(rb"HTTP/1\.[01] (\d{3})", head)
    return Answer(int(found.group(1)) if found else 0, head.decode("latin-1"), body.decode("utf-8", "replace"))


def ways(config: Mapping[str, Any]) -> list[Way]:
    """Every function of the page, named or not, from what the page is told of itself."""
    values = {part["id"]: part["props"].get("value") for part in config["components"]}
    return [
        Way(one["id"], one["api_name"] or "", tuple(values.get(k) for k in one["inputs"]), bool(one["queue"]))
        for one in config["dependencies"]
    ]


# -- what is sent ----------------------------------------------------------------------------------------------------

TEXTS = st.text(st.sampled_from(ODD + string.ascii_letters), max_size=12)
NUMBERS = st.one_of(
    st.integers(-3, 300), st.sampled_from([2**31, 2**53 + 1, 2**63, -(2**63) - 1, 2**200, 10**400]),
    st.sampled_from([0.5, -0.0, 1e308, float("nan"), float("inf"), float("-inf")]),
)  # fmt: skip
# What a file looks like to Gradio, and what must not be taken for one.
PATHS = (
    "/etc/passwd", "../../etc/passwd", "file:///etc/passwd", "http://127.0.0.1:9/x.png", "https://127.0.0.1:9/x",
    "", "\0", "x" * 5000, "/dev/zero", "/proc/self/environ", "C:\\Windows\\win.ini", "//host/share/x",
)  # fmt: skip
FILES = st.builds(
    lambda path, meta, more: {"path": path, "meta": meta, **more},
    st.sampled_from(PATHS),
    st.sampled_from([{"_type": "gradio.FileData"}, {"_type": 3}, None, [], "gradio.FileData"]),
    st.sampled_from([{}, {"url": "http://127.0.0.1:9/"}, {"size": -1}, {"orig_name": "../x"}, {"is_stream": True}]),
)
LEAVES = st.one_of(st.none(), st.booleans(), NUMBERS, TEXTS, FILES)
# Fields that events of the page carry, with values that they do not.
_CARRIED = """_data model do sure k i key uri x y index value picture frame lens kind name at row run tab example
step g sides id ask seed"""
EVENTS = st.dictionaries(st.sampled_from(_CARRIED.split()), LEAVES, max_size=4)
VALUES = st.recursive(
    LEAVES, lambda some: st.lists(some, max_size=4) | st.dictionaries(TEXTS, some, max_size=4), max_leaves=8
)


def deep(levels: int) -> Any:
    """Lists in lists."""
    return functools.reduce(lambda inner, _: [inner], range(levels), 0)


@st.composite
def bodies(draw: st.DrawFn, all_of: Sequence[Way]) -> tuple[Way, dict[str, Any]]:
    """A call of one function: what the page would send with something in it gone wrong, or nothing of the kind."""
    way = draw(st.sampled_from(list(all_of)))
    data: Any = list(way.given)
    change = draw(st.sampled_from(["one", "one", "one", "some", "all", "short", "long", "none", "deep"]))
    if data and change in ("one", "some"):
        for _ in range(1 if change == "one" else 3):
            data[draw(st.integers(0, len(data) - 1))] = draw(VALUES)
    elif change == "all":
        data = [draw(VALUES) for _ in data]
    elif change == "short":
        data = data[: draw(st.integers(0, max(0, len(data) - 1)))]
    elif change == "long":
        data = [*data, *[draw(LEAVES)] * draw(st.sampled_from([1, 3, 1000]))]
    elif change == "none":
        data = draw(VALUES)
    elif change == "deep":
        data = [deep(200)] * max(1, len(data))
    body = {"fn_index": way.number, "data": data, "session_hash": f"fuzz{draw(st.integers(0, 20))}"}
    body["event_data"] = draw(st.one_of(st.none(), EVENTS, VALUES))
    wrong = draw(st.sampled_from(["", "", "", "", "fn_index", "session_hash", "trigger_id", "event_id", "batched"]))
    if wrong == "fn_index":
        body[wrong] = draw(st.sampled_from([-1, 10**6, 2**70, 1.5, 1.0, "0", True, None, [], {}, float("nan")]))
    elif wrong:
        body[wrong] = draw(st.one_of(LEAVES, st.just("x" * 10_000)))
    body |= draw(st.sampled_from([{}, {}, {"simple_format": True}, {"oauth_token": "x"}, {"unknown": 1}]))
    return way, body


def doors(way: Way) -> list[str]:
    """Every path by which a function may be asked for."""
    name = way.name or "predict"
    queue = [f"{API}/queue/join", f"{API}/run/predict", f"{API}/run/{name}", f"{API}/api/{name}"]
    return [*queue, f"{API}/call/{name}", f"{API}/call/v2/{name}"]


# -- attacks ---------------------------------------------------------------------------------------------------------


def call(who: Caller, path: str, body: Mapping[str, Any], report: Report, secrets: Iterable[str]) -> None:
    """Ask for one function, and for what the queue makes of it."""
    what = f"{path} {json.dumps(body)[:300]}"
    answer = who.post(path, body)
    report.note(what, answer, secrets)
    if answer.status == 200 and path.endswith("join") and isinstance(body.get("session_hash"), str):
        said = who.outcome(body["session_hash"])
        report.note(f"the outcome of {what}", said, secrets)
        if "close_stream" not in said.body and said.status == 200:
            report.faults.append(f"no end of {what}: {said.body[-300:]}")


def once_each(who: Caller, all_of: Iterable[Way], report: Report, secrets: Iterable[str]) -> None:
    """Ask for every function by every path: with nothing, and with what is of no use to it."""

    def one(way: Way) -> None:
        for path in doors(way):
            for k, data in enumerate(([], [{"path": "/etc/passwd"}] * len(way.given))):
                # Pages of a guest are counted.
                body = {"fn_index": way.number, "data": data, "session_hash": f"once{way.number % 12}x{k}"}
                call(who, path, body, report, secrets)

    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(one, all_of))


def drawn(who: Caller, all_of: Sequence[Way], cases: int, report: Report, secrets: Iterable[str], start: int) -> None:
    """Ask with so many bodies that Hypothesis draws; the same ones for the same ``start``."""

    @seed(start)
    @settings(
        max_examples=cases, derandomize=False, database=None, deadline=None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(bodies(all_of), st.integers(0, 99))
    def one(drawn_one: tuple[Way, dict[str, Any]], number: int) -> None:
        way, body = drawn_one
        found = doors(way)
        # Half of all goes by the queue, where most functions are.
        call(who, found[number % len(found)] if number % 2 else found[0], body, report, secrets)

    one()


_PAGE = """/ /config /config/ /login /logout /theme.css /robots.txt /manifest.json /pwa_icon /pwa_icon/0 /pwa_icon/x
/pwa_icon/99999999999 /favicon.ico /static/x /assets/x /svelte/x /docs /openapi.json /monitoring /monitoring/summary
/monitoring/x /custom_component/x/y/z/w /?owner= /?owner=%00 /?owner=%ff /?owner=%f0%9f%98%80 /?owner=x&owner=y
/?__theme=%22 /%ff /%00 /%f0%9f"""
_API = """/info /info/ /info?all_endpoints=x /openapi.json /runs /token /app_id /user /login_check /dev/reload
/startup-events /theme.css /queue/status /queue/data /queue/data?session_hash= /queue/data?session_hash=%00%ff
/call/x/y /call/v2/x/y /upload_progress /upload_progress?upload_id=x /stream/a/b/c/playlist.m3u8 /stream/a/b/c/d.ts
/stream/a/1/2/playlist-file /file/x /file= /file=. /file=%00 /file=%ff /file=~ /proxy=x /deep_link /heartbeat/x
/custom_component/x/y/z/w /run-history/records /vibe-code /profiling/traces"""
_LONG = (f"{API}/file={'a' * 5000}", f"{API}/file={'a/' * 3000}", f"/{'%2e%2e/' * 40}etc/passwd", "/\x7f?")
ROUTES = (*_PAGE.split(), *(API + path for path in _API.split()), *_LONG)
_POSTED = """/upload /upload?upload_id=%00 /queue/join /run/predict /cancel /reset /component_server /stream/x
/stream/x/close /process_recording /vibe-edit /call/text_to_image /call/v2/text_to_image /call/x /call/v2/x
/api/predict"""
POSTED = (*(API + path for path in _POSTED.split()), "/login", "/login/", "/", "/config", "/monitoring")
KINDS = (
    "application/json", "multipart/form-data", "multipart/form-data; boundary=", "multipart/form-data; boundary=x",
    "application/x-www-form-urlencoded", "text/plain", "\xff", "application/json; charset=utf-16", "",
)  # fmt: skip
# Heads that servers stumble over; a name is sent as it is.
HEADS: tuple[Mapping[str, str], ...] = (
    {"Range": "bytes=1-2-3"}, {"Range": "bytes=9-1"}, {"Range": "bytes=-"}, {"Range": "bytes=99999999999-"},
    {"Range": "bytes=0-0,2-3"}, {"Accept": "\xff"}, {"Accept-Language": "x" * 4000}, {"X-Forwarded-Host": "a,b\xff"},
    {"X-Forwarded-Proto": "javascript"}, {"X-Gradio-Server": "http://x"}, {"Referer": "\xff://["}, {"Origin": "["},
    {"Cookie": "a=b; \xff; =; playground-guest-1=\xff.\xff"}, {"Authorization": "Bearer \xff"}, {"Host": "[::1"},
    {"Host": "localhost:99999999"}, {"Content-Length": "5"}, {"Content-Length": "-1"}, {"Content-Length": "\xb2"},
    {"Transfer-Encoding": "chunked"}, {"Expect": "100-continue"}, {"Upgrade": "websocket", "Connection": "Upgrade"},
    {"If-Modified-Since": "x"}, {"If-Range": "x", "Range": "bytes=0-1"}, {"X-Requested-With": "\x80"},
)  # fmt: skip


def other_routes(who: Caller, report: Report, secrets: Iterable[str]) -> None:
    """Everything that is no function of the page, with heads and bodies that are none; some at once."""

    def one(method: str, path: str, body: bytes, kind: str, more: Mapping[str, str]) -> None:
        # Who announces more than comes is waited for; an answer that goes on while somebody listens is read for a bit.
        waits = {"Content-Length", "Transfer-Encoding", "Expect"} & set(more)
        answer = who.ask(method, path, body, kind, 1, more, 1 if waits else SECONDS)
        if answer.status or not waits:
            report.note(f"{method} {path[:80]} {kind} {body[:60]!r} {dict(more)}", answer, secrets)

    call = b'{"data": [], "fn_index": 0, "session_hash": "h"}'
    asked: list[tuple[Any, ...]] = []
    asked += [("GET", path, b"", KINDS[0], {}) for path in ROUTES]
    asked += [("POST", path, b"--x\r\n\r\n", kind, {}) for path in POSTED for kind in KINDS]
    asked += [("POST", path, raw, KINDS[0], {}) for path in POSTED for raw in RAW]
    asked += [(verb, path, call if verb == "POST" else b"", KINDS[0], head) for head in HEADS for verb, path in _TOP]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(lambda values: one(*values), asked))


_TOP = (
    ("GET", "/"), ("GET", "/theme.css"), ("GET", "/static/img/logo.svg"), ("POST", f"{API}/run/predict"),
    ("POST", "/login"),
)  # fmt: skip


def attack(address: str, cookie: str, cases: int, seed: int, secrets: Sequence[str] = ()) -> Report:
    """Ask a running server for everything that it has, with what it has no use for.

    Args:
        address: of the page.
        cookie: of whoever asks; "" for a stranger.
        cases: calls that are drawn, besides the fixed ones.
        seed: of what is drawn.
        secrets: texts that no answer may hold, such as the folder of the data.
    """
    who, report = Caller(address, cookie), Report()
    all_of = ways(who.config()) if cookie else [Way(k, "", (), True) for k in range(4)]
    other_routes(who, report, secrets)
    once_each(who, all_of, report, secrets)
    drawn(who, all_of, cases, report, secrets, seed)
    return report


def stuck(demo: Any, seconds: float = 20.0) -> list[str]:
    """What a server still does after all that was asked of it: jobs that wait or run; [] once there are none."""
    until = time.monotonic() + seconds
    while (left := list(_busy(demo))) and time.monotonic() < until:
        time.sleep(0.05)
    return left


def _busy(demo: Any) -> Iterator[str]:
    queue = demo._queue
    if len(queue):
        yield f"{len(queue)} events wait"
    for events in filter(None, queue.active_jobs):
        yield f"runs: {[event.fn.api_name for event in events]}"
