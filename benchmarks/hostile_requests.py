"""Malformed and hostile requests to a running server, and what must hold for every answer.

The tests call ``attack`` with few cases, ``benchmarks.soak`` with many.
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
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

API = "/gradio_api"
# No answer may contain these: they would tell about the program's code or this computer's files.
LEAKS = re.compile(r'Traceback|File \\?"|site-packages|/usr/|\.py\b[^a-z]{1,3}line|pydantic\.dev')
TIMEOUT_SECONDS = 120.0
THREADS = 6
# Characters that programs handle wrongly: controls, half a surrogate pair, direction marks, one beyond 16 bits.
ODD_CHARACTERS = "\0\x01\x08\x1b\x7f\x85\u2028\u202e\ufeff\ufffe\U0001f600\ud800\udfff'\"<>&;|`$%\\/"
# Bodies that no JSON library would write.
RAW_BODIES = (
    b"", b"{", b"null", b"[]", b"0", b'""', b"NaN", b"[NaN]", b"\xff\xfe", b"{}{}", b"{" * 3000, b"[" * 100_000,
    b'{"a":' * 2000, b'{"data": [1e999999]}', b'{"data": [NaN, Infinity, -Infinity], "fn_index": 0}',
    b'{"data": "\xed\xa0\x80"}', b'{"data": ' + b"9" * 5000 + b"}", b'{"data": [], "data": [], "fn_index": 1}',
    b'{"data": ' + b"[" * 900 + b"]" * 900 + b', "fn_index": 0, "session_hash": "s"}', b"[" * 150 + b"]" * 150,
)  # fmt: skip


@dataclass(frozen=True)
class RawAnswer:
    """An answer; status 0 if the server closed the connection without one."""

    status: int
    head: str
    body: str


@dataclass(frozen=True)
class PageFunction:
    """One function of the page.

    Attributes:
        number: Gradio's ``fn_index``.
        name: its API name, or "".
        page_values: what the page itself would send, a value for each input.
        uses_queue: whether it must be called through the queue.
    """

    number: int
    name: str
    page_values: tuple[Any, ...]
    uses_queue: bool


@dataclass
class Report:
    """The result of an attack.

    Attributes:
        cases: requests that were sent.
        statuses: how often each status came back.
        faults: broken promises, one line each.
    """

    cases: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def note(self, what: str, answer: RawAnswer, secrets: Iterable[str]) -> None:
        """Count an answer, and record what is wrong with it."""
        with self._lock:
            self.cases += 1
            self.statuses[answer.status] += 1
        if answer.status >= 500 or not answer.status:
            self.faults.append(f"{answer.status} for {what}: {answer.body[:200]}")
        leak = LEAKS.search(answer.body) or next((s for s in secrets if s in answer.body), None)
        if leak:
            found = leak if isinstance(leak, str) else leak.group(0)
            at = answer.body.find(found)
            self.faults.append(f"leaked {answer.body[max(0, at - 80) : at + 120]!r} for {what}")


@dataclass(frozen=True)
class Client:
    """A client of a server.

    Args:
        address: of the page, ``http://host:port/``.
        cookie: the Cookie header; "" for an anonymous client.
    """

    address: str
    cookie: str = ""

    def request(
        self, method: str, path: str, body: bytes = b"", content_type: str = "application/json",
        seconds: float = TIMEOUT_SECONDS, more: Mapping[str, str] | None = None, first: float = TIMEOUT_SECONDS,
    ) -> RawAnswer:  # fmt: skip
        """Send one request byte for byte as given, and read the answer until it ends or the time is over.

        Args:
            seconds: from the first byte of the answer.
            more: headers to add or replace.
            first: seconds until the first byte.
        """
        place = urlsplit(self.address)
        head = {"Host": place.netloc, "Connection": "close", "Content-Type": content_type}
        head |= {"Cookie": self.cookie} if self.cookie else {}
        head |= {"Content-Length": str(len(body))} if method == "POST" else {}
        head |= more or {}
        lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in head.items()), "", ""]
        sent = "\r\n".join(lines).encode("latin-1", "replace") + body
        return parse_answer(exchange((place.hostname or "", place.port or 80), sent, seconds, first))

    def post(self, path: str, value: Any, **more: Any) -> RawAnswer:
        """Send JSON, with NaN, infinities and half surrogate pairs as Python writes them."""
        return self.request("POST", path, json.dumps(value).encode(), **more)

    def outcome(self, session: str, seconds: float = TIMEOUT_SECONDS) -> RawAnswer:
        """All messages of the queue to a session."""
        return self.request("GET", f"{API}/queue/data?session_hash={session}", seconds=seconds)

    def config(self) -> dict[str, Any]:
        """Gradio's description of the page."""
        return json.loads(self.request("GET", "/config").body)


