"""The running program from outside: app.py as a process of its own, and visitors who speak plain HTTP to it.

For the long run (``benchmarks.soak``) and the tests of what holds when visitors vanish and the program is ended.
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
# The libraries alone take long to import on a busy machine.
START_SECONDS = 120.0
# A request without an answer for so long hangs; a stream is told something each second.
PATIENCE = 60.0
# Somebody who gives the right password waits for so long where wrong ones were given too often.
LOG_IN_SECONDS = 120.0


class Server:
    """app.py in a process of its own, with a password for guests.

    Args:
        data: the folder of its pictures; they are found again after another start on the same port.
        options: more for the command line.
        port: 0 for any that is free.
        entry: what is started instead of app.py, as tests do to change a part of it.
    """

    def __init__(self, data: Path, *options: str, port: int = 0, entry: tuple[str, ...] = ("app.py",)) -> None:
        self.data, self.port = data, port or free_port()
        # Threads of OpenMP that wait in a loop would take the machine from everybody else.
        environ = {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE", "PYTHONPATH": str(ROOT)}
        command = [sys.executable, *entry, "--port", str(self.port), "--no-open", "--offline", "--threads", "1"]
        command += ["--data-dir", str(data), "--auth", f"{GUEST}:{PASSWORD}", *options]
        self.process = subprocess.Popen(
            command, cwd=ROOT, env=environ, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        self.lines: list[str] = []
        self._cookie = ""
        self._page: dict[str, Any] = {}  # the same for all its visitors
        self._news: Queue[str | None] = Queue()
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
                self._news.put(line)
        self._news.put(None)

    def line(self, pattern: str) -> str:
        """The first group of a pattern in what the program prints from now on.

        Raises:
            RuntimeError: if it ends, or says nothing for long.
        """
        while True:
            try:
                news = self._news.get(timeout=START_SECONDS)
            except Empty:
                news = None
            if news is None:
                raise RuntimeError(f"no {pattern!r} in what the program said: {self.lines[-20:]}")
            if found := re.search(pattern, news):
                return found.group(1)

    def owner(self) -> Visit:
        """The owner's browser: the first one follows the one-time link, the others have its cookie."""
        visit = Visit(self.port, self._cookie, _config=self._page)
        if not visit.cookie:
            visit.keep(visit.ask("GET", self._link))
            self._cookie = visit.cookie
        return visit

    def guest(self) -> Visit:
        """Somebody who gives the password; where others have given too many wrong ones, after a while."""
        visit = Visit(self.port, _config=self._page)
        form = urlencode({"username": GUEST, "password": PASSWORD}).encode()
        end = time.monotonic() + LOG_IN_SECONDS
        while True:
            answer = visit.ask("POST", "/login", form, {"Content-Type": "application/x-www-form-urlencoded"})
            if answer.status != 429 or time.monotonic() > end:
                visit.keep(answer)
                return visit
            time.sleep(2)

    def stop(self, seconds: float) -> int:
        """Ask it to end (SIGTERM) and wait; the exit status.

        Raises:
            subprocess.TimeoutExpired: if it does not end in time.
        """
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(seconds)

    def kill(self) -> None:
        """End it at once (SIGKILL), whatever it does; nothing if it has ended."""
        self.process.kill()
        self.process.wait()


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    body: bytes
    headers: Mapping[str, str]

    @property
    def text(self) -> str:
        return self.body.decode("utf-8", "replace")


