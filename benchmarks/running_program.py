"""app.py as a process of its own, and clients that use its page over plain HTTP as a browser does.

For ``benchmarks.soak`` and for tests of clients that vanish and of the program's end.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from queue import Empty, Queue
from typing import Any
from urllib.parse import urlencode

ROOT = Path(__file__).resolve().parent.parent
API = "/gradio_api"
GUEST, PASSWORD = "guest", "a password for guests"
# Importing the libraries takes long on a busy machine.
START_SECONDS = 300.0
# A request without an answer for so long hangs; event streams get a message each second.
TIMEOUT_SECONDS = 180.0
# How long a guest's login may be delayed after wrong passwords of others.
LOG_IN_SECONDS = 120.0


class RunningProgram:
    """app.py in a process of its own, with a password for guests.

    Args:
        data: the data folder; another start finds the same pictures.
        options: more for the command line.
        port: 0 for any that is free.
        entry: Python's arguments instead of app.py, for tests that change a part of it.
    """

    def __init__(self, data: Path, *options: str, port: int = 0, entry: tuple[str, ...] = ("app.py",)) -> None:
        self.data, self.port = data, port or free_port()
        # OpenMP threads that spin while they wait would slow down all other processes.
        environ = {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE", "PYTHONPATH": str(ROOT)}
        command = [sys.executable, *entry, "--port", str(self.port), "--no-open", "--offline", "--threads", "1"]
        command += ["--data-dir", str(data), "--auth", f"{GUEST}:{PASSWORD}", *options]
        self.process = subprocess.Popen(
            command, cwd=ROOT, env=environ, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        self.lines: list[str] = []
        self._cookie = ""
        self._page: dict[str, Any] = {}  # the same for all clients
        self._new_lines: Queue[str | None] = Queue()
        threading.Thread(target=self._read, daemon=True).start()
        try:
            self._link = self.line(r"(/\?owner=\S+)")
        except BaseException:
            self.kill()
            raise

    @property
    def pictures(self) -> Path:
        """Where finished pictures are."""
        return self.data / "pictures"

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as out:
            for line in out:
                self.lines.append(line)
                self._new_lines.put(line)
        self._new_lines.put(None)

    def line(self, pattern: str) -> str:
        """The first group of a pattern in what the program prints from now on.

        Raises:
            RuntimeError: if it ends, or prints nothing for long.
        """
        while True:
            try:
                news = self._new_lines.get(timeout=START_SECONDS)
            except Empty:
                news = None
            if news is None:
                raise RuntimeError(f"no {pattern!r} in what the program printed: {self.lines[-20:]}")
            if found := re.search(pattern, news):
                return found.group(1)

    def owner(self) -> BrowserClient:
        """A browser of the owner: the first one follows the one-time link, the others get its cookie."""
        client = BrowserClient(self.port, self._cookie, _config=self._page)
        if not client.cookie:
            client.store_cookie(client.request("GET", self._link))
            self._cookie = client.cookie
        return client

    def guest(self) -> BrowserClient:
        """A guest who has logged in, later if wrong passwords of others delay logins."""
        return log_in_guest(self.port, self._page)

    def stop(self, seconds: float) -> int:
        """End it with SIGTERM and wait; the exit status.

        Raises:
            subprocess.TimeoutExpired: if it does not end in time.
        """
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(seconds)

    def kill(self) -> None:
        """End it with SIGKILL; does nothing if it has ended."""
        self.process.kill()
        self.process.wait()


@dataclass(frozen=True)
class Answer:
    """An answer."""

    status: int
    body: bytes
    headers: Mapping[str, str]

    @property
    def text(self) -> str:
        return self.body.decode("utf-8", "replace")


@dataclass
class BrowserClient:
    """One browser: it stores a cookie, and each button press is a session of its own.

    Attributes:
        port: of the server, on this computer.
        cookie: the Cookie header; "" for an anonymous client.
        on_status: called with the status of each answer, 0 for none in time.
    """

    port: int
    cookie: str = ""
    on_status: Callable[[int], None] = lambda status: None
    _config: dict[str, Any] = field(default_factory=dict)

    def store_cookie(self, answer: Answer) -> None:
        """Store the cookie of an answer to a login."""
        assert "set-cookie" in answer.headers, (answer.status, answer.text[:200])
        self.cookie = answer.headers["set-cookie"].partition(";")[0]

    def request(self, method: str, path: str, body: bytes = b"", more: Mapping[str, str] | None = None) -> Answer:
        """One request and its whole answer."""
        answer, link = self.open(method, path, body, more)
        with link.connection, link.answer:
            return Answer(answer.status, answer.read(), {k.lower(): v for k, v in answer.headers.items()})

    def open(
        self, method: str, path: str, body: bytes = b"", more: Mapping[str, str] | None = None
    ) -> tuple[HTTPResponse, OpenAnswer]:
        headers = {"Connection": "close", **({"Cookie": self.cookie} if self.cookie else {}), **(more or {})}
        http = HTTPConnection("127.0.0.1", self.port, timeout=TIMEOUT_SECONDS)
        try:
            http.request(method, path, body if method == "POST" else None, headers)
            connection = http.sock
            answer = http.getresponse()
        except TimeoutError:
            self.on_status(0)
            raise
        self.on_status(answer.status)
        return answer, OpenAnswer(connection, answer)

    def post(self, path: str, value: Any) -> Answer:
        """Send JSON."""
        return self.request("POST", API + path, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def upload(self, name: str, data: bytes) -> dict[str, Any]:
        """Upload a file; the value that a component takes for it."""
        edge = secrets.token_hex(8)
        head = f'--{edge}\r\nContent-Disposition: form-data; name="files"; filename="{name}"\r\n\r\n'
        body = head.encode() + data + f"\r\n--{edge}--\r\n".encode()
        sent = self.request("POST", f"{API}/upload", body, {"Content-Type": f"multipart/form-data; boundary={edge}"})
        assert sent.status == 200, (sent.status, sent.text[:200])
        return {"path": json.loads(sent.body)[0], "orig_name": name, "meta": {"_type": "gradio.FileData"}}

    def half_upload(self, size: int = 1_000_000) -> socket.socket:
        """Upload half of a file; the caller closes the connection."""
        connection = socket.create_connection(("127.0.0.1", self.port), TIMEOUT_SECONDS)
        head = [
            f"POST {API}/upload HTTP/1.1", f"Host: 127.0.0.1:{self.port}", f"Cookie: {self.cookie}",
            f"Content-Length: {size}", "Content-Type: multipart/form-data; boundary=edge", "", "--edge",
            'Content-Disposition: form-data; name="files"; filename="half.png"', "", "",
        ]  # fmt: skip
        connection.sendall("\r\n".join(head).encode() + b"x" * (size // 2))
        return connection

    def call(self, name: str, **values: Any) -> list[str]:
        """Call an API endpoint that makes pictures and wait; their names, [] if it refuses."""
        about = json.loads(self.request("GET", f"{API}/info").body)["named_endpoints"][f"/{name}"]["parameters"]
        data = [values.get(one["parameter_name"], one.get("parameter_default")) for one in about]
        joined = self.post(f"/call/{name}", {"data": data})
        if joined.status != 200:
            return []
        events = self.request("GET", f"{API}/call/{name}/{json.loads(joined.body)['event_id']}").text
        done = re.search(r"^event: complete\ndata: (.*)$", events, re.MULTILINE)
        return [picture["orig_name"] for picture in json.loads(done.group(1))[0][0]] if done else []

    # -- the page's own functions --------------------------------------------------------------------------------

    @property
    def config(self) -> dict[str, Any]:
        """Gradio's description of the page."""
        if not self._config:
            self._config.update(json.loads(self.request("GET", "/config").body))
        return self._config

    def press(
        self, button: str, event: str = "click", session: str = "", shows: str = "", **values: Any
    ) -> EventStream:
        """Press a button of the page, or change another component of it.

        Args:
            button: its element id.
            event: of the button.
            session: one that was used before, whose states are kept; "" for a new one.
            shows: element id of an output, where several functions have the same event.
            values: of components, by element id with _ for -; the others have the page's initial values.
        """
        parts = {part["id"]: part["props"] for part in self.config["components"]}
        names = {props.get("elem_id"): number for number, props in parts.items()}
        found = next(
            fn for fn in self.config["dependencies"]
            if [names[button], event] in fn["targets"] and (not shows or names[shows] in fn["outputs"])
        )  # fmt: skip
        given = {names[name.replace("_", "-")]: value for name, value in values.items()}
        data = [given.get(number, parts.get(number, {}).get("value")) for number in found["inputs"]]
        session = session or secrets.token_hex(6)
        body = {"fn_index": found["id"], "data": data, "session_hash": session, "trigger_id": names[button]}
        shown = [str(parts.get(number, {}).get("elem_id")) for number in found["outputs"]]
        return EventStream(self, session, self.post("/queue/join", body), shown)


