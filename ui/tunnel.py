"""A public link to this server through Gradio's share service: its client program, checked before each use."""

from __future__ import annotations

import hashlib
import re
import secrets
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, Queue
from typing import TypeVar

T = TypeVar("T")
START_SECONDS = 30.0
STOP_SECONDS = 2.0
LEASH = Path(__file__).with_name("leash.py")
MAX_PROGRAM = 100 * 2**20
_LINK = re.compile(r"start proxy success: (https?://[A-Za-z0-9.-]+(?::\d+)?)\s*$")
_REFUSED = "login to server failed"


class NoTunnel(RuntimeError):
    """A link that could not be made; the message is one plain sentence."""


@dataclass(frozen=True)
class Server:
    """The other end of a tunnel: address and the certificate to trust, or "" without TLS."""

    address: str
    certificate: str = ""


@dataclass(frozen=True)
class Client:
    """The tunnel's program.

    Attributes:
        path: where it is, or will be.
        digest: its SHA-256 in hex.
        fetch: puts it there.
        server: asks where the other end is.
    """

    path: Path
    digest: str
    fetch: Callable[[], None]
    server: Callable[[], Server]


class Tunnel:
    """One public link.  Thread-safe.

    Args:
        client: the program.
        folder: where the server's certificate is put.
    """

    def __init__(self, client: Client, folder: Path) -> None:
        self._client, self._folder = client, folder
        self._process: subprocess.Popen[str] | None = None
        self._lock = threading.Lock()
        self.url = ""

    @property
    def alive(self) -> bool:
        """Whether the program runs, and the link with it."""
        return self._process is not None and self._process.poll() is None

    def start(self, port: int, host: str = "127.0.0.1", patience: float = START_SECONDS) -> str:
        """Make the link; its address.

        Args:
            port, host: of the server on this computer.
            patience: seconds to wait for it.

        Raises:
            NoTunnel: with one sentence; nothing is left running.
        """
        with self._lock:
            if self.alive:
                return self.url
            command = self._command(port, host)
            try:
                # On a leash: without it the link would outlive this program when that is killed.
                self._process = subprocess.Popen(
                    [sys.executable, "-I", str(LEASH), str(STOP_SECONDS), *command], stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
                )  # fmt: skip
            except OSError as error:
                raise NoTunnel(f"The tunnel's program cannot be started ({error.strerror}); try again.") from None
            try:
                self.url = _link(self._process, patience)
            except NoTunnel:
                self._end()
                raise
            return self.url

    def stop(self) -> None:
        """End the program: the link is dead."""
        with self._lock:
            self._end()

    def _end(self) -> None:
        process, self._process, self.url = self._process, None, ""
        if process is None:
            return
        assert process.stdin is not None
        # This ends the program, gently or not; only then does the leash end by itself.
        process.stdin.close()
        try:
            process.wait(2 * STOP_SECONDS + 1)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _command(self, port: int, host: str) -> Sequence[str]:
        client = self._client
        if not client.path.exists():
            _or_no_tunnel(client.fetch, "The tunnel's program could not be fetched")
        check(client.path, client.digest)
        server = _or_no_tunnel(client.server, "The share service could not be asked")
        command = [
            str(client.path), "http", "-n", secrets.token_urlsafe(32), "-l", str(port), "-i", host, "--uc", "--sd",
            "random", "--ue", "--server_addr", server.address, "--disable_log_color",
        ]  # fmt: skip
        if server.certificate:
            self._folder.mkdir(parents=True, exist_ok=True)
            trusted = self._folder / "share-server.pem"
            trusted.write_text(server.certificate, encoding="utf-8")
            command += ["--tls_enable", "--tls_trusted_ca_file", str(trusted)]
        return command


def check(path: Path, digest: str) -> None:
    """Make sure that a program is the one it should be; another one is removed.

    Raises:
        NoTunnel: if it is not.
    """
    try:
        whole = path.stat().st_size <= MAX_PROGRAM
        found = hashlib.sha256(path.read_bytes()).hexdigest() if whole else ""
    except OSError as error:
        raise NoTunnel(f"The tunnel's program cannot be read ({error.strerror}); try again.") from None
    if found != digest:
        with suppress(OSError):
            path.unlink()
        raise NoTunnel("The tunnel's program is not the one it should be; it was removed; share again to fetch it.")


def gradio_client() -> Client:
    """The program and the service that the installed Gradio uses.

    Raises:
        NoTunnel: if there is none for this kind of computer.
    """
    from gradio import networking, tunneling

    digest = tunneling.CHECKSUMS.get(tunneling.BINARY_URL)
    if digest is None:
        raise NoTunnel("There is no tunnel program for this kind of computer; use --host in your own network instead.")

    def ask() -> Server:
        import httpx

        told = networking.GRADIO_SHARE_SERVER_ADDRESS
        if told:
            return Server(told)
        found = httpx.get(networking.GRADIO_API_SERVER, timeout=10).json()[0]
        return Server(f"{found['host']}:{int(found['port'])}", str(found["root_ca"]))

    return Client(Path(tunneling.BINARY_PATH), digest, tunneling.Tunnel.download_binary, ask)


def _or_no_tunnel(work: Callable[[], T], what: str) -> T:
    try:
        return work()
    except Exception as error:
        # What a network can do wrong is listed nowhere.
        raise NoTunnel(f"{what} ({type(error).__name__}); check the connection and try again.") from None


def _link(process: subprocess.Popen[str], patience: float) -> str:
    """Wait for the line with the link."""
    lines: Queue[str | None] = Queue()
    heard = threading.Event()
    threading.Thread(target=_read, args=(process, lines, heard), daemon=True).start()
    try:
        return _heard(lines, time.monotonic() + patience, patience)
    finally:
        heard.set()


def _heard(lines: Queue[str | None], end: float, patience: float) -> str:
    while (left := end - time.monotonic()) > 0:
        try:
            line = lines.get(timeout=left)
        except Empty:
            break
        if line is None:
            raise NoTunnel("The tunnel ended before it was there; check the connection and try again.")
        if found := _LINK.search(line):
            return found.group(1)
        if _REFUSED in line:
            raise NoTunnel("The share service has refused the tunnel; try again later.")
    raise NoTunnel(f"The share service has not answered within {patience:.0f} seconds; try again later.")


def _read(process: subprocess.Popen[str], lines: Queue[str | None], heard: threading.Event) -> None:
    """Keep reading for as long as it runs: a full pipe would hold it up.  What comes after it was ``heard`` is lost."""
    assert process.stdout is not None
    with process.stdout as out, suppress(OSError, ValueError):
        for line in out:
            if not heard.is_set():
                lines.put(line[:2000])
    lines.put(None)


