"""Under which addresses the page is reached, who uses its data folder, and links that make a browser the owner's."""

from __future__ import annotations

import os
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pipelines.system.bounded_json import parse_json
from pipelines.system.folder_lock import FolderLock, holder
from ui.server.access import Access
from ui.server.http.routes import NEW_LINK
from ui.server.network import is_unspecified

# In the data folder.
LOCK_FILE, KEY_FILE = "running.json", "owner.key"
GUEST_KEY_FILE = "guests.key"
ANSWER_SECONDS = 30.0


class NoLink(RuntimeError):
    """There is no program to ask for a link; the message is one sentence."""


class FolderInUse(RuntimeError):
    """The data folder cannot be used, as by another program; the message is one sentence."""


@dataclass(frozen=True)
class Addresses:
    """The addresses of one server.

    Attributes:
        host, port: where it listens.
        root: the path of the page behind a proxy, such as ``/paint``, or its whole address there; "" for none.
        allowed: names under which a proxy asks for the page; the first is printed.
    """

    host: str
    port: int
    root: str = ""
    allowed: tuple[str, ...] = ()

    @property
    def connectable(self) -> str:
        """A host of this computer on which the server can be asked."""
        if not is_unspecified(self.host):
            return self.host
        return "::1" if ":" in self.host else "127.0.0.1"

    @property
    def local(self) -> str:
        """The server's address on this computer, without a path."""
        host = self.connectable
        return f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"

    @property
    def root_path(self) -> str:
        """The path of the page behind the proxy."""
        return urlsplit(self.root).path if "://" in self.root else self.root

    @property
    def public(self) -> str:
        """The page's address behind the proxy; "" if it is not known."""
        name = next((name for name in self.allowed if not name.startswith(".")), "")
        return self.root if "://" in self.root else f"https://{name}{self.root_path}" if name else ""

    @property
    def origins(self) -> frozenset[str]:
        """Hosts, with their ports if they are no usual ones, of pages that the proxy shows."""
        whole = (urlsplit(self.root).netloc,) if "://" in self.root else ()
        return frozenset(name.lower() for name in (*self.allowed, *whole) if not name.startswith("."))

    @property
    def names(self) -> frozenset[str]:
        """Host names, without ports, under which the proxy asks."""
        dotted = (name for name in self.allowed if name.startswith("."))
        return frozenset((*dotted, *(urlsplit(f"//{name}").hostname or "" for name in self.origins)))

    def links(self, token: str) -> list[str]:
        """The addresses that make one browser the owner's, with the one on this computer last."""
        bases = [self.public, "" if "://" in self.root else self.local + self.root_path]
        return [f"{base}/?owner={token}" for base in bases if base]


def lock_folder(data_dir: Path, addresses: Addresses) -> FolderLock:
    """Take the data folder for this program.

    Raises:
        FolderInUse: if another program has it.
        OSError: if its file cannot be written.
    """
    lock = FolderLock(data_dir / LOCK_FILE)
    if lock.acquire({"pid": os.getpid(), "port": addresses.port, "host": addresses.connectable,
                     "root": addresses.root, "allowed": addresses.allowed}):  # fmt: skip
        return lock
    found = holder(data_dir / LOCK_FILE) or {}
    where = f" at {running.local}/ (process {found.get('pid')})" if (running := _addresses(found)) else ""
    raise FolderInUse(
        f"The program already runs with the data folder {data_dir}{where}; use that one, "
        "or choose another folder with --data-dir."
    )


def ask_for_links(data_dir: Path) -> list[str]:
    """New links from the program that runs with this data folder.

    Raises:
        NoLink: if there is none, or it gives none.
    """
    found = holder(data_dir / LOCK_FILE)
    if found is None:
        raise NoLink(f"No program runs with the data folder {data_dir}; start it, and it prints a link.")
    running = _addresses(found)
    try:
        key = (data_dir / KEY_FILE).read_bytes()
        if running is None:
            raise NoLink("The program is just starting; wait for the link that it prints.")
        return running.links(_ask_for_token(running, Access(key, running.port).owner_cookie[1]))
    except (OSError, HTTPException, ValueError, KeyError):
        raise NoLink("The program does not answer; start it again for a new link.") from None


def _ask_for_token(running: Addresses, secret: str) -> str:
    connection = HTTPConnection(running.connectable, running.port, timeout=ANSWER_SECONDS)
    try:
        connection.request("POST", NEW_LINK, b"", {"Authorization": f"Bearer {secret}", "Content-Length": "0"})
        return str(parse_json(connection.getresponse().read(4096))["token"])
    finally:
        connection.close()


def _addresses(facts: dict[str, Any]) -> Addresses | None:
    """The addresses in what a program says of itself."""
    match facts:
        case {"host": str(host), "port": int(port), "root": str(root), "allowed": list(allowed)}:
            return Addresses(host, port, root, tuple(str(name) for name in allowed))
    return None