def exchange(place: tuple[str, int], sent: bytes, seconds: float, first: float) -> bytes:
    """Send bytes; all that comes back until the server closes the connection or the time is over."""
    got, until = bytearray(), time.monotonic() + first
    with socket.create_connection(place, timeout=TIMEOUT_SECONDS) as connection:
        # The server may close the connection before everything is sent.
        with suppress(OSError):
            connection.sendall(sent)
        with suppress(OSError):
            while time.monotonic() < until:
                connection.settimeout(max(0.01, until - time.monotonic()))
                piece = connection.recv(1 << 16)
                if not piece:
                    break
                until = until if got else time.monotonic() + seconds
                got += piece
    return bytes(got)


def parse_answer(raw: bytes) -> RawAnswer:
    """Status, head and body of an answer; a chunked body keeps the lengths of its chunks."""
    raw = re.sub(rb"\AHTTP/1\.1 100 [^\r]*\r\n\r\n", b"", raw)
    head, _, body = raw.partition(b"\r\n\r\n")
    found = re.match(rb"HTTP/1\.[01] (\d{3})", head)
    return RawAnswer(int(found.group(1)) if found else 0, head.decode("latin-1"), body.decode("utf-8", "replace"))


def page_functions(config: Mapping[str, Any]) -> list[PageFunction]:
    """Every function of the page, with or without a name, from Gradio's description of the page."""
    values = {part["id"]: part["props"].get("value") for part in config["components"]}
    return [
        PageFunction(one["id"], one["api_name"] or "", tuple(values.get(k) for k in one["inputs"]), bool(one["queue"]))
        for one in config["dependencies"]
    ]


# -- what is sent ----------------------------------------------------------------------------------------------------

TEXTS = st.text(st.sampled_from(ODD_CHARACTERS + string.ascii_letters), max_size=12)
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
_EVENT_FIELDS = """_data model do sure k i key uri x y index value picture frame lens kind name at row run tab example
step g sides id ask seed filters ids cursor to what add remove on all days megabytes"""
EVENTS = st.dictionaries(st.sampled_from(_EVENT_FIELDS.split()), LEAVES, max_size=4)
VALUES = st.recursive(
    LEAVES, lambda some: st.lists(some, max_size=4) | st.dictionaries(TEXTS, some, max_size=4), max_leaves=8
)


def nested(levels: int) -> Any:
    """Lists in lists."""
    return functools.reduce(lambda inner, _: [inner], range(levels), 0)


@st.composite
def malformed_calls(draw: st.DrawFn, functions: Sequence[PageFunction]) -> tuple[PageFunction, dict[str, Any]]:
    """A call of one function: what the page would send with something in it gone wrong, or nothing of the kind."""
    function = draw(st.sampled_from(list(functions)))
    data: Any = list(function.page_values)
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
        data = [nested(200)] * max(1, len(data))
    body = {"fn_index": function.number, "data": data, "session_hash": f"fuzz{draw(st.integers(0, 20))}"}
    body["event_data"] = draw(st.one_of(st.none(), EVENTS, VALUES))
    wrong = draw(st.sampled_from(["", "", "", "", "fn_index", "session_hash", "trigger_id", "event_id", "batched"]))
    if wrong == "fn_index":
        body[wrong] = draw(st.sampled_from([-1, 10**6, 2**70, 1.5, 1.0, "0", True, None, [], {}, float("nan")]))
    elif wrong:
        body[wrong] = draw(st.one_of(LEAVES, st.just("x" * 10_000)))
    body |= draw(st.sampled_from([{}, {}, {"simple_format": True}, {"oauth_token": "x"}, {"unknown": 1}]))
    return function, body


def routes_of(function: PageFunction) -> list[str]:
    """Every path by which a function may be asked for."""
    name = function.name or "predict"
    queue = [f"{API}/queue/join", f"{API}/run/predict", f"{API}/run/{name}", f"{API}/api/{name}"]
    return [*queue, f"{API}/call/{name}", f"{API}/call/v2/{name}"]


