"""A small reverse proxy that shows a server below a path and takes the path away, as nginx and Jupyter's proxy do."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPResponse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

# Headers that belong to one connection, or that this proxy sets.
_OWN = ("connection", "keep-alive", "transfer-encoding", "te", "upgrade", "host", "date", "server")


@contextlib.contextmanager
def stripping_proxy(
    target: str, path: str, strips: bool = True, host: str = "", forwards: bool = False
) -> Iterator[str]:
    """Serve ``target`` below ``path`` on a port of this computer; yields the address with the path.

    Args:
        strips: whether the path is taken away.
        host: the Host header for the server; "" for the browser's own.
        forwards: whether X-Forwarded-Host and X-Forwarded-Proto are sent.
    """
    place = urlsplit(target)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _pass_on(self) -> None:
            if not self.path.startswith(path):
                self.send_error(404)
                return
            asked = (self.path[len(path) :] or "/") if strips else self.path
            size = int(self.headers.get("Content-Length") or 0)
            headers = {name: value for name, value in self.headers.items() if name.lower() not in _OWN}
            headers |= {"Host": host or self.headers["Host"], "Connection": "close"}
            if forwards:
                headers |= {"X-Forwarded-Host": self.headers["Host"], "X-Forwarded-Proto": "http"}
            connection = HTTPConnection(place.hostname or "", place.port, timeout=180)
            with contextlib.closing(connection):
                connection.request(self.command, asked, self.rfile.read(size), headers)
                self._answer(connection.getresponse())

        def _answer(self, answer: HTTPResponse) -> None:
            self.send_response(answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in _OWN:
                    self.send_header(name, value)
            self.send_header("Connection", "close")
            self.end_headers()
            with contextlib.suppress(OSError):
                while piece := answer.read1(65536):
                    self.wfile.write(piece)
                    self.wfile.flush()
            self.close_connection = True

        do_GET = do_POST = do_HEAD = _pass_on

        def log_message(self, *given: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}{path}"
    finally:
        server.shutdown()
        server.server_close()