@dataclass
class Visit:
    """One browser: it keeps a cookie, and every page that it opens is a session of its own.

    Attributes:
        port: of the server, on this computer.
        cookie: as the header is sent; "" for a stranger.
        seen: told of each answer's status and of each failure to answer (0).
    """

    port: int
    cookie: str = ""
    seen: Callable[[int], None] = lambda status: None
    _config: dict[str, Any] = field(default_factory=dict)

    def keep(self, answer: Answer) -> None:
        """Keep the cookie of an answer that lets somebody in."""
        assert "set-cookie" in answer.headers, (answer.status, answer.text[:200])
        self.cookie = answer.headers["set-cookie"].partition(";")[0]

    def ask(self, method: str, path: str, body: bytes = b"", more: Mapping[str, str] | None = None) -> Answer:
        """One request and its whole answer."""
        answer, link = self._begin(method, path, body, more)
        with link.here, link.answer:
            return Answer(answer.status, answer.read(), {k.lower(): v for k, v in answer.headers.items()})

    def _begin(
        self, method: str, path: str, body: bytes = b"", more: Mapping[str, str] | None = None
    ) -> tuple[HTTPResponse, Link]:
        headers = {"Connection": "close", **({"Cookie": self.cookie} if self.cookie else {}), **(more or {})}
        connection = HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        try:
            connection.request(method, path, body if method == "POST" else None, headers)
            here = connection.sock
            answer = connection.getresponse()
        except TimeoutError:
            self.seen(0)
            raise
        self.seen(answer.status)
        return answer, Link(here, answer)

    def post(self, path: str, value: Any) -> Answer:
        """Send JSON."""
        return self.ask("POST", API + path, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def upload(self, name: str, data: bytes) -> dict[str, Any]:
        """Send a file; the value that a component takes for it."""
        edge = secrets.token_hex(8)
        head = f'--{edge}\r\nContent-Disposition: form-data; name="files"; filename="{name}"\r\n\r\n'
        body = head.encode() + data + f"\r\n--{edge}--\r\n".encode()
        sent = self.ask("POST", f"{API}/upload", body, {"Content-Type": f"multipart/form-data; boundary={edge}"})
        assert sent.status == 200, (sent.status, sent.text[:200])
        return {"path": json.loads(sent.body)[0], "orig_name": name, "meta": {"_type": "gradio.FileData"}}

    def half_upload(self, size: int = 1_000_000) -> socket.socket:
        """Begin to send a file, and stop in the middle; whoever asked shuts the connection."""
        here = socket.create_connection(("127.0.0.1", self.port), PATIENCE)
        head = [
            f"POST {API}/upload HTTP/1.1", f"Host: 127.0.0.1:{self.port}", f"Cookie: {self.cookie}",
            f"Content-Length: {size}", "Content-Type: multipart/form-data; boundary=edge", "", "--edge",
            'Content-Disposition: form-data; name="files"; filename="half.png"', "", "",
        ]  # fmt: skip
        here.sendall("\r\n".join(head).encode() + b"x" * (size // 2))
        return here

    def call(self, name: str, **values: Any) -> list[str]:
        """Ask an endpoint for pictures and wait for them; their names, [] if it refused."""
        about = json.loads(self.ask("GET", f"{API}/info").body)["named_endpoints"][f"/{name}"]["parameters"]
        data = [values.get(one["parameter_name"], one.get("parameter_default")) for one in about]
        joined = self.post(f"/call/{name}", {"data": data})
        if joined.status != 200:
            return []
        said = self.ask("GET", f"{API}/call/{name}/{json.loads(joined.body)['event_id']}").text
        done = re.search(r"^event: complete\ndata: (.*)$", said, re.MULTILINE)
        return [picture["orig_name"] for picture in json.loads(done.group(1))[0][0]] if done else []

    # -- the page's own functions --------------------------------------------------------------------------------

    @property
    def config(self) -> dict[str, Any]:
        """What the page is made of."""
        if not self._config:
            self._config.update(json.loads(self.ask("GET", "/config").body))
        return self._config

    def press(self, button: str, event: str = "click", **values: Any) -> Stream:
        """Press a button of the page, in a session of its own, and hear what comes of it.

        Args:
            button: its element id.
            event: of the button.
            values: of components, by element id with _ for -; the others have what the page begins with.
        """
        parts = {part["id"]: part["props"] for part in self.config["components"]}
        names = {props.get("elem_id"): number for number, props in parts.items()}
        found = next(fn for fn in self.config["dependencies"] if [names[button], event] in fn["targets"])
        given = {names[name.replace("_", "-")]: value for name, value in values.items()}
        data = [given.get(number, parts.get(number, {}).get("value")) for number in found["inputs"]]
        session = secrets.token_hex(6)
        body = {"fn_index": found["id"], "data": data, "session_hash": session, "trigger_id": names[button]}
        shown = [str(parts.get(number, {}).get("elem_id")) for number in found["outputs"]]
        return Stream(self, session, self.post("/queue/join", body), shown)


@dataclass(frozen=True)
class Link:
    """A connection whose answer is still being read."""

    here: socket.socket
    answer: HTTPResponse

    def cut(self) -> None:
        """Vanish: the other side gets a reset (RST), as from a machine that is gone."""
        with suppress(OSError):
            self.here.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.answer.close()
        self.here.close()


class Stream:
    """What the queue tells one session of one event.

    Attributes:
        joined: the answer to joining.
    """

    def __init__(self, visit: Visit, session: str, joined: Answer, shown: list[str]) -> None:
        self.visit, self.session, self.joined = visit, session, joined
        self._shown, self._now = shown, [None] * len(shown)
        self._link: Link | None = None

    def open(self) -> Stream:
        """Begin to listen, if that has not begun."""
        if self._link is None:
            _, self._link = self.visit._begin("GET", f"{API}/queue/data?session_hash={self.session}")
        return self

    def cut(self) -> None:
        """Vanish."""
        if self._link is not None:
            self._link.cut()

    def steps(self) -> Iterator[dict[str, Any]]:
        """The components' values after each message, until the event is over; goes on where it was left.

        Raises:
            OSError: if the connection breaks or nothing comes for long.
        """
        link = self.open()._link
        assert link is not None
        while not link.answer.closed and (line := link.answer.readline()):
            if not line.startswith(b"data: "):
                continue
            message = json.loads(line[6:])
            if message["msg"] in ("process_generating", "process_completed"):
                self._take(message)
                yield self.values
            if message["msg"] in ("close_stream", "unexpected_error"):
                break
        link.answer.close()
        link.here.close()

    def _take(self, message: Mapping[str, Any]) -> None:
        data = (message.get("output") or {}).get("data")
        if not data:  # it ended as it was
            return
        first = message["msg"] == "process_completed" or not any(value is not None for value in self._now)
        self._now = [new if first else changed(old, new) for old, new in zip(self._now, data, strict=True)]

    @property
    def values(self) -> dict[str, Any]:
        return dict(zip(self._shown, self._now, strict=True))

    def film(self) -> dict[str, Any]:
        """What the film shows now; {} before it shows anything."""
        found = next((self.values[name] for name in ("film", "image-film") if name in self.values), None)
        return found if isinstance(found, dict) and "state" in found else {}

    def problem(self) -> str:
        """The sentence beside the button, if there is one."""
        found = next((self.values[name] for name in ("run-error", "image-run-error") if name in self.values), None)
        return found.get("value") or "" if isinstance(found, dict) else found or ""

    def until(self, *states: str) -> bool:
        """Listen until the film is in one of these states; False if the event is over before."""
        return any(self.film().get("state") in states for _ in self.steps())

    def finish(self) -> dict[str, Any]:
        """Listen to the end; the film's last value, {} if the request was refused."""
        for _ in self.steps():
            pass
        return self.film()

    def stop(self) -> None:
        """Press Stop for what the film shows."""
        names = {part["props"].get("elem_id"): part["id"] for part in self.visit.config["components"]}
        button = next(fn for fn in self.visit.config["dependencies"] if [names["stop"], "click"] in fn["targets"])
        body = {"fn_index": button["id"], "data": [self.film()["run"]], "session_hash": self.session}
        self.visit.post("/run/predict", body)

    def announced(self) -> list[str]:
        """Names of the pictures that this visitor was told of."""
        return [picture["name"] for picture in self.film().get("pictures", ())]


def changed(old: Any, edits: Any) -> Any:
    """A value with Gradio's edits done to it, each ``[what, path, new]``."""
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
    """A port that is free now; the system hands it out again only after many others."""
    with socket.socket() as trial:
        trial.bind(("127.0.0.1", 0))
        return trial.getsockname()[1]