# -- attacks ---------------------------------------------------------------------------------------------------------


def call_function(client: Client, path: str, body: Mapping[str, Any], report: Report, secrets: Iterable[str]) -> None:
    """Call one function, and wait for its result in the queue."""
    what = f"{path} {json.dumps(body)[:300]}"
    answer = client.post(path, body)
    report.note(what, answer, secrets)
    if answer.status == 200 and path.endswith("join") and isinstance(body.get("session_hash"), str):
        said = client.outcome(body["session_hash"])
        report.note(f"the outcome of {what}", said, secrets)
        if "close_stream" not in said.body and said.status == 200:
            report.faults.append(f"no end of {what}: {said.body[-300:]}")


def call_every_function(
    client: Client,
    functions: Iterable[PageFunction],
    report: Report,
    secrets: Iterable[str],
    over: Callable[[], bool] = bool,
) -> None:
    """Call every function by every route, with no values and with useless ones."""

    def one(function: PageFunction) -> None:
        for path in routes_of(function):
            for k, data in enumerate(([], [{"path": "/etc/passwd"}] * len(function.page_values))):
                if over():
                    return
                # Few sessions, since a guest's sessions are limited.
                body = {"fn_index": function.number, "data": data, "session_hash": f"once{function.number % 12}x{k}"}
                call_function(client, path, body, report, secrets)

    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(one, functions))


def send_random_calls(
    client: Client,
    functions: Sequence[PageFunction],
    cases: int,
    report: Report,
    secrets: Iterable[str],
    start: int,
    over: Callable[[], bool] = bool,
) -> None:
    """Make random calls drawn by Hypothesis; the same ones for the same ``start``."""

    @seed(start)
    @settings(
        max_examples=cases, derandomize=False, database=None, deadline=None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(malformed_calls(functions), st.integers(0, 99))
    def one(drawn: tuple[PageFunction, dict[str, Any]], number: int) -> None:
        if over():
            return
        function, body = drawn
        found = routes_of(function)
        # Half of them through the queue, which most functions use.
        call_function(client, found[number % len(found)] if number % 2 else found[0], body, report, secrets)

    one()


_PAGE_ROUTES = """/ /config /config/ /login /logout /theme.css /robots.txt /manifest.json /pwa_icon /pwa_icon/0
/pwa_icon/x /pwa_icon/99999999999 /favicon.ico /static/x /assets/x /svelte/x /docs /openapi.json /monitoring
/monitoring/summary
/monitoring/x /custom_component/x/y/z/w /?owner= /?owner=%00 /?owner=%ff /?owner=%f0%9f%98%80 /?owner=x&owner=y
/?__theme=%22 /%ff /%00 /%f0%9f"""
_API_ROUTES = """/info /info/ /info?all_endpoints=x /openapi.json /runs /token /app_id /user /login_check /dev/reload
/startup-events /theme.css /queue/status /queue/data /queue/data?session_hash= /queue/data?session_hash=%00%ff
/call/x/y /call/v2/x/y /upload_progress /upload_progress?upload_id=x /stream/a/b/c/playlist.m3u8 /stream/a/b/c/d.ts
/stream/a/1/2/playlist-file /file/x /file= /file=. /file=%00 /file=%ff /file=~ /proxy=x /deep_link /heartbeat/x
/custom_component/x/y/z/w /run-history/records /vibe-code /profiling/traces"""
_LONG_ROUTES = (f"{API}/file={'a' * 5000}", f"{API}/file={'a/' * 3000}", f"/{'%2e%2e/' * 40}etc/passwd", "/\x7f?")
GET_ROUTES = (*_PAGE_ROUTES.split(), *(API + path for path in _API_ROUTES.split()), *_LONG_ROUTES)
_POST_ROUTES = """/upload /upload?upload_id=%00 /queue/join /run/predict /cancel /reset /component_server /stream/x
/stream/x/close /process_recording /vibe-edit /call/text_to_image /call/v2/text_to_image /call/x /call/v2/x
/api/predict"""
POST_ROUTES = (*(API + path for path in _POST_ROUTES.split()), "/login", "/login/", "/", "/config", "/monitoring")
CONTENT_TYPES = (
    "application/json", "multipart/form-data", "multipart/form-data; boundary=", "multipart/form-data; boundary=x",
    "application/x-www-form-urlencoded", "text/plain", "\xff", "application/json; charset=utf-16", "",
)  # fmt: skip
# Headers that servers handle wrongly; names are sent as they are.
ODD_HEADERS: tuple[Mapping[str, str], ...] = (
    {"Range": "bytes=1-2-3"}, {"Range": "bytes=9-1"}, {"Range": "bytes=-"}, {"Range": "bytes=99999999999-"},
    {"Range": "bytes=0-0,2-3"}, {"Accept": "\xff"}, {"Accept-Language": "x" * 4000}, {"X-Forwarded-Host": "a,b\xff"},
    {"X-Forwarded-Proto": "javascript"}, {"X-Gradio-Server": "http://x"}, {"Referer": "\xff://["}, {"Origin": "["},
    {"Cookie": "a=b; \xff; =; playground-guest-1=\xff.\xff"}, {"Authorization": "Bearer \xff"}, {"Host": "[::1"},
    {"Host": "localhost:99999999"}, {"Content-Length": "5"}, {"Content-Length": "-1"}, {"Content-Length": "\xb2"},
    {"Transfer-Encoding": "chunked"}, {"Expect": "100-continue"}, {"Upgrade": "websocket", "Connection": "Upgrade"},
    {"If-Modified-Since": "x"}, {"If-Range": "x", "Range": "bytes=0-1"}, {"X-Requested-With": "\x80"},
)  # fmt: skip


def send_malformed_requests(
    client: Client, report: Report, secrets: Iterable[str], over: Callable[[], bool] = bool
) -> None:
    """Request all other routes, with malformed headers and bodies; some at once."""

    def one(method: str, path: str, body: bytes, kind: str, more: Mapping[str, str]) -> None:
        if over():
            return
        # The server waits for announced bytes that never come; endless answers are read for a second.
        waits = {"Content-Length", "Transfer-Encoding", "Expect"} & set(more)
        answer = client.request(method, path, body, kind, 1, more, 1 if waits else TIMEOUT_SECONDS)
        if answer.status or not waits:
            report.note(f"{method} {path[:80]} {kind} {body[:60]!r} {dict(more)}", answer, secrets)

    call = b'{"data": [], "fn_index": 0, "session_hash": "h"}'
    asked: list[tuple[Any, ...]] = []
    asked += [("GET", path, b"", CONTENT_TYPES[0], {}) for path in GET_ROUTES]
    asked += [("POST", path, b"--x\r\n\r\n", kind, {}) for path in POST_ROUTES for kind in CONTENT_TYPES]
    asked += [("POST", path, raw, CONTENT_TYPES[0], {}) for path in POST_ROUTES for raw in RAW_BODIES]
    asked += [
        (verb, path, call if verb == "POST" else b"", CONTENT_TYPES[0], head)
        for head in ODD_HEADERS
        for verb, path in _HEADER_ROUTES
    ]
    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(lambda values: one(*values), asked))


