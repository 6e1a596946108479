"""A tunnel to Gradio's share service: runs its client program, whose checksum is verified before each use."""

from __future__ import annotations

import hashlib
import logging
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
log = logging.getLogger(__name__)
START_SECONDS = 30.0
STOP_SECONDS = 2.0
WATCHDOG = Path(__file__).with_name("parent_watchdog.py")
MAX_PROGRAM_BYTES = 100 * 2**20
_LINK = re.compile(r"start proxy success: (https?://[A-Za-z0-9.-]+(?::\d+)?)\s*$")
OFFLINE = "Couldn't create a public link: this computer seems to be offline. Check the connection and try again."
_REFUSED = "login to server failed"


class TunnelError(RuntimeError):
    """A link that could not be created; the message is one sentence."""


@dataclass(frozen=True)
class TunnelServer:
    """Address of the share service's server and the certificate to trust ("" without TLS)."""

    address: str
    certificate: str = ""


@dataclass(frozen=True)
class TunnelClient:
    """The share service's client program.

    Attributes:
        path: of the program, downloaded or not.
        digest: its SHA-256 in hex.
        download: puts it at ``path``.
        find_server: asks the service for a server.
    """

    path: Path
    digest: str
    download: Callable[[], None]
    find_server: Callable[[], TunnelServer]


class Tunnel:
    """One public link.  Thread-safe.

    Args:
        client: the program to run.
        folder: for the server's certificate.
        host: on which the server can be asked on this computer.
    """

    def __init__(self, client: TunnelClient, folder: Path, host: str = "127.0.0.1") -> None:
        self._client, self._folder, self._host = client, folder, host
        self._process: subprocess.Popen[str] | None = None
        self._lock = threading.Lock()
        self.url = ""

    @property
    def alive(self) -> bool:
        """Whether the program, and with it the link, still runs."""
        return self._process is not None and self._process.poll() is None

    def start(self, port: int, host: str = "", timeout: float = START_SECONDS) -> str:
        """Create the link and return its address.

        Args:
            port, host: of the server on this computer; "" for the tunnel's own host.
            timeout: seconds to wait for it.

        Raises:
            TunnelError: with one sentence; nothing is left running.
        """
        with self._lock:
            if self.alive:
                return self.url
            command = self._command(port, host or self._host)
            try:
                # Under the watchdog: otherwise the link would outlive this process when that is killed.
                self._process = subprocess.Popen(
                    [sys.executable, "-I", str(WATCHDOG), str(STOP_SECONDS), *command], stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
                )  # fmt: skip
            except OSError as error:
                raise TunnelError(f"The tunnel program cannot be started ({error.strerror}); try again.") from None
            try:
                self.url = _wait_for_link(self._process, timeout)
            except TunnelError:
                self._end()
                raise
            return self.url

    def stop(self) -> None:
        """End the program, and the link with it."""
        with self._lock:
            self._end()

    def _end(self) -> None:
        process, self._process, self.url = self._process, None, ""
        if process is None:
            return
        assert process.stdin is not None
        # The watchdog ends the program, by force if need be, and then itself.
        process.stdin.close()
        try:
            process.wait(2 * STOP_SECONDS + 1)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _command(self, port: int, host: str) -> Sequence[str]:
        client = self._client
        if not client.path.exists():
            _try(client.download)
        verify(client.path, client.digest)
        server = _try(client.find_server)
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


def verify(path: Path, digest: str) -> None:
    """Check a program's SHA-256; delete the program if it is wrong.

    Raises:
        TunnelError: if it is.
    """
    try:
        fits = path.stat().st_size <= MAX_PROGRAM_BYTES
        found = hashlib.sha256(path.read_bytes()).hexdigest() if fits else ""
    except OSError as error:
        raise TunnelError(f"The tunnel program cannot be read ({error.strerror}); try again.") from None
    if found != digest:
        with suppress(OSError):
            path.unlink()
        raise TunnelError("The tunnel program had a wrong checksum and was deleted; share again to download it.")


def gradio_client() -> TunnelClient:
    """The program and the share service of the installed Gradio.

    Raises:
        TunnelError: if there is no program for this platform.
    """
    from gradio import networking, tunneling

    digest = tunneling.CHECKSUMS.get(tunneling.BINARY_URL)
    if digest is None:
        raise TunnelError("There is no tunnel program for this platform; use --host in your own network instead.")

    def find_server() -> TunnelServer:
        import httpx

        if networking.GRADIO_SHARE_SERVER_ADDRESS:
            return TunnelServer(networking.GRADIO_SHARE_SERVER_ADDRESS)
        found = httpx.get(networking.GRADIO_API_SERVER, timeout=10).json()[0]
        return TunnelServer(f"{found['host']}:{int(found['port'])}", str(found["root_ca"]))

    return TunnelClient(Path(tunneling.BINARY_PATH), digest, tunneling.Tunnel.download_binary, find_server)


def _try(step: Callable[[], T]) -> T:
    try:
        return step()
    except Exception as error:  # the exceptions of network libraries are not documented
        log.info("No tunnel: %s: %s", type(error).__name__, error)
        raise TunnelError(OFFLINE) from None


def _wait_for_link(process: subprocess.Popen[str], timeout: float) -> str:
    lines: Queue[str | None] = Queue()
    found = threading.Event()
    threading.Thread(target=_read, args=(process, lines, found), daemon=True).start()
    try:
        return _find_link(lines, time.monotonic() + timeout, timeout)
    finally:
        found.set()


def _find_link(lines: Queue[str | None], end: float, timeout: float) -> str:
    while (left := end - time.monotonic()) > 0:
        try:
            line = lines.get(timeout=left)
        except Empty:
            break
        if line is None:
            raise TunnelError("The tunnel ended before the link was ready; check the connection and try again.")
        if found := _LINK.search(line):
            return found.group(1)
        if _REFUSED in line:
            raise TunnelError("The share service refused the tunnel; try again later.")
    raise TunnelError(f"The share service did not answer within {timeout:.0f} seconds; try again later.")


def _read(process: subprocess.Popen[str], lines: Queue[str | None], found: threading.Event) -> None:
    """Read for as long as the process runs, since a full pipe would block it; lines after ``found`` are dropped."""
    assert process.stdout is not None
    with process.stdout as out, suppress(OSError, ValueError):
        for line in out:
            if not found.is_set():
                lines.put(line[:2000])
    lines.put(None)