def log_in_guest(port: int, page: dict[str, Any] | None = None) -> BrowserClient:
    """A guest of a ``RunningProgram`` who has logged in, later if wrong passwords of others delay logins.

    Args:
        port: of the program.
        page: Gradio's description of the page, which clients may share; {} until one of them has read it.
    """
    client = BrowserClient(port, _config={} if page is None else page)
    form = urlencode({"username": GUEST, "password": PASSWORD}).encode()
    end = time.monotonic() + LOG_IN_SECONDS
    while True:
        answer = client.request("POST", "/login", form, {"Content-Type": "application/x-www-form-urlencoded"})
        if answer.status != 429 or time.monotonic() > end:
            client.store_cookie(answer)
            return client
        time.sleep(2)


@dataclass(frozen=True)
class OpenAnswer:
    """A connection with an answer that is not read to its end yet."""

    connection: socket.socket
    answer: HTTPResponse

    def disconnect(self) -> None:
        """Vanish: the server gets a reset (RST), as from a machine that is gone."""
        with suppress(OSError):
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.answer.close()
        self.connection.close()


class EventStream:
    """The queue's messages to one session about one event.

    Attributes:
        joined: the answer to joining the queue.
    """

    def __init__(self, client: BrowserClient, session: str, joined: Answer, shown: list[str]) -> None:
        self.client, self.session, self.joined = client, session, joined
        self._shown, self._now = shown, [None] * len(shown)
        self._link: OpenAnswer | None = None

    def open(self) -> EventStream:
        """Connect, unless already connected."""
        if self._link is None:
            _, self._link = self.client.open("GET", f"{API}/queue/data?session_hash={self.session}")
        return self

    def disconnect(self) -> None:
        """Vanish."""
        if self._link is not None:
            self._link.disconnect()

    def updates(self) -> Iterator[dict[str, Any]]:
        """The components' values after each message, until the event is over; a second call continues.

        Raises:
            OSError: if the connection breaks or no message arrives for long.
        """
        link = self.open()._link
        assert link is not None
        while not link.answer.closed and (line := link.answer.readline()):
            if not line.startswith(b"data: "):
                continue
            message = json.loads(line[6:])
            if message["msg"] in ("process_generating", "process_completed"):
                self._apply(message)
                yield self.values
            if message["msg"] in ("close_stream", "unexpected_error"):
                break
        link.answer.close()
        link.connection.close()

    def _apply(self, message: Mapping[str, Any]) -> None:
        data = (message.get("output") or {}).get("data")
        if not data:  # nothing has changed
            return
        first = message["msg"] == "process_completed" or not any(value is not None for value in self._now)
        self._now = [new if first else apply_edits(old, new) for old, new in zip(self._now, data, strict=True)]

    @property
    def values(self) -> dict[str, Any]:
        return dict(zip(self._shown, self._now, strict=True))

    def stage(self) -> dict[str, Any]:
        """The stage's value now; {} before the first one."""
        found = next((self.values[name] for name in ("stage", "image-stage") if name in self.values), None)
        return found if isinstance(found, dict) and "state" in found else {}

    def problem(self) -> str:
        """The error message next to the button, or ""."""
        found = next((self.values[name] for name in ("run-error", "image-run-error") if name in self.values), None)
        if isinstance(found, dict) and "value" in found:
            found = found["value"]
        # A message with a next step is an object.
        return (found.get("text") if isinstance(found, dict) else found) or ""

    def until(self, *states: str) -> bool:
        """Listen until the stage is in one of these states; False if the event is over before."""
        return any(self.stage().get("state") in states for _ in self.updates())

    def finish(self) -> dict[str, Any]:
        """Listen to the end; the stage's last value, {} if the request was refused."""
        for _ in self.updates():
            pass
        return self.stage()

    def stop(self) -> None:
        """Press Stop for the run on the stage."""
        names = {part["props"].get("elem_id"): part["id"] for part in self.client.config["components"]}
        button = next(fn for fn in self.client.config["dependencies"] if [names["stop"], "click"] in fn["targets"])
        body = {"fn_index": button["id"], "data": [self.stage()["run"]], "session_hash": self.session}
        self.client.post("/run/predict", body)

    def announced(self) -> list[str]:
        """Names of the pictures that were announced to this client."""
        return [picture["name"] for picture in self.stage().get("pictures", ())]


def apply_edits(old: Any, edits: Any) -> Any:
    """A value after Gradio's edits, each ``[what, path, new]``."""
    for what, path, new in edits:
        if not path:
            old = old + new if what == "append" else new
            continue
        old = json.loads(json.dumps(old))
        place = old
        for key in path[:-1]:
            place = place[key]
        if what == "delete":
            del place[path[-1]]
        elif what == "append":
            place[path[-1]] += new
        elif what == "add" and isinstance(place, list):
            place.insert(path[-1], new)
        else:
            place[path[-1]] = new
    return old


def free_port() -> int:
    """A port that is free now; the system does not assign it again soon."""
    with socket.socket() as trial:
        trial.bind(("127.0.0.1", 0))
        return trial.getsockname()[1]
