"""A hub on loopback that serves folders and misbehaves on request, for tests of downloads.

It speaks as much of the Hugging Face Hub's interface as its client library asks for: the list of a model's files with
sizes and checksums, and the files themselves with ranges.  Weights are "LFS" files (SHA-256), the rest plain Git files.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"
PIECE = 4096


@dataclass(frozen=True)
class LoggedRequest:
    """A request that the server received.

    Attributes:
        method, path: of it, such as GET and /a/b/resolve/main/model_index.json.
        host: the name by which the server was reached.
        start: first byte of the requested range, 0 without one.
        token: the Authorization header, or "".
    """

    method: str
    path: str
    host: str
    start: int
    token: str


class HubServer:
    """Serves folders as models; a context manager.  Its attributes may be changed while it runs.

    Attributes:
        folders: hub id -> folder.
        commit: of every model.
        log: every request so far.
        cuts, cut_after: so many weights files are cut after so many bytes each.
        stalls, stall_after: so many weights files stop coming after so many bytes each, with the connection left open.
        slow: bytes per second of weights files; 0 for as fast as possible.
        damages: so many weights files arrive with a wrong byte.
        longer: so many weights files arrive with more bytes than they have.
        ranges: whether it can begin in the middle of a file.
        store: whether weights are redirected to another host, as the real hub does.
        refusals, refusal: so many requests are answered with this status and these headers.
        refuses: which requests: a part of their host and path.
        answers: while it is cleared, no request is answered.
    """

    def __init__(self, folders: Mapping[str, Path]) -> None:
        self.folders, self.commit = dict(folders), COMMIT
        self.log: list[LoggedRequest] = []
        self.cuts = self.cut_after = self.stalls = self.stall_after = self.slow = 0
        self.damages = self.longer = self.refusals = 0
        self.ranges, self.store = True, False
        self.refusal: tuple[int, dict[str, str]] = (500, {})
        self.refuses = ""
        self.closing, self.answers = threading.Event(), threading.Event()
        self.answers.set()
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": self}))
        self._server.daemon_threads = True
        self._server.block_on_close = False

    @property
    def port(self) -> int:
        """Where it listens."""
        return self._server.server_address[1]

    @property
    def address(self) -> str:
        """For HF_ENDPOINT."""
        return f"http://127.0.0.1:{self.port}"

    def files(self) -> list[str]:
        """Names of the requested files, in order."""
        return [asked.path.split("/resolve/")[1].split("/", 1)[1] for asked in self.log if "/resolve/" in asked.path]

    def use_up(self, what: str) -> bool:
        """Use up one misbehaviour of a kind; whether one was left."""
        with self._lock:
            left = getattr(self, what)
            setattr(self, what, max(0, left - 1))
            return left > 0

    def __enter__(self) -> HubServer:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.closing.set()
        self.answers.set()
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    hub: HubServer
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else every answer waits 40 ms

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        asked = re.match(r"bytes=(\d+)-$", self.headers.get("Range", ""))
        start = int(asked[1]) if asked and self.hub.ranges else 0
        token = self.headers.get("Authorization", "")
        host = self.headers.get("Host", "").split(":")[0]
        self.hub.log.append(LoggedRequest(self.command, path, host, int(asked[1]) if asked else 0, token))
        self.hub.answers.wait()
        if self.hub.refuses in host + path and self.hub.use_up("refusals"):
            self._answer(self.hub.refusal[0], dict(self.hub.refusal[1]))
            return
        listing = re.fullmatch(r"/api/models/(.+?)(?:/revision/[^/]+)?", path)
        file = re.fullmatch(r"/(.+)/resolve/([^/]+)/(.+)", path)
        if listing and listing[1] in self.hub.folders:
            body = json.dumps(_listing(listing[1], self.hub)).encode()
            self._answer(200, {"Content-Type": "application/json"}, body)
        elif file and file[1] in self.hub.folders and (self.hub.folders[file[1]] / file[3]).is_file():
            self._file(self.hub.folders[file[1]] / file[3], start, host)
        else:
            self._answer(404, {"X-Error-Code": "EntryNotFound" if file else "RepoNotFound"})

    do_HEAD = do_GET

    def log_message(self, *_: object) -> None:
        """Stay quiet."""

    def _answer(self, status: int, headers: dict[str, str], body: bytes = b"") -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def _file(self, path: Path, start: int, host: str) -> None:
        data, about = path.read_bytes(), _about(path)
        headers = {
            "X-Repo-Commit": self.hub.commit,
            "Accept-Ranges": "bytes" if self.hub.ranges else "none",
            "ETag": f'"{about["etag"]}"',
            "X-Linked-ETag": f'"{about["etag"]}"',
            "X-Linked-Size": str(len(data)),
        }
        weights = path.suffix == ".safetensors"
        if weights and self.hub.store and host != "localhost":
            self._answer(302, headers | {"Location": f"http://localhost:{self.hub.port}{self.path}"})
            return
        if start >= len(data) > 0:
            self._answer(416, {"Content-Range": f"bytes */{len(data)}"})
            return
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        if weights and self.hub.use_up("damages"):
            data = data[:-1] + bytes([data[-1] ^ 1])
        if weights and self.hub.use_up("longer"):
            data += b"more" * PIECE
        self._answer(206 if start else 200, headers | {"Content-Length": str(len(data) - start)})
        if self.command == "GET":
            self._send(data[start:], weights)

    def _send(self, data: bytes, weights: bool) -> None:
        cut = self.hub.cut_after if weights and self.hub.use_up("cuts") else None
        stall = self.hub.stall_after if weights and self.hub.use_up("stalls") else None
        end = min(len(data), *(limit for limit in (cut, stall) if limit is not None), len(data))
        began = time.monotonic()
        try:
            for at in range(0, end, PIECE):
                self.wfile.write(data[at : min(end, at + PIECE)])
                if weights and self.hub.slow:
                    self.hub.closing.wait(max(0.0, (at + PIECE) / self.hub.slow - (time.monotonic() - began)))
            self.wfile.flush()
        except OSError:
            self.close_connection = True
            return
        if stall is not None:
            self.hub.closing.wait(30)
        if end < len(data):
            self.close_connection = True


def _listing(name: str, hub: HubServer) -> dict[str, Any]:
    folder = hub.folders[name]
    siblings = []
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        about = _about(path)
        item = {"rfilename": path.relative_to(folder).as_posix(), "size": about["size"], "blobId": about["git"]}
        if about["lfs"]:
            item["lfs"] = {"size": about["size"], "sha256": about["etag"], "pointerSize": 130}
        siblings.append(item)
    return {"id": name, "modelId": name, "sha": hub.commit, "siblings": siblings, "tags": [], "private": False}


def _about(path: Path) -> dict[str, Any]:
    data = path.read_bytes()
    git = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
    lfs = path.suffix in (".safetensors", ".bin", ".ckpt")
    return {"size": len(data), "git": git, "lfs": lfs, "etag": hashlib.sha256(data).hexdigest() if lfs else git}