_HEADER_ROUTES = (
    ("GET", "/"), ("GET", "/theme.css"), ("GET", "/static/img/logo.svg"), ("POST", f"{API}/run/predict"),
    ("POST", "/login"),
)  # fmt: skip


def attack(
    address: str, cookie: str, cases: int, seed: int, secrets: Sequence[str] = (), over: Callable[[], bool] = bool
) -> Report:
    """Send a running server malformed requests to every route and every function.

    Args:
        address: of the page.
        cookie: the Cookie header; "" for an anonymous client.
        cases: random calls, in addition to the fixed requests.
        seed: of the random calls.
        secrets: texts that no answer may contain, such as the data folder.
        over: whether no more are to be sent.
    """
    client, report = Client(address, cookie), Report()
    functions = page_functions(client.config()) if cookie else [PageFunction(k, "", (), True) for k in range(4)]
    send_malformed_requests(client, report, secrets, over)
    call_every_function(client, functions, report, secrets, over)
    send_random_calls(client, functions, cases, report, secrets, seed, over)
    return report


def unfinished_events(demo: Any, seconds: float = 60.0) -> list[str]:
    """Events that still wait or run in Gradio's queue; [] as soon as there are none."""
    until = time.monotonic() + seconds
    while (left := list(_unfinished(demo))) and time.monotonic() < until:
        time.sleep(0.05)
    return left


def _unfinished(demo: Any) -> Iterator[str]:
    queue = demo._queue
    if len(queue):
        yield f"{len(queue)} events wait"
    for events in filter(None, queue.active_jobs):
        yield f"runs: {[event.fn.api_name for event in events]}"
